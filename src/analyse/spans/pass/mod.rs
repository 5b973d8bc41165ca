//! The pass over a recording's rings: from slots to requests that are over.
//!
//! In: records of low rate, then every ring's slots, block by block, in the order of the file; out: [`Spans`], and the
//! [`Way`] of each request for those who ask. Events get into the order of time in `intake`, and go to the flow and the
//! ring that they are of in `flows`, on a thread of its own if one likes. Memory is bounded by the flows open at a time
//! and by what happens within [`WINDOW`].

mod device;
mod flows;
mod intake;
mod lengths;
mod ring;
mod slowest;
mod table;
mod tell;

use super::answer::{EventTrust, Slice, Spans};
use super::flow::OnItsWay;
use super::order::Stamped;
use super::preempted::Preempted;
use super::way::Way;
use crate::analyse::filter::Filter;
use crate::analyse::packs::{Packs, Rules};
use crate::trace::record::{Meta, Pid, Sample, Switch, SwitchKind, Tid};
use crate::units::{ClockMap, Nanos};
use bypassprof_wire::Slot;
use flows::Flows;
use intake::Intake;
use ring::RingState;
use slowest::Slowest;
pub use slowest::Threshold;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use table::Table;
use tell::Sums;

/// A ring that is silent is waited for so long.
pub const WINDOW: Nanos = Nanos::from_ns(1_000_000_000);
/// Events of one ring are at most so far out of order: a round that handles a full burst.
const SLACK: Nanos = Nanos::from_ns(20_000_000);
/// A flow with nothing on its way is forgotten when it was silent so long: its connection may be gone.
const QUIET: Nanos = Nanos::from_ns(2_000_000_000);
/// Events that are given to another thread at once, and how many such heaps may wait there.
const BATCH: usize = 1 << 13;
/// See [`BATCH`].
const BATCHES: usize = 4;

/// The pass over a recording's rings.
pub struct Pass {
    intake: Intake,
    /// Events in order that nobody has taken yet.
    ready: Vec<Stamped>,
    flows: Arc<Mutex<Flows>>,
    /// Where events are made requests, if not here.
    second: Option<Second>,
}

