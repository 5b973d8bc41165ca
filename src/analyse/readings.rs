//! What was counted in a part of a recording's time, from readings of running totals.
//!
//! In: readings in order of time, and the part's beginning and end; out: what the totals grew by in between. Between two
//! readings they are taken to grow evenly; before the first they grew from nothing at the recording's start. It refuses
//! to know what is counted.

use crate::trace::record::{CounterValue, Counters, Queue};
use crate::units::Nanos;
use std::collections::BTreeMap;

/// Something read at a time, whose totals can be looked at between two readings.
trait Reading: Clone {
    fn time(&self) -> Nanos;
    /// All totals, each with what it is: those that are not there count from nothing.
    fn totals(&self) -> BTreeMap<(usize, u32), u64>;
    /// The same with other totals.
    fn with(&self, totals: &BTreeMap<(usize, u32), u64>) -> Self;
}

/// What the last reading says less what was counted before the part, and after it; `None` without readings.
fn grown<R: Reading>(readings: &[R], started: Nanos, (from, to): (Nanos, Nanos)) -> Option<R> {
    let last = readings.last()?;
    let at = |time: Nanos| -> BTreeMap<(usize, u32), u64> {
        let next = readings.partition_point(|r| r.time() <= time);
        let before = next.checked_sub(1).map(|at| &readings[at]);
        let totals = before.map(Reading::totals).unwrap_or_default();
        let Some(after) = readings.get(next) else {
            return totals;
        };
        let since = before.map_or(started, Reading::time);
        let whole = after.time().since(since).ns().max(1) as f64;
        let part = (time.since(since).ns() as f64 / whole).min(1.0);
        let between = |(key, b): ((usize, u32), u64)| {
            let a = totals.get(&key).copied().unwrap_or(0);
            (key, a + (b.saturating_sub(a) as f64 * part).round() as u64)
        };
        after.totals().into_iter().map(between).collect()
    };
    let (before, until) = (at(from), at(to));
    let grown = until.into_iter().map(|(key, total)| {
        let earlier = before.get(&key).copied().unwrap_or(0);
        (key, total.saturating_sub(earlier))
    });
    Some(last.with(&grown.collect()))
}

impl Reading for Counters {
    fn time(&self) -> Nanos {
        self.time
    }

    fn totals(&self) -> BTreeMap<(usize, u32), u64> {
        let values = self.values.iter().enumerate();
        let there = values.filter_map(|(at, value)| Some((at, (*value)?)));
        let parts = |(at, v): (usize, CounterValue)| {
            [
                ((at, 0), v.value),
                ((at, 1), v.enabled),
                ((at, 2), v.running),
            ]
        };
        there.flat_map(parts).collect()
    }

    fn with(&self, totals: &BTreeMap<(usize, u32), u64>) -> Counters {
        let of = |at: usize, what: u32| totals.get(&(at, what)).copied().unwrap_or(0);
        let values = self.values.iter().enumerate().map(|(at, value)| {
            value.map(|_| CounterValue {
                value: of(at, 0),
                enabled: of(at, 1),
                running: of(at, 2),
            })
        });
        Counters {
            values: values.collect(),
            ..self.clone()
        }
    }
}

/// Of a queue, burst sizes stand behind its other totals.
const SIZES: usize = 5;

impl Reading for Queue {
    fn time(&self) -> Nanos {
        self.time
    }

    fn totals(&self) -> BTreeMap<(usize, u32), u64> {
        let counts = [
            self.frames,
            self.refused,
            self.bytes,
            self.bytes_of,
            self.unlooked,
        ];
        let counts = counts.into_iter().enumerate().map(|(at, n)| ((at, 0), n));
        let sizes = self.sizes.iter().map(|&(size, n)| ((SIZES, size), n));
        counts.chain(sizes).collect()
    }

    fn with(&self, totals: &BTreeMap<(usize, u32), u64>) -> Queue {
        let of = |at: usize| totals.get(&(at, 0)).copied().unwrap_or(0);
        let sizes = totals.range((SIZES, 0)..).map(|(&(_, size), &n)| (size, n));
        Queue {
            frames: of(0),
            refused: of(1),
            bytes: of(2),
            bytes_of: of(3),
            unlooked: of(4),
            sizes: sizes.filter(|s| s.1 > 0).collect(),
            ..self.clone()
        }
    }
}

/// What counters counted in a part of the time.
pub fn counters(readings: &[Counters], started: Nanos, part: (Nanos, Nanos)) -> Option<Counters> {
    grown(readings, started, part)
}

/// What was counted of queues in a part of the time: a row for each queue.
pub fn queues(readings: &[Queue], started: Nanos, part: (Nanos, Nanos)) -> Vec<Queue> {
    let mut by_queue: BTreeMap<_, Vec<Queue>> = BTreeMap::new();
    for reading in readings {
        let of = by_queue.entry((reading.pid, reading.number)).or_default();
        of.push(reading.clone());
    }
    let of_queues = by_queue.values();
    of_queues
        .filter_map(|readings| grown(readings, started, part))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Nanos = Nanos::from_ns;

    /// In proportion between readings, from nothing before the first, no more after the last; parts add up to the whole.
    #[test]
    fn parts_of_queues() {
        let read = |time, frames, sizes: &[(u32, u64)]| Queue {
            time: AT(time),
            frames,
            sizes: sizes.to_vec(),
            ..Queue::default()
        };
        let readings = [
            read(200, 100, &[(0, 10), (32, 20)]),
            read(300, 300, &[(0, 10), (32, 40), (64, 2)]),
        ];
        let part = |from, to| queues(&readings, AT(100), (AT(from), AT(to))).remove(0);
        let first = part(0, 250);
        assert_eq!(
            (first.frames, &first.sizes[..]),
            (200, &[(0, 10), (32, 30), (64, 1)][..])
        );
        let rest = part(250, u64::MAX);
        assert_eq!(
            (rest.frames, &rest.sizes[..]),
            (100, &[(32, 10), (64, 1)][..])
        );
        assert_eq!(part(0, 150).frames, 50);
        assert_eq!(part(300, 400).frames, 0);
        assert!(queues(&[], AT(0), (AT(0), AT(9))).is_empty());
    }

    /// A counter's times are counted with it; one that is not there stays so.
    #[test]
    fn parts_of_counters() {
        let read = |time, value| Counters {
            time: AT(time),
            values: vec![
                Some(CounterValue {
                    value,
                    enabled: time,
                    running: time / 2,
                }),
                None,
            ],
        };
        let readings = [read(100, 10), read(200, 30)];
        let grown = counters(&readings, AT(0), (AT(100), AT(150))).unwrap();
        let value = CounterValue {
            value: 10,
            enabled: 50,
            running: 25,
        };
        assert_eq!(grown.values, [Some(value), None]);
    }
}
