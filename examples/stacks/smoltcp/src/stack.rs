//! The loop: timers, a burst of frames through smoltcp, the application's turns, what they and smoltcp have to send.
//!
//! In: a device, an application; out: rounds, each to completion. It refuses to sleep: an idle loop polls.

use crate::conns::{Conn, Conns, Phase};
use crate::deadlines::Deadlines;
use crate::phy::Phy;
use bypassprof_probe::{self as probe, Flow, Stage, points};
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr};
use stack_border::{App, Kind, Port, Segment, Tally, Trigger, flags};
use stack_netio::{Device, DeviceError};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most frames received in a round.
const RX_BURST: usize = 32;
/// Frames that are handed over at once.
const TX_BURST: usize = 64;
/// Most segments that one connection sends in one turn: enough for a whole window without scaling.
const SEGMENTS: usize = 64;
/// Most deadlines looked at in one round.
const DEADLINES: usize = 256;
/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A peer that acknowledges nothing for so long is given up, and one that does not end after us.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a stack is made with.
#[derive(Clone, Debug)]
pub struct SmoltcpConfig {
    /// Our address and the port that is listened on.
    pub listen: SocketAddrV4,
    /// Length of the network's prefix.
    pub prefix_len: u8,
    /// Most connections, those in TIME-WAIT with them.
    pub sockets: usize,
    /// Most handshakes under way: the oldest gives way to one more.
    pub half_open: usize,
    /// Bytes of a connection's receive buffer.
    pub receive_buffer: usize,
    /// Bytes of a connection's send buffer.
    pub send_buffer: usize,
    /// Secret of smoltcp's sequence numbers.
    pub seed: u64,
}

/// A device, smoltcp and their loop.
pub struct Stack<D> {
    config: SmoltcpConfig,
    iface: Interface,
    phy: Phy<D>,
    conns: Conns,
    /// For frames of no connection: ARP, ICMP, segments to be reset.
    strangers: SocketSet<'static>,
    deadlines: Deadlines,
    touched: Vec<usize>,
    clock: quanta::Clock,
    start: u64,
    tally: Arc<Tally>,
}

impl<D: Device> Stack<D> {
    /// A stack at rest.
    pub fn new(config: SmoltcpConfig, device: D) -> Stack<D> {
        let mut phy = Phy::new(Port::new(device, TX_BURST));
        let mut iface = Config::new(EthernetAddress(phy.port.mac()).into());
        iface.random_seed = config.seed;
        let mut iface = Interface::new(iface, &mut phy, Instant::ZERO);
        let ours = IpCidr::new((*config.listen.ip()).into(), config.prefix_len);
        iface.update_ip_addrs(|addresses| {
            // The list is new and has room.
            let _ = addresses.push(ours);
        });
        let clock = quanta::Clock::new();
        Stack {
            iface,
            phy,
            conns: Conns::new(config.clone()),
            strangers: SocketSet::new(Vec::new()),
            deadlines: Deadlines::default(),
            touched: Vec::new(),
            start: clock.raw(),
            clock,
            tally: Arc::default(),
            config,
        }
    }

    /// What the loop did, to look at from another thread.
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Connections that there are, in every state.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Runs rounds until `stop` is set, then hands over what still waits; or until the device has gone.
    #[inline(never)]
    pub fn main_loop(&mut self, app: &mut impl App, stop: &AtomicBool) -> Result<(), DeviceError> {
        let mut now = self.now();
        // A flag that carries no data; it is seen a round later at worst.
        while !stop.load(Ordering::Relaxed) {
            let worked = self.round(app, Instant::from_micros((now / 1000) as i64));
            let next = self.now();
            self.tally.round(worked, next - now);
            now = next;
            self.phy.port.check(now)?;
        }
        self.phy.port.tx_burst(Trigger::Round);
        Ok(())
    }

    /// In ns since the stack was made.
    fn now(&self) -> u64 {
        self.clock.delta_as_nanos(self.start, self.clock.raw())
    }

