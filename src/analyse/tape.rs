//! A recording as it ran, for those who hand on every sample, state, event and request: a second pass over it, after
//! the one that made its [`Profile`].
//!
//! In: the profile, the records of low rate, then records in the order of the file; out: [`Moment`]s, with stacks and
//! threads by their numbers in the profile. Samples come in the order of time; what else there is comes as it lies in
//! the file. Nothing but samples waits, and not longer than [`super::join::WINDOW`]. Threads that the profile leaves out are
//! left out; where only some requests count, so is what lies outside of the stretches in which threads were busy with them.
//! It refuses to know formats.

mod moment;
mod track;

pub use moment::{Moment, Request, Running, Sampled};

use super::filter::Filter;
use super::join::WINDOW;
use super::latency::Stretches;
use super::latency::stretches::{Of, contains, holds};
use super::packs::Packs;
use super::pollstate::{PollState, PollStates, Transition};
use super::profile::Profile;
use super::spans::Pass;
use super::spans::way::Way;
use crate::resolve::Names;
use crate::trace::record::{Meta, Pid, Sample, Switch, SwitchKind, Tid};
use crate::trace::tracepoint::Format;
use crate::units::{ClockMap, Cycles, Nanos, Tsc};
use bypassprof_wire::{Decoder, Event, Slot};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use track::Track;

/// Samples that wait to be put in order, at most.
const MOST_WAITING: usize = 1 << 20;

struct Ring {
    thread: Option<usize>,
    decoder: Decoder,
    states: PollStates,
    next_slot: u64,
    points: HashMap<u16, Rc<str>>,
    track: Track<PollState>,
}

/// The second pass over a recording.
pub struct Tape {
    profile: Profile,
    names: Names,
    clock: Option<ClockMap>,
    started: Nanos,
    /// The part that counts.
    span: (Nanos, Nanos),
    filter: Filter,
    /// The profile's event; `None`: samples of all events are told.
    sampled_event: Option<u16>,
    /// What the records of tracepoints look like, by event.
    formats: Vec<Option<Format>>,
    threads: HashMap<(Pid, Tid), usize>,
    rings: HashMap<u32, Ring>,
    /// What threads' places on CPUs are, by time.
    running: HashMap<usize, Track<(u32, Running)>>,
    /// If only some requests count: when each thread was busy with them.
    busy: Option<Vec<Of>>,
    requests: Pass,
    waiting: BTreeMap<(Nanos, u64), Sampled>,
    /// Samples seen so far.
    number: u64,
    newest: Nanos,
}

