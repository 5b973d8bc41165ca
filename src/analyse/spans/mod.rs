//! Requests on their way through threads and processes, and where each of them spent its time.
//!
//! In: the records of low rate and every ring's slots, block by block; out: [`Spans`]: how many requests, how they were
//! whole, split, pipelined, torn or cut off, and histograms of each stage and of the whole way. Work is told from waiting
//! at every hand-over. Memory is bounded by the flows open at a time and by what happens within [`WINDOW`].

pub mod flow;
mod label;
pub mod order;
pub mod turns;
pub mod way;

use super::filter::Filter;
use super::packs::Packs;
use crate::trace::record::{Meta, Pid, Ring, Sample, Switch, SwitchKind, Tid};
use crate::units::{ClockMap, Cycles, Nanos};
use bypassprof_wire::{Decoder, Event, Flow, Point, Slot, Tsc, event, points};
use flow::{FlowState, Request};
use hdrhistogram::Histogram;
use label::LabelHash;
use order::{Order, Stamped};
use std::collections::{BTreeMap, HashMap, VecDeque};
use turns::Turns;
use way::Way;

/// A ring that is silent is waited for so long.
pub const WINDOW: Nanos = Nanos::from_ns(1_000_000_000);
/// Events of one ring are at most so far out of order: a round that handles a full burst.
const SLACK: Nanos = Nanos::from_ns(20_000_000);
/// Flows followed at a time.
const MOST_FLOWS: usize = 1 << 18;
/// A flow with nothing on its way is forgotten when it was silent so long: its connection may be gone.
const QUIET: Nanos = Nanos::from_ns(2_000_000_000);
/// Bursts of a ring that segments can still name, and frames that wait for one.
const MOST_BURSTS: usize = 256;
const MOST_FRAMES: usize = 1 << 16;
/// Losses of a ring that are remembered: a request that ended is looked at when the next one comes.
const MOST_LOSSES: usize = 256;
/// Moves of a thread from CPU to CPU that are remembered, likewise.
const MOST_MOVES: usize = 256;
/// A thread was seen on a CPU. No event has this number.
const PLACE: Point = points::EPOCH;

/// Whether time in a stage is spent or waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something is done for the request.
    Work,
    /// It waits for something.
    Wait,
}

/// A part of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name in outputs.
    pub name: &'static str,
    /// Work or waiting.
    pub kind: Kind,
    /// From where to where.
    pub what: &'static str,
}

/// All stages in the order of the way; the last is the whole of it.
pub const STAGES: &[Stage] = &[
    Stage {
        name: "receive",
        kind: Kind::Work,
        what: "the receive burst to TCP: driver, Ethernet, IP, frames of the same burst before it",
    },
    Stage {
        name: "wait_handoff",
        kind: Kind::Wait,
        what: "given by the thread that received it to TCP on another thread",
    },
    Stage {
        name: "tcp_in",
        kind: Kind::Work,
        what: "TCP to made ready for the application",
    },
    Stage {
        name: "wait_wakeup",
        kind: Kind::Wait,
        what: "made ready to the application's thread running again",
    },
    Stage {
        name: "wait_app",
        kind: Kind::Wait,
        what: "made ready (or awake) to the application beginning: queues and requests before it",
    },
    Stage {
        name: "app",
        kind: Kind::Work,
        what: "the application's beginning to its end, its calls into the stack included",
    },
    Stage {
        name: "wait_send",
        kind: Kind::Wait,
        what: "the application's end to the reply's last segment: send buffer, windows, the stack's turn",
    },
    Stage {
        name: "wait_drain",
        kind: Kind::Wait,
        what: "the last segment to the beginning of the burst that gives it to the device",
    },
    Stage {
        name: "transmit",
        kind: Kind::Work,
        what: "the burst that gives it to the device: the driver, a system call where there is one",
    },
    Stage {
        name: "total",
        kind: Kind::Work,
        what: "all of the above",
    },
];

/// Stages other than the whole way.
pub const PARTS: usize = STAGES.len() - 1;

