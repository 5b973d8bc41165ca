//! Listeners and the handshake, in TAS's order: a SYN waits until its application accepts, and only then is answered.
//!
//! In: SYNs, `accept` calls, the third segment; out: SYN-ACKs, flows for the fast path. Half-open connections are
//! bounded: beyond the bound the oldest one goes. There are no SYN cookies, and no connections without timestamps.

use super::conn::{Conn, State, Syn};
use super::rate::Rate;
use super::timers::Kind;
use super::{SlowPath, points, probe};
use crate::clock::timestamp;
use crate::config::MSS;
use crate::entry::{FlowId, KernelOut, Opaque};
use crate::fast::label;
use crate::flow::{Key, Start};
use crate::frame::Outline;
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::{Options, Segment, flags};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// First wait for the third segment, in ns; doubled each time.
const SYN_WAIT: u64 = 1_000_000_000;
const SYN_TRIES: u32 = 5;
/// Most SYNs that may wait for one listener.
const MOST_WAITING: u32 = 16_384;

/// One context's part in a port.
#[derive(Debug)]
pub struct Listener {
    /// Whose.
    pub context: u8,
    backlog: usize,
    waiting: VecDeque<Syn>,
    /// Names for connections that are still to come.
    accepts: VecDeque<Opaque>,
}

impl SlowPath {
    /// A context listens on a port, with others of its process or alone.
    pub(super) fn listen(&mut self, context: u8, port: u16, backlog: u32) {
        let owner = self.owner(context);
        let listeners = self.listeners.get(&port).map_or(&[][..], |l| l);
        let foreign = listeners.iter().any(|l| self.owner(l.context) != owner);
        let status = u8::from(foreign || port == 0);
        let again = listeners.iter().any(|l| l.context == context);
        if status == 0 && !again {
            self.listeners.entry(port).or_default().push(Listener {
                context,
                backlog: backlog.clamp(1, MOST_WAITING) as usize,
                waiting: VecDeque::new(),
                accepts: VecDeque::new(),
            });
        }
        self.tell_application(context, KernelOut::Listening { port, status });
    }

    /// A context takes the next connection of a port, which may still have to come.
    pub(super) fn accept(&mut self, context: u8, port: u16, opaque: Opaque) {
        let Some(listener) = self.part_of(port, context) else {
            return;
        };
        // More names than connections can ever wait are no use to anyone.
        if listener.accepts.len() < MOST_WAITING as usize {
            listener.accepts.push_back(opaque);
        }
        self.serve_backlog(port, context);
    }

    fn part_of(&mut self, port: u16, context: u8) -> Option<&mut Listener> {
        let listeners = self.listeners.get_mut(&port)?;
        listeners.iter_mut().find(|l| l.context == context)
    }

    /// SYNs that wait get the names that wait.
    fn serve_backlog(&mut self, port: u16, context: u8) {
        while let Some(listener) = self.part_of(port, context)
            && !listener.waiting.is_empty()
            && !listener.accepts.is_empty()
        {
            let (syn, opaque) = (listener.waiting.pop_front(), listener.accepts.pop_front());
            let (Some(syn), Some(opaque)) = (syn, opaque) else {
                return;
            };
            if self.conns.find(syn.key).is_some() {
                self.give_name_back(port, context, opaque);
            } else if !self.answer(syn, context, opaque) {
                self.give_name_back(port, context, opaque);
                return;
            }
        }
    }

    fn give_name_back(&mut self, port: u16, context: u8, opaque: Opaque) {
        if let Some(listener) = self.part_of(port, context) {
            listener.accepts.push_front(opaque);
        }
    }

    /// A SYN for no connection that we have.
    #[inline(never)]
    pub(super) fn listener_packet(
        &mut self,
        core: usize,
        key: Key,
        mac: [u8; 6],
        segment: &Segment<'_>,
    ) {
        if !self.ended.lets_begin(key, segment) {
            return;
        }
        let listeners = self.listeners.get_mut(&key.port).filter(|l| !l.is_empty());
        let (Some(listeners), Some((clock, _))) = (listeners, segment.options.timestamps) else {
            self.refuse(core, key, mac, segment);
            return;
        };
        let syn = Syn {
            key,
            mac,
            core: core as u8,
            irs: segment.seq,
            mss: segment.options.mss.unwrap_or(536),
            scale: segment.options.scale,
            clock,
        };
        let turn = self.shared.table.hash(key) as usize % listeners.len();
        let listener = &mut listeners[turn];
        let context = listener.context;
        if listener.waiting.iter().any(|w| w.key == key) {
            // A name may have come back meanwhile.
            self.serve_backlog(key.port, context);
            return;
        }
        if listener.waiting.len() >= listener.backlog {
            probe::emit(points::DROP, label(key, self.shared.ip), 0x0500_0001);
            return;
        }
        listener.waiting.push_back(syn);
        if listener.accepts.is_empty() {
            self.tell_application(context, KernelOut::NewConn { port: key.port });
        } else {
            self.serve_backlog(key.port, context);
        }
    }

    /// Answers a SYN; `false` where there is no room for its flow.
    fn answer(&mut self, syn: Syn, context: u8, opaque: Opaque) -> bool {
        if self.half_open_count >= self.config.half_open {
            self.drop_oldest();
        }
        let Some(index) = self.conns.next_place() else {
            return false;
        };
        let Some(slot) = self.take_slot(context) else {
            return false;
        };
        self.shared.table.reserve(index);
        let generation = self.shared.table.lock(index).map_or(0, |f| f.generation);
        let conn = Conn {
            iss: self.first_number(syn.key),
            syn,
            state: State::SynReceived { tries: 0 },
            generation,
            context,
            opaque,
            slot,
            rate: Rate::new(self.config.rate),
            looked: self.now,
            progress: self.now,
            again: 0,
            unheard: 0,
        };
        let id = FlowId { index, generation };
        self.conns.insert(conn);
        self.half_open.push_back(id);
        self.half_open_count += 1;
        self.send_syn_ack(index);
        self.timers.set(self.now + SYN_WAIT, id, Kind::Handshake);
        true
    }

