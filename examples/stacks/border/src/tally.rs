//! What a polling loop did since it began, for who asks from another thread.
//!
//! In: rounds of one thread; out: counts. They are for a person to look at: nothing else hangs on their order.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of one loop: one thread writes, any may read.
#[derive(Debug, Default)]
pub struct Tally {
    rounds: AtomicU64,
    empty_rounds: AtomicU64,
    working_ns: AtomicU64,
}

impl Tally {
    /// A round that took so many ns, and whether it did something.
    #[inline]
    pub fn round(&self, worked: bool, took: u64) {
        add(&self.rounds, 1);
        if worked {
            add(&self.working_ns, took);
        } else {
            add(&self.empty_rounds, 1);
        }
    }

    /// Rounds.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Rounds that found nothing to do.
    pub fn empty_rounds(&self) -> u64 {
        self.empty_rounds.load(Ordering::Relaxed)
    }

    /// Time in rounds that did something, in ns.
    pub fn working_ns(&self) -> u64 {
        self.working_ns.load(Ordering::Relaxed)
    }
}

/// One writer: no read-modify-write is needed. Relaxed: a count alone.
fn add(count: &AtomicU64, n: u64) {
    count.store(count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}
