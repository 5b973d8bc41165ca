//! What was sampled on each thread and when it was on a CPU, to be looked up by time.
//!
//! In: samples and switches in the order of the file; out: for a stretch of time of a thread, the stacks sampled in it
//! and how long the thread was off its CPU. Memory has an end: with more samples than `MOST_SAMPLES` every other one is
//! left out, which keeps their mix; with more switches than `MOST_SWITCHES` nothing is told of being off CPU.

use crate::analyse::stacks::NodeId;
use crate::trace::record::{Meta, Pid, Sample, Switch, SwitchKind, Tid};
use crate::units::{ClockMap, Nanos};
use std::collections::{BTreeMap, HashMap};

/// Samples that are kept: 16 bytes each.
const MOST_SAMPLES: usize = 1 << 22;
/// Switches that are kept, likewise.
const MOST_SWITCHES: usize = 1 << 22;

/// A stretch off CPU.
#[derive(Clone, Copy, Debug)]
struct Off {
    from: u64,
    to: u64,
    /// Length of all before this one.
    before: u64,
}

/// One thread.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: String,
    samples: Vec<(u64, NodeId, u32)>,
    switches: Vec<(u64, bool)>,
    off: Vec<Off>,
}

/// Everything that was sampled; stamps are counter values.
#[derive(Clone, Debug, Default)]
pub struct Sampled {
    clock: Option<ClockMap>,
    threads: Vec<Seen>,
    by_id: BTreeMap<(Pid, Tid), usize>,
    by_ring: HashMap<u32, usize>,
    kept: usize,
    /// One of so many samples is kept.
    every: u64,
    passed: u64,
    switches: usize,
    end: u64,
}

impl Sampled {
    /// Prepares for a recording with these records of low rate.
    pub fn new(metas: &[Meta]) -> Sampled {
        let mut sampled = Sampled {
            every: 1,
            end: u64::MAX,
            ..Sampled::default()
        };
        let mut pairs = Vec::new();
        let mut end = None;
        for meta in metas {
            match meta {
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::End(e) => end = Some(e.time),
                Meta::Ring(ring) => {
                    let at = sampled.thread(ring.pid, ring.tid);
                    sampled.by_ring.insert(ring.ring, at);
                    if !ring.name.is_empty() {
                        sampled.threads[at].name.clone_from(&ring.name);
                    }
                }
                Meta::Thread(t) => {
                    let at = sampled.thread(t.pid, t.tid);
                    if sampled.threads[at].name.is_empty() {
                        sampled.threads[at].name.clone_from(&t.name);
                    }
                }
                _ => {}
            }
        }
        sampled.clock = ClockMap::fit(&pairs);
        sampled.end = end.map_or(u64::MAX, |end| sampled.ticks(end));
        sampled
    }

    fn thread(&mut self, pid: Pid, tid: Tid) -> usize {
        let next = self.threads.len();
        let at = *self.by_id.entry((pid, tid)).or_insert(next);
        if at == next {
            self.threads.push(Seen::default());
        }
        at
    }

    fn ticks(&self, time: Nanos) -> u64 {
        self.clock.map_or(time.ns(), |clock| clock.tsc(time).raw())
    }

    /// A sample of the file, whose stack has the number `node`.
    pub fn sample(&mut self, sample: &Sample, node: NodeId) {
        self.passed += 1;
        if !self.passed.is_multiple_of(self.every) {
            return;
        }
        if self.kept == MOST_SAMPLES {
            self.thin_out();
        }
        let (at, tsc) = (self.thread(sample.pid, sample.tid), self.ticks(sample.time));
        let weight = u32::try_from(sample.period).unwrap_or(u32::MAX).max(1);
        self.threads[at].samples.push((tsc, node, weight));
        self.kept += 1;
    }

    fn thin_out(&mut self) {
        self.every *= 2;
        for thread in &mut self.threads {
            let mut odd = false;
            thread.samples.retain(|_| {
                odd = !odd;
                odd
            });
        }
        self.kept = self.threads.iter().map(|t| t.samples.len()).sum();
    }

