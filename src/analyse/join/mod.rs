//! Samples, switches and events of all threads joined by time, in one pass over the recording.
//!
//! In: first all records of low rate, then samples, switches and slots as they lie in the file, each written at most
//! [`WINDOW`] after it happened; out: a [`super::profile::Profile`]. Nothing but [`super::timeline`]'s queues waits, so memory is bounded
//! by what happens within the window, and by [`MOST_WAITING`]: where more happens the window is shorter, and what comes
//! too late for it is counted.

mod facts;
mod finish;
mod thread;
mod threads;

use super::filter::Filter;
use super::latency::Stretches;
use super::packs::Packs;
use super::pollstate::{PollState, PollStates};
use super::stacks::{Frame, NodeId, Stacks};
use super::timeline::{Cpu, Timeline};
use super::trust::Trust;
use crate::resolve::Names;
use crate::trace::record::{Meta, Pid, Ring, Sample, StackEnd, Switch, SwitchKind, Tid};
use crate::units::{Nanos, Tsc};
use bypassprof_wire::{Decoder, Slot};
use facts::Facts;
use std::collections::{BTreeMap, HashMap};
use thread::{Pending, Sums, Thread};
use threads::Threads;

/// How long after it happened a record may be written and still be put in its place.
pub const WINDOW: Nanos = Nanos::from_ns(5_000_000_000);
/// Changes of polling loops that wait at most, all threads together: 64 MiB.
pub const MOST_WAITING: usize = 1 << 22;
/// How often time is settled.
const STEP: Nanos = Nanos::from_ns(500_000_000);

struct RingState {
    owner: (Pid, Tid),
    decoder: Decoder,
    states: PollStates,
    next_slot: u64,
    lost: u64,
}

/// The pass over a recording.
pub struct Join {
    facts: Facts,
    filter: Filter,
    /// If only some requests count: when which threads were busy with them.
    stretches: Option<Stretches>,
    packs: Packs,
    names: Names,
    stacks: Stacks,
    threads: Threads,
    rings: HashMap<u32, RingState>,
    trust: Trust,
    weight_seen: u64,
    weight_truncated: u64,
    weight_unknown: u64,
    weight_without_symbol: u64,
    newest: Nanos,
    settled: Nanos,
    /// Changes that wait, and how many may.
    waiting: usize,
    most: usize,
    sampled_event: u16,
    /// Ends of slices.
    edges: Vec<u64>,
    /// Length of the windows of cells.
    window: Option<Nanos>,
}

impl Join {
    /// Prepares a pass from all records of low rate. `packs` are what phases are looked up in.
    pub fn new(metas: &[Meta], packs: Packs) -> Join {
        Join::only(metas, packs, Filter::default())
    }

    /// The same for a part of the recording.
    pub fn only(metas: &[Meta], packs: Packs, filter: Filter) -> Join {
        let facts = Facts::gather(metas, &filter);
        let sampled = facts.session.events.iter().position(|e| e.frequency_hz > 0);
        let mut join = Join {
            names: Names::new(metas),
            stacks: Stacks::default(),
            threads: Threads::default(),
            rings: HashMap::new(),
            trust: Trust::default(),
            weight_seen: 0,
            weight_truncated: 0,
            weight_unknown: 0,
            weight_without_symbol: 0,
            waiting: 0,
            most: MOST_WAITING,
            newest: facts.session.started,
            settled: facts.session.started,
            sampled_event: sampled.unwrap_or(0) as u16,
            edges: Vec::new(),
            window: None,
            facts,
            filter,
            stretches: None,
            packs,
        };
        let known: Vec<_> = join.facts.lives.keys().copied().collect();
        known.into_iter().for_each(|key| {
            join.thread(key);
        });
        for ring in std::mem::take(&mut join.facts.rings) {
            join.add_ring(ring);
        }
        join
    }

    /// The same, of what some requests' threads did for them.
    #[must_use]
    pub fn within(mut self, stretches: Stretches) -> Join {
        for (key, thread) in self.threads.iter_mut() {
            let of = stretches.of(key);
            thread.wanted &= !of.is_empty();
            thread.timeline = thread.timeline.clone().within(of);
        }
        self.stretches = Some(stretches);
        self
    }

