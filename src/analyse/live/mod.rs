//! What runs, while it runs: records of all threads joined by time, told interval by interval.
//!
//! In: records as a recorder takes them, the time; out: a [`View`] of the time since the one before, and the samples of
//! that time with what their threads were doing ([`functions`](functions::of) says what they were in). Nothing is kept of
//! what has been told, so memory does not grow with time. It refuses to know names of addresses and how it looks.

pub mod functions;
pub mod order;
mod ring;
mod thread;
pub mod view;

use super::profile::Work;
use super::timeline::Cpu;
use super::trust::Trust;
use crate::trace::Piece;
use crate::trace::record::{self, Meta, Pid, Sample, Switch, SwitchKind, Tid};
use crate::units::{ClockMap, ClockPair, Nanos};
use bypassprof_wire::Slot;
use ring::LiveRing;
use std::collections::{BTreeMap, HashMap, VecDeque};
use thread::LiveThread;
use view::{Port, View};

pub use functions::Placed;

/// How long after it happened a record is waited for. Rings of programs are looked at every few milliseconds, those of
/// the kernel every 50 at least, and both right before time is settled.
const LAG: Nanos = Nanos::from_ns(20_000_000);
/// Readings of both clocks that the map between them is drawn through.
const MOST_PAIRS: usize = 64;

type PortKey = (Pid, u16);

/// What runs now.
pub struct Live {
    clock: ClockMap,
    pairs: VecDeque<ClockPair>,
    /// Whether every ring began while it was listened to.
    all_fresh: bool,
    started: Nanos,
    settled: Nanos,
    /// The event that is sampled, by its place.
    sampled: u16,
    threads: BTreeMap<(Pid, Tid), LiveThread>,
    rings: HashMap<u32, LiveRing>,
    /// What ports had dropped when the interval began, and now.
    ports: BTreeMap<PortKey, (record::DevicePort, record::DevicePort)>,
    /// What rings counted whose threads are gone.
    gone: Work,
    trust: Trust,
}

impl Live {
    /// From readings of both clocks some time apart; `None` if they are not. `all_fresh`: the programs are started only
    /// now, so all that their rings count belongs here.
    pub fn new(pairs: [ClockPair; 2], all_fresh: bool) -> Option<Live> {
        Some(Live {
            clock: ClockMap::fit(&pairs)?,
            pairs: pairs.into(),
            all_fresh,
            started: pairs[1].time,
            settled: pairs[1].time,
            sampled: 0,
            threads: BTreeMap::new(),
            rings: HashMap::new(),
            ports: BTreeMap::new(),
            gone: Work::default(),
            trust: Trust::default(),
        })
    }

    /// Takes records, in the order in which they came.
    pub fn take(&mut self, piece: &Piece) {
        match piece {
            Piece::Meta(meta) => self.meta(meta),
            Piece::Samples(samples) => samples.iter().for_each(|s| self.sample(s)),
            Piece::Switches(switches) => switches.iter().for_each(|s| self.switch(s)),
            Piece::Slots(ring, first, slots) => self.slots(*ring, *first, slots),
        }
    }

    fn thread(&mut self, key: (Pid, Tid), since: Nanos) -> &mut LiveThread {
        let start = self.clock.tsc(since.max(self.settled)).raw();
        self.threads
            .entry(key)
            .or_insert_with(|| LiveThread::new(start))
    }

    fn meta(&mut self, meta: &Meta) {
        match meta {
            Meta::Session(session) => {
                let sampled = session.events.iter().position(|e| e.frequency_hz > 0);
                self.sampled = sampled.unwrap_or(0) as u16;
            }
            Meta::Thread(thread) => {
                let parent = self.threads.get(&(thread.parent, thread.parent_tid));
                let name = match thread.name.as_str() {
                    "" => parent.map_or_else(String::new, |p| p.name.clone()),
                    name => name.to_owned(),
                };
                self.thread((thread.pid, thread.tid), thread.time).name = name;
            }
            Meta::Exit(exit) => {
                if let Some(thread) = self.threads.get_mut(&(exit.pid, exit.tid)) {
                    thread.ended = true;
                }
            }
            Meta::Ring(ring) => {
                let now = self.settled;
                let thread = self.thread((ring.pid, ring.tid), now);
                thread.has_ring(ring);
                let fresh =
                    self.all_fresh || (ring.first_slot == 0 && ring.listening == Nanos::default());
                self.rings
                    .insert(ring.ring, LiveRing::new(ring, fresh, now));
            }
            Meta::RingTotals(totals) => {
                if let Some(ring) = self.rings.get_mut(&totals.ring) {
                    ring.totals(*totals);
                }
            }
            Meta::Clock(pair) => self.pair(*pair),
            Meta::Lost(lost) => {
                let samples = self.trust.samples_lost.saturating_add(lost.samples);
                self.trust.samples_lost = samples;
            }
            Meta::Device(device) => {
                for port in &device.ports {
                    let key = (device.pid, port.port);
                    let first = || (port.clone(), port.clone());
                    self.ports.entry(key).or_insert_with(first).1 = port.clone();
                }
            }
            _ => {}
        }
    }