/// A thread that makes events requests: it ends when nobody can send any more.
struct Second {
    send: SyncSender<Vec<Stamped>>,
    /// Heaps that it has taken, for their memory.
    taken: Receiver<Vec<Stamped>>,
    thread: JoinHandle<()>,
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
        let places = !filter.cpus.is_empty();
        let mut intake = Intake::new(clock, ticks(SLACK), ticks(WINDOW), places);
        let mut flows = Flows {
            clock,
            started,
            filter,
            span,
            show,
            rings: Vec::new(),
            flows: Table::default(),
            quiet: (ticks(QUIET), 0),
            told: Vec::new(),
            now: 0,
            last_loss: 0,
            edges: Vec::new(),
            preempted: None,
            tell_ways: false,
            ways: Vec::new(),
            sums: Sums::new(trust),
            slowest: None,
        };
        // Points mean the same whatever stack is recognised: every pack may translate.
        let all: Vec<_> = packs.all().iter().collect();
        let rules = Rules::of(&all);
        for ring in rings {
            let name = names.get(&(ring.pid, ring.tid)).cloned();
            let dropped = dropped.get(&ring.ring).copied().unwrap_or(0);
            let name = name.unwrap_or_else(|| ring.name.clone());
            let wanted = flows.filter.has_thread(ring.tid, &name);
            let place = intake.add_ring(ring, &rules, dropped);
            let state = RingState::new(place, ring, name, wanted);
            match flows.rings.get_mut(place as usize) {
                Some(told_again) => *told_again = state,
                None => flows.rings.push(state),
            }
        }
        Pass {
            intake,
            ready: Vec::new(),
            flows: Arc::new(Mutex::new(flows)),
            second: None,
        }
    }

    /// Adds requests up by when they began too: [`Spans::slices`]. Edges are times of the recording's clock.
    #[must_use]
    pub fn sliced(self, edges: &[Nanos]) -> Pass {
        let mut flows = lock(&self.flows);
        flows.edges = edges.iter().map(|e| e.since(flows.started)).collect();
        flows.sums.slices = vec![Slice::default(); edges.len()];
        drop(flows);
        self
    }

    /// Tells of the slowest `share` of the requests only: [`Pass::pick`] is asked when all has been read.
    #[must_use]
    pub fn slowest(self, share: f64) -> Pass {
        lock(&self.flows).slowest = Some(Slowest::new(share));
        self
    }

    /// Tells how much of requests' stages their threads were kept from running: [`Spans::preempted`].
    #[must_use]
    pub fn kept_by(self, preempted: Preempted) -> Pass {
        lock(&self.flows).preempted = Some(preempted);
        self
    }

    /// For the end of a program, which may have stood still in the middle of a burst: no event counts as late while there is
    /// room for those that wait.
    #[must_use]
    pub fn patient(mut self) -> Pass {
        self.intake.wait_for_all();
        self
    }

    /// The same, for somebody who takes the [`Way`] of each request too.
    #[must_use]
    pub fn telling_ways(self) -> Pass {
        lock(&self.flows).tell_ways = true;
        self
    }

    /// The same, with a second thread for the second half of the work. Where there can be none all is done on this one.
    #[must_use]
    pub fn on_two_threads(mut self) -> Pass {
        let (send, receive) = sync_channel::<Vec<Stamped>>(BATCHES);
        let (give_back, taken) = channel();
        let flows = Arc::clone(&self.flows);
        let work = move || {
            for mut batch in receive {
                lock(&flows).events(&batch);
                batch.clear();
                // Whoever sends no more needs none.
                let _ = give_back.send(batch);
            }
        };
        let thread = thread::Builder::new().name("requests".into()).spawn(work);
        self.second = thread.ok().map(|thread| Second {
            send,
            taken,
            thread,
        });
        self
    }

    /// Gives events that are ready to whoever makes them requests, if there are so many.
    fn hand_over(&mut self, least: usize) {
        if self.ready.len() < least {
            return;
        }
        match &self.second {
            Some(second) => {
                let spare = second.taken.try_recv().unwrap_or_default();
                let ready = std::mem::replace(&mut self.ready, spare);
                // A thread that ended too early is told when it is waited for.
                drop(second.send.send(ready));
            }
            None => {
                lock(&self.flows).events(&self.ready);
                self.ready.clear();
            }
        }
    }

    /// The flows, when all that is ready was taken.
    fn settled(&mut self) -> MutexGuard<'_, Flows> {
        self.hand_over(0);
        if let Some(Second { send, thread, .. }) = self.second.take() {
            drop(send);
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        lock(&self.flows)
    }

    /// A block of a ring's slots, the first of which has position `first`, in the order of the file.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        self.intake.slots(ring, first, slots);
        self.intake.settle(&mut self.ready);
        self.hand_over(BATCH);
    }

    /// The ways of requests that were told since this was asked last. Lengths are in counter ticks.
    pub fn take_ways(&mut self) -> Vec<Way> {
        std::mem::take(&mut self.settled().ways)
    }

    /// A sample of the file: it tells where its thread runs.
    pub fn sample(&mut self, sample: &Sample) {
        let thread = (sample.pid, sample.tid);
        self.intake.place(sample.time, thread, sample.cpu);
    }

    /// A switch of the file, likewise.
    pub fn switch(&mut self, switch: &Switch) {
        if switch.kind == SwitchKind::In {
            let thread = (switch.pid, switch.tid);
            self.intake.place(switch.time, thread, switch.cpu);
        }
    }

    /// Events that wait to be put in order.
    pub fn waiting(&self) -> usize {
        self.intake.waiting()
    }

    /// The length of a request's way.
    pub fn length(&self, way: &Way) -> Nanos {
        Nanos::from_ns(lock(&self.flows).ns(way.total()))
    }

    /// All has been read, and this is asked before requests are closed: those that are on their way.
    pub fn in_flight(&mut self) -> Vec<OnItsWay> {
        self.intake.finish(&mut self.ready);
        self.settled().in_flight()
    }

    /// All has been read: requests that are whole are over.
    pub fn close_all(&mut self) {
        self.intake.finish(&mut self.ready);
        self.settled().close_all();
    }

    /// All has been read, and the slowest of the requests were asked for: says which these are, and tells them if they are
    /// not too many; `None` if there are no requests at all.
    pub fn pick(&mut self) -> Option<Threshold> {
        self.close_all();
        lock(&self.flows).pick()
    }

    /// Ends the pass. `damage` says what is wrong with the file, if anything.
    pub fn finish(mut self, damage: Option<String>) -> Spans {
        self.close_all();
        let read = self.intake.read();
        let mut spans = lock(&self.flows).sums.spans();
        spans.counts.late = read.late;
        spans.trust = EventTrust {
            damage,
            rings: read.rings,
            events: read.events,
            dropped: read.dropped,
            ..spans.trust
        };
        spans
    }
}

fn lock(flows: &Mutex<Flows>) -> MutexGuard<'_, Flows> {
    // Whoever panicked while holding it is heard of when its thread is waited for.
    flows.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
