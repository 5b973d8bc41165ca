//! The slow path: one thread for everything that does not happen all the time.
//!
//! In: packets that left the fast path, applications' calls, time; out: frames and orders to the fast path, entries for
//! applications. A round looks up to 512 times into empty queues, visits up to 128 connections for congestion control,
//! then asks the applications. It refuses to touch payload.

mod appif;
mod congestion;
mod conn;
mod handshake;
mod rate;
mod teardown;
mod timers;

use crate::clock::Clock;
use crate::config::{CONTEXTS, SLOW_CHECKS, ServiceConfig};
use crate::entry::FlowId;
use crate::fast::{age, label_of};
use crate::flow::Key;
use crate::frame::{Incoming, Outline, fast_flows_packet_parse};
use crate::shared::{Bell, Detour, Shared, ToFast, ToSlow, own_points, queues, sleep_across};
pub(crate) use appif::has_ended;
use appif::{Application, Greeting};
use bypassprof_probe::{self as probe, Burst, Flow as Label, Point, PollLoop, Stage, points};
use conn::{Conns, State};
use handshake::Listener;
use ringbuf::traits::{Consumer, Observer, Producer};
use ringbuf::{HeapCons, HeapProd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::{Options, Segment, flags};
use stack_tcp::wire::{ETHERNET, TYPE_ARP, TYPE_IPV4, arp, icmp, ipv4, write_ethernet};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use teardown::Ended;
use timers::Timers;

/// How often sockets are looked at while there is work: in ns.
const SOCKETS: u64 = 1_000_000;
/// Replies to strangers in a second.
const STRANGERS: u32 = 1000;

/// The slow path's ends of the queues to and from one core.
pub struct CoreLinks {
    /// To the core.
    pub to_fast: HeapProd<ToFast>,
    /// From the core.
    pub from_fast: HeapCons<ToSlow>,
}

struct Core {
    links: CoreLinks,
    /// What the queue had no room for.
    owed: VecDeque<ToFast>,
    told: bool,
}

/// The slow path.
pub struct SlowPath {
    shared: Arc<Shared>,
    config: Arc<ServiceConfig>,
    clock: Clock,
    now: u64,
    rounds: PollLoop,
    cores: Vec<Core>,
    listener: OwnedFd,
    greetings: Vec<Greeting>,
    applications: [Option<Application>; CONTEXTS],
    had_applications: bool,
    listeners: HashMap<u16, Vec<Listener>>,
    conns: Conns,
    half_open: VecDeque<FlowId>,
    half_open_count: usize,
    ended: Ended,
    timers: Timers,
    next_sockets: u64,
    strangers: u32,
    next_second: u64,
    /// Something was in flight or unsent not long before this time.
    busy_until: u64,
    cc_round: Point,
    worked: bool,
}

impl SlowPath {
    /// A slow path whose applications come by `listener`, a Unix socket of packets that listens.
    pub fn new(
        shared: Arc<Shared>,
        config: Arc<ServiceConfig>,
        clock: Clock,
        links: Vec<CoreLinks>,
        listener: OwnedFd,
    ) -> SlowPath {
        let cores = links.into_iter().map(|links| Core {
            links,
            owed: VecDeque::new(),
            told: false,
        });
        SlowPath {
            now: clock.now(),
            shared,
            config,
            clock,
            rounds: PollLoop::new(),
            cores: cores.collect(),
            listener,
            greetings: Vec::new(),
            applications: [const { None }; CONTEXTS],
            had_applications: false,
            listeners: HashMap::new(),
            conns: Conns::default(),
            half_open: VecDeque::new(),
            half_open_count: 0,
            ended: Ended::default(),
            timers: Timers::default(),
            next_sockets: 0,
            strangers: 0,
            next_second: 0,
            busy_until: 0,
            cc_round: probe::register(own_points::CC_ROUND),
            worked: false,
        }
    }

    /// Runs rounds until the service ends, or its last application has gone and it ends with them. Whatever there is
    /// then is reset.
    #[inline(never)]
    pub fn slowpath_main(&mut self) {
        let spin = self.config.spin.as_nanos() as u64;
        let mut last_work = self.now;
        while !self.shared.ending() && !self.is_through() {
            self.now = self.clock.now();
            self.round();
            if self.worked {
                last_work = self.now;
                continue;
            }
            let spins = self.config.slow_path_spins && self.conns.len() > 0;
            if !spins && self.now - last_work >= spin {
                self.sleep();
            }
        }
        for at in 0..CONTEXTS as u8 {
            self.end_application(at);
        }
        self.flush();
        // Release: see `Shared::stopping`.
        self.shared.stop.store(true, Ordering::Release);
        self.shared.fast_bells.iter().for_each(Bell::ring);
    }

    fn is_through(&self) -> bool {
        self.config.ends_with_applications
            && self.had_applications
            && self.applications.iter().all(Option::is_none)
            && self.greetings.is_empty()
    }

    fn round(&mut self) {
        self.worked = false;
        self.rounds.begin();
        self.nicif_poll();
        self.rounds.stage(Stage::Rings);
        self.cc_poll();
        self.util_timeout_poll();
        self.rounds.stage(Stage::Timers);
        self.appif_poll();
        self.flush();
        self.rounds.stage(Stage::Rings);
        self.rounds.end();
    }

    fn did(&mut self, n: usize) {
        if n > 0 {
            self.worked = true;
            self.rounds.worked(n as u32);
        }
    }

    #[inline(never)]
    fn nicif_poll(&mut self) {
        let mut taken = 0;
        for _ in 0..SLOW_CHECKS {
            for core in 0..self.cores.len() {
                if let Some(message) = self.rxq_poll(core) {
                    taken += 1;
                    self.take(core, message);
                }
            }
            if taken == 0 && !self.config.slow_path_spins {
                break;
            }
        }
        self.did(taken);
    }

    #[inline(never)]
    fn rxq_poll(&mut self, core: usize) -> Option<ToSlow> {
        self.cores[core].links.from_fast.try_pop()
    }

    fn take(&mut self, core: usize, message: ToSlow) {
        match message {
            ToSlow::Packet {
                frame,
                reason,
                stamp,
            } => self.packet(core, frame, reason, stamp),
            ToSlow::Finished(id) => self.finished(id),
            ToSlow::BadFlow(id) => {
                if self.is(id) {
                    self.reset(id.index, false);
                }
            }
            ToSlow::BadContext(at) => self.end_application(at),
            ToSlow::Detached(at) => self.detached(at),
        }
    }

    /// Whether there is a connection of this name.
    fn is(&self, id: FlowId) -> bool {
        let conn = self.conns.get(id.index);
        conn.is_some_and(|c| c.generation == id.generation)
    }

    fn packet(&mut self, core: usize, frame: Vec<u8>, reason: Detour, stamp: u64) {
        let burst = Burst::now();
        let depth = self.cores[core].links.from_fast.occupied_len() as u32;
        let age = age(probe::now().raw(), stamp);
        let label = label_of(&frame, self.shared.ip);
        let queue = queues::TO_SLOW | core as u32;
        burst.emit_with(points::HANDOFF, label, queue, [depth, age, 0]);
        let ends = (self.shared.mac, self.shared.ip);
        match fast_flows_packet_parse(&frame, ends, true) {
            Ok(Incoming::Tcp { key, mac, segment }) => {
                self.segment(core, key, mac, &segment, reason, &frame);
            }
            Ok(Incoming::Other) => self.not_tcp(core, &frame),
            Err(_) => {}
        }
    }

    #[inline(never)]
    fn segment(
        &mut self,
        core: usize,
        key: Key,
        mac: [u8; 6],
        segment: &Segment<'_>,
        reason: Detour,
        frame: &[u8],
    ) {
        let Some(index) = self.conns.find(key) else {
            if segment.has(flags::SYN) && !segment.has(flags::ACK) && !segment.has(flags::RST) {
                self.listener_packet(core, key, mac, segment);
            } else if !self.late(core, key, mac, segment) {
                self.refuse(core, key, mac, segment);
            }
            return;
        };
        let state = self.conns.get(index).map(|c| c.state);
        if matches!(state, Some(State::SynReceived { .. })) {
            self.handshake(index, segment, frame);
        } else if segment.has(flags::SYN) {
            // RFC 5961 4: whoever the peer is now, it will reset us if this is news to it.
            self.challenge(index);
        } else if segment.has(flags::RST) {
            self.peer_reset(index, segment);
        } else {
            if matches!(reason, Detour::Flags | Detour::Options)
                && let Some(mut flow) = self.shared.table.lock(index)
            {
                // For good, as in TAS: every later packet takes this way.
                flow.parked = true;
            }
            self.process(index, frame);
        }
    }

    /// Hands a packet of an established flow back to its core.
    fn process(&mut self, index: u32, frame: &[u8]) {
        let Some(conn) = self.conns.get(index) else {
            return;
        };
        let stamp = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        let message = ToFast::Process {
            frame: frame.to_vec(),
            stamp,
        };
        self.tell_fast(usize::from(conn.syn.core), message);
    }

    fn challenge(&mut self, index: u32) {
        let now = self.now;
        let Some(mut flow) = self.shared.table.lock(index) else {
            return;
        };
        let outline = Outline {
            key: flow.key,
            mac: flow.mac,
            seq: flow.next(),
            ack: flow.rx_next_seq,
            flags: flags::ACK,
            window: flow.window(),
            options: Options {
                timestamps: Some((crate::clock::timestamp(now), flow.tx_next_ts)),
                ..Options::default()
            },
            payload: 0,
        };
        let core = usize::from(flow.core);
        drop(flow);
        self.send(core, outline);
    }

    fn send(&mut self, core: usize, outline: Outline) {
        let frame = outline.to_frame((self.shared.mac, self.shared.ip));
        self.tell_fast(core, ToFast::Frame(frame));
    }

    /// Tells a stranger that there is nothing for it here (RFC 9293 3.10.7.1), so often in a second.
    fn refuse(&mut self, core: usize, key: Key, mac: [u8; 6], segment: &Segment<'_>) {
        probe::emit(points::DROP, Label::NONE, 0x0400_0002);
        if segment.has(flags::RST) || self.strangers >= STRANGERS {
            return;
        }
        self.strangers += 1;
        let (seq, ack, bits) = if segment.has(flags::ACK) {
            (segment.ack, Seq(0), flags::RST)
        } else {
            let after = segment.seq.plus(segment.len());
            (Seq(0), after, flags::RST | flags::ACK)
        };
        let outline = Outline {
            key,
            mac,
            seq,
            ack,
            flags: bits,
            window: 0,
            options: Options::default(),
            payload: 0,
        };
        self.send(core, outline);
    }

    /// ARP and ICMP.
    fn not_tcp(&mut self, core: usize, frame: &[u8]) {
        let (mac, ip) = (self.shared.mac, self.shared.ip);
        let Some((_, from, kind)) = stack_tcp::wire::ethernet(frame) else {
            return;
        };
        if kind == TYPE_ARP {
            let asked = arp::Arp::parse(&frame[ETHERNET..]);
            if let Some(asked) = asked.filter(|a| a.request && a.target.0 == ip) {
                let answer = arp::Arp {
                    request: false,
                    sender: (ip, mac),
                    target: asked.sender,
                };
                let mut frame = vec![0; arp::FRAME];
                answer.write(&mut frame);
                self.tell_fast(core, ToFast::Frame(frame));
            }
        } else if let Some(frame) = echo(frame, from, (mac, ip))
            && self.strangers < STRANGERS
        {
            self.strangers += 1;
            self.tell_fast(core, ToFast::Frame(frame));
        }
    }

    fn tell_fast(&mut self, core: usize, message: ToFast) {
        if let Some(core) = self.cores.get_mut(core) {
            core.owed.push_back(message);
            core.told = true;
        }
    }

    /// Hands over what is owed. A frame for a queue that is full is lost, as on a link; orders wait.
    fn flush(&mut self) {
        for (at, core) in self.cores.iter_mut().enumerate() {
            while let Some(message) = core.owed.pop_front() {
                if let Err(message) = core.links.to_fast.try_push(message) {
                    if matches!(message, ToFast::Frame(_) | ToFast::Process { .. }) {
                        let capacity = core.links.to_fast.capacity().get() as u32;
                        probe::emit_with(points::FULL, Label::NONE, capacity, [0, 0, 0]);
                        continue;
                    }
                    core.owed.push_front(message);
                    break;
                }
            }
            if std::mem::take(&mut core.told) {
                self.shared.fast_bells[at].ring();
            }
        }
    }

    fn sleep(&mut self) {
        self.shared.slow_bell.going_to_sleep();
        self.set_sleeping(true);
        // Whoever did not see the flags has filled a queue before.
        self.next_sockets = 0;
        self.round();
        if !self.worked && !self.shared.ending() && !self.is_through() {
            self.wait();
        }
        self.set_sleeping(false);
        self.shared.slow_bell.awake();
        self.next_sockets = 0;
    }

    fn set_sleeping(&self, asleep: bool) {
        for application in self.applications.iter().flatten() {
            let part = application.part();
            sleep_across(&part.region, part.layout.slow_sleeps(), asleep);
        }
    }

    fn wait(&mut self) {
        let timeout = self.longest_sleep();
        let micros = timeout.map_or(0, |ns| (ns / 1000).clamp(1, u64::from(u32::MAX)) as u32);
        probe::emit(points::SLEEP, Label::NONE, micros);
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![
            readable(self.shared.slow_bell.fd.as_fd()),
            readable(self.listener.as_fd()),
        ];
        fds.extend(self.greetings.iter().map(|g| readable(g.socket())));
        let applications = self.applications.iter().flatten();
        for (bell, socket) in applications.filter_map(Application::wakers) {
            fds.extend([readable(bell), readable(socket)]);
        }
        let limit = timeout.map(|ns| Timespec {
            tv_sec: (ns / 1_000_000_000).cast_signed(),
            tv_nsec: (ns % 1_000_000_000).cast_signed(),
        });
        // A signal ends the sleep, and the loop goes on.
        let woken = poll(&mut fds, limit.as_ref()).unwrap_or(0);
        probe::emit(points::WAKE, Label::NONE, if woken > 0 { 3 } else { 2 });
        for application in self.applications.iter().flatten() {
            crate::shared::silence_doorbell(&application.part().slow_bell);
        }
    }

    /// Until the next timer, and not long while there are connections to be looked after.
    fn longest_sleep(&self) -> Option<u64> {
        let timer = self
            .timers
            .next_due()
            .map(|due| due.saturating_sub(self.now));
        let visit = match self.conns.visits() {
            0 => None,
            _ if self.now < self.busy_until => Some(1_000_000),
            _ => Some(20_000_000),
        };
        [timer, visit].into_iter().flatten().min()
    }
}

/// The answer to an ICMP echo request to us (RFC 792).
fn echo(frame: &[u8], from: [u8; 6], (mac, ip): ([u8; 6], u32)) -> Option<Vec<u8>> {
    let packet = ipv4::Packet::parse(frame.get(ETHERNET..)?, true).ok()?;
    let asks =
        packet.protocol == ipv4::ICMP && icmp::Icmp::parse(packet.payload) == Ok(icmp::Icmp::Echo);
    if !asks || packet.destination != ip {
        return None;
    }
    let start = ETHERNET + ipv4::HEADER;
    let mut answer = vec![0; start + packet.payload.len()];
    write_ethernet(&mut answer, from, mac, TYPE_IPV4);
    icmp::write_echo(&mut answer[start..], packet.payload);
    let header = ipv4::Header {
        source: ip,
        destination: packet.source,
        protocol: ipv4::ICMP,
        total: answer.len() - ETHERNET,
        id: 0,
        congestion: 0,
    };
    header.write(&mut answer[ETHERNET..]);
    Some(answer)
}
