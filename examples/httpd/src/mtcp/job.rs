//! The application thread: a batch of events, each stream read and answered in turn.
//!
//! In: events; out: replies, written in pieces as far as the send buffers take them. A client that does not read its
//! replies is not read from either.

use bypassprof_probe::{self as probe, points};
use httpjob::{Replies, Session};
use stack_mtcp::{Accepted, EpollEvent, Interest, MtcpContext, Refused, SockId, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most events of one batch.
const EVENTS: usize = 30_000;
/// Most bytes of one read.
const READ: usize = 64 * 1024;
/// Bytes that are read and thrown away after the last reply, so that the client sees it before a reset.
const LINGER: usize = 4 << 20;

/// What is to be told of a stream that is to be read from.
const READABLE: Interest = Interest {
    readable: true,
    writable: false,
};
/// And of one whose replies found no room.
const WRITABLE: Interest = Interest {
    readable: false,
    writable: true,
};

/// The HTTP job of one core.
pub struct Job {
    replies: Replies,
    /// Most bytes of one write.
    piece: usize,
    /// By the stream's index.
    clients: Vec<Option<Client>>,
    buffer: Box<[u8]>,
    started: u32,
    requests: Arc<AtomicU64>,
}

/// One accepted stream.
#[derive(Clone, Copy, Debug)]
struct Client {
    sock: SockId,
    session: Session,
    /// A reply did not fit, and an event will tell of room.
    blocked: bool,
    /// The peer sends no more.
    ended: bool,
    thrown_away: usize,
}

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Close,
}

impl Job {
    /// A job whose replies have `body` letters and are written in pieces of `piece` bytes.
    pub fn new(body: usize, piece: usize) -> Job {
        Job {
            replies: Replies::new(body),
            piece: piece.max(1),
            clients: Vec::new(),
            buffer: vec![0; READ].into(),
            started: 0,
            requests: Arc::default(),
        }
    }

    /// Bytes of the longest reply.
    pub fn longest_reply(&self) -> usize {
        self.replies.longest()
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.requests.clone()
    }

    /// Serves until the stack thread ends.
    pub fn run(&mut self, mtcp: &mut MtcpContext) {
        let mut events = MtcpContext::batch(EVENTS);
        while let Some(found) = mtcp.mtcp_epoll_wait(&mut events, None) {
            let before = self.started;
            for event in &events[..found] {
                self.mtcp_handle_event(*event, mtcp);
            }
            let answered = self.started.wrapping_sub(before);
            if answered > 0 {
                // A count for a person to look at: no other data hangs on it.
                self.requests
                    .fetch_add(u64::from(answered), Ordering::Relaxed);
            }
        }
    }

    #[inline(never)]
    fn mtcp_handle_event(&mut self, event: EpollEvent, mtcp: &mut MtcpContext) {
        match event.source {
            Source::Listener => {
                while let Some(Accepted { sock, .. }) = mtcp.mtcp_accept() {
                    let index = sock.index();
                    if self.clients.len() <= index {
                        self.clients.resize(index + 1, None);
                    }
                    self.clients[index] = Some(Client::new(sock));
                    mtcp.mtcp_epoll_ctl(sock, READABLE);
                }
            }
            Source::Stream(sock) => self.serve(sock, event, mtcp),
        }
    }

    fn serve(&mut self, sock: SockId, event: EpollEvent, mtcp: &mut MtcpContext) {
        let index = sock.index();
        let Some(Some(client)) = self.clients.get_mut(index) else {
            return;
        };
        if client.sock != sock {
            return;
        }
        let mut next = Next::Stay;
        if client.blocked && (event.writable || event.ended) {
            client.blocked = false;
            next = client.send_owed(&mut self.replies, self.piece, mtcp).1;
            if next == Next::Stay && !client.blocked {
                mtcp.mtcp_epoll_ctl(sock, READABLE);
            }
        }
        if next == Next::Stay && !client.blocked && (event.readable || event.ended) {
            next = match mtcp.mtcp_read(sock, &mut self.buffer) {
                Ok(0) => {
                    client.ended = true;
                    Next::Stay
                }
                Ok(n) => {
                    let (bytes, started) = (&self.buffer[..n], &mut self.started);
                    client.answer(bytes, &mut self.replies, self.piece, started, mtcp)
                }
                Err(Refused::Again) if !event.ended => Next::Stay,
                Err(_) => Next::Close,
            };
        }
        if next == Next::Close || (client.ended && !client.blocked) {
            self.clients[index] = None;
            mtcp.mtcp_close(sock);
        }
    }
}

impl Client {
    fn new(sock: SockId) -> Client {
        Client {
            sock,
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
        piece: usize,
        started: &mut u32,
        mtcp: &mut MtcpContext,
    ) -> Next {
        if self.session.finished() {
            self.thrown_away += bytes.len();
            return if self.thrown_away > LINGER {
                Next::Close
            } else {
                Next::Stay
            };
        }
        let flow = mtcp.flow(self.sock);
        while !bytes.is_empty() {
            let (used, asked) = self.session.receive(bytes);
            bytes = &bytes[used..];
            if !asked {
                continue;
            }
            *started = started.wrapping_add(1);
            probe::emit(points::APP_START, flow, *started);
            let (sent, next) = self.send_owed(replies, piece, mtcp);
            probe::emit(points::APP_END, flow, sent);
            if next == Next::Close {
                return Next::Close;
            }
        }
        Next::Stay
    }

    /// Writes what is owed, piece by piece, as far as the send buffer takes it; how many bytes it took.
    fn send_owed(
        &mut self,
        replies: &mut Replies,
        piece: usize,
        mtcp: &mut MtcpContext,
    ) -> (u32, Next) {
        let mut total = 0u32;
        while !self.blocked && self.session.owes() {
            let unsent = self.session.unsent(replies);
            let unsent = &unsent[..unsent.len().min(piece)];
            let taken = match mtcp.mtcp_write(self.sock, unsent) {
                Ok(taken) => taken,
                Err(Refused::Again) => 0,
                Err(_) => return (total, Next::Close),
            };
            total = total.saturating_add(taken as u32);
            self.blocked = taken < unsent.len();
            self.session.sent(taken, replies);
            if self.blocked {
                mtcp.mtcp_epoll_ctl(self.sock, WRITABLE);
            }
            if self.session.finished() {
                mtcp.mtcp_shutdown(self.sock);
            }
        }
        (total, Next::Stay)
    }
}
