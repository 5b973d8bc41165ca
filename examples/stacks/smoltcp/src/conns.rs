//! The pool of sockets, each in a set of its own, and which connection has which.
//!
//! In: peers; out: places in the pool. When the pool is full a connection in TIME-WAIT gives its place up, then the
//! oldest half-open one, then the newcomer is refused; when too many are half-open the oldest of them gives way. It
//! refuses to know frames and time.

use crate::buffers::Buffers;
use crate::resets::Resets;
use crate::stack::SmoltcpConfig;
use bypassprof_probe::{self as probe, Flow, points};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::Instant;
use stack_border::Connection;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddrV4;

/// Where a place's connection is in its life, as far as we treat it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody's.
    Free,
    /// A SYN came; the handshake is not over.
    HalfOpen,
    /// The application's.
    Open,
    /// The application is done with it; what it wrote and the FIN are on their way.
    Closing,
}

/// One place of the pool.
pub struct Place {
    pub set: SocketSet<'static>,
    pub handle: SocketHandle,
    pub peer: SocketAddrV4,
    pub flow: Flow,
    pub phase: Phase,
    /// Distinguishes the connections that had this place.
    pub life: u32,
    /// The application has not seen it yet.
    pub is_new: bool,
    /// It is on the list of those with news.
    pub touched: bool,
    /// It waits in the queue of TIME-WAIT.
    pub resting: bool,
    /// When it is given up, whatever smoltcp thinks.
    pub expires: Option<Instant>,
    /// Which RST is the peer's.
    pub resets: Resets,
}

impl Place {
    pub fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// All places.
pub struct Conns {
    pub places: Vec<Place>,
    by_peer: HashMap<SocketAddrV4, usize>,
    free: Vec<usize>,
    half_open: VecDeque<(usize, u32)>,
    /// Those of `half_open` that still are.
    opening: usize,
    resting: VecDeque<(usize, u32)>,
    buffers: Buffers,
    config: SmoltcpConfig,
}

impl Conns {
    pub fn new(config: SmoltcpConfig) -> Conns {
        Conns {
            places: Vec::new(),
            by_peer: HashMap::new(),
            free: Vec::new(),
            half_open: VecDeque::new(),
            opening: 0,
            resting: VecDeque::new(),
            buffers: Buffers::new(config.receive_buffer, config.send_buffer),
            config,
        }
    }

    /// The place of this peer's connection.
    pub fn find(&self, peer: SocketAddrV4) -> Option<usize> {
        self.by_peer.get(&peer).copied()
    }

    /// A place with a listening socket for a peer whose SYN came.
    pub fn listening(&mut self, peer: SocketAddrV4, flow: Flow) -> Option<usize> {
        if self.opening >= self.config.half_open {
            self.give_way(flow);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.places.len() < self.config.sockets => self.grow(),
            None => self.evict()?,
        };
        let place = &mut self.places[index];
        place.life = place.life.wrapping_add(1);
        (place.peer, place.flow, place.phase) = (peer, flow, Phase::HalfOpen);
        (place.is_new, place.resting, place.expires) = (true, false, None);
        self.by_peer.insert(peer, index);
        self.opening += 1;
        self.half_open.push_back((index, self.places[index].life));
        self.listen(index);
        Some(index)
    }

    /// The socket of a place becomes a listening one, whatever it was.
    pub fn listen(&mut self, index: usize) {
        let listen = self.config.listen;
        let socket = self.places[index].socket();
        // An aborted socket that listens again sends no reset.
        socket.abort();
        socket.set_timeout(None);
        // Refused only for port 0 and for sockets that are open.
        let _ = socket.listen(listen.port());
    }

    fn grow(&mut self) -> usize {
        let (receive, send) = self.buffers.pair();
        let mut socket = tcp::Socket::new(receive, send);
        socket.set_nagle_enabled(false);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        self.places.push(Place {
            set,
            handle,
            peer: SocketAddrV4::new(0.into(), 0),
            flow: Flow::NONE,
            phase: Phase::Free,
            life: 0,
            is_new: true,
            touched: false,
            resting: false,
            expires: None,
            resets: Resets::default(),
        });
        self.places.len() - 1
    }

