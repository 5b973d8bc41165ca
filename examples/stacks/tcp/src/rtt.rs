//! The retransmission timer's length (RFC 6298), with the floor and the granularity of a stack's policy.

use crate::config::RtoPolicy;
use std::time::Duration;

/// Timeout after a handshake with losses: three seconds, in ns (RFC 6298 5.7).
const SLOW: u64 = 3_000_000_000;

/// Round-trip time as measured so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: u64,
    variation: u64,
    backoff: u32,
    /// The handshake's segments were lost: the path may be slower than any default (RFC 6298 5.7).
    slow: bool,
}

impl Rtt {
    /// A new measurement; it also ends backing off.
    pub fn measured(&mut self, time: Duration) {
        let r = (time.as_nanos() as u64).max(1);
        if self.smoothed == 0 {
            self.smoothed = r;
            self.variation = r / 2;
        } else {
            self.variation = (3 * self.variation + self.smoothed.abs_diff(r)) / 4;
            self.smoothed = (7 * self.smoothed + r) / 8;
        }
        self.backoff = 0;
    }

    /// Smoothed, in ns; 0 before the first measurement.
    pub fn smoothed(&self) -> u64 {
        self.smoothed
    }

    /// The timer went off: the next one is twice as long.
    pub fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(30);
    }

    /// The last timeouts were not the path's fault, or the acknowledgement says which segment it is for (RFC 7323 4).
    pub fn forward(&mut self) {
        self.backoff = 0;
    }

    /// The handshake is over; `again` if a SYN had to be sent more than once.
    pub fn handshake_over(&mut self, again: bool) {
        self.backoff = 0;
        self.slow = again;
    }

    /// How long to wait now.
    pub fn timeout(&self, policy: &RtoPolicy) -> Duration {
        let unit = (policy.granularity.as_nanos() as u64).max(1);
        let base = if self.smoothed == 0 && self.slow {
            SLOW
        } else if self.smoothed == 0 {
            policy.initial.as_nanos() as u64
        } else {
            self.smoothed + unit.max(4 * self.variation)
        };
        let floored = base.max(policy.min.as_nanos() as u64);
        let rounded = floored.div_ceil(unit).saturating_mul(unit);
        let ceiling = policy.max.as_nanos() as u64;
        Duration::from_nanos(rounded.saturating_mul(1 << self.backoff).min(ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policy;

    /// First measurement, smoothing, floor, rounding and doubling.
    #[test]
    fn follows_rfc_6298() {
        let policy = Policy::ix().rto;
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(&policy), Duration::from_millis(1500));
        rtt.handshake_over(true);
        assert_eq!(rtt.timeout(&policy), Duration::from_secs(3));
        rtt.measured(Duration::from_micros(80));
        assert_eq!(rtt.timeout(&policy), Duration::from_millis(1000));
        rtt.back_off();
        assert_eq!(rtt.timeout(&policy), Duration::from_millis(2000));
        (0..20).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(&policy), policy.max);
        rtt.measured(Duration::from_micros(80));
        assert_eq!(rtt.smoothed(), 80_000);
    }
}