/// Whom a request was behind while it waited: these are parts of stages.
pub const BEHIND: &[Stage] = &[
    Stage {
        name: "burst",
        kind: Kind::Wait,
        what: "frames of the same burst were handled before it, the receive call included (part of tcp_in)",
    },
    Stage {
        name: "flow",
        kind: Kind::Wait,
        what: "the application handled earlier requests of its flow: pipelining (part of wait_app)",
    },
    Stage {
        name: "thread",
        kind: Kind::Wait,
        what: "the application's thread handled requests of other flows: its batch (part of wait_app)",
    },
];

/// How many requests, and of what kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Told from beginning to end and passed the filter: these are in the histograms.
    pub complete: u64,
    /// Of these, shared a segment with the one before.
    pub pipelined: u64,
    /// Of these, came in several segments.
    pub split: u64,
    /// Left out: events were lost on their way.
    pub torn: u64,
    /// Left out: still on their way at the end of the recording, or given up for want of room.
    pub unfinished: u64,
    /// Left out: nothing tells how they came in.
    pub headless: u64,
    /// Data segments of replies.
    pub segments: u64,
    /// Segments with nothing but an ACK.
    pub acks: u64,
    /// Of the complete ones, were handled by another thread than the one that received them.
    pub crossed: u64,
    /// Transmit bursts by what made them leave: at once, full, timer, end of round.
    pub triggers: [u64; 4],
    /// Events that came too late to be put in their place.
    pub late: u64,
}

/// One request's stages, in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The flow.
    pub flow: u32,
    /// When it began, from the recording's start.
    pub began: Nanos,
    /// Length of each of [`STAGES`] but the last; `None` where nothing tells.
    pub stages: [Option<u64>; PARTS],
    /// For each of [`BEHIND`], how long it was.
    pub behind: [u64; BEHIND.len()],
    /// Its whole length.
    pub total: u64,
    /// Thread that received, thread that handled, thread that sent.
    pub threads: [String; 3],
    /// Data segments of the reply, and ACKs on their own.
    pub segments: (u32, u32),
    /// The same in counter values, to look up what threads did meanwhile.
    pub way: Way,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Spans {
    /// How many, of what kind.
    pub counts: Counts,
    /// For each of [`STAGES`], lengths in ns of those requests of which it is known.
    pub stages: Vec<Histogram<u64>>,
    /// For each of [`BEHIND`], the same of requests that waited so.
    pub behind: Vec<Histogram<u64>>,
    /// Frames in non-empty receive bursts, and in transmit bursts.
    pub bursts: [Histogram<u64>; 2],
    /// The slowest requests, slowest first.
    pub slowest: Vec<Timeline>,
    /// Requests by when they began, if edges were asked for ([`Pass::sliced`]).
    pub slices: Vec<Slice>,
    /// How far to trust it: what was recorded of events. Nothing here rests on samples.
    pub trust: EventTrust,
}

/// Requests that began in a part of the recording's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slice {
    /// How many.
    pub requests: f64,
    /// Sum of the lengths of each of [`STAGES`] in ns.
    pub sums: [f64; STAGES.len()],
    /// How many had the stage.
    pub counts: [f64; STAGES.len()],
}

/// What was recorded of events and what is missing. `None` is "not known".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventTrust {
    /// Rings with events.
    pub rings: usize,
    /// Events read.
    pub events: u64,
    /// Slots that did not fit into rings, or were overwritten before they were read.
    pub dropped: u64,
    /// Rings that the recorder could not reach.
    pub unreached: u64,
    /// How far apart the two clocks may be.
    pub clock_error_ns: Option<u64>,
    /// CPU time of the recorder for each second of recording, in CPUs.
    pub observer_share: Option<f64>,
    /// What is wrong with the file, if it was cut short or damaged.
    pub damage: Option<String>,
    /// Which part of the recording all this is of; `None` is all of it.
    pub filtered: Option<String>,
}

impl Spans {
    /// From which length on a request is among the slowest `share` of all; `None` without requests.
    pub fn slowest_from(&self, share: f64) -> Option<Nanos> {
        let total = self.stages.last().filter(|total| !total.is_empty())?;
        let least = total.value_at_quantile(1.0 - share);
        Some(Nanos::from_ns(total.lowest_equivalent(least)))
    }
}