impl Tape {
    /// Prepares a pass over the recording that `profile` is of, with the same filter.
    pub fn new(metas: &[Meta], packs: &Packs, filter: Filter, profile: Profile) -> Tape {
        let pairs: Vec<_> = metas
            .iter()
            .filter_map(|m| match m {
                Meta::Clock(pair) => Some(*pair),
                _ => None,
            })
            .collect();
        let places = profile.threads.iter().enumerate();
        let events = &profile.session.events;
        let started = profile.session.started;
        let mut tape = Tape {
            names: Names::new(metas),
            clock: ClockMap::fit(&pairs),
            started,
            span: filter.span(started),
            sampled_event: Some(events.iter().position(|e| e.frequency_hz > 0).unwrap_or(0) as u16),
            formats: events.iter().map(|e| Format::parse(&e.format)).collect(),
            threads: places.map(|(at, t)| ((t.pid, t.tid), at)).collect(),
            rings: HashMap::new(),
            running: HashMap::new(),
            busy: None,
            requests: Pass::new(metas, packs, filter.clone(), 0).telling_ways(),
            filter,
            waiting: BTreeMap::new(),
            number: 0,
            newest: Nanos::default(),
            profile,
        };
        for meta in metas {
            let Meta::Ring(ring) = meta else {
                continue;
            };
            let own = ring
                .points
                .iter()
                .map(|p| (p.id, Rc::from(p.name.as_str())));
            let state = Ring {
                thread: tape.threads.get(&(ring.pid, ring.tid)).copied(),
                decoder: Decoder::new((ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc))),
                states: PollStates::new(PollState::Unknown, false),
                next_slot: ring.first_slot,
                points: own.collect(),
                track: Track::default(),
            };
            tape.rings.insert(ring.ring, state);
        }
        tape
    }

    /// Only what lies in these stretches is told; of requests those that pass the filter.
    #[must_use]
    pub fn within(mut self, stretches: &Stretches) -> Tape {
        let of_threads = |tape: &Tape| -> Vec<Of> {
            let threads = tape.profile.threads.iter();
            threads.map(|t| stretches.of((t.pid, t.tid))).collect()
        };
        let busy = of_threads(&self);
        for ring in self.rings.values_mut() {
            let of = ring.thread.map(|thread| busy[thread].clone());
            ring.track = Track::within(of.unwrap_or_default());
        }
        for (thread, of) in busy.iter().enumerate() {
            let times = of
                .iter()
                .map(|&(from, to)| (self.time(from), self.time(to)));
            let track = Track::within(times.collect::<Vec<_>>());
            self.running.insert(thread, track);
        }
        self.busy = Some(busy);
        self
    }

    /// Samples of all events that were sampled are told, not of the profile's alone.
    pub fn telling_all_events(mut self) -> Tape {
        self.sampled_event = None;
        self
    }

    /// The profile, whose numbers moments carry.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The time of the recording's clock, in ns.
    fn time(&self, tsc: u64) -> u64 {
        let clock = self.clock.as_ref();
        clock.map_or(tsc, |clock| clock.time(Tsc::from_raw(tsc)).ns())
    }

    fn since_start(&self, tsc: u64) -> Nanos {
        Nanos::from_ns(self.time(tsc)).since(self.started)
    }

    fn ticks(&self, time: Nanos) -> u64 {
        let clock = self.clock.as_ref();
        clock.map_or(time.ns(), |clock| clock.tsc(time).raw())
    }

    /// Whether a thread was busy with a request that counts, as `is_in` its stretches tells.
    fn is_busy(&self, thread: usize, tsc: u64, is_in: fn(&[(u64, u64)], u64) -> bool) -> bool {
        (self.busy.as_ref()).is_none_or(|busy| is_in(&busy[thread], tsc))
    }

    fn counts(&self, time: Nanos) -> bool {
        (self.span.0..self.span.1).contains(&time)
    }

    /// A sample of the file, in the order of the file. Gives those whose turn it is.
    pub fn sample<E>(
        &mut self,
        sample: &Sample,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        self.requests.sample(sample);
        let thread = self.threads.get(&(sample.pid, sample.tid)).copied();
        let wanted = self.sampled_event.is_none_or(|e| e == sample.event)
            && self.filter.has_cpu(sample.cpu)
            && self.counts(sample.time);
        let wanted = thread
            .filter(|&thread| wanted && self.is_busy(thread, self.ticks(sample.time), contains));
        if let Some(thread) = wanted {
            let (node, addresses) = self.profile.stacks.add_with(sample, &mut self.names);
            let sampled = Sampled {
                thread,
                time: sample.time.since(self.started),
                cpu: sample.cpu,
                node,
                period: sample.period.max(1),
                event: sample.event,
                fields: self.fields(sample),
                addresses,
            };
            self.number += 1;
            self.waiting.insert((sampled.time, self.number), sampled);
        }
        self.newest = self.newest.max(sample.time.since(self.started));
        let until = self.newest.ns().saturating_sub(WINDOW.ns());
        let mut many = self.waiting.len() > MOST_WAITING;
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0.ns() >= until && !many {
                break;
            }
            out(Moment::Sample(&entry.remove()), &self.profile)?;
            many = self.waiting.len() > MOST_WAITING;
        }
        Ok(())
    }

    fn fields(&self, sample: &Sample) -> String {
        let format = self.formats.get(usize::from(sample.event));
        match format.and_then(Option::as_ref) {
            Some(format) if !sample.raw.is_empty() => format.show(&sample.raw),
            _ => String::new(),
        }
    }

    /// A switch of the file.
    pub fn switch<E>(
        &mut self,
        switch: &Switch,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        self.requests.switch(switch);
        let Some(&thread) = self.threads.get(&(switch.pid, switch.tid)) else {
            return Ok(());
        };
        if !self.counts(switch.time) || !self.filter.has_cpu(switch.cpu) {
            return Ok(());
        }
        let running = match switch.kind {
            SwitchKind::In => Running::On,
            SwitchKind::OutWaiting => Running::Waiting,
            SwitchKind::OutPreempted => Running::Preempted,
        };
        let mut changes = Vec::new();
        let track = self.running.entry(thread).or_default();
        track.change(switch.time.ns(), (switch.cpu, running), &mut |at, value| {
            changes.push((at, value));
        });
        self.tell_running(thread, changes, out)
    }

    fn tell_running<E>(
        &self,
        thread: usize,
        changes: Vec<(u64, Option<(u32, Running)>)>,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        for (at, value) in changes {
            let moment = Moment::Running {
                thread,
                time: Nanos::from_ns(at).since(self.started),
                running: value,
            };
            out(moment, &self.profile)?;
        }
        Ok(())
    }

    /// A block of a ring's slots, the first of which has position `first`, in the order of the file.
    pub fn slots<E>(
        &mut self,
        number: u32,
        first: u64,
        slots: &[Slot],
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        self.requests.slots(number, first, slots);
        self.tell_requests(out)?;
        let Some(mut ring) = self.rings.remove(&number) else {
            return Ok(());
        };
        let mut said = Ok(());
        if let (Some(thread), Some(_)) = (ring.thread, &self.clock) {
            let mut states = Vec::new();
            if first > ring.next_slot {
                ring.decoder.gap();
                ring.states.gap(&mut |t| states.push(t));
            }
            ring.next_slot = first.saturating_add(slots.len() as u64);
            let (poll, points, track) = (&mut ring.states, &ring.points, &mut ring.track);
            for &slot in slots {
                ring.decoder.push(slot, &mut |event| {
                    poll.event(&event, &mut |t| states.push(t));
                    if said.is_ok() {
                        let told = self.tell_states(thread, track, &mut states, out);
                        said = told.and_then(|()| self.event(thread, &event, points, out));
                    }
                });
            }
        }
        self.rings.insert(number, ring);
        said
    }

    /// The event that a ring ends with: it is told when the next one comes, or now.
    fn last_event<E>(
        &mut self,
        number: u32,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut ring) = self.rings.remove(&number) else {
            return Ok(());
        };
        let mut said = Ok(());
        if let (Some(thread), Some(_)) = (ring.thread, &self.clock) {
            let (poll, points, mut states) = (&mut ring.states, &ring.points, Vec::new());
            let track = &mut ring.track;
            ring.decoder.flush(&mut |event| {
                poll.event(&event, &mut |t| states.push(t));
                if said.is_ok() {
                    let told = self.tell_states(thread, track, &mut states, out);
                    said = told.and_then(|()| self.event(thread, &event, points, out));
                }
            });
            let mut changes = Vec::new();
            track.end(&mut |at, state| changes.push((at, state)));
            said = said.and_then(|()| self.tell_changes(thread, changes, out));
        }
        self.rings.insert(number, ring);
        said
    }

    fn tell_states<E>(
        &self,
        thread: usize,
        track: &mut Track<PollState>,
        states: &mut Vec<Transition>,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut changes = Vec::new();
        for Transition { tsc, state } in states.drain(..) {
            track.change(tsc, state, &mut |at, state| changes.push((at, state)));
        }
        self.tell_changes(thread, changes, out)
    }

    fn tell_changes<E>(
        &self,
        thread: usize,
        changes: Vec<(u64, Option<PollState>)>,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        for (tsc, state) in changes {
            let time = self.since_start(tsc);
            if self.counts(Nanos::from_ns(self.started.ns() + time.ns())) {
                let moment = Moment::State {
                    thread,
                    time,
                    state,
                };
                out(moment, &self.profile)?;
            }
        }
        Ok(())
    }

    fn event<E>(
        &self,
        thread: usize,
        event: &Event,
        points: &HashMap<u16, Rc<str>>,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.is_busy(thread, event.tsc.raw(), holds) {
            return Ok(());
        }
        let time = self.since_start(event.tsc.raw());
        if !self.counts(Nanos::from_ns(self.started.ns().saturating_add(time.ns()))) {
            return Ok(());
        }
        let known = event.point.info().map(|info| info.name);
        let own = || points.get(&event.point.id()).map(|name| &**name);
        let point = match event.point {
            bypassprof_wire::points::LOST => "lost",
            _ => known.or_else(own).unwrap_or("unknown"),
        };
        let moment = Moment::Event {
            thread,
            time,
            point,
            event,
        };
        out(moment, &self.profile)
    }

    fn tell_requests<E>(
        &mut self,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<(), E> {
        for way in self.requests.take_ways() {
            let request = self.request(&way);
            out(Moment::Request(&request), &self.profile)?;
        }
        Ok(())
    }

    fn request(&self, way: &Way) -> Request {
        let ns = |ticks: u64| match &self.clock {
            Some(clock) => clock.length(Cycles::from_ticks(ticks)).ns(),
            None => ticks,
        };
        let place = |ring: Option<u32>| self.rings.get(&ring?)?.thread;
        Request {
            flow: way.flow,
            began: self.since_start(way.start),
            stages: way.lengths().map(|length| Some(ns(length?))),
            total: ns(way.total()),
            threads: way.rings.map(place),
        }
    }

    /// The end: gives what still waits, and the profile back.
    pub fn finish<E>(
        mut self,
        out: &mut impl FnMut(Moment, &Profile) -> Result<(), E>,
    ) -> Result<Profile, E> {
        while let Some((_, sampled)) = self.waiting.pop_first() {
            out(Moment::Sample(&sampled), &self.profile)?;
        }
        let numbers: Vec<u32> = self.rings.keys().copied().collect();
        for number in numbers {
            self.last_event(number, out)?;
        }
        for (thread, mut track) in std::mem::take(&mut self.running) {
            let mut changes = Vec::new();
            track.end(&mut |at, value| changes.push((at, value)));
            self.tell_running(thread, changes, out)?;
        }
        self.requests.close_all();
        self.tell_requests(out)?;
        Ok(self.profile)
    }
}
