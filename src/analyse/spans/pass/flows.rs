//! From events in the order of time to requests that are over.
//!
//! In: events of all rings; out: each goes to the flow and the ring that it is of, and requests that are over are told.
//! Memory is bounded by the flows open at a time. It refuses to know how events got in order.

use super::intake::{PLACE, age_of, since_of, trigger_of};
use super::ring::{RingState, push};
use super::slowest::Slowest;
use super::table::Table;
use super::tell::Sums;
use crate::analyse::filter::Filter;
use crate::analyse::spans::flow::{FlowState, OnItsWay, Request};
use crate::analyse::spans::order::Stamped;
use crate::analyse::spans::preempted::Preempted;
use crate::analyse::spans::way::Way;
use crate::units::{ClockMap, Nanos};
use bypassprof_wire::points;
use std::hint::black_box;

/// Flows followed at a time.
const MOST_FLOWS: usize = 1 << 18;
/// Bursts of a ring that segments can still name.
const MOST_BURSTS: usize = 256;
/// Losses of a ring that are remembered: a request that ended is looked at when the next one comes.
const MOST_LOSSES: usize = 256;
/// Moves of a thread from CPU to CPU that are remembered, likewise.
const MOST_MOVES: usize = 256;

/// Events whose flows are looked at together, while those before them are taken.
const NEAR: usize = 64;

/// Places of flows that are asked for soon.
#[derive(Clone, Copy)]
struct Ahead {
    places: [u32; NEAR],
    count: usize,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead {
            places: [0; NEAR],
            count: 0,
        }
    }
}

/// All flows, and all rings.
pub struct Flows {
    pub clock: Option<ClockMap>,
    pub started: Nanos,
    pub filter: Filter,
    /// Counter values of the filter's window.
    pub span: (u64, u64),
    pub show: usize,
    /// Events and requests name rings by their place here.
    pub rings: Vec<RingState>,
    pub flows: Table<FlowState>,
    /// How long a flow may be silent, and when quiet ones are looked for next.
    pub quiet: (u64, u64),
    /// Requests told just now: kept for its memory.
    pub told: Vec<Request>,
    pub now: u64,
    /// End of the newest loss in any ring.
    pub last_loss: u64,
    /// Ends of slices.
    pub edges: Vec<Nanos>,
    pub sums: Sums,
    /// If only the slowest requests are told: those so far.
    pub slowest: Option<Slowest>,
    /// When threads were kept from running, if it is asked.
    pub preempted: Option<Preempted>,
    /// Whether somebody takes the ways.
    pub tell_ways: bool,
    pub ways: Vec<Way>,
}

impl Flows {
    /// The next events. A request's first event finds its flow out of the caches, and its place in the table likewise: both
    /// are looked for ahead, those of many flows together, so that their misses overlap.
    pub fn events(&mut self, events: &[Stamped]) {
        let mut found = events.chunks(NEAR);
        let mut ahead = [self.find(found.next()), self.find(found.next())];
        self.look_at(&ahead[0]);
        for near in events.chunks(NEAR) {
            let [_, next] = ahead;
            ahead = [next, self.find(found.next())];
            self.look_at(&ahead[0]);
            near.iter().for_each(|event| self.event(*event));
        }
    }

    /// Places of flows that begin requests in these events.
    fn find(&mut self, events: Option<&[Stamped]>) -> Ahead {
        let mut ahead = Ahead::default();
        let begin = |e: &&Stamped| e.point == points::TCP_IN;
        for event in events.unwrap_or_default().iter().filter(begin) {
            if let Some(place) = self.flows.find(event.flow) {
                ahead.places[ahead.count] = place;
                ahead.count += 1;
            }
        }
        ahead
    }

    fn look_at(&self, ahead: &Ahead) {
        let places = ahead.places[..ahead.count].iter();
        let flows = places.filter_map(|&place| self.flows.at(place));
        black_box(flows.fold(0, |seen, flow| seen ^ flow.glance()));
    }

