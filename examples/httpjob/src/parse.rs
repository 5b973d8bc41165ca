//! One connection's requests, recognised byte by byte.
//!
//! In: bytes, cut anywhere; out: where a request ends and what it asked for. Nothing is stored but the state and a
//! short word, so where the bytes were cut cannot matter. It refuses to know replies.

/// Most bytes from the beginning of a request to the end of its headers.
pub const MAX_HEAD: u32 = 16 * 1024;

/// Longest word of a request that means something here: `transfer-encoding` and the numbers of a length.
const WORD: usize = 20;

/// A whole request, its body passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The connection stays open for another one.
    pub keep_alive: bool,
    /// Bytes of its body.
    pub body: u64,
}

/// What the bytes so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No whole request yet.
    More,
    /// One request is whole.
    Request(Request),
    /// This is no request that is served here, nor can anything be that follows.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of a request; empty lines are passed over.
    Begin,
    Method,
    Target,
    Version,
    /// After CR of the request line.
    RequestLf,
    HeaderBegin,
    Name,
    Value(Header),
    /// After CR of a header.
    HeaderLf,
    /// After CR of the empty line.
    HeadLf,
    Body(u64),
    Bad,
}

/// Headers that change what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Length,
    Connection,
    Other,
}

/// Recognises the requests of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Parser {
    state: State,
    /// Bytes of the head so far.
    head: u32,
    word: [u8; WORD],
    word_len: u8,
    post: bool,
    keep_alive: bool,
    length: Option<u64>,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// Before the first request.
    pub const fn new() -> Parser {
        Parser {
            state: State::Begin,
            head: 0,
            word: [0; WORD],
            word_len: 0,
            post: false,
            keep_alive: false,
            length: None,
        }
    }

    /// Takes bytes up to the end of the next request; how many, and what they come to. After [`Outcome::Bad`] all bytes
    /// are taken and all are bad.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, Outcome) {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Body(left) = self.state {
                let n = left.min((bytes.len() - at) as u64);
                at += n as usize;
                if n < left {
                    self.state = State::Body(left - n);
                    break;
                }
                return (at, self.finish());
            }
            self.head += 1;
            self.state = if self.head > MAX_HEAD {
                State::Bad
            } else {
                self.step(bytes[at])
            };
            at += 1;
            match self.state {
                State::Bad => {
                    self.head = 0;
                    return (bytes.len(), Outcome::Bad);
                }
                State::Body(0) => return (at, self.finish()),
                _ => {}
            }
        }
        (at, Outcome::More)
    }

    fn finish(&mut self) -> Outcome {
        let request = Request {
            keep_alive: self.keep_alive,
            body: self.length.unwrap_or(0),
        };
        *self = Parser::new();
        Outcome::Request(request)
    }

    /// The state after one more byte of a head.
    fn step(&mut self, byte: u8) -> State {
        match self.state {
            State::Begin => match byte {
                b'\r' | b'\n' => State::Begin,
                _ => self.continue_word(byte, State::Method),
            },
            State::Method => match byte {
                b' ' => {
                    self.post = self.word() == b"POST";
                    let served = self.post || self.word() == b"GET";
                    self.word_len = 0;
                    if served { State::Target } else { State::Bad }
                }
                _ => self.continue_word(byte, State::Method),
            },
            State::Target => match byte {
                // `word_len` tells whether the target has a byte.
                b' ' if self.word_len > 0 => self.clear_word(State::Version),
                0x21..=0x7e | 0x80.. => {
                    self.word_len = 1;
                    State::Target
                }
                _ => State::Bad,
            },
            State::Version => match byte {
                b'\r' => self.end_version(State::RequestLf),
                b'\n' => self.end_version(State::HeaderBegin),
                _ => self.continue_word(byte, State::Version),
            },
            State::RequestLf | State::HeaderLf => match byte {
                b'\n' => State::HeaderBegin,
                _ => State::Bad,
            },
            State::HeaderBegin => match byte {
                b'\r' => State::HeadLf,
                b'\n' => self.end_head(),
                _ => {
                    self.word_len = 0;
                    self.name_byte(byte)
                }
            },
            State::Name => self.name_byte(byte),
            State::Value(header) => match byte {
                b'\r' => self.end_value(header, State::HeaderLf),
                b'\n' => self.end_value(header, State::HeaderBegin),
                _ => self.value_byte(header, byte),
            },
            State::HeadLf => match byte {
                b'\n' => self.end_head(),
                _ => State::Bad,
            },
            State::Body(_) | State::Bad => State::Bad,
        }
    }

    fn word(&self) -> &[u8] {
        &self.word[..usize::from(self.word_len)]
    }

    fn clear_word(&mut self, next: State) -> State {
        self.word_len = 0;
        next
    }

    /// One more byte of a word that is bad if it is longer than any that is known.
    fn continue_word(&mut self, byte: u8, next: State) -> State {
        if usize::from(self.word_len) < WORD && self.push(byte) {
            next
        } else {
            State::Bad
        }
    }

    /// Keeps a visible byte; what does not fit any more makes the word one that is unknown.
    fn push(&mut self, byte: u8) -> bool {
        if let Some(place) = self.word.get_mut(usize::from(self.word_len)) {
            *place = byte;
            self.word_len += 1;
        } else {
            self.word[0] = 0;
        }
        byte.is_ascii_graphic()
    }

    fn end_version(&mut self, next: State) -> State {
        self.keep_alive = self.word() == b"HTTP/1.1";
        let known = self.keep_alive || self.word() == b"HTTP/1.0";
        if known {
            self.clear_word(next)
        } else {
            State::Bad
        }
    }

    fn name_byte(&mut self, byte: u8) -> State {
        match byte {
            b':' => {
                let header = match self.word() {
                    b"content-length" => Header::Length,
                    b"connection" => Header::Connection,
                    b"transfer-encoding" | b"" => return State::Bad,
                    _ => Header::Other,
                };
                self.clear_word(State::Value(header))
            }
            b'(' | b')' | b',' | b'/' | b';'..=b'@' | b'[' | b'\\' | b']' | b'{' | b'}' | b'"' => {
                State::Bad
            }
            _ if self.push(byte.to_ascii_lowercase()) => State::Name,
            _ => State::Bad,
        }
    }

    fn value_byte(&mut self, header: Header, byte: u8) -> State {
        let blank = matches!(byte, b' ' | b'\t');
        if byte.is_ascii_control() && !blank {
            return State::Bad;
        }
        match header {
            Header::Other => State::Value(header),
            // Blanks are kept inside a number, where they make it none, and left out around it.
            Header::Length if blank && self.word_len == 0 => State::Value(header),
            Header::Length if blank => self.continue_word(b'_', State::Value(header)),
            Header::Length if byte.is_ascii_digit() && !self.word().contains(&b'_') => {
                self.continue_word(byte, State::Value(header))
            }
            Header::Length => State::Bad,
            Header::Connection => {
                if byte == b',' {
                    self.end_option();
                } else if !blank {
                    self.push(byte.to_ascii_lowercase());
                }
                State::Value(header)
            }
        }
    }

    /// One of the options that `Connection` lists is whole.
    fn end_option(&mut self) {
        match self.word() {
            b"close" => self.keep_alive = false,
            b"keep-alive" => self.keep_alive = true,
            _ => {}
        }
        self.word_len = 0;
    }

    fn end_value(&mut self, header: Header, next: State) -> State {
        match header {
            Header::Other => {}
            Header::Connection => self.end_option(),
            Header::Length => {
                let digits = self.word().split(|&b| b == b'_').next().unwrap_or(&[]);
                let number = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|d| d.parse::<u64>().ok());
                match (number, self.length) {
                    (Some(n), None) => self.length = Some(n),
                    (Some(n), Some(before)) if n == before => {}
                    _ => return State::Bad,
                }
            }
        }
        self.clear_word(next)
    }

    fn end_head(&mut self) -> State {
        match self.length {
            Some(length) => State::Body(length),
            None if self.post => State::Bad,
            None => State::Body(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that `bytes` come to when they arrive in pieces of these sizes.
    fn outcomes(bytes: &[u8], pieces: &[usize]) -> Vec<Outcome> {
        let mut parser = Parser::new();
        let mut found = Vec::new();
        let mut rest = bytes;
        let mut pieces = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
        while !rest.is_empty() {
            let n = pieces.next().unwrap_or(usize::MAX).clamp(1, rest.len());
            let (mut piece, after) = rest.split_at(n);
            rest = after;
            while !piece.is_empty() {
                let (used, outcome) = parser.feed(piece);
                assert!(used > 0 && used <= piece.len());
                piece = &piece[used..];
                match outcome {
                    Outcome::More => {}
                    Outcome::Bad => {
                        found.push(Outcome::Bad);
                        return found;
                    }
                    request => found.push(request),
                }
            }
        }
        found
    }

    fn whole(keep_alive: bool, body: u64) -> Outcome {
        Outcome::Request(Request { keep_alive, body })
    }

    /// Each line is a dialogue and what it comes to.
    #[test]
    fn requests_are_told_from_garbage() {
        let cases: &[(&str, &[Outcome])] = &[
            ("GET / HTTP/1.1\r\nHost: a:1\r\n\r\n", &[whole(true, 0)]),
            ("GET /x?y HTTP/1.0\n\n", &[whole(false, 0)]),
            (
                "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                &[whole(true, 0)],
            ),
            (
                "GET / HTTP/1.1\r\nconnection: x , CLOSE\r\n\r\n",
                &[whole(false, 0)],
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length:  3 \r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
                &[whole(true, 3), whole(true, 0)],
            ),
            (
                "\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
                &[whole(true, 0)],
            ),
            (
                "GET / HTTP/1.1\r\nx-a-header-with-a-name-longer-than-a-word: y\r\n\r\n",
                &[whole(true, 0)],
            ),
            ("POST / HTTP/1.1\r\n\r\n", &[Outcome::Bad]),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1 2\r\n\r\n",
                &[Outcome::Bad],
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                &[Outcome::Bad],
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                &[Outcome::Bad],
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                &[Outcome::Bad],
            ),
            ("DELETE / HTTP/1.1\r\n\r\n", &[Outcome::Bad]),
            ("GET  HTTP/1.1\r\n\r\n", &[Outcome::Bad]),
            ("GET / HTTP/2.0\r\n\r\n", &[Outcome::Bad]),
            ("GET / HTTP/1.1\r\n folded: x\r\n\r\n", &[Outcome::Bad]),
            (
                "GET / HTTP/1.1\r\nHost: a\r\rGET / HTTP/1.1\r\n\r\n",
                &[Outcome::Bad],
            ),
            ("garbage\r\n", &[Outcome::Bad]),
            ("\u{1}", &[Outcome::Bad]),
        ];
        for (text, expected) in cases {
            assert_eq!(outcomes(text.as_bytes(), &[]), *expected, "{text:?}");
        }
    }

    /// A head without end is refused at its bound, not kept.
    #[test]
    fn heads_are_bounded() {
        let mut parser = Parser::new();
        assert_eq!(parser.feed(b"GET /").1, Outcome::More);
        let long = vec![b'x'; MAX_HEAD as usize];
        assert_eq!(parser.feed(&long).1, Outcome::Bad);
        assert_eq!(parser.feed(b"GET / HTTP/1.1\r\n\r\n"), (18, Outcome::Bad));
    }

    /// Requests, near-requests and their fragments, so that splits fall into every state.
    fn dialogue() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_string()),
            Just("GET / HTTP/1.0\r\n\r\n".to_string()),
            (0usize..40).prop_map(|n| format!(
                "POST / HTTP/1.1\r\nContent-Length: {n}\r\n\r\n{}",
                "b".repeat(n)
            )),
            Just("Connection: close, x\r\n".to_string()),
            Just("Content-Length: 1 \r\n".to_string()),
            "[ -~\r\n]{0,12}",
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        /// Where the bytes are cut changes nothing.
        #[test]
        fn any_split_gives_the_same_answer(
            bytes in dialogue(), pieces in prop::collection::vec(1usize..30, 0..40)
        ) {
            prop_assert_eq!(outcomes(&bytes, &pieces), outcomes(&bytes, &[]));
        }

        /// No bytes panic, and bad stays bad.
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = outcomes(&bytes, &[7, 1, 3]);
            prop_assert!(found.iter().rev().skip(1).all(|o| *o != Outcome::Bad));
        }
    }
}
