//! One thread of the application: events of its context, each connection read and answered in turn.
//!
//! In: events; out: replies written as far as the transmit rings take them. A client that does not read its replies is
//! not read from either.

use super::Counts;
use bypassprof_probe::{self as probe, points};
use httpjob::{Replies, Session};
use stack_tas::{ConnId, Context, Event, Gone};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most events of one turn.
const EVENTS: usize = 2048;
/// Most bytes of one read.
const READ: usize = 64 * 1024;
/// Bytes that are read and thrown away after the last reply, so that the client sees it before a reset.
const LINGER: usize = 4 << 20;
/// How often the end is looked for.
const TURN: Duration = Duration::from_millis(50);

/// One thread.
pub struct Worker {
    context: Option<Context>,
    job: Job,
}

struct Job {
    replies: Replies,
    /// By the connection's index.
    clients: Vec<Option<Client>>,
    buffer: Box<[u8]>,
    started: u32,
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

impl Worker {
    /// A thread whose replies have `body` letters.
    pub fn new(body: usize) -> Worker {
        Worker {
            context: None,
            job: Job {
                replies: Replies::new(body),
                clients: Vec::new(),
                buffer: vec![0; READ].into(),
                started: 0,
            },
        }
    }

    /// Bytes of the longest reply.
    pub fn longest_reply(&self) -> usize {
        self.job.replies.longest()
    }

    /// Serves on this context, which listens.
    pub fn use_context(&mut self, context: Context) {
        self.context = Some(context);
    }

    /// Serves until `stop` is set or the service is gone.
    pub fn serve(&mut self, counts: &Counts, stop: &AtomicBool) -> Result<(), Gone> {
        let Some(context) = &mut self.context else {
            return Ok(());
        };
        let mut events = vec![Event::default(); EVENTS];
        // A flag that carries no data; it is seen a turn later at worst.
        while !stop.load(Ordering::Relaxed) {
            let found = match context.tas_epoll_wait(&mut events, TURN) {
                Ok(found) => found,
                Err(gone) => {
                    let open = self.job.clients.iter().flatten().count();
                    eprintln!("httpd: {open} connections of this thread have ended");
                    return Err(gone);
                }
            };
            let before = self.job.started;
            for &event in &events[..found] {
                self.job.tas_handle_event(event, context);
            }
            let answered = self.job.started.wrapping_sub(before);
            tell(counts, context, answered);
        }
        Ok(())
    }
}

/// Counts for a person to look at: no other data hangs on them.
fn tell(counts: &Counts, context: &Context, answered: u32) {
    counts
        .requests
        .fetch_add(u64::from(answered), Ordering::Relaxed);
    let (own, fast) = (context.totals(), context.fast_path_totals());
    counts.rounds.store(own.rounds, Ordering::Relaxed);
    counts
        .empty_rounds
        .store(own.empty_rounds, Ordering::Relaxed);
    counts.working_ns.store(own.working_ns, Ordering::Relaxed);
    let fast = [fast.rounds, fast.empty_rounds, fast.working_ns];
    for (to, count) in counts.fast_path.iter().zip(fast) {
        to.store(count, Ordering::Relaxed);
    }
}

impl Job {
    #[inline(never)]
    fn tas_handle_event(&mut self, event: Event, context: &mut Context) {
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
        client.blocked &= !event.writable && !event.failed;
        let mut next = if event.failed {
            Next::Close
        } else {
            client.send_owed(&mut self.replies, context).1
        };
        while next == Next::Stay && !client.blocked {
            let n = context.tas_read(conn, &mut self.buffer);
            if n == 0 {
                break;
            }
            let started = &mut self.started;
            next = client.answer(&self.buffer[..n], &mut self.replies, started, context);
        }
        if next == Next::Close || (client.ended && !client.blocked) {
            self.clients[index] = None;
            context.tas_close(conn);
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
    fn answer(
        &mut self,
        mut bytes: &[u8],
        replies: &mut Replies,
        started: &mut u32,
        context: &mut Context,
    ) -> Next {
        if self.session.finished() {
            self.thrown_away += bytes.len();
            return if self.thrown_away > LINGER {
                Next::Close
            } else {
                Next::Stay
            };
        }
        let flow = context.flow(self.conn);
        while !bytes.is_empty() {
            let (used, asked) = self.session.receive(bytes);
            bytes = &bytes[used..];
            if !asked {
                continue;
            }
            *started = started.wrapping_add(1);
            probe::emit(points::APP_START, flow, *started);
            let (sent, next) = self.send_owed(replies, context);
            probe::emit(points::APP_END, flow, sent);
            if next == Next::Close {
                return Next::Close;
            }
        }
        Next::Stay
    }

    /// Writes what is owed, as far as the transmit ring takes it; how many bytes it took.
    fn send_owed(&mut self, replies: &mut Replies, context: &mut Context) -> (u32, Next) {
        let mut total = 0u32;
        while !self.blocked && self.session.owes() {
            let unsent = self.session.unsent(replies);
            let asked = unsent.len();
            let Ok(taken) = context.tas_write(self.conn, unsent) else {
                return (total, Next::Close);
            };
            total = total.saturating_add(taken as u32);
            self.session.sent(taken, replies);
            self.blocked = taken < asked;
            if self.session.finished() {
                context.tas_shutdown(self.conn);
            }
        }
        (total, Next::Stay)
    }
}