    /// One round at a moment of the caller's clock, which never goes back; whether it did something.
    #[inline]
    pub fn round(&mut self, app: &mut impl App, now: Instant) -> bool {
        self.phy.port.queue.rounds.begin();
        let mut worked = self.run_deadlines(app, now);
        self.phy.port.queue.rounds.stage(Stage::Timers);
        worked |= self.receive(now);
        self.phy.port.queue.rounds.stage(Stage::Nic);
        // Turns touch no other connection.
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            self.conns.places[index].touched = false;
            self.serve(index, app, now);
        }
        self.touched = touched;
        self.phy.port.queue.rounds.stage(Stage::App);
        worked |= self.phy.port.tx_burst(Trigger::Round) > 0;
        self.phy.port.queue.rounds.stage(Stage::Nic);
        self.phy.port.queue.rounds.end();
        worked
    }

    #[inline(never)]
    fn receive(&mut self, now: Instant) -> bool {
        let frames = self.phy.port.rx_burst(RX_BURST);
        for index in 0..frames {
            let (segment, right) = self.phy.load(index);
            match segment {
                Some(_) if !right => probe::emit(points::DROP, Flow::NONE, 4 << 24),
                Some(segment) if segment.to == self.config.listen => self.take(&segment, now),
                _ => {
                    self.iface
                        .poll_ingress_single(now, &mut self.phy, &mut self.strangers);
                    if self.phy.asked_arp && self.phy.holds_arp() {
                        self.address_came();
                    }
                }
            }
        }
        if frames > 0 {
            self.phy.port.rx_release();
        }
        frames > 0
    }

    /// A segment for the port that is listened on.
    fn take(&mut self, segment: &Segment, now: Instant) {
        let control = segment.flags & (flags::SYN | flags::FIN | flags::RST | flags::ACK);
        let opens = control == flags::SYN;
        let found = match self.conns.find(segment.from) {
            // A new connection of a peer whose last one waits for stray segments (RFC 9293, 3.6.1).
            Some(index) if opens && self.state(index) == State::TimeWait => {
                self.conns.release(index);
                self.open(segment)
            }
            None if opens => self.open(segment),
            found => found,
        };
        let Some(index) = found else {
            if !opens {
                self.iface
                    .poll_ingress_single(now, &mut self.phy, &mut self.strangers);
            }
            return;
        };
        let place = &mut self.conns.places[index];
        if !place.resets.note(segment) {
            probe::emit(points::DROP, place.flow, 4 << 24);
            return;
        }
        let before = place.socket().recv_queue();
        self.iface
            .poll_ingress_single(now, &mut self.phy, &mut place.set);
        let came = place.socket().recv_queue().saturating_sub(before);
        if came > 0 && probe::enabled() {
            let more = [self.touched.len() as u32, self.phy.port.age(), 0];
            probe::emit_with(points::DELIVER, place.flow, came as u32, more);
        }
        if !place.touched {
            place.touched = true;
            self.touched.push(index);
        }
    }

    fn open(&mut self, segment: &Segment) -> Option<usize> {
        let index = self.conns.listening(segment.from, segment.flow());
        if index.is_none() {
            let places = self.config.sockets as u32;
            probe::emit_with(points::FULL, segment.flow(), places, [3, 0, 0]);
        }
        index
    }

    fn state(&mut self, index: usize) -> State {
        self.conns.places[index].socket().state()
    }

    /// Whoever had no Ethernet address to send to may have one now.
    #[cold]
    fn address_came(&mut self) {
        self.phy.asked_arp = false;
        for (index, place) in self.conns.places.iter_mut().enumerate() {
            if place.phase != Phase::Free && !place.touched {
                place.touched = true;
                self.touched.push(index);
            }
        }
    }

    #[inline]
    fn run_deadlines(&mut self, app: &mut impl App, now: Instant) -> bool {
        let mut ran = 0;
        while ran < DEADLINES
            && let Some((index, deadline)) = self.deadlines.pop_due(now)
        {
            ran += 1;
            self.fire(index, deadline, app, now);
        }
        if ran > 0 {
            self.phy.port.queue.rounds.worked(ran as u32);
        }
        ran > 0
    }

    #[inline(never)]
    fn fire(&mut self, index: usize, deadline: Instant, app: &mut impl App, now: Instant) {
        let place = &mut self.conns.places[index];
        if place.phase == Phase::Free {
            return;
        }
        let resting = place.resting;
        if place.expires.is_some_and(|expires| expires <= now) {
            place.socket().abort();
        }
        let flow = place.flow;
        self.phy.port.take_last_kind();
        self.serve(index, app, now);
        // smoltcp's word for "at once" is the beginning of time: no timer, but something left over.
        if deadline > Instant::ZERO && probe::enabled() {
            let kind = match self.phy.port.take_last_kind() {
                Some(Kind::Retransmission | Kind::Control) => 1,
                Some(Kind::PureAck) => 2,
                Some(Kind::Probe) => 3,
                _ if resting => 5,
                _ => 6,
            };
            let late = (now - deadline).total_micros().saturating_mul(1000);
            let late = late.min(u64::from(u32::MAX)) as u32;
            probe::emit_with(points::TIMER, flow, kind, [late, 0, 0]);
        }
    }

    /// A connection's turn: the application, then what there is to send, then when it has to be looked at again.
    #[inline(never)]
    fn serve(&mut self, index: usize, app: &mut impl App, now: Instant) {
        self.hand_over(index, app, now);
        self.poll_egress(index, now);
        if self.state(index) == State::Closed && self.conns.places[index].phase == Phase::Open {
            self.hand_over(index, app, now);
        }
        self.settle(index, now);
    }

    fn hand_over(&mut self, index: usize, app: &mut impl App, now: Instant) {
        let place = &mut self.conns.places[index];
        if place.phase == Phase::HalfOpen {
            match place.socket().state() {
                State::Listen | State::SynReceived | State::Closed => return,
                _ => {}
            }
            self.conns.opened(index);
        }
        let place = &mut self.conns.places[index];
        if place.phase == Phase::Closing {
            // Nobody reads it any more; a full buffer would keep the peer from ending.
            let _ = place.socket().recv(|bytes| (bytes.len(), ()));
        }
        if place.phase != Phase::Open {
            return;
        }
        let mut conn = Conn {
            index,
            flow: place.flow,
            is_new: place.is_new,
            socket: place.set.get_mut(place.handle),
            done: false,
        };
        app.turn(&mut conn);
        let done = conn.done || conn.is_over();
        place.is_new = false;
        if done {
            place.phase = Phase::Closing;
            place.expires = Some(now + PATIENCE);
        }
    }

    fn poll_egress(&mut self, index: usize, now: Instant) {
        let place = &mut self.conns.places[index];
        for _ in 0..SEGMENTS {
            let sent = self.iface.poll_egress(now, &mut self.phy, &mut place.set);
            if sent == PollResult::None {
                break;
            }
        }
    }

    fn settle(&mut self, index: usize, now: Instant) {
        let place = &mut self.conns.places[index];
        let owes = place.socket().send_queue() > 0;
        match place.socket().state() {
            State::Listen | State::Closed => {
                self.deadlines.set(index, None);
                return self.conns.release(index);
            }
            State::TimeWait if place.phase == Phase::Closing => self.conns.rest(index),
            State::SynReceived if place.expires.is_none() => {
                place.expires = Some(now + HANDSHAKE);
            }
            // smoltcp counts from the peer's last segment, however long nothing was owed.
            _ => place.socket().set_timeout(owes.then_some(PATIENCE)),
        }
        let place = &mut self.conns.places[index];
        let own = self.iface.poll_at(now, &place.set);
        let deadline = match (own, place.expires) {
            (Some(own), Some(expires)) => Some(own.min(expires)),
            (own, expires) => own.or(expires),
        };
        self.deadlines.set(index, deadline);
    }
}
