//! The HTTP job on any stack with plain calls: bytes received in, replies sent as far as they are taken.
//!
//! In: turns on connections; out: replies. A client that does not read its replies is not read from either. It refuses
//! to know which stack it is.

use bypassprof_probe::{self as probe, points};
use httpjob::{Replies, Session};
use stack_border::{App, Connection};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes of one read.
const READ: usize = 64 * 1024;

/// Bytes that are read and thrown away after the last reply, so that the client sees it before a reset.
const LINGER: usize = 4 << 20;

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Close,
}

/// One accepted connection.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    session: Session,
    /// A reply did not fit; the stack tells when there is room again.
    blocked: bool,
    thrown_away: usize,
}

impl Client {
    /// There may be room again: writes what is owed.
    fn go_on(&mut self, replies: &mut Replies, conn: &mut impl Connection) -> Next {
        self.blocked = false;
        self.send_owed(replies, conn).1
    }

    /// Answers the requests that are whole with these bytes; `started` counts them.
    fn answer(
        &mut self,
        mut bytes: &[u8],
        replies: &mut Replies,
        started: &mut u32,
        conn: &mut impl Connection,
    ) -> Next {
        if self.session.finished() {
            self.thrown_away += bytes.len();
            return if self.thrown_away > LINGER {
                Next::Close
            } else {
                Next::Stay
            };
        }
        while !bytes.is_empty() {
            let (used, asked) = self.session.receive(bytes);
            bytes = &bytes[used..];
            if !asked {
                continue;
            }
            *started = started.wrapping_add(1);
            probe::emit(points::APP_START, conn.flow(), *started);
            let (sent, next) = self.send_owed(replies, conn);
            probe::emit(points::APP_END, conn.flow(), sent);
            if next == Next::Close {
                return Next::Close;
            }
        }
        Next::Stay
    }

    /// Writes what is owed, as far as there is room; how many bytes there was room for.
    fn send_owed(&mut self, replies: &mut Replies, conn: &mut impl Connection) -> (u32, Next) {
        let mut total = 0u32;
        while !self.blocked && self.session.owes() {
            let unsent = self.session.unsent(replies);
            let asked = unsent.len();
            let Some(taken) = conn.send(unsent) else {
                return (total, Next::Close);
            };
            total = total.saturating_add(taken as u32);
            self.session.sent(taken, replies);
            self.blocked = taken < asked;
            if self.session.finished() {
                conn.end();
            }
        }
        (total, Next::Stay)
    }
}

/// The HTTP job of one stack.
pub struct Job {
    replies: Replies,
    /// By the connection's index.
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    started: u32,
    requests: Arc<AtomicU64>,
}

impl Job {
    /// A job whose replies have `body` letters.
    pub fn new(body: usize) -> Job {
        Job {
            replies: Replies::new(body),
            clients: Vec::new(),
            buffer: vec![0; READ].into(),
            started: 0,
            requests: Arc::default(),
        }
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.requests.clone()
    }
}

impl App for Job {
    fn turn(&mut self, conn: &mut impl Connection) {
        let index = conn.index();
        if self.clients.len() <= index {
            self.clients.resize(index + 1, Client::default());
        }
        let client = &mut self.clients[index];
        if conn.is_new() {
            *client = Client::default();
        }
        let before = self.started;
        let mut next = client.go_on(&mut self.replies, conn);
        while next == Next::Stay && !client.blocked {
            let n = conn.receive(&mut self.buffer);
            if n == 0 {
                break;
            }
            let started = &mut self.started;
            next = client.answer(&self.buffer[..n], &mut self.replies, started, conn);
        }
        if next == Next::Close || (conn.has_ended() && !client.blocked) {
            conn.finish();
        }
        let answered = self.started.wrapping_sub(before);
        if answered > 0 {
            // A count for a person to look at: no other data hangs on it.
            self.requests
                .fetch_add(u64::from(answered), Ordering::Relaxed);
        }
    }
}
