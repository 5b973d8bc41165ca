//! The HTTP job that every server does: bytes of a connection in, replies owed out; which stack carries them is unknown here.
//!
//! In: what a client sent, cut anywhere; out: for each whole request one reply of a fixed body, for the first thing that
//! is no request a `400` and the end. A [`Session`] is one connection's dialogue, a [`Job`] a thread's connections on any stack
//! whose calls copy. It refuses to know sockets, paths and files, and allocates nothing per request.
//!
//! Served: HTTP/1.1 and 1.0, `GET`, and `POST` with `Content-Length`; keep-alive, `Connection: close`, pipelining.
//! Refused with `400`: other methods, chunked bodies, heads above [`MAX_HEAD`] bytes, contradicting lengths.
//! `Expect: 100-continue` gets no interim reply; clients that ask for one send their body after a while anyway.
//!
//! ```
//! use httpjob::{Replies, Session};
//!
//! let (mut replies, mut session) = (Replies::new(64), Session::new());
//! let request = b"GET / HTTP/1.1\r\nHost: 10.123.0.2:8080\r\n\r\n";
//! assert_eq!(session.receive(&request[..10]), (10, false));
//! assert_eq!(session.receive(&request[10..]), (request.len() - 10, true));
//! assert_eq!(session.unsent(&mut replies).len(), 151);
//! assert!(session.sent(151, &mut replies));
//! assert!(session.unsent(&mut replies).is_empty() && !session.finished());
//! ```

mod job;
mod parse;
mod reply;
mod session;

pub use job::{Job, LINGER, Next, Stream};
pub use parse::{MAX_HEAD, Outcome, Parser, Request};
pub use reply::{Kind, Replies};
pub use session::Session;
