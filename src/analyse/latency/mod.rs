//! Where requests spend their time, with the functions that their threads were sampled in meanwhile.
//!
//! In: the [`Way`] of each request and what was [`Sampled`]; out: [`Part`]s of stages in counter ticks, which add up to
//! the requests' whole ways exactly. A stage of a few microseconds holds a sample of 1 ms seldom, so samples are not
//! given to the request that they hit: the time of a stage, of all requests together, is divided by the mix of the
//! stacks that were sampled in that stage in any of them. A stage without samples says so. Waiting is not divided:
//! it says what was waited for.

pub mod moment;
pub mod sampled;
pub mod stretches;

use super::spans::way::Way;
use super::spans::{BEHIND, Kind, PARTS, STAGES};
use super::spans::{TCP_IN, WAIT_APP};
use super::stacks::NodeId;
pub use sampled::Sampled;
use std::collections::BTreeMap;
pub use stretches::Stretches;

/// What the inner part of a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inside {
    /// Functions sampled on a thread; the thread is a place in [`Sampled`].
    Sampled(usize, NodeId),
    /// Work in which nothing was sampled.
    NotSampled,
    /// Waiting for what the stage waits for.
    Waiting,
    /// Waiting behind others: a place in [`BEHIND`].
    Behind(usize),
    /// The stage's thread was not on a CPU.
    OffCpu,
}

/// A part of a stage, in ticks of all requests together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// A place in [`STAGES`].
    pub stage: usize,
    /// What it is.
    pub inside: Inside,
    /// How long.
    pub ticks: u64,
}

#[derive(Clone, Debug, Default)]
struct Sums {
    length: u64,
    off_cpu: u64,
    behind: [u64; BEHIND.len()],
    mix: BTreeMap<(usize, NodeId), u64>,
}

/// Requests added up.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    stages: [Sums; PARTS],
    /// How many requests.
    pub requests: u64,
    /// Ticks of all their ways together.
    pub total: u64,
    /// Samples that fell into stages of work; one counts for each request that it hit.
    pub samples: u64,
}

impl Latency {
    /// Adds a request.
    pub fn add(&mut self, way: &Way, sampled: &Sampled) {
        self.requests += 1;
        self.total += way.total();
        for stretch in way.stretches() {
            let sums = &mut self.stages[stretch.stage];
            let length = stretch.to - stretch.from;
            sums.length += length;
            let mut behind = 0;
            for (whom, sum) in sums.behind.iter_mut().enumerate() {
                if stage_behind(whom) == stretch.stage {
                    *sum += way.behind[whom];
                    behind += way.behind[whom];
                }
            }
            let Some(thread) = stretch.ring.and_then(|ring| sampled.of_ring(ring)) else {
                continue;
            };
            let off = sampled.off_cpu(thread, stretch.from, stretch.to);
            sums.off_cpu += off.min(length - behind);
            if STAGES[stretch.stage].kind == Kind::Work {
                for &(_, node, weight) in sampled.within(thread, stretch.from, stretch.to) {
                    *sums.mix.entry((thread, node)).or_default() += u64::from(weight);
                    self.samples += 1;
                }
            }
        }
    }

    /// What they spent their time on.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (stage, sums) in self.stages.iter().enumerate() {
            let mut part = |inside, ticks| {
                if ticks > 0 {
                    parts.push(Part {
                        stage,
                        inside,
                        ticks,
                    });
                }
            };
            let mut rest = sums.length;
            for (whom, &ticks) in sums.behind.iter().enumerate() {
                part(Inside::Behind(whom), ticks);
                rest -= ticks;
            }
            // A thread that sleeps until it is woken up is off its CPU: that is the waiting itself.
            if STAGES[stage].name != "wait_wakeup" {
                part(Inside::OffCpu, sums.off_cpu);
                rest -= sums.off_cpu;
            }
            match STAGES[stage].kind {
                Kind::Wait => part(Inside::Waiting, rest),
                Kind::Work if sums.mix.is_empty() => part(Inside::NotSampled, rest),
                Kind::Work => {
                    divide(rest, &sums.mix, |(thread, node), ticks| {
                        part(Inside::Sampled(thread, node), ticks);
                    });
                }
            }
        }
        parts
    }
}

