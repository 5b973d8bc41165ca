//! The callback: a batch of events, each connection read and answered in turn.
//!
//! In: events; out: replies written as far as the send buffers take them. A client that does not read its replies is not
//! read from either.

use bypassprof_probe::{self as probe, points};
use httpjob::{Replies, Session};
use stack_fstack::{App, Kevent, Kqueue, Sockets};
use stack_netio::Device;
use stack_tcp::ConnId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most events of one callback.
const EVENTS: usize = 2048;
/// Most bytes of one read.
const READ: usize = 64 * 1024;
/// Bytes that are read and thrown away after the last reply, so that the client sees it before a reset.
const LINGER: usize = 4 << 20;

/// The HTTP job of one stack.
pub struct Job {
    replies: Replies,
    /// By the connection's index.
    clients: Vec<Option<Client>>,
    events: Vec<Kevent>,
    buffer: Box<[u8]>,
    started: u32,
    requests: Arc<AtomicU64>,
}

/// One accepted connection.
#[derive(Clone, Copy, Debug)]
struct Client {
    conn: ConnId,
    session: Session,
    /// A reply did not fit, and a writable event will follow.
    blocked: bool,
    /// The peer sends no more.
    ended: bool,
    thrown_away: usize,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Close,
}

impl Job {
    /// A job whose replies have `body` letters.
    pub fn new(body: usize) -> Job {
        Job {
            replies: Replies::new(body),
            clients: Vec::new(),
            events: Kqueue::batch(EVENTS),
            buffer: vec![0; READ].into(),
            started: 0,
            requests: Arc::default(),
        }
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.requests.clone()
    }

    fn serve<D: Device>(&mut self, event: Kevent, sockets: &mut Sockets<'_, D>) {
        let (conn, index) = (event.conn, event.conn.index());
        if event.accepted {
            if self.clients.len() <= index {
                self.clients.resize(index + 1, None);
            }
            self.clients[index] = Some(Client::new(conn));
        }
        let Some(Some(client)) = self.clients.get_mut(index) else {
            return;
        };
        if client.conn != conn {
            return;
        }
        client.ended |= event.ended;
        client.blocked &= !event.writable && !event.ended;
        let mut next = client.send_owed(&mut self.replies, sockets).1;
        while next == Next::Stay && !client.blocked {
            let n = sockets.ff_read(conn, &mut self.buffer);
            if n == 0 {
                break;
            }
            let started = &mut self.started;
            next = client.answer(&self.buffer[..n], &mut self.replies, started, sockets);
        }
        if next == Next::Close || (client.ended && !client.blocked) {
            self.clients[index] = None;
            sockets.ff_close(conn);
        }
    }
}

impl App for Job {
    fn turn<D: Device>(&mut self, sockets: &mut Sockets<'_, D>) {
        let before = self.started;
        for index in 0..sockets.ff_kevent(&mut self.events) {
            self.serve(self.events[index], sockets);
        }
        let answered = self.started.wrapping_sub(before);
        if answered > 0 {
            // A count for a person to look at: no other data hangs on it.
            self.requests
                .fetch_add(u64::from(answered), Ordering::Relaxed);
        }
    }
}

impl Client {
    fn new(conn: ConnId) -> Client {
        Client {
            conn,
            session: Session::new(),
            blocked: false,
            ended: false,
            thrown_away: 0,
        }
    }

    /// Answers the requests that are whole.
    fn answer<D: Device>(
        &mut self,
        mut bytes: &[u8],
        replies: &mut Replies,
        started: &mut u32,
        sockets: &mut Sockets<'_, D>,
    ) -> Next {
        if self.session.finished() {
            self.thrown_away += bytes.len();
            return if self.thrown_away > LINGER {
                Next::Close
            } else {
                Next::Stay
            };
        }
        let flow = sockets.flow(self.conn);
        while !bytes.is_empty() {
            let (used, asked) = self.session.receive(bytes);
            bytes = &bytes[used..];
            if !asked {
                continue;
            }
            *started = started.wrapping_add(1);
            probe::emit(points::APP_START, flow, *started);
            let (sent, next) = self.send_owed(replies, sockets);
            probe::emit(points::APP_END, flow, sent);
            if next == Next::Close {
                return Next::Close;
            }
        }
        Next::Stay
    }

    /// Writes what is owed, as far as the send buffer takes it; how many bytes it took.
    fn send_owed<D: Device>(
        &mut self,
        replies: &mut Replies,
        sockets: &mut Sockets<'_, D>,
    ) -> (u32, Next) {
        let mut total = 0u32;
        while !self.blocked && self.session.owes() {
            let unsent = self.session.unsent(replies);
            let asked = unsent.len();
            let Ok(taken) = sockets.ff_write(self.conn, unsent) else {
                return (total, Next::Close);
            };
            total = total.saturating_add(taken as u32);
            self.session.sent(taken, replies);
            self.blocked = taken < asked;
            if self.session.finished() {
                sockets.ff_shutdown(self.conn);
            }
        }
        (total, Next::Stay)
    }
}
