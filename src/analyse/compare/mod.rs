//! Two recordings of one workload: the gap between them taken apart into contributions that add up to it.
//!
//! In: two [`Side`]s; out: a [`Comparison`]: the gap in work on CPUs and the gap in latency, each the exact sum of its
//! contributions, and what both did for a request. A nanosecond is in one contribution only: work is divided by phase,
//! latency by stage, and the two gaps are never added. A contribution that scatter or sampling may have made is not
//! believed. It refuses to say why: that is [`super::explain`]'s.

pub mod interval;
pub mod side;
pub mod tally;
pub mod workload;

use super::ledger::{Basis, UNACCOUNTED};
use super::spans::{Kind, STAGES};
use interval::{BELIEVED, PRINTED, Uncertain};
pub use side::{Key, Side, Unit};
use std::collections::BTreeSet;
use tally::{COUNTED, Counted};

/// A difference that is less than this share of the whole is not believed, however sure it is: the same program on the
/// same machine differs by as much from run to run.
pub const LEAST: f64 = 0.02;

/// What comes after a time for which a thread was kept from running is not believed up to this share of that time: the
/// thread finds its caches cold. Measured: docs/reference/compare.md.
pub const COLD: f64 = 0.01;

/// A number on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Of the first.
    pub a: f64,
    /// Of the second.
    pub b: f64,
    /// `b - a`.
    pub by: f64,
    /// Lower end of the 95 % interval of `by`.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Whether it is believed: see [`LEAST`] and [`interval::BELIEVED`].
    pub believed: bool,
}

impl Change {
    /// The second side's time as a multiple of the first's: with the ends of the 95 % interval.
    pub fn times(&self) -> [f64; 3] {
        [self.by, self.low, self.high].map(|by| (self.a + by) / self.a.max(f64::MIN_POSITIVE))
    }

    /// What the second side does in a time as a share of what the first does, likewise.
    pub fn rate(&self) -> [f64; 3] {
        [self.by, self.high, self.low].map(|by| self.a / (self.a + by).max(f64::MIN_POSITIVE))
    }

    /// From both values; what is believed is at least `least`.
    pub fn of(a: Uncertain, b: Uncertain, least: f64) -> Change {
        let by = b.since(&a);
        let half = by.half(PRINTED);
        Change {
            a: a.value,
            b: b.value,
            by: by.value,
            low: by.value - half,
            high: by.value + half,
            believed: by.differs(BELIEVED) && by.value.abs() >= least,
        }
    }
}

/// What a contribution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Work of a phase, or a stage in which something is done.
    Work,
    /// A stage that waits.
    Wait,
    /// What no one can tell, and what rounding leaves.
    Unaccounted,
}

/// One part of a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The phase or stage.
    pub cause: &'static str,
    /// What it is.
    pub sort: Sort,
    /// How much.
    pub change: Change,
    /// How it is known.
    pub basis: Basis,
    /// What of it goes with how often it is done.
    pub split: Option<Split>,
}

/// A contribution divided: done more often, or dearer each time. Both add up to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// What is done.
    pub counted: Counted,
    /// How often for a request, on either side.
    pub times: [f64; 2],
    /// Part that goes with how often: the difference in times, at the mean price, as far as it makes up the difference.
    pub by_count: f64,
    /// The rest, which goes with the price.
    pub by_price: f64,
}

impl Split {
    /// A burst of few frames is cheaper than one of many, so that price and times go opposite ways, and far: neither
    /// part is let beyond the difference itself.
    fn of(counted: Counted, times: [f64; 2], cost: [f64; 2]) -> Option<Split> {
        if times.iter().chain(&cost).any(|n| *n <= 0.0) {
            return None;
        }
        let price = [cost[0] / times[0], cost[1] / times[1]];
        let more = cost[1] - cost[0];
        let by_count = (times[1] - times[0]) * (price[0] + price[1]) / 2.0;
        let by_count = by_count.clamp(more.min(0.0), more.max(0.0));
        Some(Split {
            counted,
            times,
            by_count,
            by_price: more - by_count,
        })
    }
}

/// What a phase is done for, where events count it.
const DONE_FOR: &[(&str, Counted)] = &[
    ("driver_rx", Counted::RxBursts),
    ("driver_tx", Counted::TxBursts),
    ("eth_ip", Counted::Frames),
    ("csum", Counted::Frames),
    ("tcp_rx", Counted::RxFrames),
    ("tcp_tx", Counted::DataSegments),
    ("ack_only", Counted::Acks),
    ("api", Counted::SendCalls),
    ("sync", Counted::Wakes),
];

/// A gap and its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The whole of it.
    pub change: Change,
    /// How the whole of it is known.
    pub basis: Basis,
    /// Parts that add up to it: what makes the second side slower comes first if it is slower, else what makes it
    /// faster; what is unaccounted comes last.
    pub contributions: Vec<Contribution>,
}

impl Gap {
    /// Whether nothing in it is believed.
    pub fn is_noise(&self) -> bool {
        !self.change.believed && self.contributions.iter().all(|c| !c.change.believed)
    }

