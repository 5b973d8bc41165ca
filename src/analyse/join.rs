//! Samples, switches and events of all threads joined by time, in one pass over the recording.
//!
//! In: first all records of low rate, then samples, switches and slots as they lie in the file, each written at most
//! [`WINDOW`] after it happened; out: a [`Profile`]. Nothing but [`super::timeline`]'s queues waits, so memory is bounded
//! by what happens within the window, and by [`MOST_WAITING`]: where more happens the window is shorter, and what comes
//! too late for it is counted.

use super::classify;
use super::counted::Counted;
use super::filter::Filter;
use super::latency::Stretches;
use super::packs::Packs;
use super::pollstate::{PollState, PollStates};
use super::profile::{Cell, Profile, Root, Slice, ThreadRow, Weight, Work};
use super::stacks::{NodeId, Stacks};
use super::timeline::{Cpu, Shares, Timeline};
use super::trust::Trust;
use crate::resolve::Names;
use crate::trace::record::{
    self, Meta, Notice, Pid, Ring, RingTotals, Sample, Session, StackEnd, Switch, SwitchKind, Tid,
};
use crate::units::{ClockMap, Nanos, Tsc};
use bypassprof_wire::{Decoder, Slot};
use std::collections::{BTreeMap, HashMap};

/// How long after it happened a record may be written and still be put in its place.
pub const WINDOW: Nanos = Nanos::from_ns(5_000_000_000);
/// Changes of polling loops that wait at most, all threads together: 64 MiB.
pub const MOST_WAITING: usize = 1 << 22;
/// How often time is settled.
const STEP: Nanos = Nanos::from_ns(500_000_000);

#[derive(Clone, Copy)]
struct Pending {
    node: NodeId,
    period: u64,
    time: Nanos,
    cpu: u32,
}

struct Thread {
    name: String,
    probes: bool,
    seen_running: bool,
    /// Whether the filter lets it pass.
    wanted: bool,
    /// Where it was last seen to run.
    cpu: Option<u32>,
    timeline: Timeline<Pending>,
    sums: Sums,
    /// Weights of each slice that is over.
    slices: Vec<Weights>,
}

type Weights = BTreeMap<(Root, NodeId), Weight>;

type Cells = BTreeMap<(u32, u32, Root, NodeId), Weight>;

/// What a thread's samples add up to.
#[derive(Default)]
struct Sums {
    weights: Weights,
    /// If they are asked for: the length of a window, and weights by window, CPU, state and stack.
    cells: Option<(Nanos, Cells)>,
}

struct RingState {
    owner: (Pid, Tid),
    decoder: Decoder,
    states: PollStates,
    next_slot: u64,
    lost: u64,
}

