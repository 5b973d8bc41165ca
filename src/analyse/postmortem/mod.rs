//! What a process was doing when it ended.
//!
//! In: the records of a recording, whatever it was made of: the last slots of a dead process's rings, a core dump, what a
//! recorder had written; out: [`PostMortem`]: why it ended, each thread's last events and last stack, the requests that
//! were on their way and where each was, and what is missing. What nothing tells stays untold: a thread's function is
//! not guessed from its last event, nor the other way round.

mod reason;
mod say;
mod threads;

pub use reason::{Ended, signal_name};
pub use threads::{Burst, Doing, FrameName, Stack, ThreadEnd};

use super::filter::Filter;
use super::packs::Packs;
use super::spans::{OnItsWay, Pass, STAGES};
use crate::resolve::Names;
use crate::trace::record::{Crash, LastStack, Meta, Missing, Sample};
use crate::units::{ClockMap, ClockPair, Nanos};
use bypassprof_wire::{Slot, Tsc};
use std::collections::BTreeMap;
use threads::Ring;

/// One event of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How long before the newest event of all.
    pub before_end: Nanos,
    /// Name of the point.
    pub name: String,
    /// Its flow, if it is of one.
    pub flow: Option<u32>,
    /// What happened, in words.
    pub what: String,
}

/// A request that was on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Its flow.
    pub flow: u32,
    /// The stage that it was in: of [`STAGES`].
    pub stage: &'static str,
    /// How long before the newest event it began.
    pub began: Nanos,
    /// How long before the newest event it came to this stage.
    pub since: Nanos,
    /// Thread that had it last: number and name.
    pub thread: (u32, String),
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostMortem {
    /// The program: its command line, or its name.
    pub program: String,
    /// Its process; 0 if nothing tells.
    pub pid: u32,
    /// Why it ended.
    pub ended: Ended,
    /// Its threads: the one that was hit first, then those with the newest events.
    pub threads: Vec<ThreadEnd>,
    /// Requests on their way, the newest in their stage first; at most [`MOST_IN_FLIGHT`].
    pub requests: Vec<InFlight>,
    /// How many there were.
    pub requests_in_all: usize,
    /// What could not be had.
    pub missing: Vec<Missing>,
    /// Events read, and slots that are known to be gone.
    pub events: u64,
    /// Slots that rings dropped, overwrote, or that are missing in a file.
    pub lost: u64,
    /// How far stamps may be off as times; `None` where ticks could not be turned into times.
    pub clock_error: Option<Nanos>,
    /// When the newest event was, on the recording's clock.
    pub newest: Option<Nanos>,
    /// What is wrong with the file that was read.
    pub damage: Option<String>,
}

/// Requests on their way that are told.
pub const MOST_IN_FLIGHT: usize = 100;

/// Reads a recording for its end.
pub struct Reading {
    pass: Pass,
    rings: BTreeMap<u32, Ring>,
    names: Names,
    clock: Option<ClockMap>,
    program: String,
    pids: Vec<u32>,
    crashes: Vec<Crash>,
    stacks: Vec<LastStack>,
    thread_names: BTreeMap<u32, String>,
    /// The last sample of each thread.
    sampled: BTreeMap<u32, Sample>,
    ended_at: Option<Nanos>,
    end: Option<(Option<i32>, Option<i32>)>,
}

impl Reading {
    /// Prepares; `last` is how many events of each thread are told.
    pub fn new(metas: &[Meta], packs: &Packs, last: usize) -> Reading {
        let mut reading = Reading {
            pass: Pass::new(metas, packs, Filter::default(), 0).patient(),
            rings: BTreeMap::new(),
            names: Names::new(metas),
            clock: None,
            program: String::new(),
            pids: Vec::new(),
            crashes: Vec::new(),
            stacks: Vec::new(),
            thread_names: BTreeMap::new(),
            sampled: BTreeMap::new(),
            ended_at: None,
            end: None,
        };
        let mut pairs = Vec::new();
        let mut threads = BTreeMap::new();
        for meta in metas {
            match meta {
                Meta::Session(session) => {
                    reading.program = session.command.join(" ");
                    reading.pids = session.pids.clone();
                }
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::Thread(thread) if !thread.name.is_empty() => {
                    threads.insert(thread.tid, thread.name.clone());
                }
                Meta::Ring(ring) => {
                    reading.rings.insert(ring.ring, Ring::new(ring, last));
                }
                Meta::RingTotals(totals) => {
                    if let Some(ring) = reading.rings.get_mut(&totals.ring) {
                        ring.dropped = totals.dropped_slots;
                    }
                }
                Meta::Crash(crash) => reading.crashes.push(crash.clone()),
                Meta::LastStack(stack) => reading.stacks.push(stack.clone()),
                Meta::End(end) => {
                    reading.ended_at = Some(end.time);
                    reading.end = Some((end.exit_code, end.signal));
                }
                _ => {}
            }
        }
        reading.clock = ClockMap::fit(&pairs).filter(|_| are_apart(&pairs));
        reading.thread_names = threads;
        for ring in reading.rings.values_mut() {
            if let Some(name) = reading.thread_names.get(&ring.tid)
                && ring.name.is_empty()
            {
                ring.name.clone_from(name);
            }
        }
        reading
    }