    fn event(&mut self, e: Stamped) {
        if e.point == PLACE {
            if let Some(ring) = self.rings.get_mut(e.args[0] as usize)
                && ring.ran_on.back().is_none_or(|last| last.1 != e.flow)
            {
                push(&mut ring.ran_on, (e.tsc, e.flow), MOST_MOVES);
            }
            return;
        }
        let Some(ring) = self.rings.get_mut(e.ring as usize) else {
            return;
        };
        if e.point == points::LOST {
            push(&mut ring.losses, (since_of(&e), e.tsc), MOST_LOSSES);
            ring.sent.clear();
            self.last_loss = self.last_loss.max(e.tsc);
        }
        let counts = ring.wanted && (self.span.0..self.span.1).contains(&e.tsc);
        self.now = e.tsc;
        let mut told = std::mem::take(&mut self.told);
        let mut out = |request| told.push(request);
        match e.point {
            points::RX_BURST => {
                let is_new = !std::mem::replace(&mut ring.has_device, true);
                let frames = e.flow & 0xfff;
                if counts {
                    self.sums.bursts[0].record(u64::from(frames));
                }
                push(&mut ring.received, (e.args[0], frames, e.tsc), MOST_BURSTS);
                if is_new {
                    self.find_devices();
                }
            }
            points::TX_BURST => {
                ring.drains = true;
                let is_new = !std::mem::replace(&mut ring.has_device, true);
                let (first, accepted) = (e.args[0], (e.flow >> 12) & 0xfff);
                if counts {
                    self.sums.bursts[1].record(u64::from(accepted));
                    let trigger = self.sums.counts.triggers.get_mut(trigger_of(&e));
                    trigger.into_iter().for_each(|bursts| *bursts += 1);
                }
                if is_new {
                    self.find_devices();
                }
                self.burst_taken(e.ring, (first, accepted), e.args[1], e.tsc);
            }
            points::WAKE => ring.wake = Some(e.tsc),
            points::HANDOFF => {
                let since = e.tsc.saturating_sub(age_of(&e));
                ring.handed = Some((e.flow, since));
            }
            points::TCP_IN => {
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
            points::DELIVER => {
                let before = std::mem::replace(&mut ring.delivered, e.tsc);
                self.flow(e.flow).deliver(e.tsc, before, e.ring, &mut out);
            }
            points::APP_START => {
                let (wake, mut turns) = (ring.wake, std::mem::take(&mut ring.turns));
                let thread = (e.ring, &turns);
                self.flow(e.flow)
                    .app_start(e.flow, e.tsc, wake, thread, &mut out);
                turns.began(e.tsc);
                self.rings[e.ring as usize].turns = turns;
            }
            points::APP_END => {
                ring.turns.ended(e.tsc);
                self.flow(e.flow).app_end(e.tsc, e.args[0], &mut out);
            }
            points::TCP_OUT => self.segment_out(&e, counts),
            points::SLOW_PATH if counts && self.filter.has_flow(e.flow) => {
                self.sums.counts.detours += 1;
            }
            points::STALL if counts && self.filter.has_flow(e.flow) => {
                self.sums.counts.stalls += 1;
            }
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
        let (counts, filter) = (&mut self.sums.counts, &self.filter);
        self.flows.retain(|flow, state| {
            if state.heard >= tsc || !state.is_quiet() {
                return true;
            }
            let unfinished = state.finish(&mut |r| told.push(r)) + state.overrun;
            if filter.has_flow(flow) {
                counts.unfinished += unfinished;
            }
            false
        });
        // In an order that does not depend on the map's.
        told.sort_unstable_by_key(|r| (r.start(), r.flow));
        told.iter().for_each(|request| self.done(request));
    }

    /// A flow's state, made if it is new.
    pub fn flow(&mut self, flow: u32) -> &mut FlowState {
        if self.flows.len() >= MOST_FLOWS && self.flows.get(flow).is_none() {
            // Which one is arbitrary; that there is an end to memory is not.
            let victim = self.flows.labels().next();
            if let Some(victim) = victim {
                self.close(victim);
            }
        }
        let state = self.flows.get_or_new(flow);
        state.heard = self.now;
        let torn = state.forget_before(self.last_loss);
        if self.filter.has_flow(flow) {
            self.sums.counts.torn += torn;
        }
        state
    }

    fn close(&mut self, flow: u32) {
        if let Some(mut state) = self.flows.remove(flow) {
            let mut done = Vec::new();
            let unfinished = state.finish(&mut |r| done.push(r)) + state.overrun;
            if self.filter.has_flow(flow) {
                self.sums.counts.unfinished += unfinished;
            }
            done.iter().for_each(|request| self.done(request));
        }
    }

    /// All has been read: requests that are on their way, with the numbers that their rings have in the file.
    pub fn in_flight(&self) -> Vec<OnItsWay> {
        let ways = self.flows.iter();
        let mut requests: Vec<OnItsWay> = ways
            .flat_map(|(flow, state)| state.on_their_way(flow))
            .collect();
        for request in &mut requests {
            request.ring = self.rings[request.ring as usize].number;
        }
        requests
    }

    /// No more events come: requests that are whole are over.
    pub fn close_all(&mut self) {
        let mut flows: Vec<u32> = self.flows.labels().collect();
        flows.sort_unstable();
        flows.into_iter().for_each(|flow| self.close(flow));
    }
}
