//! TAS's control of rates: each flow has bytes per second instead of a window, set anew every two round trips from the
//! share of bytes that were marked or lost, in the manner of DCTCP (RFC 8257).
//!
//! Constants as its slow path has them by default: 10 Mbit/s to begin with and as the step of linear growth, doubling
//! until the first sign of congestion, a smoothing of 1/16, no rate far above what the flow really made use of.

use super::{Acked, Control, UNLIMITED};
use crate::time::Time;
use std::time::Duration;

/// Weight of a new share of marks.
const GAIN: f64 = 1.0 / 16.0;
/// How far the rate may exceed the one that was seen, once slow start is over.
const HEADROOM: f64 = 1.2;
/// Intervals are never shorter: clocks and bursts would be measured instead of the path.
const SHORTEST: Duration = Duration::from_micros(100);

/// What a slow path keeps for one flow: counts of an interval in, a rate out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateControl {
    rate: f64,
    floor: f64,
    step: f64,
    /// Smoothed share of marked bytes.
    marked: f64,
    slow_start: bool,
}

impl RateControl {
    /// Starts at `initial` bytes per second, which is also the least; grows by `step` after slow start.
    pub fn new(initial: u64, step: u64) -> RateControl {
        RateControl {
            rate: initial.max(1) as f64,
            floor: initial.max(1) as f64,
            step: step as f64,
            marked: 0.0,
            slow_start: true,
        }
    }

    /// Bytes per second.
    pub fn rate(&self) -> u64 {
        self.rate as u64
    }

    /// An interval is over in which `acked` bytes were acknowledged, `marked` of them with a congestion mark, and losses
    /// were found or not. The new rate in bytes per second.
    pub fn interval(&mut self, length: Duration, acked: u64, marked: u64, lost: bool) -> u64 {
        let share = marked.min(acked) as f64 / acked.max(1) as f64;
        self.marked += GAIN * (share - self.marked);
        let seen = acked as f64 / length.as_secs_f64().max(1e-9);
        if lost {
            self.slow_start = false;
            self.rate /= 2.0;
        } else if marked > 0 {
            self.slow_start = false;
            self.rate *= 1.0 - self.marked / 2.0;
        } else if self.slow_start {
            self.rate = (2.0 * self.rate).min(4.0 * seen);
        } else {
            self.rate = (self.rate + self.step).min(HEADROOM * seen + self.step);
        }
        self.rate = self.rate.max(self.floor);
        self.rate()
    }

    /// Nothing came back for a whole timeout.
    pub fn timed_out(&mut self) {
        self.slow_start = false;
        self.rate = (self.rate / 2.0).max(self.floor);
    }
}

/// The same for a flow of the engine's own, which counts by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rated {
    control: RateControl,
    began: Option<Time>,
    acked: u64,
    marked: u64,
    lost: bool,
}

impl Rated {
    /// At the start of a connection.
    pub fn new(initial: u64, step: u64) -> Rated {
        Rated {
            control: RateControl::new(initial, step),
            began: None,
            acked: 0,
            marked: 0,
            lost: false,
        }
    }
}

impl Control for Rated {
    #[inline]
    fn window(&self) -> u32 {
        UNLIMITED
    }

    #[inline]
    fn rate(&self) -> u64 {
        self.control.rate()
    }

    fn acknowledged(&mut self, acked: &Acked) {
        self.acked += u64::from(acked.bytes);
        self.marked += if acked.marked {
            u64::from(acked.bytes)
        } else {
            0
        };
        let began = *self.began.get_or_insert(acked.now);
        let interval = Duration::from_nanos(2 * acked.rtt).max(SHORTEST);
        let past = acked.now.since(began);
        if past >= interval {
            // An interval that idled says nothing about the path.
            if past < 4 * interval {
                self.control
                    .interval(past, self.acked, self.marked, self.lost);
            }
            (self.acked, self.marked, self.lost) = (0, 0, false);
            self.began = Some(acked.now);
        }
    }

    fn lost(&mut self, _flight: u32) {
        self.lost = true;
    }

    fn timed_out(&mut self, _flight: u32, _first: bool) {
        self.control.timed_out();
    }

    fn segment_size(&mut self, _mss: u32) {}
}

#[cfg(test)]
mod tests {
    use super::super::tests::acked;
    use super::*;

    const MBIT_10: u64 = 1_250_000;

    fn full(control: &mut RateControl, marked: f64, lost: bool) -> u64 {
        let length = Duration::from_millis(2);
        let acked = control.rate() / 500;
        control.interval(length, acked, (acked as f64 * marked) as u64, lost)
    }

    /// Doubling until the first mark, then steps; marks take their smoothed share, a loss takes half; never below the
    /// first rate.
    #[test]
    fn doubles_then_steps() {
        let mut control = RateControl::new(MBIT_10, MBIT_10);
        assert_eq!(full(&mut control, 0.0, false), 2 * MBIT_10);
        assert_eq!(full(&mut control, 0.0, false), 4 * MBIT_10);
        // Half the bytes marked: alpha is 1/32, the rate loses 1/64.
        assert_eq!(full(&mut control, 0.5, false), 4 * MBIT_10 * 63 / 64);
        assert_eq!(
            full(&mut control, 0.0, false),
            4 * MBIT_10 * 63 / 64 + MBIT_10
        );
        let before = control.rate();
        assert_eq!(full(&mut control, 0.0, true), before / 2);
        let least = (0..10).map(|_| full(&mut control, 0.0, true)).min();
        assert_eq!(least, Some(MBIT_10));
    }

    /// A flow that sends less than it may is not given ever more.
    #[test]
    fn unused_rates_do_not_grow() {
        let mut control = RateControl::new(MBIT_10, MBIT_10);
        for _ in 0..20 {
            control.interval(Duration::from_millis(2), 100, 0, false);
        }
        assert_eq!(control.rate(), MBIT_10);
    }

    /// The engine's own flows set their rate every two round trips.
    #[test]
    fn two_round_trips() {
        let mut rated = Rated::new(MBIT_10, MBIT_10);
        let ack = |ms| Acked {
            rtt: 1_000_000,
            ..acked(2500, ms)
        };
        rated.acknowledged(&ack(1));
        rated.acknowledged(&ack(2));
        assert_eq!(rated.rate(), MBIT_10);
        rated.acknowledged(&ack(3));
        assert_eq!(rated.rate(), 2 * MBIT_10);
    }
}
