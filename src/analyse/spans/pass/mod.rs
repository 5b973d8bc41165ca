//! The pass over a recording's rings: from slots to requests that are over.
//!
//! In: records of low rate, then every ring's slots, block by block, in the order of the file; out: [`Spans`], and the
//! [`Way`] of each request for those who ask. Here events get into the order of time and go to the flow and the ring
//! that they are of. Memory is bounded by the flows open at a time and by what happens within [`WINDOW`].

mod device;
mod ring;
mod tell;

use super::answer::{Counts, EventTrust, Slice, Spans};
use super::flow::{FlowState, OnItsWay, Request};
use super::label::LabelHash;
use super::order::{Order, Stamped};
use super::stages::{BEHIND, STAGES};
use super::way::Way;
use crate::analyse::filter::Filter;
use crate::analyse::packs::{Packs, Rules};
use crate::trace::record::{Meta, OwnPoint, Pid, Ring, Sample, Switch, SwitchKind, Tid};
use crate::units::{ClockMap, Nanos};
use bypassprof_wire::{Event, Flow, Point, Slot, event, points};
use ring::{RingState, meaning, push};
use std::collections::{BTreeMap, HashMap};
use tell::{histogram, record};

/// A ring that is silent is waited for so long.
pub const WINDOW: Nanos = Nanos::from_ns(1_000_000_000);
/// Events of one ring are at most so far out of order: a round that handles a full burst.
const SLACK: Nanos = Nanos::from_ns(20_000_000);
/// Flows followed at a time.
const MOST_FLOWS: usize = 1 << 18;
/// A flow with nothing on its way is forgotten when it was silent so long: its connection may be gone.
const QUIET: Nanos = Nanos::from_ns(2_000_000_000);
/// Bursts of a ring that segments can still name.
const MOST_BURSTS: usize = 256;
/// Losses of a ring that are remembered: a request that ended is looked at when the next one comes.
const MOST_LOSSES: usize = 256;
/// Moves of a thread from CPU to CPU that are remembered, likewise.
const MOST_MOVES: usize = 256;
/// A thread was seen on a CPU. No event has this number.
const PLACE: Point = points::EPOCH;

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
        let rules = Rules::of(&all);
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

    fn add_ring(&mut self, ring: &Ring, name: String, rules: &Rules) {
        self.order.ring(ring.ring);
        if !self.filter.cpus.is_empty() {
            let rings = self.rings_of.entry((ring.pid, ring.tid));
            rings.or_default().push(ring.ring);
        }
        let meaning = |p: &OwnPoint| Some((p.id, rules.meaning(&p.name)?));
        let own = ring.points.iter().filter_map(meaning).collect();
        let wanted = self.filter.has_thread(ring.tid, &name);
        let state = RingState::new(ring, name, wanted, own);
        self.rings.insert(ring.ring, state);
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

    /// For the end of a program, which may have stood still in the middle of a burst: no event counts as late while there is
    /// room for those that wait.
    pub fn patient(mut self) -> Pass {
        self.order.wait_for_all();
        self
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

    /// The length of a request's way.
    pub fn length(&self, way: &Way) -> Nanos {
        Nanos::from_ns(self.ns(way.total()))
    }

    /// All has been read, and this is asked before requests are closed: those that are on their way.
    pub fn in_flight(&mut self) -> Vec<OnItsWay> {
        self.take_the_rest();
        let flows = self.flows.iter();
        flows
            .flat_map(|(&flow, state)| state.on_their_way(flow))
            .collect()
    }

    /// All has been read: requests that are whole are over.
    pub fn close_all(&mut self) {
        self.take_the_rest();
        let mut flows: Vec<u32> = self.flows.keys().copied().collect();
        flows.sort_unstable();
        flows.into_iter().for_each(|flow| self.close(flow));
    }

    /// Nothing comes any more: all events that wait are in order now.
    fn take_the_rest(&mut self) {
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

#[cfg(test)]
mod tests;
