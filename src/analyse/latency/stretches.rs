//! When which threads were busy with some requests, or held them up: what is left of samples and times if only those
//! requests count.
//!
//! In: the ways of requests; out: for each thread, stretches of time in order, none of which overlap. A stage's time is
//! its own thread's: of the one that works on the request in it, or that the request waits for.

use crate::analyse::spans::way::Way;
use crate::trace::record::{Meta, Pid, Tid};
use std::collections::{BTreeMap, HashMap};

/// Stretches of counter values, each from its first to before its second.
pub type Of = Vec<(u64, u64)>;

/// Stretches by thread.
#[derive(Clone, Debug, Default)]
pub struct Stretches {
    of_ring: HashMap<u32, (Pid, Tid)>,
    by_thread: BTreeMap<(Pid, Tid), Of>,
    /// How many requests they are of.
    pub requests: u64,
    /// What outputs say of them.
    pub line: String,
}

impl Stretches {
    /// None yet, of a recording with these records of low rate.
    pub fn new(metas: &[Meta]) -> Stretches {
        let rings = metas.iter().filter_map(|meta| match meta {
            Meta::Ring(ring) => Some((ring.ring, (ring.pid, ring.tid))),
            _ => None,
        });
        Stretches {
            of_ring: rings.collect(),
            ..Stretches::default()
        }
    }

    /// Adds a request.
    pub fn add(&mut self, way: &Way) {
        self.requests += 1;
        for stretch in way.stretches() {
            let thread = stretch.ring.and_then(|ring| self.of_ring.get(&ring));
            let (Some(&thread), true) = (thread, stretch.from < stretch.to) else {
                continue;
            };
            let of = self.by_thread.entry(thread).or_default();
            match of.last_mut() {
                Some(last) if (last.0..=last.1).contains(&stretch.from) => {
                    last.1 = last.1.max(stretch.to);
                }
                _ => of.push((stretch.from, stretch.to)),
            }
        }
    }

    /// All are added: puts them in order.
    pub fn settle(&mut self) {
        for of in self.by_thread.values_mut() {
            of.sort_unstable();
            of.dedup_by(|next, last| {
                let joined = next.0 <= last.1;
                if joined {
                    last.1 = last.1.max(next.1);
                }
                joined
            });
        }
    }

    /// Those of the thread that a ring is of.
    pub fn of_ring(&self, ring: u32) -> Of {
        self.of_ring
            .get(&ring)
            .map_or_else(Of::new, |&thread| self.of(thread))
    }

    /// Those of a thread.
    pub fn of(&self, thread: (Pid, Tid)) -> Of {
        self.by_thread.get(&thread).cloned().unwrap_or_default()
    }
}

/// Whether an event lies in one of a thread's stretches, at either end of it too: events mark where stages begin and end.
pub fn holds(of: &[(u64, u64)], tsc: u64) -> bool {
    let begun = of.partition_point(|stretch| stretch.0 <= tsc);
    of[..begun].last().is_some_and(|stretch| tsc <= stretch.1)
}

/// Whether a moment lies in one of a thread's stretches: from the first of it to before its end.
pub fn contains(of: &[(u64, u64)], tsc: u64) -> bool {
    let begun = of.partition_point(|stretch| stretch.0 <= tsc);
    of[..begun].last().is_some_and(|stretch| tsc < stretch.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Ring;

    /// Each stage is its thread's; what overlaps is one stretch.
    #[test]
    fn by_thread() {
        let rings = [(0, 7), (1, 8)].map(|(ring, tid)| {
            Meta::Ring(Ring {
                ring,
                pid: 1,
                tid,
                ..Ring::default()
            })
        });
        let mut stretches = Stretches::new(&rings);
        let threads = [Some(0), Some(1), Some(0)];
        for start in [200, 100, 110, 300] {
            let ends = [
                None,
                None,
                Some(10),
                None,
                Some(15),
                Some(20),
                Some(20),
                None,
                Some(40),
            ];
            let ends = ends.map(|end| Some(start + end?));
            stretches.add(&Way::new(1, start, ends, threads, [0; 3]));
        }
        stretches.settle();
        assert_eq!(stretches.requests, 4);
        let stack = [(100, 150), (200, 210), (220, 240), (300, 310), (320, 340)];
        assert_eq!(stretches.of((1, 7)), stack);
        assert_eq!(stretches.of((1, 8)), [(110, 130), (210, 220), (310, 320)]);
        assert!(stretches.of((1, 9)).is_empty());
        assert_eq!(stretches.of_ring(0), stack);
        assert!(contains(&stack, 100) && contains(&stack, 149) && !contains(&stack, 150));
        let held: Vec<u64> = (99..=151).filter(|&tsc| holds(&stack, tsc)).collect();
        assert_eq!(held, (100..=150).collect::<Vec<_>>());
    }
}