struct RingState {
    name: String,
    /// Whether its thread passes the filter.
    wanted: bool,
    /// From when on its thread ran on which CPU; only kept if CPUs are asked for.
    ran_on: VecDeque<(u64, u32)>,
    decoder: Decoder,
    next_slot: u64,
    own: HashMap<u16, Point>,
    /// First frame, frames and stamp of receive bursts.
    received: VecDeque<(u32, u32, u64)>,
    /// Frames that left TCP and wait for their burst.
    sent: VecDeque<Sent>,
    /// When data was made ready for the application last.
    delivered: u64,
    /// What the application did on this thread.
    turns: Turns,
    wake: Option<u64>,
    /// Process of its thread.
    pid: Pid,
    /// It tells when the device takes frames.
    drains: bool,
    /// It tells of bursts, received or sent.
    has_device: bool,
    /// What it took out of another thread's queue and no segment has claimed: its flow, and since when it waited.
    handed: Option<(u32, u64)>,
    newest: u64,
    /// Slots that its writer dropped, by the writer's own count.
    dropped: u64,
    /// Slots that are missing in the file.
    missing: u64,
    /// When events were lost, from the last one before to the first one after; the newest losses.
    losses: VecDeque<(u64, u64)>,
}

/// A frame that left TCP.
struct Sent {
    frame: u32,
    flow: u32,
    tsc: u64,
    /// First and last request that it is of.
    requests: Option<(u64, u64)>,
}

impl RingState {
    /// Stamp of the burst that a frame was received in.
    fn burst_of(&self, frame: u32) -> Option<u64> {
        let bursts = self.received.iter().rev();
        let mut of = bursts.filter(|(first, n, _)| frame.wrapping_sub(*first) < *n);
        of.next().map(|(.., tsc)| *tsc)
    }
}

/// The pass over a recording's rings.
pub struct Pass {
    clock: Option<ClockMap>,
    started: Nanos,
    filter: Filter,
    /// Counter values of the filter's window.
    span: (u64, u64),
    /// Rings of a thread; only kept if CPUs are asked for.
    rings_of: HashMap<(Pid, Tid), Vec<u32>>,
    show: usize,
    rings: BTreeMap<u32, RingState>,
    order: Order,
    flows: HashMap<u32, FlowState, LabelHash>,
    /// Length of [`QUIET`], and when quiet flows are looked for next.
    quiet: (u64, u64),
    /// Requests told just now: kept for its memory.
    told: Vec<Request>,
    now: u64,
    /// End of the newest loss in any ring.
    last_loss: u64,
    /// Ends of slices.
    edges: Vec<Nanos>,
    spans: Spans,
    /// Whether somebody takes the ways.
    tell_ways: bool,
    ways: Vec<Way>,
}

fn histogram() -> Histogram<u64> {
    // Three digits, as long as need be: the only error is a number of digits that does not exist.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits"))
}

impl Pass {
    /// Prepares a pass; `show` is how many of the slowest requests are kept.
    pub fn new(metas: &[Meta], packs: &Packs, filter: Filter, show: usize) -> Pass {
        let mut pairs = Vec::new();
        let mut names: HashMap<(Pid, Tid), String> = HashMap::new();
        let mut started = Nanos::default();
        let mut rings = Vec::new();
        let mut dropped = HashMap::new();
        let mut trust = EventTrust::default();
        for meta in metas {
            match meta {
                Meta::Session(session) => started = session.started,
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::Thread(t) if !t.name.is_empty() => {
                    names.insert((t.pid, t.tid), t.name.clone());
                }
                Meta::Ring(ring) => rings.push(ring),
                Meta::RingTotals(totals) => {
                    dropped.insert(totals.ring, totals.dropped_slots);
                }
                Meta::End(end) => {
                    trust.unreached = end.rings_unreached;
                    let wall = end.time.since(started).ns();
                    let share = end.recorder_cpu_ns as f64 / wall.max(1) as f64;
                    trust.observer_share = (wall > 0).then_some(share);
                }
                _ => {}
            }
        }
        let clock = ClockMap::fit(&pairs);
        trust.clock_error_ns = clock.map(|c| c.error().ns());
        trust.filtered = filter.line();
        let (from, to) = filter.span(started);
        let edge = |time: Nanos| match clock {
            _ if time == Nanos::from_ns(u64::MAX) => u64::MAX,
            Some(clock) => clock.tsc(time).raw(),
            None => time.ns(),
        };
        let span = (edge(from), edge(to));
        let ticks = |length: Nanos| {
            let per_ns = clock.map_or(1.0, |c| 1.0 / c.ns_per_tick());
            (length.ns() as f64 * per_ns) as u64
        };
        let mut pass = Pass {
            order: Order::new(ticks(SLACK), ticks(WINDOW)),
            clock,
            started,
            filter,
            span,
            rings_of: HashMap::new(),
            show,
            rings: BTreeMap::new(),
            flows: HashMap::default(),
            quiet: (ticks(QUIET), 0),
            told: Vec::new(),
            now: 0,
            last_loss: 0,
            edges: Vec::new(),
            tell_ways: false,
            ways: Vec::new(),
            spans: Spans {
                counts: Counts::default(),
                stages: STAGES.iter().map(|_| histogram()).collect(),
                behind: BEHIND.iter().map(|_| histogram()).collect(),
                bursts: [histogram(), histogram()],
                slowest: Vec::new(),
                slices: Vec::new(),
                trust,
            },
        };
        // Points mean the same whatever stack is recognised: every pack may translate.
        let all: Vec<_> = packs.all().iter().collect();
        let rules = super::packs::Rules::of(&all);
        for ring in rings {
            let name = names.get(&(ring.pid, ring.tid)).cloned();
            pass.add_ring(ring, name.unwrap_or_else(|| ring.name.clone()), &rules);
            if let (Some(state), Some(&slots)) =
                (pass.rings.get_mut(&ring.ring), dropped.get(&ring.ring))
            {
                state.dropped = slots;
            }
        }
        pass
    }