    fn pair(&mut self, pair: ClockPair) {
        self.pairs.push_back(pair);
        if self.pairs.len() > MOST_PAIRS {
            self.pairs.pop_front();
        }
        if let Some(clock) = ClockMap::fit(self.pairs.make_contiguous()) {
            self.clock = clock;
        }
    }

    fn sample(&mut self, sample: &Sample) {
        self.trust.samples += 1;
        if sample.event != self.sampled {
            return;
        }
        let tsc = self.clock.tsc(sample.time).raw();
        let thread = self.thread((sample.pid, sample.tid), sample.time);
        thread.cpu = Some(sample.cpu);
        thread.ran = true;
        thread.timeline.sample(tsc, sample.clone());
    }

    fn switch(&mut self, switch: &Switch) {
        let tsc = self.clock.tsc(switch.time).raw();
        let thread = self.thread((switch.pid, switch.tid), switch.time);
        match switch.kind {
            SwitchKind::In => {
                thread.cpu = Some(switch.cpu);
                thread.timeline.switch(tsc, Cpu::Off, Cpu::On);
            }
            SwitchKind::OutWaiting | SwitchKind::OutPreempted => {
                thread.timeline.switch(tsc, Cpu::On, Cpu::Off);
            }
        }
    }

    fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        let Some(ring) = self.rings.get_mut(&ring) else {
            return;
        };
        if let Some(thread) = self.threads.get_mut(&ring.owner) {
            self.trust.events += ring.slots(first, slots, thread);
        }
    }

    /// Settles what happened until `now` and tells of the time since it was settled before; everything until then must
    /// have been taken. The samples of that time come with what their threads were doing.
    pub fn settle(&mut self, now: Nanos) -> (View, Vec<Placed>) {
        let until = Nanos::from_ns(now.ns().saturating_sub(LAG.ns())).max(self.settled);
        let ticks = self.clock.tsc(until).raw();
        let ns_per_tick = self.clock.ns_per_tick();
        let mut samples = Vec::new();
        let mut view = View {
            time_ns: until.since(self.started).ns(),
            interval_ns: until.since(self.settled).ns(),
            ticks_per_second: 1e9 / ns_per_tick,
            ..View::default()
        };
        let mut counted: BTreeMap<_, Vec<&mut LiveRing>> = BTreeMap::new();
        for ring in self.rings.values_mut() {
            counted.entry(ring.owner).or_default().push(ring);
        }
        for (&key, thread) in &mut self.threads {
            let rings = counted.remove(&key).unwrap_or_default();
            view.threads
                .push(thread.settle(key, ticks, rings, &mut samples));
        }
        // Of threads that are gone: what they had counted last may come later than their end.
        let orphans = counted.into_values().flatten();
        let orphans: Vec<Work> = orphans
            .filter_map(|ring| Some(ring.interval()?.0))
            .collect();
        let late = self
            .threads
            .values()
            .map(|t| t.timeline.late())
            .sum::<u64>();
        view.trust = Trust {
            late_records: self.trust.late_records + late,
            events_dropped: self.trust.events_dropped
                + self.rings.values().map(LiveRing::dropped).sum::<u64>(),
            clock_error_ns: Some(self.clock.error().ns()),
            ..self.trust.clone()
        };
        view.ports = self.ports.iter_mut().map(Port::between).collect();
        view.add_up(&orphans);
        for work in self.rings.values().map(LiveRing::all).chain([self.gone]) {
            view.since_start.add(&work);
        }
        self.forget();
        self.settled = until;
        (view, samples)
    }

    /// Of threads that have ended, counts remain.
    fn forget(&mut self) {
        let (gone, dropped) = (&mut self.gone, &mut self.trust.events_dropped);
        self.rings.retain(|_, ring| {
            let over = !self.threads.contains_key(&ring.owner) && ring.is_silent();
            if over {
                gone.add(&ring.all());
                *dropped += ring.dropped();
            }
            !over
        });
        let (threads, trust) = (&mut self.threads, &mut self.trust);
        threads.retain(|_, thread| {
            if thread.ended {
                trust.late_records += thread.timeline.late();
            }
            !thread.ended
        });
    }
}

#[cfg(test)]
mod tests;
