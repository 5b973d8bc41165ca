//! Requests that are over, told in the answer: which of them pass the filter, where their stages end, and among which
//! numbers they are counted.
//!
//! In: a [`Request`] with the stamps of its way; out: histograms, slices, the slowest and ways. It refuses to know how
//! a request was put together.

use super::flows::Flows;
use super::lengths::Lengths;
use super::slowest::{Over, Threshold};
use crate::analyse::spans::answer::{Counts, EventTrust, Slice, Spans, Timeline};
use crate::analyse::spans::flow::Request;
use crate::analyse::spans::stages::{BEHIND, PARTS, STAGES};
use crate::analyse::spans::way::Way;
use crate::units::Nanos;
use bypassprof_wire::Tsc;
use std::collections::VecDeque;

/// What requests add up to: [`Spans`] in the making.
#[derive(Debug)]
pub struct Sums {
    pub counts: Counts,
    pub stages: [Lengths; STAGES.len()],
    pub behind: [Lengths; BEHIND.len()],
    pub outside: Lengths,
    pub bursts: [Lengths; 2],
    pub slowest: Vec<Timeline>,
    pub slices: Vec<Slice>,
    pub preempted: [f64; PARTS],
    pub trust: EventTrust,
}

impl Sums {
    /// Nothing yet.
    pub fn new(trust: EventTrust) -> Sums {
        Sums {
            counts: Counts::default(),
            stages: Default::default(),
            behind: Default::default(),
            outside: Lengths::default(),
            bursts: Default::default(),
            slowest: Vec::new(),
            slices: Vec::new(),
            preempted: [0.0; PARTS],
            trust,
        }
    }

    /// The answer.
    pub fn spans(&self) -> Spans {
        Spans {
            counts: self.counts,
            stages: self.stages.iter().map(Lengths::histogram).collect(),
            behind: self.behind.iter().map(Lengths::histogram).collect(),
            outside: self.outside.histogram(),
            bursts: self.bursts.each_ref().map(Lengths::histogram),
            slowest: self.slowest.clone(),
            slices: self.slices.clone(),
            preempted: self.preempted,
            trust: self.trust.clone(),
        }
    }
}

impl Flows {
    pub(super) fn ns(&self, ticks: u64) -> u64 {
        match &self.clock {
            // As `ClockMap::length` does, without a call: it is asked a dozen times a request.
            Some(clock) => (ticks as f64 * clock.ns_per_tick() + 0.5) as u64,
            None => ticks,
        }
    }

    fn since_start(&self, tsc: u64) -> Nanos {
        match &self.clock {
            Some(clock) => clock.time(Tsc::from_raw(tsc)).since(self.started),
            None => Nanos::from_ns(tsc),
        }
    }

    /// The slice that a request belongs to which began then.
    fn slice_of(&mut self, tsc: u64) -> Option<&mut Slice> {
        if self.edges.is_empty() {
            return None;
        }
        let began = self.since_start(tsc);
        let slice = self.edges.partition_point(|&edge| edge <= began);
        self.sums.slices.get_mut(slice)
    }

    /// Whether a request passes the filter, its length left aside.
    fn wants(&self, request: &Request) -> bool {
        if self.filter.is_open() {
            return true;
        }
        let mut rings = request
            .rings()
            .into_iter()
            .flatten()
            .filter_map(|r| self.rings.get(r as usize));
        (self.span.0..self.span.1).contains(&request.start())
            && self.filter.has_flow(request.flow)
            && self.ran_on_wanted_cpu(request)
            && rings.any(|ring| ring.wanted)
    }

    fn ran_on_wanted_cpu(&self, request: &Request) -> bool {
        if self.filter.cpus.is_empty() {
            return true;
        }
        let places = self.rings.get(request.app_ring as usize).map(|r| &r.ran_on);
        let before = places.and_then(|p| {
            p.iter()
                .rev()
                .find(|(since, _)| *since <= request.app_start)
        });
        // A thread that was not seen before ran where it was seen first.
        let place = before.or(places.and_then(VecDeque::front));
        place.is_some_and(|(_, cpu)| self.filter.has_cpu(*cpu))
    }