    /// Adds requests up by when they began too: [`Spans::slices`]. Edges are times of the recording's clock.
    #[must_use]
    pub fn sliced(mut self, edges: &[Nanos]) -> Pass {
        self.edges = edges.iter().map(|e| e.since(self.started)).collect();
        self.spans.slices = vec![Slice::default(); edges.len()];
        self
    }

    fn add_ring(&mut self, ring: &Ring, name: String, rules: &super::packs::Rules) {
        self.order.ring(ring.ring);
        if !self.filter.cpus.is_empty() {
            let rings = self.rings_of.entry((ring.pid, ring.tid));
            rings.or_default().push(ring.ring);
        }
        let meaning = |p: &crate::trace::record::OwnPoint| Some((p.id, rules.meaning(&p.name)?));
        self.rings.insert(
            ring.ring,
            RingState {
                wanted: self.filter.has_thread(ring.tid, &name),
                ran_on: VecDeque::new(),
                name,
                decoder: Decoder::new((ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc))),
                next_slot: ring.first_slot,
                own: ring.points.iter().filter_map(meaning).collect(),
                received: VecDeque::new(),
                sent: VecDeque::new(),
                delivered: 0,
                turns: Turns::default(),
                wake: None,
                pid: ring.pid,
                drains: false,
                has_device: false,
                handed: None,
                newest: 0,
                dropped: 0,
                missing: 0,
                losses: VecDeque::new(),
            },
        );
    }

    /// A block of a ring's slots, the first of which has position `first`, in the order of the file.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        let Some(state) = self.rings.get_mut(&ring) else {
            return;
        };
        let mut gap = first > state.next_slot;
        if gap {
            state.missing = state.missing.saturating_add(first - state.next_slot);
            state.decoder.gap();
        }
        state.next_slot = first.saturating_add(slots.len() as u64);
        let (mut inlet, own) = (self.order.inlet(ring), &state.own);
        for &slot in slots {
            state.decoder.push(slot, &mut |event| {
                if std::mem::take(&mut gap) {
                    inlet.push(&event, points::LOST);
                }
                inlet.push(&event, meaning(own, event.point));
            });
        }
        self.settle(false);
    }

    /// The same, for somebody who takes the [`Way`] of each request too.
    pub fn telling_ways(mut self) -> Pass {
        self.tell_ways = true;
        self
    }

    /// The ways of requests that were told since this was asked last. Lengths are in counter ticks.
    pub fn take_ways(&mut self) -> Vec<Way> {
        std::mem::take(&mut self.ways)
    }

    /// A sample of the file: it tells where its thread runs.
    pub fn sample(&mut self, sample: &Sample) {
        self.place(sample.time, (sample.pid, sample.tid), sample.cpu);
    }

    /// A switch of the file, likewise.
    pub fn switch(&mut self, switch: &Switch) {
        if switch.kind == SwitchKind::In {
            self.place(switch.time, (switch.pid, switch.tid), switch.cpu);
        }
    }

    fn place(&mut self, time: Nanos, thread: (Pid, Tid), cpu: u32) {
        let (Some(clock), Some(rings)) = (&self.clock, self.rings_of.get(&thread)) else {
            return;
        };
        let mut args = [0; event::MAX_ARGS];
        for &ring in rings {
            args[0] = ring;
            let event = Event {
                tsc: clock.tsc(time),
                point: PLACE,
                flow: Flow::from_raw(cpu),
                args,
                arg_count: 1,
            };
            // Each CPU's records lie in order; they are waited for like a ring's.
            self.order.inlet(u32::MAX - cpu).push(&event, PLACE);
        }
    }

    fn settle(&mut self, all: bool) {
        let mut order = std::mem::replace(&mut self.order, Order::new(0, 0));
        let mut take = |event| self.event(event);
        if all {
            order.finish(&mut take);
        } else {
            order.settle(&mut take);
        }
        self.order = order;
    }

    /// Events that wait to be put in order.
    pub fn waiting(&self) -> usize {
        self.order.waiting()
    }

    fn event(&mut self, e: Stamped) {
        if e.point == PLACE {
            if let Some(ring) = self.rings.get_mut(&e.args[0])
                && ring.ran_on.back().is_none_or(|last| last.1 != e.flow)
            {
                push(&mut ring.ran_on, (e.tsc, e.flow), MOST_MOVES);
            }
            return;
        }
        let Some(ring) = self.rings.get_mut(&e.ring) else {
            return;
        };
        if e.point == points::LOST {
            push(&mut ring.losses, (ring.newest, e.tsc), MOST_LOSSES);
            ring.sent.clear();
            self.last_loss = self.last_loss.max(e.tsc);
        }
        ring.newest = e.tsc;
        let counts = ring.wanted && (self.span.0..self.span.1).contains(&e.tsc);
        self.now = e.tsc;
        let mut told = std::mem::take(&mut self.told);
        let mut out = |request| told.push(request);
        match e.point {
            points::RX_BURST => {
                ring.has_device = true;
                let frames = e.flow & 0xfff;
                if counts {
                    record(&mut self.spans.bursts[0], u64::from(frames));
                }
                push(&mut ring.received, (e.args[0], frames, e.tsc), MOST_BURSTS);
            }
            points::TX_BURST => {
                ring.drains = true;
                ring.has_device = true;
                let (first, accepted) = (e.args[0], (e.flow >> 12) & 0xfff);
                if counts {
                    record(&mut self.spans.bursts[1], u64::from(accepted));
                    let trigger = self.spans.counts.triggers.get_mut(e.args[2] as usize);
                    trigger.into_iter().for_each(|bursts| *bursts += 1);
                }
                self.burst_taken(e.ring, (first, accepted), e.args[1], e.tsc);
            }
            points::WAKE => ring.wake = Some(e.tsc),
            points::HANDOFF => {
                let since = e.tsc.saturating_sub(u64::from(e.args[2]));
                ring.handed = Some((e.flow, since));
            }
            points::TCP_IN if e.args[1] & 0xff_ffff > 0 => {
                let handed = ring.handed.take();
                let handed = handed.filter(|(flow, _)| *flow == e.flow || *flow == 0);
                let own = ring.burst_of(e.args[0]);
                let rx = own.or_else(|| self.device_of(e.ring)?.burst_of(e.args[0]));
                let flow = self.flow(e.flow);
                flow.tcp_in(e.tsc, rx, e.ring, &mut out);
                if let Some((_, since)) = handed.filter(|_| own.is_none()) {
                    flow.was_handed_over(since.max(rx.unwrap_or(0)));
                }
            }
            points::DELIVER if e.args[0] > 0 => {
                let before = std::mem::replace(&mut ring.delivered, e.tsc);
                self.flow(e.flow).deliver(e.tsc, before, e.ring, &mut out);
            }
            points::APP_START => {
                let (wake, mut turns) = (ring.wake, std::mem::take(&mut ring.turns));
                let thread = (e.ring, &turns);
                self.flow(e.flow)
                    .app_start(e.flow, e.tsc, wake, thread, &mut out);
                turns.began(e.tsc);
                if let Some(ring) = self.rings.get_mut(&e.ring) {
                    ring.turns = turns;
                }
            }
            points::APP_END => {
                ring.turns.ended(e.tsc);
                self.flow(e.flow).app_end(e.tsc, e.args[0], &mut out);
            }
            points::TCP_OUT => self.segment_out(&e, counts),
            _ => {}
        }
        told.drain(..).for_each(|request| self.done(&request));
        self.told = told;
        if self.now >= self.quiet.1 {
            self.forget_quiet(self.now.saturating_sub(self.quiet.0));
            self.quiet.1 = self.now.saturating_add(self.quiet.0 / 2);
        }
    }

    /// Forgets flows that were not heard of since `tsc` and have nothing on their way.
    fn forget_quiet(&mut self, tsc: u64) {
        let mut told = Vec::new();
        let (counts, filter) = (&mut self.spans.counts, &self.filter);
        self.flows.retain(|flow, state| {
            if state.heard >= tsc || !state.is_quiet() {
                return true;
            }
            let unfinished = state.finish(&mut |r| told.push(r)) + state.overrun;
            if filter.has_flow(*flow) {
                counts.unfinished += unfinished;
            }
            false
        });
        // In an order that does not depend on the map's.
        told.sort_unstable_by_key(|r| (r.start(), r.flow));
        told.iter().for_each(|request| self.done(request));
    }

    fn flow(&mut self, flow: u32) -> &mut FlowState {
        if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(&flow) {
            // Which one is arbitrary; that there is an end to memory is not.
            if let Some(victim) = self.flows.keys().next().copied() {
                self.close(victim);
            }
        }
        let state = self.flows.entry(flow).or_default();
        state.heard = self.now;
        let torn = state.forget_before(self.last_loss);
        if self.filter.has_flow(flow) {
            self.spans.counts.torn += torn;
        }
        state
    }

    fn close(&mut self, flow: u32) {
        if let Some(mut state) = self.flows.remove(&flow) {
            let mut done = Vec::new();
            let unfinished = state.finish(&mut |r| done.push(r)) + state.overrun;
            if self.filter.has_flow(flow) {
                self.spans.counts.unfinished += unfinished;
            }
            done.iter().for_each(|request| self.done(request));
        }
    }

    /// The ring of the device that a ring's thread receives from and sends to through another thread: it has none of its
    /// own, and there is one in its process.
    fn device_of(&self, ring: u32) -> Option<&RingState> {
        self.rings.get(&self.device_number(ring)?)
    }

    fn device_number(&self, ring: u32) -> Option<u32> {
        let own = self.rings.get(&ring).filter(|r| !r.has_device)?;
        let has_one = |(_, r): &(&u32, &RingState)| r.pid == own.pid && r.has_device;
        let mut devices = self.rings.iter().filter(has_one);
        let (&device, _) = devices.next()?;
        devices.next().is_none().then_some(device)
    }

    fn segment_out(&mut self, e: &Stamped, counts: bool) {
        let (kind, len) = (e.args[1] >> 24, e.args[1] & 0xff_ffff);
        let device = self.device_number(e.ring).unwrap_or(e.ring);
        let mut requests = None;
        match kind {
            0 if len > 0 => {
                let drains = self.rings.get(&device).is_some_and(|r| r.drains);
                requests = self.flow(e.flow).data_out(e.tsc, len, e.ring, drains);
            }
            1 => {
                self.spans.counts.acks += u64::from(counts && self.filter.has_flow(e.flow));
                self.flow(e.flow).ack_out();
            }
            _ => {}
        }
        if let Some(ring) = self.rings.get_mut(&device) {
            let sent = Sent {
                frame: e.args[0],
                flow: e.flow,
                tsc: e.tsc,
                requests,
            };
            push(&mut ring.sent, sent, MOST_FRAMES);
        }
    }

    /// `accepted` frames from `first` on were given to the device; when the burst began the oldest was `age` ticks old.
    fn burst_taken(&mut self, ring: u32, (first, accepted): (u32, u32), age: u32, tsc: u64) {
        let Some(ring) = self.rings.get_mut(&ring) else {
            return;
        };
        let mut began = None;
        while let Some(sent) = ring.sent.front() {
            let distance = sent.frame.wrapping_sub(first);
            // Frames before the burst can no longer be in one.
            let before = distance > u32::MAX / 2;
            if !before && distance >= accepted {
                break;
            }
            if distance == 0 && age > 0 {
                began = Some((sent.tsc + u64::from(age)).min(tsc));
            }
            let (flow, requests) = (sent.flow, sent.requests);
            ring.sent.pop_front();
            if let (false, Some(requests)) = (before, requests)
                && let Some(state) = self.flows.get_mut(&flow)
            {
                state.taken(requests, began, tsc);
            }
        }
    }

    fn ns(&self, ticks: u64) -> u64 {
        match &self.clock {
            Some(clock) => clock.length(Cycles::from_ticks(ticks)).ns(),
            None => ticks,
        }
    }

    fn since_start(&self, tsc: u64) -> Nanos {
        match &self.clock {
            Some(clock) => clock.time(Tsc::from_raw(tsc)).since(self.started),
            None => Nanos::from_ns(tsc),
        }
    }

    /// Whether a request passes the filter, its length left aside.
    fn wants(&self, request: &Request) -> bool {
        if self.filter.is_open() {
            return true;
        }
        let rings = [
            Some(request.app_ring),
            Some(request.arrival.ring),
            request.out_ring,
        ];
        let mut rings = rings.iter().flatten().filter_map(|r| self.rings.get(r));
        (self.span.0..self.span.1).contains(&request.start())
            && self.filter.has_flow(request.flow)
            && self.ran_on_wanted_cpu(request)
            && rings.any(|ring| ring.wanted)
    }

    fn ran_on_wanted_cpu(&self, request: &Request) -> bool {
        if self.filter.cpus.is_empty() {
            return true;
        }
        let places = self.rings.get(&request.app_ring).map(|r| &r.ran_on);
        let before = places.and_then(|p| {
            p.iter()
                .rev()
                .find(|(since, _)| *since <= request.app_start)
        });
        // A thread that was not seen before ran where it was seen first.
        let place = before.or(places.and_then(VecDeque::front));
        place.is_some_and(|(_, cpu)| self.filter.has_cpu(*cpu))
    }

    fn done(&mut self, request: &Request) {
        let start = request.start();
        if !self.wants(request) {
            return;
        }
        let (Some(_), Some(app_end)) = (
            request.arrival.deliver.or(request.arrival.tcp_in),
            request.app_end,
        ) else {
            self.spans.counts.headless += 1;
            return;
        };
        let end = [Some(app_end), request.last_out, request.tx]
            .into_iter()
            .flatten()
            .max();
        let end = end.unwrap_or(start);
        let lost_in = |ring: u32| {
            let losses = self.rings.get(&ring).map(|r| &r.losses);
            losses.is_some_and(|l| l.iter().any(|&(from, to)| from < end && start < to))
        };
        let rings = [
            Some(request.arrival.ring),
            Some(request.app_ring),
            request.out_ring,
        ];
        if rings.into_iter().flatten().any(lost_in) {
            self.spans.counts.torn += 1;
            return;
        }
        let began = self.since_start(start);
        // Ends of stages; one that lies before the one before it takes no time: a reply may leave before the application
        // is done with it.
        let ends = [
            (request.arrival.rx).and(request.arrival.handed.or(request.arrival.tcp_in)),
            request.arrival.handed.and(request.arrival.tcp_in),
            request.arrival.tcp_in.and(request.arrival.deliver),
            request.wake,
            Some(request.app_start),
            Some(app_end),
            request.last_out,
            request.burst.or(request.tx),
            request.burst.and(request.tx),
        ];
        let behind = [request.arrival.behind, request.behind.0, request.behind.1];
        let way = Way::new(request.flow, start, ends, rings, behind);
        let stages = way.lengths().map(|length| Some(self.ns(length?)));
        let total = self.ns(way.total());
        if self.filter.at_least.is_some_and(|least| total < least.ns()) {
            return;
        }
        let counts = &mut self.spans.counts;
        counts.complete += 1;
        counts.pipelined += u64::from(request.pipelined);
        counts.split += u64::from(request.split);
        counts.crossed += u64::from(request.arrival.ring != request.app_ring);
        counts.segments += u64::from(request.segments);
        let lengths = stages.iter().copied().chain([Some(total)]);
        for (histogram, length) in self.spans.stages.iter_mut().zip(lengths) {
            if let Some(length) = length {
                record(histogram, length);
            }
        }
        let slice = self.edges.partition_point(|&edge| edge <= began);
        if let Some(slice) = self.spans.slices.get_mut(slice) {
            slice.requests += 1.0;
            for (at, length) in stages.into_iter().chain([Some(total)]).enumerate() {
                slice.sums[at] += length.unwrap_or(0) as f64;
                slice.counts[at] += f64::from(u8::from(length.is_some()));
            }
        }
        let behind = way.behind.map(|ticks| self.ns(ticks));
        for (histogram, length) in self.spans.behind.iter_mut().zip(behind) {
            if length > 0 {
                record(histogram, length);
            }
        }
        self.keep(request, began, (stages, behind), (total, way));
        if self.tell_ways {
            self.ways.push(way);
        }
    }

    /// Keeps a request if it is among the slowest.
    fn keep(
        &mut self,
        request: &Request,
        began: Nanos,
        (stages, behind): ([Option<u64>; PARTS], [u64; BEHIND.len()]),
        (total, way): (u64, Way),
    ) {
        let full = self.spans.slowest.len() >= self.show;
        if self.show == 0 || (full && self.spans.slowest.last().is_some_and(|l| l.total >= total)) {
            return;
        }
        let name = |ring: Option<u32>| {
            let ring = ring.and_then(|r| self.rings.get(&r));
            ring.map_or_else(String::new, |r| r.name.clone())
        };
        let rings = [
            Some(request.arrival.ring),
            Some(request.app_ring),
            request.out_ring,
        ];
        let timeline = Timeline {
            flow: request.flow,
            began,
            stages,
            behind,
            total,
            threads: rings.map(name),
            segments: (request.segments, request.acks),
            way,
        };
        let at = self.spans.slowest.partition_point(|t| t.total >= total);
        self.spans.slowest.insert(at, timeline);
        self.spans.slowest.truncate(self.show);
    }

    /// The length of a request's way.
    pub fn length(&self, way: &Way) -> Nanos {
        Nanos::from_ns(self.ns(way.total()))
    }

    /// All has been read: requests that are whole are over.
    pub fn close_all(&mut self) {
        let rings: Vec<u32> = self.rings.keys().copied().collect();
        for number in rings {
            let (Some(ring), order) = (self.rings.get_mut(&number), &mut self.order) else {
                continue;
            };
            let (mut inlet, own) = (order.inlet(number), &ring.own);
            ring.decoder
                .flush(&mut |event| inlet.push(&event, meaning(own, event.point)));
        }
        self.settle(true);
        let mut flows: Vec<u32> = self.flows.keys().copied().collect();
        flows.sort_unstable();
        flows.into_iter().for_each(|flow| self.close(flow));
    }

    /// Ends the pass. `damage` says what is wrong with the file, if anything.
    pub fn finish(mut self, damage: Option<String>) -> Spans {
        self.close_all();
        self.spans.counts.late = self.order.late();
        let trust = &mut self.spans.trust;
        trust.damage = damage;
        for ring in self.rings.values() {
            let counts = ring.decoder.counts();
            trust.rings += usize::from(counts.events > 0);
            trust.events += counts.events;
            // The writer's own count and what is missing in the file overlap: the larger one is the loss.
            let seen = counts.lost_slots.saturating_add(ring.missing);
            trust.dropped = trust.dropped.saturating_add(seen.max(ring.dropped));
        }
        self.spans
    }
}

/// What a point means: a program's own one what packs say, all others themselves.
fn meaning(own: &HashMap<u16, Point>, point: Point) -> Point {
    if point.id() < points::FIRST_OWN {
        return point;
    }
    own.get(&point.id()).copied().unwrap_or(point)
}

/// Counts a length; one beyond what a histogram can grow to counts as the longest it has.
fn record(histogram: &mut Histogram<u64>, length: u64) {
    if histogram.record(length).is_err() {
        histogram.saturating_record(length);
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests;
