//! One connection's replies, checked as they come in.
//!
//! In: bytes, cut anywhere; out: whether a reply is whole and as expected. It keeps the header until it is whole, and of
//! the body only a digest, if one is asked for.

use sha2::{Digest, Sha256};

/// Longest header accepted.
const MAX_HEADER: usize = 16 * 1024;

/// What is wrong with a reply; the connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not HTTP, or without a length.
    Malformed,
    /// Another status than 200.
    Status,
    /// Another body length than expected.
    Length,
    /// Another digest than expected.
    Digest,
    /// Bytes behind the reply, although nothing was asked for.
    Excess,
}

/// Checks one connection's replies.
#[derive(Clone, Debug)]
pub struct Reply {
    header: Vec<u8>,
    /// Bytes of the body still to come, once the header is whole.
    left: Option<u64>,
    body: Option<u64>,
    digest: Option<[u8; 32]>,
    hash: Sha256,
}

impl Reply {
    /// Before the first reply; `body` and `digest` are what every reply must have.
    pub fn new(body: Option<u64>, digest: Option<[u8; 32]>) -> Reply {
        Reply {
            header: Vec::with_capacity(256),
            left: None,
            body,
            digest,
            hash: Sha256::new(),
        }
    }

    /// Takes bytes; whether a reply is whole now.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<bool, Problem> {
        let left = match self.left {
            Some(left) => left,
            None => {
                // The end of the header may straddle what is kept and what is new.
                let looked_at = self.header.len().saturating_sub(3);
                self.header.extend_from_slice(bytes);
                let Some(end) = find(&self.header[looked_at..], b"\r\n\r\n") else {
                    let long = self.header.len() > MAX_HEADER;
                    return if long {
                        Err(Problem::Malformed)
                    } else {
                        Ok(false)
                    };
                };
                let end = looked_at + end + 4;
                let length = body_length(&self.header[..end])?;
                if self.body.is_some_and(|expected| expected != length) {
                    return Err(Problem::Length);
                }
                bytes = &bytes[bytes.len() - (self.header.len() - end)..];
                self.header.clear();
                length
            }
        };
        if bytes.len() as u64 > left {
            return Err(Problem::Excess);
        }
        if self.digest.is_some() {
            self.hash.update(bytes);
        }
        let left = left - bytes.len() as u64;
        self.left = Some(left);
        if left > 0 {
            return Ok(false);
        }
        self.left = None;
        match self.digest {
            Some(expected) if self.hash.finalize_reset().as_slice() != expected => {
                Err(Problem::Digest)
            }
            _ => Ok(true),
        }
    }

    /// Forgets what came of a reply, for a new connection.
    pub fn reset(&mut self) {
        self.header.clear();
        self.left = None;
        self.hash.reset();
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// What a whole header says about the body's length.
fn body_length(header: &[u8]) -> Result<u64, Problem> {
    let text = std::str::from_utf8(header).map_err(|_| Problem::Malformed)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or("");
    let mut words = status.split(' ');
    if !words.next().is_some_and(|w| w.starts_with("HTTP/1.")) {
        return Err(Problem::Malformed);
    }
    if words.next() != Some("200") {
        return Err(Problem::Status);
    }
    lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or(Problem::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 3\r\n\r\nabc";

    /// What is wrong with a reply is told apart.
    #[test]
    fn wrong_replies_are_found() {
        let check = |body, digest, text: &[u8]| Reply::new(body, digest).feed(text);
        assert_eq!(check(None, None, WHOLE), Ok(true));
        assert_eq!(check(Some(4), None, WHOLE), Err(Problem::Length));
        assert_eq!(check(None, Some([0; 32]), WHOLE), Err(Problem::Digest));
        let digest = Sha256::digest(b"abc").into();
        assert_eq!(check(Some(3), Some(digest), WHOLE), Ok(true));
        assert_eq!(
            check(None, None, b"HTTP/1.1 400 Bad\r\n\r\n"),
            Err(Problem::Status)
        );
        assert_eq!(
            check(None, None, b"HTTP/1.1 200 OK\r\n\r\n"),
            Err(Problem::Malformed)
        );
        assert_eq!(check(None, None, b"ssh\r\n\r\n"), Err(Problem::Malformed));
        assert_eq!(
            check(None, None, &[WHOLE, b"d"].concat()),
            Err(Problem::Excess)
        );
        assert_eq!(
            check(None, None, &[b'x'; MAX_HEADER + 1]),
            Err(Problem::Malformed)
        );
    }

    proptest! {
        /// Two replies on one connection are both whole, wherever their bytes are cut.
        #[test]
        fn any_split_gives_the_same_answer(piece in 1usize..60) {
            let mut reply = Reply::new(Some(3), Some(Sha256::digest(b"abc").into()));
            for _ in 0..2 {
                let answers: Vec<_> = WHOLE.chunks(piece).map(|c| reply.feed(c)).collect();
                let (last, before) = answers.split_last().unwrap();
                prop_assert_eq!(*last, Ok(true));
                prop_assert!(before.iter().all(|a| *a == Ok(false)));
            }
        }
    }
}