    /// Keeps the time between these apart, as [`slices`](super::Profile::slices); to be said before anything else.
    #[must_use]
    pub fn sliced(mut self, edges: &[Nanos]) -> Join {
        // Without both clocks events are not placed in time.
        if self.facts.clock.is_some() {
            self.edges = edges.iter().map(|&edge| self.ticks(edge)).collect();
        }
        self
    }

    /// Keeps samples apart by CPU and by windows of this length too, as [`cells`](super::Profile::cells); to be said before anything
    /// else.
    #[must_use]
    pub fn in_windows(mut self, window: Nanos) -> Join {
        self.window = Some(window);
        for (_, thread) in self.threads.iter_mut() {
            thread.sums.cells = Some((window, BTreeMap::new()));
        }
        self
    }

    fn add_ring(&mut self, ring: Ring) {
        let owner = (ring.pid, ring.tid);
        let has_loop = self
            .facts
            .totals
            .get(&ring.ring)
            .is_some_and(|t| t.rounds > 0);
        let before = if self.was_heard(owner, &ring) {
            PollState::Working
        } else {
            PollState::Unknown
        };
        // A thread that runs no loop cannot poll for nothing.
        let no_loop = self
            .facts
            .totals
            .get(&ring.ring)
            .is_some_and(|t| t.rounds == 0);
        let before = match (&self.facts.clock, no_loop) {
            (None, _) => PollState::Unknown,
            (_, true) => PollState::Working,
            _ => before,
        };
        let start = self.life_start(owner);
        let end = self.life_end(owner);
        let wanted = (!ring.name.is_empty()).then(|| self.filter.has_thread(ring.tid, &ring.name));
        let thread = self.thread(owner);
        thread.seen_running = true;
        if !thread.probes {
            thread.probes = true;
            thread.timeline = Timeline::new(start, end, before);
        }
        if let Some(wanted) = wanted {
            thread.name.clone_from(&ring.name);
            thread.wanted = wanted;
        }
        let state = RingState {
            owner,
            decoder: Decoder::new((ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc))),
            states: PollStates::new(before, has_loop),
            next_slot: ring.first_slot,
            lost: 0,
        };
        self.rings.insert(ring.ring, state);
    }

    /// Whether the thread began while its probes were on and recorded, so that its first event is there.
    fn was_heard(&self, key: (Pid, Tid), ring: &Ring) -> bool {
        let began = self.facts.lives.get(&key).map(|l| l.0);
        let born = !self.facts.session.command.is_empty()
            || began.is_some_and(|b| b > self.facts.session.started);
        let listening = ring.listening == Nanos::default() || began >= Some(ring.listening);
        born && listening && ring.first_slot == 0
    }

    fn life_start(&self, key: (Pid, Tid)) -> u64 {
        let began = self.facts.lives.get(&key).map(|l| l.0);
        let started = self.facts.session.started.max(self.facts.span.0);
        self.ticks(began.map_or(started, |b| b.max(started)))
    }

    fn life_end(&self, key: (Pid, Tid)) -> u64 {
        let ended = self.facts.lives.get(&key).and_then(|l| l.1);
        let last = self.facts.span.1;
        match ended.or(self.facts.end) {
            Some(end) => self.ticks(end.min(last)),
            None if self.filter.window.is_some() => self.ticks(last),
            None => u64::MAX,
        }
    }

    fn ticks(&self, time: Nanos) -> u64 {
        match &self.facts.clock {
            Some(clock) => clock.tsc(time).raw(),
            None => time.ns(),
        }
    }

    fn thread(&mut self, key: (Pid, Tid)) -> &mut Thread {
        let place = self.place(key);
        self.threads.at(place)
    }

    /// Where a thread stands; one that was not seen before begins.
    #[inline]
    fn place(&mut self, key: (Pid, Tid)) -> usize {
        match self.threads.place(key) {
            Some(place) => place,
            None => self.begin(key),
        }
    }

    fn begin(&mut self, key: (Pid, Tid)) -> usize {
        let (start, end) = (self.life_start(key), self.life_end(key));
        let cells = self.window.map(|window| (window, BTreeMap::new()));
        let name = self.facts.lives.get(&key).map(|l| l.2.clone());
        let name = name.unwrap_or_default();
        // A thread that no one knew before has no probes, and no part in requests.
        let all = self.stretches.is_none();
        let thread = Thread {
            wanted: all && self.filter.has_thread(key.1, &name),
            name,
            probes: false,
            seen_running: false,
            cpu: None,
            timeline: Timeline::new(start, end, PollState::Unknown),
            totals: BTreeMap::new(),
            sums: Sums {
                cells,
                ..Sums::default()
            },
            slices: Vec::new(),
        };
        self.threads.add(key, thread)
    }

    /// A sample of the file, in the order of the file. Gives the number of its stack if it counts.
    pub fn sample(&mut self, sample: &Sample) -> Option<NodeId> {
        let place = self.place((sample.pid, sample.tid));
        let counted = self.counted_since(sample, place);
        let node = (self.is_wanted(sample, place)).then(|| self.add_sample(sample, place, counted));
        self.passed(sample.time);
        node.flatten()
    }

    /// What the sample stands for, and what the group's other members counted since the thread's sample before, whether
    /// the filter lets it pass or not; nothing without members.
    fn counted_since(&mut self, sample: &Sample, place: usize) -> Box<[u64]> {
        if sample.event != self.sampled_event || sample.group.is_empty() {
            return Box::default();
        }
        // Every CPU has a counter of its own for each thread.
        let totals = &mut self.threads.at(place).totals;
        let members = totals.entry(sample.cpu).or_default().advance(&sample.group);
        std::iter::once(sample.period.max(1))
            .chain(members)
            .collect()
    }

    fn is_wanted(&mut self, sample: &Sample, place: usize) -> bool {
        let (from, to) = self.facts.span;
        let counts = self.filter.has_cpu(sample.cpu) && (from..to).contains(&sample.time);
        let thread = self.threads.at(place);
        thread.seen_running = true;
        thread.cpu = Some(sample.cpu);
        thread.wanted && counts
    }

    fn add_sample(&mut self, sample: &Sample, place: usize, counted: Box<[u64]>) -> Option<NodeId> {
        self.trust.samples += 1;
        if sample.event != self.sampled_event {
            return None;
        }
        let node = self.stacks.add(sample, &mut self.names);
        let period = sample.period.max(1);
        self.weight_seen += period;
        if matches!(sample.stack, StackEnd::Truncated | StackEnd::Broken) {
            self.weight_truncated += period;
        }
        let leaf = self.stacks.innermost_first(node).next();
        let leaf = leaf.map(|f| self.stacks.get(f));
        if leaf.is_none_or(Frame::is_unknown) {
            self.weight_unknown += period;
        }
        if leaf.is_some_and(|f| f.made) {
            self.weight_without_symbol += period;
        }
        let tsc = self.ticks(sample.time);
        let pending = Pending {
            node,
            period,
            time: sample.time.since(self.facts.session.started),
            cpu: sample.cpu,
            counted,
        };
        // Where nothing says when what counts, all does, and at once.
        let waits = !self.edges.is_empty() || self.stretches.is_some();
        self.threads.at(place).sample(tsc, pending, waits);
        Some(node)
    }

    /// A switch of the file, in the order of the file.
    pub fn switch(&mut self, switch: &Switch) {
        let tsc = self.ticks(switch.time);
        // Of one CPU all that is left is what ran there: being blocked is on none.
        let (on, off) = match self.filter.cpus.is_empty() {
            true => (Cpu::On, Cpu::Off),
            false if self.filter.has_cpu(switch.cpu) => (Cpu::On, Cpu::Elsewhere),
            false => (Cpu::Elsewhere, Cpu::Elsewhere),
        };
        let thread = self.thread((switch.pid, switch.tid));
        match switch.kind {
            SwitchKind::In => thread.timeline.switch(tsc, off, on),
            SwitchKind::OutWaiting | SwitchKind::OutPreempted => {
                thread.timeline.switch(tsc, on, off);
            }
        }
        self.passed(switch.time);
    }

    /// A block of a ring's slots, the first of which has position `first`, in the order of the file. A ring that the
    /// recording does not describe is not a ring.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        let Some(ring) = self.rings.get_mut(&ring) else {
            return;
        };
        let Some(thread) = self.threads.get_mut(ring.owner) else {
            return;
        };
        let timeline = &mut thread.timeline;
        let before = timeline.waiting();
        if first > ring.next_slot {
            ring.lost = ring.lost.saturating_add(first - ring.next_slot);
            ring.decoder.gap();
            ring.states.gap(&mut |t| timeline.transition(t));
        }
        ring.next_slot = first.saturating_add(slots.len() as u64);
        let mut newest = None;
        // Without both clocks events cannot be put beside samples: they are counted, and the state stays unknown.
        let placed = self.facts.clock.is_some();
        let states = &mut ring.states;
        ring.decoder.block(slots, &mut |event| {
            newest = Some(event.tsc);
            if placed {
                states.event(event, &mut |t| timeline.transition(t));
            }
        });
        self.waiting += timeline.waiting() - before;
        if let (Some(newest), Some(clock)) = (newest, &self.facts.clock) {
            let time = clock.time(newest);
            self.passed(time);
        }
    }

    /// Something of time `time` was read: what lies a window before it is settled now and then.
    fn passed(&mut self, time: Nanos) {
        // A stamp from a hostile or torn ring must not settle time that has not come yet.
        let limit = self.facts.end.map_or(time, |end| time.min(end));
        self.newest = self.newest.max(limit);
        let mut until = Nanos::from_ns(self.newest.ns().saturating_sub(WINDOW.ns()));
        if self.waiting > self.most {
            let half = self.newest.since(self.settled).ns().div_ceil(2);
            until = until.max(Nanos::from_ns(self.settled.ns() + half));
        } else if until.since(self.settled) < STEP {
            return;
        }
        self.settled = until;
        let until = self.ticks(until);
        for (_, thread) in self.threads.iter_mut() {
            thread.settle(until, &self.edges);
        }
        self.waiting = self.waiting();
    }

    /// How many samples, switches and transitions wait to be settled, all threads together.
    pub fn waiting(&self) -> usize {
        self.threads.iter().map(|t| t.timeline.waiting()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record;
    use bypassprof_wire::{Flow, points};

    /// Samples of a process's threads in turn are each thread's own.
    #[test]
    fn threads_in_turn() {
        let mut join = Join::new(&[], Packs::built_in());
        for (time, tid) in (1..).zip([7, 8, 8, 7, 8]) {
            let sample = Sample {
                time: Nanos::from_ns(time),
                pid: 7,
                tid,
                ..Sample::default()
            };
            assert!(join.sample(&sample).is_some());
        }
        let rows = join.finish(None).threads;
        let rows: Vec<_> = rows.iter().map(|row| (row.tid, row.samples)).collect();
        assert_eq!(rows, [(7, 2), (8, 3)]);
    }

    /// However many changes there are within the window, memory has an end, and the sums are the same.
    #[test]
    fn many_changes() {
        const AT: fn(u64) -> Nanos = Nanos::from_ns;
        let clock = |time| {
            Meta::Clock(crate::units::ClockPair {
                tsc_before: time,
                time: AT(time),
                tsc_after: time,
            })
        };
        let ring = Ring {
            base_tsc: 1,
            ..Ring::default()
        };
        let end = record::End {
            time: AT(20_000),
            ..record::End::default()
        };
        let metas = [clock(1), clock(20_000), Meta::Ring(ring), Meta::End(end)];
        let mut join = Join::new(&metas, Packs::built_in());
        join.most = 100;
        for (at, time) in (0u64..).zip((10..20_000).step_by(10)) {
            let point = [points::IDLE_BEGIN, points::IDLE_END][at as usize % 2];
            let slot = Slot::head(Tsc::from_raw(time), point, Flow::NONE, 0);
            join.slots(0, at, &[slot]);
            assert!(join.waiting() <= 101);
        }
        let profile = join.finish(None);
        assert_eq!(profile.trust.late_records, 0);
        assert_eq!(profile.threads[0].shares.on[1], 10_000);
    }
}