    /// A switch of the file.
    pub fn switch(&mut self, switch: &Switch) {
        if self.switches == MOST_SWITCHES {
            self.threads
                .iter_mut()
                .for_each(|t| t.switches = Vec::new());
            return;
        }
        self.switches += 1;
        let (at, tsc) = (self.thread(switch.pid, switch.tid), self.ticks(switch.time));
        let on = switch.kind == SwitchKind::In;
        self.threads[at].switches.push((tsc, on));
    }

    /// All has been read: from here on it can be looked up.
    pub fn settle(&mut self) {
        for thread in &mut self.threads {
            thread.samples.sort_unstable();
            thread.switches.sort_unstable();
            let mut since = None;
            let mut before = 0;
            let ends = thread.switches.drain(..).chain([(self.end, true)]);
            for (tsc, on) in ends {
                match (on, since) {
                    (false, None) => since = Some(tsc),
                    (true, Some(from)) => {
                        let to = tsc.max(from);
                        thread.off.push(Off { from, to, before });
                        before = before.saturating_add(to - from);
                        since = None;
                    }
                    _ => {}
                }
            }
        }
    }

    /// The place of a ring's thread.
    pub fn of_ring(&self, ring: u32) -> Option<usize> {
        self.by_ring.get(&ring).copied()
    }

    /// A thread's name.
    pub fn name(&self, thread: usize) -> &str {
        self.threads.get(thread).map_or("", |t| &t.name)
    }

    /// The stacks sampled on a thread from `from` to just before `to`, with what each stands for.
    pub fn within(&self, thread: usize, from: u64, to: u64) -> &[(u64, NodeId, u32)] {
        let Some(seen) = self.threads.get(thread) else {
            return &[];
        };
        let first = seen.samples.partition_point(|s| s.0 < from);
        let length = seen.samples[first..].partition_point(|s| s.0 < to);
        &seen.samples[first..first + length]
    }

    /// How long a thread was off its CPU from `from` to `to`.
    pub fn off_cpu(&self, thread: usize, from: u64, to: u64) -> u64 {
        let Some(seen) = self.threads.get(thread) else {
            return 0;
        };
        let until = |tsc: u64| {
            let begun = seen.off.partition_point(|off| off.from < tsc);
            let last = begun.checked_sub(1).map(|at| seen.off[at]);
            last.map_or(0, |off| off.before + off.to.min(tsc) - off.from)
        };
        until(to).saturating_sub(until(from))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::trace::record::StackEnd;

    /// A sample of a thread of process 1.
    pub fn sample(tid: Tid, time: u64) -> Sample {
        Sample {
            time: Nanos::from_ns(time),
            pid: 1,
            tid,
            cpu: 0,
            event: 0,
            period: 1,
            frames: Vec::new(),
            kernel_frames: 0,
            stack: StackEnd::Whole,
            ..Sample::default()
        }
    }

    /// A switch of such a thread.
    pub fn switch(tid: Tid, time: u64, kind: SwitchKind) -> Switch {
        Switch {
            time: Nanos::from_ns(time),
            pid: 1,
            tid,
            cpu: 0,
            kind,
        }
    }

    /// Looked up by time, whatever the order in the file; what is off CPU at both ends counts in part.
    #[test]
    fn looked_up() {
        let mut sampled = Sampled::new(&[]);
        for time in [30, 10, 20] {
            sampled.sample(&sample(7, time), time as NodeId);
        }
        for (time, kind) in [
            (40, SwitchKind::OutPreempted),
            (60, SwitchKind::In),
            (80, SwitchKind::OutWaiting),
        ] {
            sampled.switch(&switch(7, time, kind));
        }
        sampled.settle();
        let nodes = |from, to| -> Vec<_> {
            let found = sampled.within(0, from, to).iter();
            found.map(|s| s.1).collect()
        };
        assert_eq!(nodes(10, 30), [10, 20]);
        assert!(nodes(31, 99).is_empty());
        assert_eq!(sampled.off_cpu(0, 50, 100), 30);
        assert_eq!(sampled.off_cpu(0, 0, 45), 5);
        assert_eq!(sampled.off_cpu(1, 0, 45), 0);
    }
}
