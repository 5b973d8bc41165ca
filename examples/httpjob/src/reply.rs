//! The replies: a header made anew for each request, and the fixed body behind it.
//!
//! In: the body's length; out: a reply's bytes in this thread's one response buffer. As in the servers of the study,
//! header formatting and the copy of the body are paid for each request: they are the application's work.

use std::io::Write;
use std::sync::Arc;

const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: bypassprof/1.0\r\nConnection: close\r\n\
Content-Length: 0\r\n\r\n";

/// Room for the longest header.
const HEADER: usize = 128;

/// Which reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body, and the connection stays open.
    Keep,
    /// The body, and the connection ends.
    Close,
    /// `400`, and the connection ends.
    Bad,
}

/// One response buffer: a thread's, or a connection's where that is the server's way.
#[derive(Debug)]
pub struct Replies {
    body: Arc<[u8]>,
    response: Box<[u8]>,
    /// What the buffer holds: the kind and the reply's length.
    holds: Option<(Kind, usize)>,
    /// Header and body of a reply that keeps the connection, and of one that ends it.
    lengths: [usize; 2],
}

impl Replies {
    /// Replies whose body is `body` letters `a`.
    pub fn new(body: usize) -> Replies {
        let mut replies = Replies {
            body: vec![b'a'; body].into(),
            response: vec![0; HEADER + body].into_boxed_slice(),
            holds: None,
            lengths: [0; 2],
        };
        replies.lengths = [Kind::Keep, Kind::Close].map(|kind| replies.make_header(kind) + body);
        replies
    }

    /// One more response buffer for replies with the same body, of at least `room` bytes; memory that no reply reaches is
    /// only reserved.
    pub fn another(&self, room: usize) -> Replies {
        Replies {
            body: self.body.clone(),
            response: vec![0; room.max(HEADER + self.body.len())].into_boxed_slice(),
            holds: None,
            lengths: self.lengths,
        }
    }

    /// Bytes of the longest reply, for send buffers that must hold one.
    pub fn longest(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Bytes of a reply, which need not have been made.
    pub fn length(&self, kind: Kind) -> usize {
        match kind {
            Kind::Keep => self.lengths[0],
            Kind::Close => self.lengths[1],
            Kind::Bad => BAD.len(),
        }
    }

    /// Makes a reply, whatever the buffer held.
    #[inline(never)]
    pub fn make_reply(&mut self, kind: Kind) {
        let header = self.make_header(kind);
        let len = match kind {
            Kind::Bad => header,
            Kind::Keep | Kind::Close => {
                let end = header + self.body.len();
                self.response[header..end].copy_from_slice(&self.body);
                end
            }
        };
        self.holds = Some((kind, len));
    }

    /// A reply's bytes, made again if another kind has been made since.
    pub fn bytes(&mut self, kind: Kind) -> &[u8] {
        let len = match self.holds {
            Some((held, len)) if held == kind => len,
            _ => {
                self.make_reply(kind);
                self.holds.map_or(0, |(_, len)| len)
            }
        };
        &self.response[..len]
    }

    /// What the buffer holds: which reply and its bytes; `None` before the first.
    pub fn held(&self) -> Option<(Kind, &[u8])> {
        self.holds.map(|(kind, len)| (kind, &self.response[..len]))
    }

    /// Writes the header; its length.
    #[inline(never)]
    fn make_header(&mut self, kind: Kind) -> usize {
        let connection = match kind {
            Kind::Keep => "keep-alive",
            Kind::Close => "close",
            Kind::Bad => {
                self.response[..BAD.len()].copy_from_slice(BAD);
                return BAD.len();
            }
        };
        let room = self.response.len();
        let mut rest = &mut self.response[..];
        // The buffer has room for every header, so that writing into it cannot fail.
        let _ = write!(
            rest,
            "HTTP/1.1 200 OK\r\nServer: bypassprof/1.0\r\nConnection: {connection}\r\nContent-Length: {}\r\n\r\n",
            self.body.len()
        );
        room - rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers are as long as those of the servers in the study: 87 bytes for 64, 91 for 131,072.
    #[test]
    fn lengths_are_those_of_the_study() {
        assert_eq!(Replies::new(64).bytes(Kind::Keep).len(), 151);
        assert_eq!(Replies::new(131_072).bytes(Kind::Keep).len(), 131_163);
        for kind in [Kind::Keep, Kind::Close, Kind::Bad] {
            let mut replies = Replies::new(1_000);
            assert_eq!(replies.length(kind), replies.bytes(kind).len());
            assert_eq!(replies.another(0).length(kind), replies.length(kind));
        }
    }

    /// The longest header fits, with the largest body length there is.
    #[test]
    fn header_fits() {
        let longest = "HTTP/1.1 200 OK\r\nServer: bypassprof/1.0\r\nConnection: keep-alive\r\nContent-Length: \r\n\r\n".len();
        assert!(longest + u64::MAX.to_string().len() <= HEADER && BAD.len() <= HEADER);
    }

    /// Another kind in between does not spoil the rest of a reply.
    #[test]
    fn kinds_do_not_mix() {
        let mut replies = Replies::new(3);
        let keep = replies.bytes(Kind::Keep).to_vec();
        assert!(replies.bytes(Kind::Bad).starts_with(b"HTTP/1.1 400 "));
        assert!(replies.bytes(Kind::Close).ends_with(b"\r\n\r\naaa"));
        assert_eq!(replies.bytes(Kind::Keep), keep);
    }
}
