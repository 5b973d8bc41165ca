//! The job of one thread: connections by number, each read and answered in its turn.
//!
//! In: turns on connections, a stack's calls ([`Stream`]); out: replies, written as far as the stack takes them, in pieces
//! if so asked. A client that does not read its replies is not read from either. It refuses to know how a stack tells of
//! news, and what a connection is called there.

use crate::{Replies, Session};
use bypassprof_probe::{self as probe, Flow, points};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes of one read.
const READ: usize = 64 * 1024;

/// Bytes that are read and thrown away after the last reply, so that the client sees it before a reset.
pub const LINGER: usize = 4 << 20;

/// A stack's calls on one connection that has news.
pub trait Stream {
    /// The connection's label in events.
    fn flow(&self) -> Flow;

    /// Copies received bytes out: 0 when there are none now, `None` when the connection is no more.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize>;

    /// Takes as many bytes as there is room for, `None` when nothing can be sent any more. After fewer than offered a turn
    /// follows once there is room again.
    fn write(&mut self, bytes: &[u8]) -> Option<usize>;

    /// Nothing more will be written: FIN after what was. Reading goes on.
    fn shutdown(&mut self);

    /// Whether the peer sends no more: asked when there is nothing left to read.
    fn has_ended(&self) -> bool;

    /// All that was owed after a [`Stream::write`] that took too little has been taken: requests are waited for again.
    fn resumed(&mut self) {}
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It does.
    Stay,
    /// The stack is to close it; the job has forgotten it.
    Close,
}

/// One accepted connection.
#[derive(Clone, Copy, Debug)]
struct Client<Id> {
    id: Id,
    session: Session,
    /// A reply did not fit, and a turn will come when there is room.
    blocked: bool,
    ended: bool,
    thrown_away: usize,
}

/// The HTTP job of one thread. `Id` is a stack's name for a connection, unlike that of any connection before.
#[derive(Debug)]
pub struct Job<Id> {
    replies: Replies,
    /// Most bytes of one write.
    piece: usize,
    /// By the connection's index.
    clients: Vec<Option<Client<Id>>>,
    buffer: Box<[u8]>,
    started: u32,
    requests: Arc<AtomicU64>,
}

impl<Id: Copy + PartialEq> Job<Id> {
    /// A job whose replies have `body` letters.
    pub fn new(body: usize) -> Job<Id> {
        Job {
            replies: Replies::new(body),
            piece: usize::MAX,
            clients: Vec::new(),
            buffer: vec![0; READ].into(),
            started: 0,
            requests: Arc::default(),
        }
    }

    /// The same with replies written in pieces of at most `piece` bytes.
    pub fn in_pieces(mut self, piece: usize) -> Job<Id> {
        self.piece = piece.max(1);
        self
    }

    /// Bytes of the longest reply.
    pub fn longest_reply(&self) -> usize {
        self.replies.longest()
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.requests.clone()
    }

    /// Connections that are served now.
    pub fn open(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    /// Serves a connection from here on. `index` is a small number that no other has as long as this one lives.
    pub fn accept(&mut self, id: Id, index: usize) {
        if self.clients.len() <= index {
            self.clients.resize(index + 1, None);
        }
        self.clients[index] = Some(Client {
            id,
            session: Session::new(),
            blocked: false,
            ended: false,
            thrown_away: 0,
        });
    }

    /// Whether this connection is served here, and not one before it with the same index.
    pub fn serves(&self, id: Id, index: usize) -> bool {
        matches!(self.clients.get(index), Some(Some(client)) if client.id == id)
    }

    /// Serves a connection no more.
    pub fn forget(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            *client = None;
        }
    }

    /// A turn on a connection with news: writes what is owed, reads and answers until there is nothing to read or no room
    /// for a reply. `room`: there may be room again.
    #[inline]
    pub fn turn(&mut self, id: Id, index: usize, room: bool, stream: &mut impl Stream) -> Next {
        let Some(Some(client)) = self.clients.get_mut(index) else {
            return Next::Stay;
        };
        if client.id != id {
            return Next::Stay;
        }
        let before = self.started;
        let mut desk = Desk {
            replies: &mut self.replies,
            piece: self.piece,
            started: &mut self.started,
        };
        let next = client.go_on(room, &mut desk, &mut self.buffer, stream);
        let answered = self.started.wrapping_sub(before);
        if answered > 0 {
            // A count for a person to look at, with one writer: no other data hangs on it.
            let requests = self.requests.load(Ordering::Relaxed) + u64::from(answered);
            self.requests.store(requests, Ordering::Relaxed);
        }
        if next == Next::Close {
            self.clients[index] = None;
        }
        next
    }
}

/// What all connections of a thread share while one of them has its turn.
struct Desk<'a> {
    replies: &'a mut Replies,
    piece: usize,
    started: &'a mut u32,
}

impl<Id> Client<Id> {
    fn go_on(
        &mut self,
        room: bool,
        desk: &mut Desk<'_>,
        buffer: &mut [u8],
        stream: &mut impl Stream,
    ) -> Next {
        if self.blocked && room {
            self.blocked = false;
            if self.send_owed(desk, stream) == Next::Close {
                return Next::Close;
            }
            if !self.blocked {
                stream.resumed();
            }
        }
        while !self.blocked {
            let n = match stream.read(buffer) {
                Some(0) => break,
                Some(n) => n,
                None => return Next::Close,
            };
            if self.answer(&buffer[..n], desk, stream) == Next::Close {
                return Next::Close;
            }
        }
        self.ended |= stream.has_ended();
        if self.ended && !self.blocked {
            Next::Close
        } else {
            Next::Stay
        }
    }

