//! When threads could have run and did not, because another program had their CPU.
//!
//! In: switches; out: how much of a stage its thread was kept from. A thread that made room for another one that was
//! recorded was not disturbed: that is how the program works. Memory has an end: what comes after [`MOST`] such
//! stretches is not told. It refuses to know what the threads were doing.

use super::PARTS;
use super::way::Way;
use crate::trace::record::{Meta, Pid, Switch, SwitchKind, Tid};
use crate::units::{ClockMap, Nanos};
use std::collections::HashMap;

/// Stretches that are remembered, all threads together.
const MOST: usize = 1 << 21;

#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: u64,
    to: u64,
    /// Length of all stretches before this one.
    before: u64,
}

/// Stretches by thread; stamps and lengths are counter ticks.
#[derive(Clone, Debug, Default)]
pub struct Preempted {
    clock: Option<ClockMap>,
    of_ring: HashMap<u32, (Pid, Tid)>,
    /// Threads that are kept from running: since when, and on which CPU.
    kept: HashMap<(Pid, Tid), (Nanos, u32)>,
    by_thread: HashMap<(Pid, Tid), Vec<Stretch>>,
    count: usize,
}

impl Preempted {
    /// None yet, of a recording with these records of low rate.
    pub fn new(metas: &[Meta]) -> Preempted {
        let mut preempted = Preempted::default();
        let mut pairs = Vec::new();
        for meta in metas {
            match meta {
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::Ring(ring) => {
                    preempted.of_ring.insert(ring.ring, (ring.pid, ring.tid));
                }
                _ => {}
            }
        }
        preempted.clock = ClockMap::fit(&pairs);
        preempted
    }

    /// A switch of the file, in the order of the file.
    pub fn switch(&mut self, switch: &Switch) {
        let Some(clock) = &self.clock else {
            return;
        };
        let thread = (switch.pid, switch.tid);
        let before = self.kept.remove(&thread);
        match switch.kind {
            SwitchKind::OutPreempted => {
                self.kept.insert(thread, (switch.time, switch.cpu));
            }
            SwitchKind::OutWaiting => {}
            SwitchKind::In => {
                self.kept.retain(|_, (_, cpu)| *cpu != switch.cpu);
                if let Some((since, _)) = before
                    && self.count < MOST
                {
                    self.count += 1;
                    self.by_thread.entry(thread).or_default().push(Stretch {
                        from: clock.tsc(since).raw(),
                        to: clock.tsc(switch.time).raw(),
                        before: 0,
                    });
                }
            }
        }
    }

    /// All have been read: puts them in order.
    pub fn settle(&mut self) {
        for stretches in self.by_thread.values_mut() {
            stretches.sort_unstable_by_key(|s| s.from);
            let (mut end, mut sum) = (0, 0);
            for stretch in stretches {
                // Two CPUs' records may tell them out of order; no time counts twice.
                stretch.from = stretch.from.max(end);
                stretch.to = stretch.to.max(stretch.from);
                stretch.before = sum;
                sum += stretch.to - stretch.from;
                end = stretch.to;
            }
        }
    }

    /// How much of each stage its thread was kept from running.
    pub fn of(&self, way: &Way) -> [u64; PARTS] {
        let mut kept = [0; PARTS];
        for stage in way.stretches() {
            let thread = stage.ring.and_then(|ring| self.of_ring.get(&ring));
            if let Some(stretches) = thread.and_then(|thread| self.by_thread.get(thread)) {
                let length = until(stretches, stage.to) - until(stretches, stage.from);
                kept[stage.stage] = length;
            }
        }
        kept
    }
}

/// Length of all that lies before `tsc`.
fn until(stretches: &[Stretch], tsc: u64) -> u64 {
    let begun = stretches.partition_point(|s| s.from <= tsc);
    match begun.checked_sub(1).and_then(|at| stretches.get(at)) {
        Some(last) => last.before + last.to.min(tsc) - last.from,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Ring;
    use crate::units::ClockPair;

    fn metas() -> Vec<Meta> {
        let pair = |time| {
            Meta::Clock(ClockPair {
                tsc_before: time,
                time: Nanos::from_ns(time),
                tsc_after: time,
            })
        };
        let ring = |ring, tid| {
            Meta::Ring(Ring {
                ring,
                pid: 1,
                tid,
                ..Ring::default()
            })
        };
        vec![pair(1), pair(1_000_000), ring(0, 7), ring(1, 8)]
    }

    /// A stage is told what its own thread was kept from while others' programs ran; a thread of the program that ran
    /// meanwhile, and waiting, are no disturbance.
    #[test]
    fn by_stage() {
        use SwitchKind::{In, OutPreempted, OutWaiting};
        let mut preempted = Preempted::new(&metas());
        for (time, tid, kind) in [
            (1030, 7, OutPreempted),
            (1050, 7, In),
            (1100, 7, OutPreempted),
            (1110, 8, In),
            (1120, 8, OutWaiting),
            (1130, 7, In),
            (1140, 7, OutWaiting),
            (1160, 7, In),
        ] {
            preempted.switch(&Switch {
                time: Nanos::from_ns(time),
                pid: 1,
                tid,
                cpu: 0,
                kind,
            });
        }
        preempted.settle();
        let ends = [1040, 1040, 1060, 1060, 1070, 1080, 1150, 1170, 1200].map(Some);
        let way = Way::new(1, 1000, ends, [Some(0), Some(1), Some(0)], [0; 3]);
        assert_eq!(preempted.of(&way), [10, 0, 10, 0, 0, 0, 0, 0, 0]);
        let of_other = Way::new(1, 1000, ends, [Some(1), Some(0), None], [0; 3]);
        assert_eq!(preempted.of(&of_other), [0; PARTS]);
    }
}
