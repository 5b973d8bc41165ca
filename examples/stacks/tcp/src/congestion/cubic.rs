//! RFC 9438: growth by a cubic function of the time since the last loss.

use super::newreno::SlowStart;
use super::{Acked, Control, UNLIMITED};
use crate::config::Policy;
use crate::time::Time;
use std::time::Duration;

/// Share that is left after a loss, and how steep the function is (RFC 9438 4.6 and 5).
const BETA: f64 = 0.7;
const C: f64 = 0.4;

/// CUBIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cubic {
    start: SlowStart,
    /// Window before the last reduction, in segments.
    w_max: f64,
    /// When this epoch of growth began.
    epoch: Option<Time>,
    k: f64,
    /// What Reno would have, in segments.
    w_est: f64,
}

impl Cubic {
    /// At the start of a connection.
    pub fn new(policy: &Policy, mss: u32, segments: u32) -> Cubic {
        Cubic {
            start: SlowStart::new(policy, mss, segments),
            w_max: 0.0,
            epoch: None,
            k: 0.0,
            w_est: 0.0,
        }
    }

    fn reduce(&mut self, flight: u32) {
        let segments = f64::from(self.start.cwnd) / f64::from(self.start.mss);
        // Fast convergence: 4.7.
        self.w_max = if segments < self.w_max {
            segments * (1.0 + BETA) / 2.0
        } else {
            segments
        };
        self.epoch = None;
        self.start.reduce(flight, BETA);
    }
}

impl Control for Cubic {
    #[inline]
    fn window(&self) -> u32 {
        self.start.cwnd
    }

    fn acknowledged(&mut self, acked: &Acked) {
        if !acked.limited || self.start.grew(acked.bytes) {
            return;
        }
        let mss = f64::from(self.start.mss);
        let cwnd = f64::from(self.start.cwnd) / mss;
        let epoch = *self.epoch.get_or_insert_with(|| {
            self.k = ((self.w_max - cwnd).max(0.0) / C).cbrt();
            self.w_max = self.w_max.max(cwnd);
            self.w_est = cwnd;
            acked.now
        });
        let t = (acked.now.since(epoch) + Duration::from_nanos(acked.rtt)).as_secs_f64();
        let target = C * (t - self.k).powi(3) + self.w_max;
        let target = target.clamp(cwnd, 1.5 * cwnd);
        let segments = f64::from(acked.bytes) / mss;
        // Reno's growth with CUBIC's reduction: 4.3.
        self.w_est += 3.0 * (1.0 - BETA) / (1.0 + BETA) * segments / cwnd;
        let grown = (cwnd + (target - cwnd) / cwnd * segments).max(self.w_est);
        self.start.cwnd = ((grown * mss) as u32).clamp(self.start.mss, UNLIMITED);
    }

    fn lost(&mut self, flight: u32) {
        self.reduce(flight);
        self.start.cwnd = self.start.ssthresh;
    }

    fn timed_out(&mut self, flight: u32, first: bool) {
        if first {
            self.reduce(flight);
        }
        self.start.cwnd = self.start.mss;
    }

    fn segment_size(&mut self, mss: u32) {
        self.start.segment_size(mss);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::acked;
    use super::*;

    /// A loss leaves 0.7 of what was out; then the old window is found again, slowly near it, and left behind.
    #[test]
    fn falls_and_comes_back() {
        let mut cubic = Cubic::new(&Policy::default(), 1000, 10);
        for _ in 0..5 {
            cubic.acknowledged(&acked(10_000, 0));
        }
        assert_eq!(cubic.window(), 60_000);
        cubic.lost(60_000);
        assert_eq!(cubic.window(), 42_000);
        // K = cbrt(60 * 0.3 / 0.4) = 3.56 s: then the window is what it was.
        let mut now = 0;
        let mut at = |ms: u64| {
            while now < ms {
                now += 200;
                cubic.acknowledged(&acked(cubic.window(), now));
            }
            cubic.window()
        };
        let (early, middle, plateau) = (at(1000), at(2000), at(3800));
        assert!(early < middle && middle < plateau);
        assert!(plateau - middle < middle - early, "slower near the plateau");
        assert!((59_000..62_000).contains(&plateau), "{plateau}");
        assert!(at(8000) > 75_000);
    }
}
