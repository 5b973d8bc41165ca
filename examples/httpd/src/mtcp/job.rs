//! The application thread: a batch of events, each stream read and answered in turn.
//!
//! In: events; out: the job's calls on mTCP's streams. Each event is answered by one read, and a stream is told what to
//! tell of next: data, or room for the rest of a reply.

use bypassprof_probe::Flow;
use httpjob::{Next, Stream};
use stack_mtcp::{Accepted, EpollEvent, Interest, MtcpContext, Refused, SockId, Source};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Most events of one batch.
const EVENTS: usize = 30_000;

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
pub struct Job(httpjob::Job<SockId>);

impl Job {
    /// A job whose replies have `body` letters and are written in pieces of `piece` bytes.
    pub fn new(body: usize, piece: usize) -> Job {
        Job(httpjob::Job::new(body).in_pieces(piece))
    }

    /// Bytes of the longest reply.
    pub fn longest_reply(&self) -> usize {
        self.0.longest_reply()
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.0.requests()
    }

    /// Serves until the stack thread ends.
    pub fn run(&mut self, mtcp: &mut MtcpContext) {
        let mut events = MtcpContext::batch(EVENTS);
        while let Some(found) = mtcp.mtcp_epoll_wait(&mut events, None) {
            for event in &events[..found] {
                self.mtcp_handle_event(*event, mtcp);
            }
        }
    }

    #[inline(never)]
    fn mtcp_handle_event(&mut self, event: EpollEvent, mtcp: &mut MtcpContext) {
        match event.source {
            Source::Listener => {
                while let Some(Accepted { sock, .. }) = mtcp.mtcp_accept() {
                    self.0.accept(sock, sock.index());
                    mtcp.mtcp_epoll_ctl(sock, READABLE);
                }
            }
            Source::Stream(sock) => {
                let room = event.writable || event.ended;
                let mut stream = Turn {
                    sock,
                    ended: event.ended,
                    unread: event.readable || event.ended,
                    over: false,
                    mtcp,
                };
                if self.0.turn(sock, sock.index(), room, &mut stream) == Next::Close {
                    mtcp.mtcp_close(sock);
                }
            }
        }
    }
}

struct Turn<'a> {
    sock: SockId,
    /// The event says that the stream is over.
    ended: bool,
    /// The event's read has not been made.
    unread: bool,
    /// All has been read, and the peer sends no more.
    over: bool,
    mtcp: &'a mut MtcpContext,
}

impl Stream for Turn<'_> {
    fn flow(&self) -> Flow {
        self.mtcp.flow(self.sock)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !std::mem::take(&mut self.unread) {
            return Some(0);
        }
        match self.mtcp.mtcp_read(self.sock, buffer) {
            Ok(n) => {
                self.over = n == 0;
                Some(n)
            }
            Err(Refused::Again) if !self.ended => Some(0),
            Err(_) => None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let taken = match self.mtcp.mtcp_write(self.sock, bytes) {
            Ok(taken) => taken,
            Err(Refused::Again) => 0,
            Err(_) => return None,
        };
        if taken < bytes.len() {
            self.mtcp.mtcp_epoll_ctl(self.sock, WRITABLE);
        }
        Some(taken)
    }

    fn shutdown(&mut self) {
        self.mtcp.mtcp_shutdown(self.sock);
    }

    fn has_ended(&self) -> bool {
        self.over
    }

    fn resumed(&mut self) {
        self.mtcp.mtcp_epoll_ctl(self.sock, READABLE);
    }
}
