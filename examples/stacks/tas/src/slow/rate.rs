//! A flow's rate: DCTCP's reductions, applied to a rate instead of a window.
//!
//! In: what a flow did since the last look; out: bytes per second. It refuses to know where the counts come from.

use crate::config::RateControl;

/// Where flows begin, and by how much they grow at a time: 10 Mbit/s.
const STEP: u64 = 10_000_000 / 8;
/// No flow is slower than 1 Mbit/s.
const FLOOR: u64 = 1_000_000 / 8;
/// No flow is told to be faster than 100 Gbit/s.
const CEILING: u64 = 100_000_000_000 / 8;
/// Weight of the newest share of marked bytes, as DCTCP's g.
const WEIGHT: f64 = 1.0 / 16.0;

/// What a flow did since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes acknowledged.
    pub acked: u64,
    /// Of those, with a mark of congestion.
    pub marked: u64,
    /// Losses.
    pub drops: u32,
    /// There was more to send than the rate let through.
    pub limited: bool,
    /// Time since the last look, in ns.
    pub elapsed: u64,
}

/// One flow's rate.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// What was seen since the rate was set last: a slow flow may have nothing acknowledged between two looks.
    since: Seen,
    control: RateControl,
    rate: u64,
    slow_start: bool,
    marked: f64,
}

impl Rate {
    /// At the start of a flow.
    pub fn new(control: RateControl) -> Rate {
        let rate = match control {
            RateControl::Dctcp => STEP,
            RateControl::Constant(rate) => rate,
        };
        Rate {
            since: Seen::default(),
            control,
            rate,
            slow_start: true,
            marked: 0.0,
        }
    }

    /// Bytes per second; 0: no limit.
    pub fn bytes_per_second(&self) -> u64 {
        self.rate
    }

    /// Takes note of what the flow did.
    pub fn dctcp_rate_update(&mut self, seen: Seen) {
        if matches!(self.control, RateControl::Constant(_)) {
            return;
        }
        let seen = Seen {
            acked: self.since.acked + seen.acked,
            marked: self.since.marked + seen.marked,
            elapsed: self.since.elapsed.saturating_add(seen.elapsed),
            ..seen
        };
        if seen.acked == 0 && seen.drops == 0 && seen.limited {
            self.since = seen;
            return;
        }
        self.since = Seen::default();
        if seen.acked > 0 {
            let share = seen.marked as f64 / seen.acked as f64;
            self.marked += WEIGHT * (share.min(1.0) - self.marked);
        }
        let reached = u128::from(seen.acked) * 1_000_000_000 / u128::from(seen.elapsed.max(1));
        if seen.drops > 0 {
            self.slow_start = false;
            self.rate /= 2;
        } else if seen.marked > 0 {
            self.slow_start = false;
            self.rate = (self.rate as f64 * (1.0 - self.marked / 2.0)) as u64;
        } else if seen.limited && u128::from(self.rate) <= 4 * reached {
            // A rate far above what the peer takes says nothing about the path.
            self.rate += if self.slow_start { self.rate } else { STEP };
        }
        self.rate = self.rate.clamp(FLOOR, CEILING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(acked: u64, drops: u32) -> Seen {
        Seen {
            acked,
            drops,
            limited: true,
            elapsed: 1_000_000,
            ..Seen::default()
        }
    }

    /// The rate doubles, a loss halves it and ends that, then it grows by a step; one that is not reached stays.
    #[test]
    fn grows_and_falls() {
        let mut rate = Rate::new(RateControl::Dctcp);
        assert_eq!(rate.bytes_per_second(), STEP);
        rate.dctcp_rate_update(seen(1250, 0));
        assert_eq!(rate.bytes_per_second(), 2 * STEP);
        rate.dctcp_rate_update(seen(1, 0));
        assert_eq!(rate.bytes_per_second(), 2 * STEP);
        rate.dctcp_rate_update(seen(2500, 1));
        assert_eq!(rate.bytes_per_second(), STEP);
        rate.dctcp_rate_update(seen(1250, 0));
        assert_eq!(rate.bytes_per_second(), 2 * STEP);
        rate.dctcp_rate_update(seen(1250, 0));
        assert_eq!(rate.bytes_per_second(), 3 * STEP);
    }

    /// A flow that is looked at more often than it has a segment acknowledged grows all the same.
    #[test]
    fn slow_flows_grow() {
        let mut rate = Rate::new(RateControl::Dctcp);
        let often = |acked| Seen {
            elapsed: 100_000,
            ..seen(acked, 0)
        };
        for _ in 0..23 {
            rate.dctcp_rate_update(often(0));
        }
        assert_eq!(rate.bytes_per_second(), STEP);
        rate.dctcp_rate_update(often(2896));
        assert_eq!(rate.bytes_per_second(), 2 * STEP);
    }

    /// All bytes marked for long halve the rate at each look; a flow that had nothing to send keeps its rate.
    #[test]
    fn marks_reduce_and_silence_does_not() {
        let mut rate = Rate::new(RateControl::Dctcp);
        for _ in 0..200 {
            let marks = Seen {
                marked: 1000,
                ..seen(1000, 0)
            };
            rate.dctcp_rate_update(marks);
        }
        assert_eq!(rate.bytes_per_second(), FLOOR);
        let idle = Seen {
            elapsed: 1,
            ..Seen::default()
        };
        rate.dctcp_rate_update(idle);
        assert_eq!(rate.bytes_per_second(), FLOOR);
    }

    /// A constant rate is none of anybody's business.
    #[test]
    fn constants_stay() {
        let mut rate = Rate::new(RateControl::Constant(0));
        rate.dctcp_rate_update(seen(1, 5));
        assert_eq!(rate.bytes_per_second(), 0);
    }
}
