//! One connection's dialogue: requests counted in, replies counted out.
//!
//! In: received bytes, and how many bytes of replies the stack took; out: what has to be sent next and whether the
//! connection is over. Replies of one kind are all alike, so a connection stores counts, never bytes.

use crate::parse::{Outcome, Parser};
use crate::reply::{Kind, Replies};

/// One connection's dialogue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    parser: Parser,
    /// Replies of kind `Keep` owed, oldest first.
    owed: u64,
    /// The reply after those, with which the connection ends.
    last: Option<Kind>,
    /// Bytes sent of the oldest reply owed.
    sent: usize,
    /// The last reply was sent whole.
    finished: bool,
}

impl Session {
    /// Before the first request.
    pub fn new() -> Session {
        Session::default()
    }

    /// Takes bytes up to the end of the next request; how many, and whether a reply to them is owed now. Once the last
    /// reply is owed everything that follows is passed over.
    pub fn receive(&mut self, bytes: &[u8]) -> (usize, bool) {
        if self.last.is_some() || self.finished {
            return (bytes.len(), false);
        }
        let (used, outcome) = self.parser.feed(bytes);
        match outcome {
            Outcome::More => return (used, false),
            Outcome::Request(request) if request.keep_alive => self.owed += 1,
            Outcome::Request(_) => self.last = Some(Kind::Close),
            Outcome::Bad => self.last = Some(Kind::Bad),
        }
        (used, true)
    }

    /// What has to be sent next: the rest of the oldest reply owed; empty when none is.
    pub fn unsent<'r>(&self, replies: &'r mut Replies) -> &'r [u8] {
        match self.oldest() {
            Some(kind) => {
                if self.sent == 0 {
                    replies.make_reply(kind);
                }
                replies.bytes(kind).get(self.sent..).unwrap_or(&[])
            }
            None => &[],
        }
    }

    /// The stack took `n` bytes of what [`Session::unsent`] gave; whether that reply is whole now.
    pub fn sent(&mut self, n: usize, replies: &mut Replies) -> bool {
        let Some(kind) = self.oldest() else {
            return false;
        };
        self.sent += n;
        if self.sent < replies.bytes(kind).len() {
            return false;
        }
        self.sent = 0;
        if self.owed > 0 {
            self.owed -= 1;
        } else {
            self.last = None;
            self.finished = true;
        }
        true
    }

    /// Whether a reply is owed.
    pub fn owes(&self) -> bool {
        self.oldest().is_some()
    }

    /// The oldest reply owed and how many of its bytes the stack has taken; `None` when none is owed.
    pub fn owed(&self) -> Option<(Kind, usize)> {
        self.oldest().map(|kind| (kind, self.sent))
    }

    /// The reply to the newest request: what a connection owes last.
    pub fn newest(&self) -> Kind {
        self.last.unwrap_or(Kind::Keep)
    }

    /// Whether the last reply was sent: the connection has to be closed, and what still comes in is of no interest.
    pub fn finished(&self) -> bool {
        self.finished
    }

    fn oldest(&self) -> Option<Kind> {
        if self.owed > 0 {
            Some(Kind::Keep)
        } else {
            self.last
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything a client gets for `bytes` when the stack takes `piece` bytes at a time.
    fn dialogue(bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let (mut session, mut replies, mut out) = (Session::new(), Replies::new(5), Vec::new());
        let mut at = 0;
        while at < bytes.len() {
            at += session.receive(&bytes[at..]).0;
        }
        while session.owes() {
            let rest = session.unsent(&mut replies);
            let n = rest.len().min(piece);
            out.extend_from_slice(&rest[..n]);
            session.sent(n, &mut replies);
        }
        (out, session.finished())
    }

    /// Pipelined requests are all answered, in order, and nothing after the last one is.
    #[test]
    fn pipelines_are_answered_in_order() {
        let text = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let (out, finished) = dialogue(text, usize::MAX);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("HTTP/1.1 200 OK").count(), 3);
        assert_eq!(out.matches("keep-alive").count(), 2);
        assert!(out.ends_with("Connection: close\r\nContent-Length: 5\r\n\r\naaaaa"));
        assert!(finished);
    }

    /// Garbage after a request is answered after it.
    #[test]
    fn garbage_ends_the_dialogue() {
        let (out, finished) = dialogue(b"GET / HTTP/1.1\r\n\r\n\x00\x01", usize::MAX);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("aaaaaHTTP/1.1 400 ") && finished);
    }

    proptest! {
        /// However little the stack takes at a time, the client gets the same bytes.
        #[test]
        fn partial_sends_change_nothing(requests in 0usize..5, bad in any::<bool>(), piece in 1usize..200) {
            let mut text = b"GET / HTTP/1.1\r\n\r\n".repeat(requests);
            text.extend_from_slice(if bad { b"\r\n\x7f" } else { b"" });
            prop_assert_eq!(dialogue(&text, piece), dialogue(&text, usize::MAX));
        }
    }
}