/// What the records of low rate say, gathered before the pass.
#[derive(Default)]
struct Facts {
    session: Session,
    notices: Vec<Notice>,
    clock: Option<ClockMap>,
    /// First and last time each thread is known to live, and its last name.
    lives: BTreeMap<(Pid, Tid), (Nanos, Option<Nanos>, String)>,
    totals: HashMap<u32, RingTotals>,
    /// What rings had counted when the part that counts began and ended.
    counted: HashMap<u32, Counted>,
    rings: Vec<Ring>,
    /// The part of the time that counts.
    span: (Nanos, Nanos),
    /// The same where it is not open.
    edges: (Option<Nanos>, Option<Nanos>),
    /// Whether slots of a ring had been written before it was recorded.
    rings_from_before: HashMap<u32, bool>,
    samples_lost: u64,
    end: Option<Nanos>,
    recorder_cpu_ns: Option<u64>,
    rings_unreached: u64,
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
    threads: BTreeMap<(Pid, Tid), Thread>,
    rings: HashMap<u32, RingState>,
    trust: Trust,
    weight_seen: u64,
    weight_truncated: u64,
    weight_unknown: u64,
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
            threads: BTreeMap::new(),
            rings: HashMap::new(),
            trust: Trust::default(),
            weight_seen: 0,
            weight_truncated: 0,
            weight_unknown: 0,
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
        for (&key, thread) in &mut self.threads {
            let of = stretches.of(key);
            thread.wanted &= !of.is_empty();
            thread.timeline = thread.timeline.clone().within(of);
        }
        self.stretches = Some(stretches);
        self
    }

    /// Keeps the time between these apart, as [`Profile::slices`]; to be said before anything else.
    #[must_use]
    pub fn sliced(mut self, edges: &[Nanos]) -> Join {
        // Without both clocks events are not placed in time.
        if self.facts.clock.is_some() {
            self.edges = edges.iter().map(|&edge| self.ticks(edge)).collect();
        }
        self
    }

    /// Keeps samples apart by CPU and by windows of this length too, as [`Profile::cells`]; to be said before anything
    /// else.
    #[must_use]
    pub fn in_windows(mut self, window: Nanos) -> Join {
        self.window = Some(window);
        for thread in self.threads.values_mut() {
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
        let (start, end) = (self.life_start(key), self.life_end(key));
        let (facts, filter) = (&self.facts, &self.filter);
        // A thread that no one knew before has no probes, and no part in requests.
        let all = self.stretches.is_none();
        let cells = self.window.map(|window| (window, BTreeMap::new()));
        self.threads.entry(key).or_insert_with(|| {
            let name = facts.lives.get(&key).map(|l| l.2.clone());
            let name = name.unwrap_or_default();
            Thread {
                wanted: all && filter.has_thread(key.1, &name),
                name,
                probes: false,
                seen_running: false,
                cpu: None,
                timeline: Timeline::new(start, end, PollState::Unknown),
                sums: Sums {
                    weights: BTreeMap::new(),
                    cells,
                },
                slices: Vec::new(),
            }
        })
    }

    /// A sample of the file, in the order of the file. Gives the number of its stack if it counts.
    pub fn sample(&mut self, sample: &Sample) -> Option<NodeId> {
        let node = (self.is_wanted(sample)).then(|| self.add_sample(sample));
        self.passed(sample.time);
        node.flatten()
    }

    fn is_wanted(&mut self, sample: &Sample) -> bool {
        let (from, to) = self.facts.span;
        let counts = self.filter.has_cpu(sample.cpu) && (from..to).contains(&sample.time);
        let thread = self.thread((sample.pid, sample.tid));
        thread.seen_running = true;
        thread.cpu = Some(sample.cpu);
        thread.wanted && counts
    }

    fn add_sample(&mut self, sample: &Sample) -> Option<NodeId> {
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
        if leaf.is_none_or(|f| self.stacks.get(f).is_unnamed()) {
            self.weight_unknown += period;
        }
        let tsc = self.ticks(sample.time);
        let pending = Pending {
            node,
            period,
            time: sample.time.since(self.facts.session.started),
            cpu: sample.cpu,
        };
        let thread = self.thread((sample.pid, sample.tid));
        thread.timeline.sample(tsc, pending);
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
        let Some(thread) = self.threads.get_mut(&ring.owner) else {
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
        for &slot in slots {
            ring.decoder.push(slot, &mut |event| {
                newest = Some(event.tsc);
                if placed {
                    states.event(&event, &mut |t| timeline.transition(t));
                }
            });
        }
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
        for thread in self.threads.values_mut() {
            thread.settle(until, &self.edges);
        }
        self.waiting = self.waiting();
    }

    /// How many samples, switches and transitions wait to be settled, all threads together.
    pub fn waiting(&self) -> usize {
        self.threads.values().map(|t| t.timeline.waiting()).sum()
    }

    /// Ends the pass. `damage` says what is wrong with the file, if anything.
    pub fn finish(mut self, damage: Option<String>) -> Profile {
        for ring in self.rings.values_mut() {
            let Some(thread) = self.threads.get_mut(&ring.owner) else {
                continue;
            };
            let (states, timeline) = (&mut ring.states, &mut thread.timeline);
            let placed = self.facts.clock.is_some();
            ring.decoder.flush(&mut |event| {
                if placed {
                    states.event(&event, &mut |t| timeline.transition(t));
                }
            });
        }
        self.finish_trust(damage);
        let end = self.facts.end.unwrap_or(self.newest).min(self.facts.span.1);
        let end_ticks = self.ticks(end);
        let mut threads = Vec::new();
        let (mut weights, mut cells) = (BTreeMap::new(), Vec::new());
        let mut slices = vec![Slice::default(); self.edges.len()];
        for ((pid, tid), thread) in std::mem::take(&mut self.threads) {
            if !thread.wanted {
                continue;
            }
            let place = threads.len();
            self.trust.late_records += thread.timeline.late();
            let never_switched = self.before_any_switch(&thread);
            let (row, of_thread, of_slices) =
                thread.finish(pid, tid, end_ticks, never_switched, &self.edges);
            // A thread that neither ran nor has probes has nothing to show, and one with probes has not when it is not
            // in the part that is asked for.
            let lives = row.probes && (self.filter.is_open() || row.shares.total() > 0);
            if row.samples == 0 && !lives && row.on_cpu() == 0.0 {
                continue;
            }
            threads.push(row);
            let placed = |((root, node), w)| ((place, root, node), w);
            weights.extend(of_thread.weights.into_iter().map(placed));
            let of_cells = of_thread.cells.map(|(_, cells)| cells).unwrap_or_default();
            cells.extend(of_cells.into_iter().map(|((window, cpu, root, node), w)| {
                let cell = Cell {
                    thread: place,
                    window,
                    cpu,
                    root,
                    node,
                };
                (cell, w)
            }));
            for (slice, (shares, weights)) in slices.iter_mut().zip(of_slices) {
                slice.shares.push(shares);
                slice.weights.extend(weights.into_iter().map(placed));
            }
        }
        let event = self
            .facts
            .session
            .events
            .get(usize::from(self.sampled_event));
        let mut profile = Profile {
            event: event.map_or_else(String::new, |e| e.name.clone()),
            user_only: event.is_some_and(|e| e.user_only),
            wall_ns: end
                .since(self.facts.session.started.max(self.facts.span.0))
                .ns(),
            ns_per_tick: self.facts.clock.map(|c| c.ns_per_tick()),
            totals: self.facts.work(),
            session: self.facts.session,
            notices: self.facts.notices,
            packs: Vec::new(),
            architecture: String::new(),
            threads,
            stacks: self.stacks,
            weights,
            cells,
            slices,
            trust: self.trust,
        };
        if let Some(stretches) = &self.stretches {
            // Nothing else is counted by request.
            profile.totals = Work {
                requests: stretches.requests,
                ..Work::default()
            };
        }
        classify::classify(&mut profile, &self.packs);
        profile
    }

    /// Where a thread is that never switches: where it was seen to run.
    fn before_any_switch(&self, thread: &Thread) -> Cpu {
        if self.facts.session.switches_unknown {
            return Cpu::Elsewhere;
        }
        let left_out = !self.filter.cpus.is_empty();
        let here = !left_out || thread.cpu.is_some_and(|cpu| self.filter.has_cpu(cpu));
        match (thread.seen_running && here, left_out) {
            (true, _) => Cpu::On,
            (false, true) => Cpu::Elsewhere,
            (false, false) => Cpu::Off,
        }
    }

    fn finish_trust(&mut self, damage: Option<String>) {
        let part = |weight: u64| weight as f64 / self.weight_seen.max(1) as f64;
        self.trust.stacks_truncated_share = part(self.weight_truncated);
        self.trust.stacks_unknown_share = part(self.weight_unknown);
        self.trust.samples_lost = self.facts.samples_lost;
        self.trust.rings_unreached = self.facts.rings_unreached;
        for (id, ring) in &self.rings {
            let counts = ring.decoder.counts();
            self.trust.events += counts.events;
            // The writer's own count and what is missing in the recording overlap: the larger one is the loss.
            let seen = counts.lost_slots.saturating_add(ring.lost);
            let told = self.facts.totals.get(id).map_or(0, |t| t.dropped_slots);
            let dropped = seen.max(told);
            self.trust.events_dropped = self.trust.events_dropped.saturating_add(dropped);
        }
        self.trust.clock_error_ns = self.facts.clock.map(|c| c.error().ns());
        let wall = self
            .facts
            .end
            .map(|e| e.since(self.facts.session.started).ns());
        self.trust.observer_share = match (self.facts.recorder_cpu_ns, wall) {
            (Some(cpu), Some(wall)) if wall > 0 => Some(cpu as f64 / wall as f64),
            _ => None,
        };
        self.trust.damage = damage;
        let parts = [
            self.filter.line(),
            self.stretches.as_ref().map(|s| s.line.clone()),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        self.trust.filtered = (!parts.is_empty()).then(|| parts.join(", "));
    }
}

impl Thread {
    fn settle(&mut self, until: u64, edges: &[u64]) {
        let (probes, sums) = (self.probes, &mut self.sums);
        while let Some(&edge) = edges.get(self.slices.len()).filter(|&&e| e <= until) {
            self.timeline.cut(edge, &mut |state, pending| {
                add(sums, probes, state, pending)
            });
            self.slices.push(std::mem::take(&mut sums.weights));
        }
        self.timeline.sweep(until, &mut |state, pending| {
            add(sums, probes, state, pending)
        });
    }

    fn finish(
        mut self,
        pid: Pid,
        tid: Tid,
        end: u64,
        never_switched: Cpu,
        edges: &[u64],
    ) -> (ThreadRow, Sums, Vec<(Shares, Weights)>) {
        self.settle(end, edges);
        let (probes, mut sums) = (self.probes, self.sums);
        let timeline = self.timeline.ending(end);
        let (shares, of_slices) = timeline.finish_cut(never_switched, &mut |state, pending| {
            add(&mut sums, probes, state, pending);
        });
        for (key, weight) in self.slices.iter().flatten() {
            sums.weights.entry(*key).or_default().add(weight);
        }
        let row = ThreadRow {
            pid,
            tid,
            name: self.name,
            probes,
            role: String::new(),
            foreign: false,
            estimate: None,
            shares,
            samples: sums.weights.values().map(|w| w.samples).sum(),
        };
        (row, sums, of_slices.into_iter().zip(self.slices).collect())
    }
}

fn add(sums: &mut Sums, probes: bool, state: PollState, pending: Pending) {
    let root = match (probes, state) {
        (false, _) => Root::NoProbes,
        (true, PollState::Working) => Root::Useful,
        (true, PollState::EmptyPolling) => Root::EmptyPolling,
        (true, PollState::Unknown) => Root::Unknown,
    };
    let more = Weight {
        samples: 1,
        weight: pending.period,
        squares: pending.period as f64 * pending.period as f64,
    };
    let weight = sums.weights.entry((root, pending.node)).or_default();
    weight.add(&more);
    if let Some((window, cells)) = &mut sums.cells {
        let window = pending.time.ns() / window.ns().max(1);
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        let cell = cells.entry((window, pending.cpu, root, pending.node));
        cell.or_default().add(&more);
    }
}

impl Facts {
    fn gather(metas: &[Meta], filter: &Filter) -> Facts {
        let mut facts = Facts::default();
        // The session comes first.
        let started = metas.iter().find_map(|m| match m {
            Meta::Session(session) => Some(session.started),
            _ => None,
        });
        facts.span = filter.span(started.unwrap_or_default());
        facts.edges = match filter.window {
            Some(_) => (Some(facts.span.0), Some(facts.span.1)),
            None => (None, None),
        };
        let mut pairs = Vec::new();
        let mut threads = Vec::new();
        for meta in metas {
            match meta {
                Meta::Session(session) => facts.session = session.clone(),
                Meta::Thread(thread) => {
                    let life = facts.lives.entry((thread.pid, thread.tid));
                    let life = life.or_insert((thread.time, None, String::new()));
                    life.0 = life.0.min(thread.time);
                    threads.push(thread);
                }
                Meta::Exit(exit) => {
                    if let Some(life) = facts.lives.get_mut(&(exit.pid, exit.tid)) {
                        life.1 = Some(exit.time);
                    }
                }
                Meta::Ring(ring) => {
                    facts
                        .rings_from_before
                        .insert(ring.ring, ring.first_slot > 0);
                    facts.rings.push(ring.clone());
                }
                Meta::RingTotals(totals) => {
                    facts.totals.insert(totals.ring, *totals);
                    let counted = facts.counted.entry(totals.ring).or_default();
                    counted.add(*totals, facts.edges);
                }
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::Lost(lost) => {
                    facts.samples_lost = facts.samples_lost.saturating_add(lost.samples);
                }
                Meta::Notice(notice) => facts.notices.push(notice.clone()),
                Meta::End(end) => {
                    facts.end = Some(end.time);
                    facts.recorder_cpu_ns = Some(end.recorder_cpu_ns);
                    facts.rings_unreached = end.rings_unreached;
                }
                Meta::Mapping(_)
                | Meta::Counters(_)
                | Meta::Symbols(_)
                | Meta::Queue(_)
                | Meta::Device(_)
                | Meta::Salvaged(_) => {}
            }
        }
        facts.clock = ClockMap::fit(&pairs);
        facts.name_threads(threads);
        facts
    }

    /// What programs counted in the part that counts. A ring that was there before the recording counts from its first
    /// reading on.
    fn work(&self) -> Work {
        let mut work = Work::default();
        for (id, counted) in &self.counted {
            let from_before = self.rings_from_before.get(id).copied().unwrap_or_default();
            let origin = (!from_before).then_some(self.session.started);
            counted.add_to(&mut work, self.edges, origin);
        }
        work
    }

    /// Gives every thread its last name. Records come in the order of the CPUs' rings, so they are put in that of time;
    /// at the same time a thread is made before it is named.
    fn name_threads(&mut self, mut threads: Vec<&record::Thread>) {
        threads.sort_by_key(|t| (t.time, !t.name.is_empty()));
        for thread in threads {
            let name = if thread.name.is_empty() {
                let parent = self.lives.get(&(thread.parent, thread.parent_tid));
                parent.map_or_else(String::new, |p| p.2.clone())
            } else {
                thread.name.clone()
            };
            if let Some(life) = self.lives.get_mut(&(thread.pid, thread.tid)) {
                life.2 = name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bypassprof_wire::{Flow, points};

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
