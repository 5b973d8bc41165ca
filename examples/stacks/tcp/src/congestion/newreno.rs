//! RFC 5681 and 6582: double until a loss, halve, then a segment a round trip; and the slow start that CUBIC shares.

use super::{Acked, Control, UNLIMITED};
use crate::config::Policy;

/// A window and its growth up to a threshold (RFC 5681 3.1, RFC 3465).
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowStart {
    pub cwnd: u32,
    pub ssthresh: u32,
    pub mss: u32,
    limit: u32,
    fixed: bool,
}

impl SlowStart {
    pub fn new(policy: &Policy, mss: u32, segments: u32) -> SlowStart {
        let threshold = |segments: u32| segments.saturating_mul(mss);
        SlowStart {
            cwnd: mss * segments.max(1),
            ssthresh: policy.initial_ssthresh.map_or(UNLIMITED, threshold),
            mss,
            limit: policy.slow_start_limit.max(1),
            fixed: policy.slow_start_fixed,
        }
    }

    /// Grows if the threshold is not reached yet; whether it did.
    pub fn grew(&mut self, bytes: u32) -> bool {
        if self.cwnd >= self.ssthresh {
            return false;
        }
        let most = self.limit * self.mss;
        let more = if self.fixed { most } else { bytes.min(most) };
        self.cwnd = self.cwnd.saturating_add(more).min(UNLIMITED);
        true
    }

    /// Loss: the threshold is a share of what was out (RFC 5681 equation 4).
    pub fn reduce(&mut self, flight: u32, factor: f64) {
        self.ssthresh = ((f64::from(flight) * factor) as u32).max(2 * self.mss);
    }

    pub fn segment_size(&mut self, mss: u32) {
        self.mss = mss;
        self.cwnd = self.cwnd.max(mss);
    }
}

/// NewReno.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewReno {
    start: SlowStart,
    /// Bytes acknowledged towards the next segment of linear growth.
    acked: u32,
}

impl NewReno {
    /// At the start of a connection.
    pub fn new(policy: &Policy, mss: u32, segments: u32) -> NewReno {
        NewReno {
            start: SlowStart::new(policy, mss, segments),
            acked: 0,
        }
    }
}

impl Control for NewReno {
    #[inline]
    fn window(&self) -> u32 {
        self.start.cwnd
    }

    fn acknowledged(&mut self, acked: &Acked) {
        if !acked.limited || self.start.grew(acked.bytes) {
            return;
        }
        self.acked = self.acked.saturating_add(acked.bytes);
        if self.acked >= self.start.cwnd {
            self.acked -= self.start.cwnd;
            self.start.cwnd = self.start.cwnd.saturating_add(self.start.mss);
            self.start.cwnd = self.start.cwnd.min(UNLIMITED);
        }
    }

    fn lost(&mut self, flight: u32) {
        self.start.reduce(flight, 0.5);
        self.start.cwnd = self.start.ssthresh;
        self.acked = 0;
    }

    fn timed_out(&mut self, flight: u32, first: bool) {
        if first {
            self.start.reduce(flight, 0.5);
        }
        self.start.cwnd = self.start.mss;
        self.acked = 0;
    }

    fn segment_size(&mut self, mss: u32) {
        self.start.segment_size(mss);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::acked;
    use super::*;

    /// Slow start doubles, loss halves, then growth is a segment a round trip; a timeout begins again with one segment.
    #[test]
    fn grows_and_falls() {
        let mut reno = NewReno::new(&Policy::default(), 1000, 10);
        assert_eq!(reno.window(), 10_000);
        reno.acknowledged(&acked(10_000, 0));
        assert_eq!(reno.window(), 20_000);
        reno.lost(20_000);
        assert_eq!(reno.window(), 10_000);
        reno.acknowledged(&acked(10_000, 0));
        assert_eq!(reno.window(), 11_000);
        reno.timed_out(11_000, true);
        assert_eq!(reno.window(), 1000);
        // The second timeout of the same data leaves the threshold where the first put it.
        reno.timed_out(1000, false);
        reno.acknowledged(&acked(1000, 0));
        assert_eq!(reno.window(), 2000);
    }

    /// A window that is not used does not grow; an unheard-of limit of segments per acknowledgement is kept.
    #[test]
    fn grows_by_use() {
        let policy = Policy {
            slow_start_limit: 1,
            ..Policy::default()
        };
        let mut reno = NewReno::new(&policy, 1000, 10);
        reno.acknowledged(&Acked {
            limited: false,
            ..acked(5000, 0)
        });
        assert_eq!(reno.window(), 10_000);
        reno.acknowledged(&acked(5000, 0));
        assert_eq!(reno.window(), 11_000);
    }
}