    /// A request is over: it is counted, and added to what it belongs to.
    pub(super) fn done(&mut self, request: &Request) {
        let start = request.start();
        if !self.wants(request) {
            return;
        }
        let arrival = &request.arrival;
        let (rx, handed) = (arrival.rx.get(), arrival.handed.get());
        let (tcp_in, deliver) = (arrival.tcp_in.get(), arrival.deliver.get());
        let (last_out, burst, tx) = (
            request.last_out.get(),
            request.burst.get(),
            request.tx.get(),
        );
        let (Some(_), Some(app_end)) = (deliver.or(tcp_in), request.app_end.get()) else {
            self.sums.counts.headless += 1;
            return;
        };
        let end = request.end();
        let lost_in = |ring: u32| {
            let losses = self.rings.get(ring as usize).map(|r| &r.losses);
            losses.is_some_and(|l| l.iter().any(|&(from, to)| from < end && start < to))
        };
        if request.rings().into_iter().flatten().any(lost_in) {
            self.sums.counts.torn += 1;
            return;
        }
        // Ends of stages; one that lies before the one before it takes no time: a reply may leave before the
        // application is done with it.
        let ends = [
            rx.and(handed.or(tcp_in)),
            handed.and(tcp_in),
            tcp_in.and(deliver),
            request.wake.get(),
            Some(request.app_start),
            Some(app_end),
            last_out,
            burst.or(tx),
            burst.and(tx),
        ];
        let behind = [arrival.behind, request.behind.0, request.behind.1];
        let numbers = self.numbers(request.rings());
        let way = Way::new(request.flow, start, ends, numbers, behind);
        let total = self.ns(way.total());
        if self.filter.at_least.is_some_and(|least| total < least.ns()) {
            return;
        }
        match &mut self.slowest {
            Some(slowest) => slowest.add(total, || Over::new(request, &way)),
            None => self.tell(&Over::new(request, &way), way, total),
        }
    }

    /// The numbers that rings have in the file.
    fn numbers(&self, rings: [Option<u32>; 3]) -> [Option<u32>; 3] {
        rings.map(|place| self.rings.get(place? as usize).map(|r| r.number))
    }

    /// All requests are over, and only the slowest were asked for: tells them.
    pub(super) fn pick(&mut self) -> Option<Threshold> {
        let (threshold, requests) = self.slowest.take()?.pick()?;
        self.filter.at_least = Some(threshold.least);
        self.sums.trust.filtered = self.filter.line();
        for (total, request) in requests {
            let way = request.way(self.numbers(request.rings));
            self.tell(&request, way, total);
        }
        Some(threshold)
    }

    /// Counts a request, and adds it to what it belongs to.
    fn tell(&mut self, request: &Over, way: Way, total: u64) {
        let start = way.start;
        let stages = way.lengths().map(|length| Some(self.ns(length?)));
        let counts = &mut self.sums.counts;
        counts.complete += 1;
        counts.pipelined += u64::from(request.pipelined);
        counts.split += u64::from(request.split);
        counts.crossed += u64::from(request.rings[0] != request.rings[1]);
        counts.segments += u64::from(request.segments.0);
        let lengths = stages.iter().copied().chain([Some(total)]);
        for (sums, length) in self.sums.stages.iter_mut().zip(lengths) {
            if let Some(length) = length {
                sums.record(length);
            }
        }
        if let Some(before) = request.before.get() {
            let outside = self.ns(start.saturating_sub(before));
            self.sums.outside.record(outside);
        }
        let kept = self.preempted.as_ref().map(|preempted| preempted.of(&way));
        let kept = kept.map(|kept| kept.map(|ticks| self.ns(ticks) as f64));
        for (sum, ns) in self.sums.preempted.iter_mut().zip(kept.iter().flatten()) {
            *sum += ns;
        }
        if let Some(slice) = self.slice_of(start) {
            for (sum, ns) in slice.preempted.iter_mut().zip(kept.iter().flatten()) {
                *sum += ns;
            }
            slice.requests += 1.0;
            for (at, length) in stages.into_iter().chain([Some(total)]).enumerate() {
                slice.sums[at] += length.unwrap_or(0) as f64;
                slice.counts[at] += f64::from(u8::from(length.is_some()));
            }
        }
        let behind = way.behind.map(|ticks| self.ns(ticks));
        for (sums, length) in self.sums.behind.iter_mut().zip(behind) {
            if length > 0 {
                sums.record(length);
            }
        }
        self.keep(request, (stages, behind), (total, way));
        if self.tell_ways {
            self.ways.push(way);
        }
    }

    /// Keeps a request if it is among the slowest.
    fn keep(
        &mut self,
        request: &Over,
        (stages, behind): ([Option<u64>; PARTS], [u64; BEHIND.len()]),
        (total, way): (u64, Way),
    ) {
        let full = self.sums.slowest.len() >= self.show;
        if self.show == 0 || (full && self.sums.slowest.last().is_some_and(|l| l.total >= total)) {
            return;
        }
        let name = |ring: Option<u32>| {
            let ring = ring.and_then(|r| self.rings.get(r as usize));
            ring.map_or_else(String::new, |r| r.name.clone())
        };
        let timeline = Timeline {
            flow: way.flow,
            began: self.since_start(way.start),
            stages,
            behind,
            total,
            threads: request.rings.map(name),
            segments: request.segments,
            way,
        };
        let at = self.sums.slowest.partition_point(|t| t.total >= total);
        self.sums.slowest.insert(at, timeline);
        self.sums.slowest.truncate(self.show);
    }
}
