//! The handler: event conditions in, batched calls out; received bytes are parsed where they lie.
//!
//! In: conditions; out: replies sent from this application's own memory, which keeps them until they are acknowledged. A
//! client that does not read its replies is not read from either.

use super::ReplyBuffer;
use bypassprof_probe::{self as probe, points};
use httpjob::{Kind, LINGER, Next, Replies, Session};
use stack_ix::{App, Condition, Net, Piece, What};
use stack_tcp::ConnId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Each connection's buffer in the study's server.
const LARGE: usize = 2 << 20;

/// The HTTP job of one elastic thread.
pub struct Job {
    /// The thread's response buffers, one for each kind of reply, so that none changes while it is on its way.
    replies: [Replies; 3],
    /// Room of each connection's own response buffer, if they have one.
    own_room: Option<usize>,
    /// By the connection's index.
    clients: Vec<Option<Client>>,
    started: u32,
    requests: Arc<AtomicU64>,
}

/// One accepted connection.
#[derive(Debug)]
struct Client {
    conn: ConnId,
    session: Session,
    own: Option<Replies>,
    /// A reply was not taken whole, or its buffer is not ours yet: `Sent` will follow.
    blocked: bool,
    /// The peer sends no more.
    ended: bool,
    thrown_away: usize,
}

fn number(kind: Kind) -> u32 {
    match kind {
        Kind::Keep => 0,
        Kind::Close => 1,
        Kind::Bad => 2,
    }
}

impl Job {
    /// A job whose replies have `body` letters.
    pub fn new(body: usize, buffer: ReplyBuffer) -> Job {
        let first = Replies::new(body);
        let own_room = match buffer {
            ReplyBuffer::Thread => None,
            ReplyBuffer::Connection => Some(0),
            ReplyBuffer::Large => Some(LARGE),
        };
        Job {
            replies: [first.another(0), first.another(0), first],
            own_room,
            clients: Vec::new(),
            started: 0,
            requests: Arc::default(),
        }
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.requests.clone()
    }

    fn knock(&mut self, conn: ConnId, net: &mut Net<'_>) {
        let index = conn.index();
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, || None);
        }
        let own = self.own_room.map(|room| self.replies[0].another(room));
        self.clients[index] = Some(Client::new(conn, own));
        net.accept(conn);
    }
}

impl App for Job {
    fn handle(&mut self, condition: Condition, net: &mut Net<'_>) {
        let Condition { conn, what } = condition;
        if what == What::Knock {
            return self.knock(conn, net);
        }
        let client = self.clients.get_mut(conn.index()).and_then(Option::as_mut);
        let Some(client) = client.filter(|client| client.conn == conn) else {
            return;
        };
        match what {
            What::Knock | What::Recv(_) => {}
            What::Sent(_) => client.blocked = false,
            What::Ended => client.ended = true,
            What::Dead(_) => return net.close(conn),
        }
        let before = self.started;
        let next = client.go_on(&mut self.replies, &mut self.started, net);
        let answered = self.started.wrapping_sub(before);
        if answered > 0 {
            // A count for a person to look at: no other data hangs on it.
            self.requests
                .fetch_add(u64::from(answered), Ordering::Relaxed);
        }
        let all_heard = client.ended && !client.blocked && net.unread(conn) == 0;
        if next == Next::Close || all_heard {
            net.close(conn);
        }
    }

    fn memory(&self, conn: ConnId, piece: Piece) -> &[u8] {
        let client = self.clients.get(conn.index()).and_then(Option::as_ref);
        let own = client.filter(|client| client.conn == conn);
        let replies = match own.and_then(|client| client.own.as_ref()) {
            Some(own) => Some(own),
            None => self.replies.get(piece.buffer as usize),
        };
        let held = replies.and_then(Replies::held);
        held.and_then(|(_, bytes)| bytes.get(piece.at..piece.at + piece.len))
            .unwrap_or(&[])
    }

    fn closed(&mut self, conn: ConnId) {
        if let Some(place) = self.clients.get_mut(conn.index())
            && place.as_ref().is_some_and(|client| client.conn == conn)
        {
            *place = None;
        }
    }
}

impl Client {
    fn new(conn: ConnId, own: Option<Replies>) -> Client {
        Client {
            conn,
            session: Session::new(),
            own,
            blocked: false,
            ended: false,
            thrown_away: 0,
        }
    }

    /// Sends what is owed and answers the requests that are whole.
    fn go_on(&mut self, replies: &mut [Replies; 3], started: &mut u32, net: &mut Net<'_>) -> Next {
        self.send_owed(replies, net);
        while !self.blocked {
            let bytes = net.received(self.conn);
            if bytes.is_empty() {
                break;
            }
            if self.session.finished() {
                let all = bytes.len();
                self.thrown_away += all;
                net.ixev_recv_done(self.conn, all);
                if self.thrown_away > LINGER {
                    return Next::Close;
                }
                continue;
            }
            let (used, asked) = self.session.receive(bytes);
            net.ixev_recv_done(self.conn, used);
            if asked {
                *started = started.wrapping_add(1);
                let flow = net.flow(self.conn);
                probe::emit(points::APP_START, flow, *started);
                let reply = replies[0].length(self.session.newest());
                self.send_owed(replies, net);
                probe::emit(points::APP_END, flow, reply as u32);
            }
        }
        Next::Stay
    }

    /// Sends what is owed, as far as the connection's window takes it.
    fn send_owed(&mut self, replies: &mut [Replies; 3], net: &mut Net<'_>) {
        while !self.blocked
            && let Some((kind, at)) = self.session.owed()
        {
            let buffer = number(kind);
            let replies = match &mut self.own {
                Some(own) => own,
                None => &mut replies[buffer as usize],
            };
            if at == 0 {
                let other = replies.held().is_some_and(|(held, _)| held != kind);
                if other && net.unacknowledged(self.conn) > 0 {
                    // The buffer holds another reply that is on its way. One of the same kind is the same bytes.
                    self.blocked = true;
                    break;
                }
                replies.make_reply(kind);
            }
            let len = replies.bytes(kind).len() - at;
            let taken = net.ixev_send(self.conn, Piece { buffer, at, len });
            self.session.sent(taken, replies);
            self.blocked = taken < len;
            if self.session.finished() {
                net.shutdown(self.conn);
            }
        }
    }
}