    /// Initial sequence numbers (RFC 6528): a keyed hash, and a clock of 4 us.
    fn first_number(&self, key: Key) -> Seq {
        let mut hasher = DefaultHasher::new();
        (self.config.seed, key).hash(&mut hasher);
        Seq((hasher.finish() as u32).wrapping_add((self.now / 4000) as u32))
    }

    fn send_syn_ack(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else {
            return;
        };
        let (syn, iss) = (conn.syn, conn.iss);
        let rx = self.application_sizes(conn.context).map_or(0, |s| s.rx);
        let outline = Outline {
            key: syn.key,
            mac: syn.mac,
            seq: iss,
            ack: syn.irs.plus(1),
            flags: flags::SYN | flags::ACK,
            window: rx.min(0xffff) as u16,
            options: Options {
                mss: Some(self.shared.mtu.saturating_sub(40)),
                // Our own window is told as it is; only with this does the peer scale its own.
                scale: syn.scale.map(|_| 0),
                timestamps: Some((timestamp(self.now), syn.clock)),
                ..Options::default()
            },
            payload: 0,
        };
        self.send(usize::from(syn.core), outline);
    }

    pub(super) fn syn_ack_again(&mut self, index: u32, tries: u32) {
        if tries >= SYN_TRIES {
            self.drop_half_open(index);
            return;
        }
        self.send_syn_ack(index);
        if let Some(conn) = self.conns.get_mut(index) {
            conn.state = State::SynReceived { tries: tries + 1 };
            let generation = conn.generation;
            let due = self.now + (SYN_WAIT << (tries + 1));
            self.timers
                .set(due, FlowId { index, generation }, Kind::Handshake);
        }
    }

    fn drop_oldest(&mut self) {
        while let Some(id) = self.half_open.pop_front() {
            let state = self.conns.get(id.index).map(|c| c.state);
            if self.is(id) && matches!(state, Some(State::SynReceived { .. })) {
                self.drop_half_open(id.index);
                return;
            }
        }
    }

    /// Forgets a half-open connection; its name waits for another one.
    pub(super) fn drop_half_open(&mut self, index: u32) {
        let Some(conn) = self.conns.remove(index) else {
            return;
        };
        self.half_open_count -= 1;
        self.give_slot(conn.context, conn.slot);
        if let Some(mut flow) = self.shared.table.lock(index) {
            flow.clear();
        }
        self.give_name_back(conn.syn.key.port, conn.context, conn.opaque);
    }

    /// A segment for a half-open connection.
    pub(super) fn handshake(&mut self, index: u32, segment: &Segment<'_>, frame: &[u8]) {
        let Some(conn) = self.conns.get(index) else {
            return;
        };
        let (syn, iss) = (conn.syn, conn.iss);
        if segment.has(flags::RST) {
            if segment.seq == syn.irs.plus(1) {
                self.drop_half_open(index);
            }
            return;
        }
        if segment.has(flags::SYN) {
            if segment.seq == syn.irs {
                self.send_syn_ack(index);
            }
            return;
        }
        if !segment.has(flags::ACK) {
            return;
        }
        if segment.ack != iss.plus(1) {
            self.refuse(usize::from(syn.core), syn.key, syn.mac, segment);
            return;
        }
        self.establish(index, segment);
        if segment.len() > 0 {
            self.process(index, frame);
        }
    }

    /// Hands a connection to the fast path and its application.
    fn establish(&mut self, index: u32, segment: &Segment<'_>) {
        self.half_open_count -= 1;
        let now = self.now;
        let Some(conn) = self.conns.get_mut(index) else {
            return;
        };
        conn.state = State::Open;
        (conn.looked, conn.progress) = (now, now);
        let (syn, iss, rate) = (conn.syn, conn.iss, conn.rate.bytes_per_second());
        let (context, opaque, slot) = (conn.context, conn.opaque, conn.slot);
        let scale = syn.scale.unwrap_or(0);
        let Some((region, rx, tx)) = self.rings(context, slot) else {
            self.drop_conn(index);
            return;
        };
        let clock = segment.options.timestamps.map_or(syn.clock, |t| t.0);
        let start = Start {
            key: syn.key,
            label: label(syn.key, self.shared.ip),
            mac: syn.mac,
            core: syn.core,
            context,
            opaque,
            region,
            rx,
            tx,
            rx_next: syn.irs.plus(1),
            tx_next: iss.plus(1),
            window: u32::from(segment.window) << scale,
            scale,
            peer_clock: clock,
            mss: u32::from(syn.mss.min(self.shared.mtu.saturating_sub(40)))
                .saturating_sub(12)
                .clamp(64, MSS),
            rate,
        };
        let Some(mut flow) = self.shared.table.lock(index) else {
            return;
        };
        flow.open(start);
        let id = flow.id(index);
        drop(flow);
        if !self.shared.table.insert(syn.key, index) {
            self.reset(index, false);
            self.drop_conn(index);
            return;
        }
        self.conns.visit(index);
        let accepted = KernelOut::Accepted {
            opaque,
            flow: id,
            slot,
            core: syn.core,
            peer: syn.key.peer,
            peer_port: syn.key.peer_port,
        };
        self.tell_application(context, accepted);
    }
}