/// The place in [`STAGES`] of the stage that waiting behind `whom`, a place in [`BEHIND`], is a part of.
pub fn stage_behind(whom: usize) -> usize {
    match BEHIND[whom].name {
        "burst" => TCP_IN,
        _ => WAIT_APP,
    }
}

/// Divides `whole` by weight so that the parts add up to it.
fn divide<K: Copy>(whole: u64, mix: &BTreeMap<K, u64>, mut part: impl FnMut(K, u64)) {
    let all: u128 = mix.values().map(|&w| u128::from(w)).sum();
    let (mut seen, mut given) = (0u128, 0u64);
    for (&key, &weight) in mix {
        seen += u128::from(weight);
        let until = u64::try_from(u128::from(whole) * seen / all.max(1)).unwrap_or(whole);
        part(key, until - given);
        given = until;
    }
}

#[cfg(test)]
mod tests {
    use super::sampled::tests::{sample, switch};
    use super::*;
    use crate::trace::record::{Meta, Ring, SwitchKind};
    use proptest::prelude::*;

    pub(super) fn sampled(samples: &[(u64, NodeId)], off: &[(u64, u64)]) -> Sampled {
        let ring = Ring {
            ring: 0,
            pid: 1,
            tid: 7,
            ..Ring::default()
        };
        let mut sampled = Sampled::new(&[Meta::Ring(ring)]);
        for &(time, node) in samples {
            sampled.sample(&sample(7, time), node);
        }
        for &(from, to) in off {
            sampled.switch(&switch(7, from, SwitchKind::OutPreempted));
            sampled.switch(&switch(7, to, SwitchKind::In));
        }
        sampled.settle();
        sampled
    }

    /// Two requests: their application's time goes to the functions sampled in either of them, less what the thread was
    /// off its CPU; waiting is told by its cause.
    #[test]
    fn divided() {
        let ends = [
            None,
            None,
            Some(110),
            None,
            Some(150),
            Some(250),
            None,
            Some(300),
            Some(320),
        ];
        let first = Way::new(1, 100, ends, [Some(0); 3], [0, 15, 5]);
        let later = ends.map(|end| Some(end? + 1000));
        let second = Way::new(2, 1100, later, [Some(0); 3], [0; 3]);
        let samples = [(160, 3), (200, 3), (1200, 4), (270, 9)];
        let sampled = sampled(&samples, &[(240, 260)]);
        let mut latency = Latency::default();
        latency.add(&first, &sampled);
        latency.add(&second, &sampled);
        let parts = latency.parts();
        let seen: Vec<_> = parts
            .iter()
            .map(|p| (STAGES[p.stage].name, p.inside, p.ticks))
            .collect();
        assert_eq!(
            seen,
            [
                ("tcp_in", Inside::NotSampled, 20),
                ("wait_app", Inside::Behind(1), 15),
                ("wait_app", Inside::Behind(2), 5),
                ("wait_app", Inside::Waiting, 60),
                ("app", Inside::OffCpu, 10),
                ("app", Inside::Sampled(0, 3), 126),
                ("app", Inside::Sampled(0, 4), 64),
                ("wait_drain", Inside::OffCpu, 10),
                ("wait_drain", Inside::Waiting, 90),
                ("transmit", Inside::NotSampled, 40),
            ]
        );
    }

    proptest! {
        /// Whatever requests and samples there are, the parts add up to the requests' whole time.
        #[test]
        fn adds_up(
            ways in proptest::collection::vec(
                (0u64..50, proptest::array::uniform9(proptest::option::of(0u64..100)), proptest::array::uniform3(0u64..40)),
                1..8,
            ),
            samples in proptest::collection::vec((0u64..100, 0u32..4), 0..20),
            off in proptest::collection::vec((0u64..50, 0u64..50), 0..4),
        ) {
            let mut clock = 0;
            let off: Vec<_> = off.into_iter().map(|(pause, length)| {
                let from = clock + pause;
                clock = from + length;
                (from, clock)
            }).collect();
            let sampled = sampled(&samples, &off);
            let mut latency = Latency::default();
            for (start, ends, behind) in ways {
                latency.add(&Way::new(1, start, ends, [Some(0), Some(0), None], behind), &sampled);
            }
            let parts = latency.parts();
            prop_assert_eq!(parts.iter().map(|p| p.ticks).sum::<u64>(), latency.total);
        }
    }
}
