//! How much may be in flight (RFC 5681, 6582, 9438).
//!
//! In: acknowledgements, losses, timeouts; out: a window in bytes. It refuses to know what was lost and to send.

use crate::config::{Congestion, Policy};
use crate::time::Time;
use std::time::Duration;

/// CUBIC's constants (RFC 9438 4.6 and 5).
const BETA: f64 = 0.7;
const C: f64 = 0.4;

/// The congestion window of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    kind: Congestion,
    mss: u32,
    cwnd: u32,
    ssthresh: u32,
    slow_start_limit: u32,
    slow_start_fixed: bool,
    /// Bytes acknowledged towards the next segment of linear growth.
    acked: u32,
    cubic: Cubic,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cubic {
    /// Window before the last reduction, in segments.
    w_max: f64,
    /// When this epoch of growth began.
    epoch: Option<Time>,
    k: f64,
    /// What Reno would have, in segments.
    w_est: f64,
}

/// No limit of ours.
const UNLIMITED: u32 = u32::MAX / 2;

impl Window {
    /// At the start of a connection.
    pub fn new(policy: &Policy, mss: u32) -> Window {
        let cwnd = match policy.congestion {
            Congestion::None | Congestion::Rate { .. } => UNLIMITED,
            Congestion::NewReno | Congestion::Cubic => mss * policy.initial_window.max(1),
        };
        Window {
            kind: policy.congestion,
            mss,
            cwnd,
            ssthresh: policy
                .initial_ssthresh
                .map_or(UNLIMITED, |s| s.saturating_mul(mss)),
            slow_start_limit: policy.slow_start_limit.max(1),
            slow_start_fixed: policy.slow_start_fixed,
            acked: 0,
            cubic: Cubic::default(),
        }
    }

    /// Bytes that may be in flight.
    pub fn bytes(&self) -> u32 {
        self.cwnd
    }

    fn is_window(&self) -> bool {
        matches!(self.kind, Congestion::NewReno | Congestion::Cubic)
    }

    /// `bytes` were acknowledged for the first time, outside recovery, by a sender that was limited by this window.
    pub fn acknowledged(&mut self, bytes: u32, now: Time, rtt: u64) {
        if !self.is_window() {
            return;
        }
        if self.cwnd < self.ssthresh {
            let most = self.slow_start_limit * self.mss;
            let more = if self.slow_start_fixed {
                most
            } else {
                bytes.min(most)
            };
            self.cwnd = self.cwnd.saturating_add(more).min(UNLIMITED);
            return;
        }
        match self.kind {
            Congestion::Cubic => self.cubic_growth(bytes, now, rtt),
            _ => self.linear_growth(bytes),
        }
    }

    fn linear_growth(&mut self, bytes: u32) {
        self.acked = self.acked.saturating_add(bytes);
        if self.acked >= self.cwnd {
            self.acked -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(self.mss).min(UNLIMITED);
        }
    }

    fn cubic_growth(&mut self, bytes: u32, now: Time, rtt: u64) {
        let mss = f64::from(self.mss);
        let cwnd = f64::from(self.cwnd) / mss;
        let cubic = &mut self.cubic;
        let epoch = *cubic.epoch.get_or_insert_with(|| {
            cubic.k = ((cubic.w_max - cwnd).max(0.0) / C).cbrt();
            cubic.w_max = cubic.w_max.max(cwnd);
            cubic.w_est = cwnd;
            now
        });
        let t = (now.since(epoch) + Duration::from_nanos(rtt)).as_secs_f64();
        let target = C * (t - cubic.k).powi(3) + cubic.w_max;
        let target = target.clamp(cwnd, 1.5 * cwnd);
        let acked = f64::from(bytes) / mss;
        // Reno's growth with CUBIC's reduction: 4.3.
        cubic.w_est += 3.0 * (1.0 - BETA) / (1.0 + BETA) * acked / cwnd;
        let grown = (cwnd + (target - cwnd) / cwnd * acked).max(cubic.w_est);
        self.cwnd = ((grown * mss) as u32).clamp(self.mss, UNLIMITED);
    }

    /// Loss was found without a timeout, with `flight` bytes out.
    pub fn lost(&mut self, flight: u32) {
        if self.is_window() {
            self.reduce(flight);
            self.cwnd = self.ssthresh;
        }
    }

    /// The retransmission timer went off; `first` time for this data.
    pub fn timed_out(&mut self, flight: u32, first: bool) {
        if self.is_window() {
            if first {
                self.reduce(flight);
            }
            self.cwnd = self.mss;
        }
    }

    fn reduce(&mut self, flight: u32) {
        let factor = if self.kind == Congestion::Cubic {
            let segments = f64::from(self.cwnd) / f64::from(self.mss);
            // Fast convergence: 4.7.
            self.cubic.w_max = if segments < self.cubic.w_max {
                segments * (1.0 + BETA) / 2.0
            } else {
                segments
            };
            self.cubic.epoch = None;
            BETA
        } else {
            0.5
        };
        self.ssthresh = ((f64::from(flight) * factor) as u32).max(2 * self.mss);
        self.acked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slow start doubles, loss halves, then growth is a segment a round trip; CUBIC falls to 0.7 and comes back.
    #[test]
    fn grows_and_falls() {
        let mut policy = Policy {
            congestion: Congestion::NewReno,
            ..Policy::default()
        };
        let mut reno = Window::new(&policy, 1000);
        assert_eq!(reno.bytes(), 10_000);
        reno.acknowledged(10_000, Time::ZERO, 0);
        assert_eq!(reno.bytes(), 20_000);
        reno.lost(20_000);
        assert_eq!(reno.bytes(), 10_000);
        reno.acknowledged(10_000, Time::ZERO, 0);
        assert_eq!(reno.bytes(), 11_000);
        reno.timed_out(11_000, true);
        assert_eq!(reno.bytes(), 1000);
        policy.congestion = Congestion::Cubic;
        let mut cubic = Window::new(&policy, 1000);
        cubic.acknowledged(10_000, Time::ZERO, 0);
        cubic.lost(20_000);
        assert_eq!(cubic.bytes(), 14_000);
        for ms in 0..8000 {
            cubic.acknowledged(1000, Time::from_millis(ms), 1_000_000);
        }
        assert!(cubic.bytes() > 20_000, "{}", cubic.bytes());
    }
}