    /// Takes a place from the connection that needs it least.
    fn evict(&mut self) -> Option<usize> {
        let places = &self.places;
        let rests = |&(index, life): &(usize, u32)| {
            let place: &Place = &places[index];
            place.life == life && place.resting
        };
        let index = match next(&mut self.resting, rests) {
            Some((index, _)) => index,
            None => self.oldest_half_open()?,
        };
        self.release(index);
        self.free.pop()
    }

    fn oldest_half_open(&mut self) -> Option<usize> {
        let places = &self.places;
        let waits = |&(index, life): &(usize, u32)| {
            let place: &Place = &places[index];
            place.life == life && place.phase == Phase::HalfOpen
        };
        next(&mut self.half_open, waits).map(|(index, _)| index)
    }

    /// The oldest handshake under way is given up for a newer one.
    fn give_way(&mut self, newer: Flow) {
        if let Some(index) = self.oldest_half_open() {
            let most = self.config.half_open as u32;
            probe::emit_with(points::FULL, newer, most, [4, 0, 0]);
            self.release(index);
        }
    }

    /// A handshake is over, and its connection the application's.
    pub fn opened(&mut self, index: usize) {
        let place = &mut self.places[index];
        (place.phase, place.expires) = (Phase::Open, None);
        self.opening -= 1;
    }

    /// Notes that a connection is in TIME-WAIT.
    pub fn rest(&mut self, index: usize) {
        let place = &mut self.places[index];
        if !place.resting {
            place.resting = true;
            self.resting.push_back((index, place.life));
        }
    }

    /// Gives a place back to the pool.
    pub fn release(&mut self, index: usize) {
        let place = &mut self.places[index];
        if place.phase == Phase::Free {
            return;
        }
        if place.phase == Phase::HalfOpen {
            self.opening -= 1;
        }
        place.phase = Phase::Free;
        place.expires = None;
        place.socket().abort();
        self.by_peer.remove(&place.peer);
        self.free.push(index);
        // Entries of the queues that lost their meaning are passed over later; here they are kept few.
        for queue in [&mut self.half_open, &mut self.resting] {
            if queue.len() > 2 * self.places.len() + 64 {
                let places = &self.places;
                queue.retain(|&(index, life)| {
                    places[index].life == life && places[index].phase != Phase::Free
                });
            }
        }
    }

    /// Connections that are somebody's, in TIME-WAIT or before.
    pub fn len(&self) -> usize {
        self.by_peer.len()
    }
}

fn next(
    queue: &mut VecDeque<(usize, u32)>,
    good: impl Fn(&(usize, u32)) -> bool,
) -> Option<(usize, u32)> {
    while let Some(entry) = queue.pop_front() {
        if good(&entry) {
            return Some(entry);
        }
    }
    None
}

/// A connection in the application's turn.
pub struct Conn<'a> {
    pub(crate) index: usize,
    pub(crate) flow: Flow,
    pub(crate) is_new: bool,
    pub(crate) socket: &'a mut tcp::Socket<'static>,
    pub(crate) done: bool,
}

impl Conn<'_> {
    /// The connection is no more: reset, or given up.
    pub(crate) fn is_over(&self) -> bool {
        self.socket.state() == State::Closed
    }

    #[inline(never)]
    fn recv_slice(&mut self, buffer: &mut [u8]) -> usize {
        // Refused once the peer has ended and all is read.
        self.socket.recv_slice(buffer).unwrap_or(0)
    }

    #[inline(never)]
    fn send_slice(&mut self, bytes: &[u8]) -> usize {
        let free = self.socket.send_capacity() - self.socket.send_queue();
        // Refused once we have ended.
        let taken = self.socket.send_slice(bytes).unwrap_or(0);
        let more = [taken as u32, free as u32, 0];
        probe::emit_with(points::SEND_CALL, self.flow, bytes.len() as u32, more);
        taken
    }
}

impl Connection for Conn<'_> {
    fn index(&self) -> usize {
        self.index
    }

    fn is_new(&self) -> bool {
        self.is_new
    }

    fn flow(&self) -> Flow {
        self.flow
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        self.recv_slice(buffer)
    }

    /// Bytes leave after the turn.
    fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        (!self.is_over()).then(|| self.send_slice(bytes))
    }

    fn end(&mut self) {
        self.socket.close();
    }

    fn has_ended(&self) -> bool {
        !self.socket.may_recv()
    }

    fn finish(&mut self) {
        self.socket.close();
        self.done = true;
    }
}