    fn of(change: Change, basis: Basis, mut contributions: Vec<Contribution>) -> Gap {
        let told: f64 = contributions.iter().map(|c| c.change.by).sum();
        let rest = change.by - told;
        let unaccounted = contributions
            .iter_mut()
            .find(|c| c.sort == Sort::Unaccounted);
        match unaccounted {
            Some(row) => {
                row.change.by += rest;
                row.change.low += rest;
                row.change.high += rest;
            }
            None => contributions.push(Contribution {
                cause: UNACCOUNTED,
                sort: Sort::Unaccounted,
                change: Change {
                    a: 0.0,
                    b: rest,
                    by: rest,
                    low: rest,
                    high: rest,
                    believed: false,
                },
                basis: Basis::Measured,
                split: None,
            }),
        }
        let sign = if change.by < 0.0 { -1.0 } else { 1.0 };
        contributions.sort_by(|x, y| {
            let last = |c: &Contribution| c.sort == Sort::Unaccounted;
            let size = |c: &Contribution| sign * c.change.by;
            last(x).cmp(&last(y)).then(size(y).total_cmp(&size(x)))
        });
        Gap {
            change,
            basis,
            contributions,
        }
    }
}

/// The answer for two recordings.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Unit of all times: that of both sides.
    pub unit: Unit,
    /// The gap in work on CPUs, by phase.
    pub work: Gap,
    /// The gap in latency, by stage; `None` where one side's requests cannot be told from beginning to end.
    pub latency: Option<Gap>,
    /// Time between two requests, all connections together: the inverse of throughput. `None` without requests.
    pub wall: Option<Change>,
    /// Time that is no work: off CPU, polling for nothing, other processes.
    pub no_work: Vec<(&'static str, Change)>,
    /// What was done for a request: only what one side counted at all.
    pub counts: Vec<(Counted, Change)>,
}

impl Comparison {
    /// Of the second side with the first; both have the same unit.
    pub fn of(a: &Side, b: &Side) -> Comparison {
        let keys: BTreeSet<Key> = a.keys().chain(b.keys()).collect();
        let change = |key, least| Change::of(a.value(key), b.value(key), least);
        let least_of = |key| LEAST * a.value(key).value.max(b.value(key).value);
        let both =
            |key| keys.contains(&key) && a.value(key).value > 0.0 && b.value(key).value > 0.0;
        let of_work = least_of(Key::Work);
        let disturbed = Disturbed::of(a, b);
        let of_latency = least_of(Key::Latency).max(disturbed.latency);
        let of_wall = least_of(Key::Wall).max(disturbed.wall);
        // Of the way without what other programs took: however busy the machine is, a stage is as large as it was.
        let kept = |side: &Side| side.value(Key::Preempted).value;
        let own = |side: &Side| side.value(Key::Latency).value - kept(side);
        let of_stage = LEAST * own(a).max(own(b)) + COLD * kept(a).max(kept(b));
        let mut phases = Vec::new();
        let mut no_work = Vec::new();
        let mut stages = Vec::new();
        let mut counts = Vec::new();
        // That shares stand for costs is a guess: a run that does more in the same time has the same shares.
        let least_sure = match a.unit {
            Unit::PerRequest => Basis::Measured,
            Unit::Share => Basis::Estimated,
        };
        for &key in &keys {
            match key {
                Key::Phase(phase) => phases.push(Contribution {
                    cause: phase,
                    sort: if phase == UNACCOUNTED {
                        Sort::Unaccounted
                    } else {
                        Sort::Work
                    },
                    change: change(key, of_work),
                    basis: a
                        .basis_of(phase)
                        .max(b.basis_of(phase))
                        .unwrap_or(Basis::Sampled)
                        .max(least_sure),
                    split: split(a, b, phase),
                }),
                Key::NoWork(row) => no_work.push((row, change(key, of_work))),
                Key::Stage(at) => stages.push(Contribution {
                    cause: STAGES[at].name,
                    sort: match STAGES[at].kind {
                        Kind::Work => Sort::Work,
                        Kind::Wait => Sort::Wait,
                    },
                    change: change(key, of_stage),
                    basis: Basis::Measured,
                    split: None,
                }),
                Key::Preempted if a.value(key).value + b.value(key).value > 0.0 => {
                    stages.push(Contribution {
                        cause: WAIT_CPU,
                        sort: Sort::Wait,
                        change: change(key, of_latency),
                        basis: Basis::Measured,
                        split: None,
                    });
                }
                Key::Count(what) => {
                    let of_count = least_of(key);
                    let row = change(key, of_count);
                    if what != Counted::Requests && (row.a > 0.0 || row.b > 0.0) {
                        counts.push((what, row));
                    }
                }
                Key::Work | Key::Latency | Key::Wall | Key::Preempted => {}
            }
        }
        counts.sort_by_key(|(what, _)| COUNTED.iter().position(|(c, _)| c == what));
        Comparison {
            unit: a.unit,
            work: Gap::of(
                change(Key::Work, of_work),
                a.basis.max(b.basis).max(least_sure),
                phases,
            ),
            latency: both(Key::Latency).then(|| {
                let whole = change(Key::Latency, of_latency);
                Gap::of(whole, Basis::Measured, stages)
            }),
            wall: both(Key::Wall).then(|| change(Key::Wall, of_wall)),
            no_work,
            counts,
        }
    }

