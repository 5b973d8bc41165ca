//! What programs counted in the part of a recording that is looked at.
//!
//! In: the totals of each ring as they were read now and then while recording; out: [`Work`] between two times. Between
//! two readings counts are taken to grow evenly: ten readings a second are what there is. It refuses to know events.

use super::profile::Work;
use crate::trace::record::RingTotals;
use crate::units::Nanos;

/// One ring's counts around the beginning and the end of the part.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    from: Edge,
    to: Edge,
}

/// The readings next to a time; of an open end the first, or the last, of all.
#[derive(Clone, Debug, Default)]
struct Edge {
    before: Option<RingTotals>,
    after: Option<RingTotals>,
}

impl Edge {
    fn add(&mut self, reading: RingTotals, is_before: bool) {
        if is_before {
            self.before = Some(reading);
        } else if self.after.is_none() {
            self.after = Some(reading);
        }
    }

    /// What had been counted; before the first reading it grew from `origin`, if the ring did not exist then.
    fn counts(&self, at: Option<Nanos>, origin: Option<Nanos>) -> [u64; 9] {
        match (self.before, self.after, at) {
            (Some(before), Some(after), Some(at)) => between(
                (before.time, counts(&before)),
                (after.time, counts(&after)),
                at,
            ),
            (Some(only), ..) => counts(&only),
            (None, Some(first), at) => match (origin, at) {
                (Some(origin), Some(at)) => {
                    between((origin, [0; 9]), (first.time, counts(&first)), at)
                }
                (Some(_), None) => [0; 9],
                (None, _) => counts(&first),
            },
            (None, None, _) => [0; 9],
        }
    }
}

/// A straight line through two readings.
fn between((from, a): (Nanos, [u64; 9]), (to, b): (Nanos, [u64; 9]), at: Nanos) -> [u64; 9] {
    let whole = to.since(from).ns().max(1) as f64;
    let part = (at.since(from).ns() as f64 / whole).min(1.0);
    std::array::from_fn(|i| a[i] + (b[i].saturating_sub(a[i]) as f64 * part).round() as u64)
}

impl Counted {
    /// Takes the next reading; the part goes from `from` to `to`, open where there is no end.
    pub fn add(&mut self, reading: RingTotals, (from, to): (Option<Nanos>, Option<Nanos>)) {
        self.from
            .add(reading, from.is_some_and(|t| reading.time <= t));
        self.to.add(reading, to.is_none_or(|t| reading.time <= t));
    }

    /// Adds what was counted in the part to `work`. `origin` is when counting began, `None` for a ring that was there
    /// before and counts from its first reading on.
    pub fn add_to(
        &self,
        work: &mut Work,
        (from, to): (Option<Nanos>, Option<Nanos>),
        origin: Option<Nanos>,
    ) {
        let before = self.from.counts(from, origin);
        let last = self.to.counts(to, origin);
        let since: [u64; 9] = std::array::from_fn(|i| last[i].saturating_sub(before[i]));
        let sums = [
            &mut work.rx_bursts,
            &mut work.rx_packets,
            &mut work.rx_bytes,
            &mut work.tx_bursts,
            &mut work.tx_packets,
            &mut work.tx_bytes,
            &mut work.requests,
            &mut work.rounds,
            &mut work.empty_rounds,
        ];
        sums.into_iter().zip(since).for_each(|(sum, n)| *sum += n);
    }
}

/// In the order of [`Counted::add_to`].
fn counts(t: &RingTotals) -> [u64; 9] {
    [
        t.rx_bursts,
        t.rx_packets,
        t.rx_bytes,
        t.tx_bursts,
        t.tx_packets,
        t.tx_bytes,
        t.requests,
        t.rounds,
        t.empty_rounds,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Nanos = Nanos::from_ns;

    fn requests(from: Option<u64>, to: Option<u64>, origin: Option<u64>) -> u64 {
        let span = (from.map(AT), to.map(AT));
        let mut counted = Counted::default();
        for (time, requests) in [(100, 50), (200, 150), (300, 150), (400, 450)] {
            let reading = RingTotals {
                time: AT(time),
                requests,
                ..RingTotals::default()
            };
            counted.add(reading, span);
        }
        let mut work = Work::default();
        counted.add_to(&mut work, span, origin.map(AT));
        work.requests
    }

    /// All of it, from the start or from the first reading; a part of it, in proportion between readings.
    #[test]
    fn parts() {
        assert_eq!(requests(None, None, Some(0)), 450);
        assert_eq!(requests(None, None, None), 400);
        assert_eq!(requests(Some(150), Some(350), Some(0)), 200);
        assert_eq!(requests(Some(50), Some(100), Some(0)), 25);
        assert_eq!(requests(Some(50), Some(100), None), 0);
        assert_eq!(requests(Some(300), None, Some(0)), 300);
        assert_eq!(requests(Some(500), Some(600), Some(0)), 0);
    }
}
