//! What a core did, for others to look at while it goes on.
//!
//! In: one note a round from the core's own thread; out: totals for any other. Every number stands alone: no other data
//! hangs on it, so nothing is ordered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A core's totals, in a pair of cache lines of their own (two, since processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Meter {
    rounds: AtomicU64,
    empty_rounds: AtomicU64,
    working_ns: AtomicU64,
    packets: AtomicU64,
    full_batches: AtomicU64,
}

/// Totals since the core began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rounds.
    pub rounds: u64,
    /// Rounds that found nothing to do.
    pub empty_rounds: u64,
    /// Time in rounds that did something.
    pub working: Duration,
    /// Packets received.
    pub packets: u64,
    /// Rounds whose batch was at its bound.
    pub full_batches: u64,
}

impl Meter {
    /// The totals now.
    pub fn totals(&self) -> Totals {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Totals {
            rounds: read(&self.rounds),
            empty_rounds: read(&self.empty_rounds),
            working: Duration::from_nanos(read(&self.working_ns)),
            packets: read(&self.packets),
            full_batches: read(&self.full_batches),
        }
    }

    /// Notes a round; `working` is `None` for an empty one.
    pub(crate) fn round(&self, working: Option<Duration>) {
        add(&self.rounds, 1);
        match working {
            Some(time) => add(&self.working_ns, time.as_nanos() as u64),
            None => add(&self.empty_rounds, 1),
        }
    }

    /// Notes a batch of received packets.
    pub(crate) fn batch(&self, packets: usize, full: bool) {
        add(&self.packets, packets as u64);
        if full {
            add(&self.full_batches, 1);
        }
    }
}

/// One thread alone writes: no instruction that locks the line is needed.
fn add(number: &AtomicU64, n: u64) {
    let sum = number.load(Ordering::Relaxed).wrapping_add(n);
    number.store(sum, Ordering::Relaxed);
}