    /// Whether nothing is believed to differ.
    pub fn is_noise(&self) -> bool {
        let latency = self.latency.as_ref().is_none_or(Gap::is_noise);
        self.work.is_noise() && latency && self.wall.is_none_or(|w| !w.believed)
    }
}

/// What requests waited while the thread of their stage was kept from running by other programs, as a cause.
pub const WAIT_CPU: &str = "wait_cpu";

/// From this share of its time on that a side's threads had to leave their CPUs to other programs, its throughput says
/// nothing: the client had to as well.
pub const DISTURBED: f64 = 0.05;

/// What other programs on the machine may have made of the gap: threads of both sides were not preempted alike.
struct Disturbed {
    latency: f64,
    wall: f64,
}

/// Share of a side's time under load in which its threads could have run and did not.
pub fn preempted(side: &Side) -> f64 {
    let per_request = side.value(Key::Count(Counted::PreemptedNs)).value;
    per_request / side.value(Key::Wall).value.max(1.0)
}

impl Disturbed {
    /// The difference in preempted time for each request. Whoever is in the server meanwhile waits: as many as there are
    /// on average by Little's law (Operations Research 9, 1961).
    fn of(a: &Side, b: &Side) -> Disturbed {
        let key = Key::Count(Counted::PreemptedNs);
        let wall = (a.value(key).value - b.value(key).value).abs();
        let inside = |s: &Side| s.value(Key::Latency).value / s.value(Key::Wall).value.max(1.0);
        let much = preempted(a).max(preempted(b)) > DISTURBED;
        Disturbed {
            latency: wall * inside(a).max(inside(b)).max(1.0),
            wall: if much { f64::INFINITY } else { wall },
        }
    }
}

fn split(a: &Side, b: &Side, phase: &str) -> Option<Split> {
    let &(phase, counted) = DONE_FOR.iter().find(|(p, _)| *p == phase)?;
    let value = |key: Key| [a.value(key).value, b.value(key).value];
    Split::of(
        counted,
        value(Key::Count(counted)),
        value(Key::Phase(phase)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However sure a difference is, it is believed from its least size on only.
    #[test]
    fn sure_but_small() {
        let sure = |value| Uncertain {
            value,
            error: 0.001,
            freedom: 15.0,
        };
        assert!(!Change::of(sure(100.0), sure(101.0), 2.0).believed);
        assert!(Change::of(sure(100.0), sure(102.5), 2.0).believed);
    }

    /// What parts leave of the whole goes to what is unaccounted, and its interval goes with it.
    #[test]
    fn rest_is_unaccounted() {
        let change = |by: f64| Change {
            a: 0.0,
            b: by,
            by,
            low: by - 1.0,
            high: by + 1.0,
            believed: false,
        };
        let part = |cause, sort, by| Contribution {
            cause,
            sort,
            change: change(by),
            basis: Basis::Sampled,
            split: None,
        };
        let app = part("app", Sort::Work, 70.0);
        let left = part(UNACCOUNTED, Sort::Unaccounted, 10.0);
        for parts in [vec![app.clone(), left], vec![app]] {
            let gap = Gap::of(change(100.0), Basis::Measured, parts);
            let sum: f64 = gap.contributions.iter().map(|c| c.change.by).sum();
            assert_eq!(sum, 100.0);
            let last = gap.contributions.last().unwrap();
            assert_eq!((last.cause, last.change.by), (UNACCOUNTED, 30.0));
            assert!(last.change.low <= 30.0 && 30.0 <= last.change.high);
        }
    }

    /// Done twice as often and half as dear again: both parts, and nothing else, make up the difference.
    #[test]
    fn split_adds_up() {
        let split = Split::of(Counted::Acks, [1.0, 2.0], [100.0, 300.0]).unwrap();
        assert_eq!((split.by_count, split.by_price), (125.0, 75.0));
        assert_eq!(Split::of(Counted::Acks, [0.0, 2.0], [100.0, 300.0]), None);
    }

    /// Five times as many bursts of a fifth of the frames: what they cost more is all that can come of it; and fewer
    /// bursts are no reason for more work.
    #[test]
    fn split_keeps_within_the_difference() {
        let parts = |times, cost| {
            let split = Split::of(Counted::TxBursts, times, cost).unwrap();
            (split.by_count, split.by_price)
        };
        assert_eq!(parts([0.2, 1.0], [2300.0, 3000.0]), (700.0, 0.0));
        assert_eq!(parts([1.0, 0.2], [3000.0, 2300.0]), (-700.0, 0.0));
        assert_eq!(parts([1.0, 0.2], [2300.0, 3000.0]), (0.0, 700.0));
    }
}