    /// Answers the requests that are whole.
    fn answer(&mut self, mut bytes: &[u8], desk: &mut Desk<'_>, stream: &mut impl Stream) -> Next {
        if self.session.finished() {
            self.thrown_away += bytes.len();
            return if self.thrown_away > LINGER {
                Next::Close
            } else {
                Next::Stay
            };
        }
        let flow = stream.flow();
        while !bytes.is_empty() {
            let (used, asked) = self.session.receive(bytes);
            bytes = &bytes[used..];
            if !asked {
                continue;
            }
            *desk.started = desk.started.wrapping_add(1);
            probe::emit(points::APP_START, flow, *desk.started);
            let reply = desk.replies.length(self.session.newest());
            let next = self.send_owed(desk, stream);
            probe::emit(points::APP_END, flow, reply as u32);
            if next == Next::Close {
                return Next::Close;
            }
        }
        Next::Stay
    }

    /// Writes what is owed, as far as the stack takes it.
    fn send_owed(&mut self, desk: &mut Desk<'_>, stream: &mut impl Stream) -> Next {
        while !self.blocked && self.session.owes() {
            let unsent = self.session.unsent(desk.replies);
            let asked = unsent.len().min(desk.piece);
            let Some(taken) = stream.write(&unsent[..asked]) else {
                return Next::Close;
            };
            self.session.sent(taken, desk.replies);
            self.blocked = taken < asked;
            if self.session.finished() {
                stream.shutdown();
            }
        }
        Next::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer whose bytes are there, and whose buffer has so much room.
    #[derive(Default)]
    struct Peer {
        says: Vec<u8>,
        room: usize,
        heard: Vec<u8>,
        pieces: Vec<usize>,
        reads: usize,
        ended: bool,
        shut: bool,
    }

    impl Stream for Peer {
        fn flow(&self) -> Flow {
            Flow::NONE
        }

        fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
            let n = self.says.len().min(buffer.len());
            buffer[..n].copy_from_slice(&self.says[..n]);
            self.says.drain(..n);
            self.reads += 1;
            Some(n)
        }

        fn write(&mut self, bytes: &[u8]) -> Option<usize> {
            let n = bytes.len().min(self.room);
            self.room -= n;
            self.heard.extend(&bytes[..n]);
            self.pieces.push(bytes.len());
            Some(n)
        }

        fn shutdown(&mut self) {
            self.shut = true;
        }

        fn has_ended(&self) -> bool {
            self.ended
        }
    }

    fn job(body: usize) -> Job<u64> {
        let mut job = Job::new(body);
        job.accept(7, 0);
        job
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// Whoever does not read is not read from, and goes on where it stopped when there is room; the end of the client's
    /// half is no reason to owe it anything.
    #[test]
    fn a_slow_reader_is_waited_for() {
        let mut job = job(64);
        let mut peer = Peer {
            says: GET.repeat(2),
            room: 100,
            ended: true,
            ..Peer::default()
        };
        assert_eq!(job.turn(7, 0, false, &mut peer), Next::Stay);
        peer.says = GET.to_vec();
        let reads = peer.reads;
        assert_eq!(job.turn(7, 0, false, &mut peer), Next::Stay);
        assert_eq!((peer.heard.len(), peer.reads), (100, reads));
        peer.room = usize::MAX;
        assert_eq!(job.turn(7, 0, true, &mut peer), Next::Close);
        assert_eq!(peer.heard.len(), 3 * 151);
        assert_eq!(job.requests().load(Ordering::Relaxed), 3);
    }

    /// Replies leave in pieces where that is the stack's way.
    #[test]
    fn replies_leave_in_pieces() {
        let mut job = job(64).in_pieces(60);
        let mut peer = Peer {
            says: GET.to_vec(),
            room: usize::MAX,
            ..Peer::default()
        };
        assert_eq!(job.turn(7, 0, false, &mut peer), Next::Stay);
        assert_eq!(peer.pieces, [60, 60, 31]);
    }

    /// News of a connection that was there before with the same index are nobody's.
    #[test]
    fn a_predecessor_is_not_served() {
        let mut job = job(64);
        let mut peer = Peer {
            says: GET.to_vec(),
            ..Peer::default()
        };
        assert_eq!(job.turn(6, 0, true, &mut peer), Next::Stay);
        assert_eq!(job.turn(7, 1, true, &mut peer), Next::Stay);
        assert_eq!(peer.reads, 0);
    }

    /// After its last reply a client may say a little more, and then it is closed.
    #[test]
    fn what_follows_the_last_reply_is_thrown_away_for_a_while() {
        let mut job = job(64);
        let mut peer = Peer {
            says: b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            room: usize::MAX,
            ..Peer::default()
        };
        assert_eq!(job.turn(7, 0, false, &mut peer), Next::Stay);
        assert!(peer.shut);
        peer.says = vec![b'x'; LINGER];
        assert_eq!(job.turn(7, 0, false, &mut peer), Next::Stay);
        peer.says = vec![b'x'];
        assert_eq!(job.turn(7, 0, false, &mut peer), Next::Close);
        assert!(!job.serves(7, 0) && job.open() == 0);
    }
}