    /// A block of a ring's slots, in the order of the file.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        if let Some(ring) = self.rings.get_mut(&ring) {
            ring.slots(first, slots);
        }
        self.pass.slots(ring, first, slots);
    }

    /// A sample of the file.
    pub fn sample(&mut self, sample: &Sample) {
        let last = self.sampled.get(&sample.tid);
        if last.is_none_or(|last| last.time <= sample.time) {
            self.sampled.insert(sample.tid, sample.clone());
        }
    }

    /// The answer; `damage` says what is wrong with the file.
    pub fn finish(mut self, damage: Option<String>) -> PostMortem {
        let on_their_way = self.pass.in_flight();
        self.rings.values_mut().for_each(Ring::settle);
        let newest = self.rings.values().filter_map(Ring::newest).max();
        let ago = Ago {
            newest: newest.unwrap_or(0),
            clock: self.clock,
        };
        let crash = reason::merge(&self.crashes, self.end);
        let mut threads = threads::all(
            &self.rings,
            &self.stacks,
            &self.sampled,
            &mut self.names,
            (&ago, self.ended_at),
        );
        let hit = crash.tid;
        threads.sort_by_key(|t| {
            (
                Some(t.tid) != hit,
                t.quiet_for.is_none(),
                t.quiet_for,
                t.tid,
            )
        });
        let ended = Ended::of(&crash, &threads);
        let in_all = on_their_way.len();
        let requests = self.requests(on_their_way, &ago);
        let missing = self.crashes.iter().flat_map(|c| c.missing.clone());
        let untold = ended.is_untold().then(|| Missing {
            what: "why it ended".to_owned(),
            how: "rings know no signals: a core dump does, and a recorder that watches (`record --on-crash`)".to_owned(),
        });
        let pid = crash.pid.max(self.pids.first().copied().unwrap_or(0));
        let pid = match pid {
            0 => self.rings.values().next().map_or(0, |r| r.pid),
            pid => pid,
        };
        let program = match self.program.as_str() {
            "" => self.thread_names.get(&pid).cloned().unwrap_or_default(),
            _ => self.program,
        };
        PostMortem {
            program,
            pid,
            ended,
            requests,
            requests_in_all: in_all,
            missing: untold.into_iter().chain(missing).collect(),
            events: self.rings.values().map(Ring::events).sum(),
            lost: threads.iter().map(|t| t.lost).sum(),
            threads,
            clock_error: self.clock.map(|c| c.error()),
            newest: newest
                .zip(self.clock)
                .map(|(tsc, c)| c.time(Tsc::from_raw(tsc))),
            damage,
        }
    }

    fn requests(&self, mut on_their_way: Vec<OnItsWay>, ago: &Ago) -> Vec<InFlight> {
        on_their_way.sort_by_key(|r| (std::cmp::Reverse(r.since), r.flow));
        on_their_way.truncate(MOST_IN_FLIGHT);
        let told = on_their_way.into_iter().map(|request| {
            let ring = self.rings.get(&request.ring);
            InFlight {
                flow: request.flow,
                stage: STAGES[request.stage].name,
                began: ago.of(request.began),
                since: ago.of(request.since),
                thread: ring.map_or_else(Default::default, |r| (r.tid, r.name.clone())),
            }
        });
        told.collect()
    }
}

/// Whether readings of both clocks are so far apart that they tell how fast the counter counts: two that a program took
/// one after the other as it started do not.
fn are_apart(pairs: &[ClockPair]) -> bool {
    let times = || pairs.iter().map(|p| p.time);
    let (first, last) = (times().min(), times().max());
    let span = first.zip(last).map(|(first, last)| last.since(first));
    span >= Some(LEAST_SPAN)
}

/// Readings closer than this tell nothing of the counter's rate: each is a few tens of ns off.
const LEAST_SPAN: Nanos = Nanos::from_ns(900_000);

/// Turns stamps into how long ago they were.
#[derive(Clone, Copy, Debug)]
pub struct Ago {
    newest: u64,
    clock: Option<ClockMap>,
}

impl Ago {
    /// How long before the newest event; without a clock, ticks.
    pub fn of(&self, tsc: u64) -> Nanos {
        let ticks = self.newest.saturating_sub(tsc);
        let per_tick = self.clock.map_or(1.0, |c| c.ns_per_tick());
        Nanos::from_ns((ticks as f64 * per_tick) as u64)
    }

    /// The same of a time of the recording's clock.
    pub fn of_time(&self, time: Nanos) -> Option<Nanos> {
        Some(self.of(self.clock?.tsc(time).raw()))
    }
}

#[cfg(test)]
mod tests;
