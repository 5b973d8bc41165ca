//! Who tells of a thread's bursts in its ring: this library, or probes that the program has itself.
//!
//! In: the ring's totals of rounds and bursts; out: whether the ring is for this library to write. A program with probes of
//! its own knows more of its rounds than its calls of DPDK show, and both together would count everything twice: the
//! library keeps to its queue file then. Probes show by totals that have grown by more than the library added.

use bypassprof_ring::{Ring, Total};
use core::cell::Cell;

/// Totals that both kinds of probes add to.
const SHARED: [Total; 4] = [
    Total::EmptyRounds,
    Total::WorkedRounds,
    Total::RxBursts,
    Total::TxBursts,
];

/// Looks at a new ring in which nothing is written: in one turn of a program's loop there may be several calls of DPDK
/// before its own probes say a word.
const LISTENS: u8 = 16;

/// What a thread knows of who writes its ring.
pub struct Voice {
    /// Looks so far that were for listening.
    listened: Cell<u8>,
    others: Cell<bool>,
    /// The sum of the totals when they were looked at last, or added to by us.
    known: Cell<u64>,
}

impl Voice {
    pub const fn new() -> Voice {
        Voice {
            listened: Cell::new(0),
            others: Cell::new(false),
            known: Cell::new(0),
        }
    }

    /// Whether this library may write of rounds and bursts now.
    pub fn is_ours(&self, ring: &Ring) -> bool {
        self.hears(sum(ring))
    }

    fn hears(&self, sum: u64) -> bool {
        let known = self.known.replace(sum);
        if self.others.get() {
            return false;
        }
        if sum < known {
            // The ring of another recorder.
            self.listened.set(0);
        }
        let listened = self.listened.get();
        if listened > 0 && sum > known {
            self.others.set(true);
            return false;
        }
        self.listened.set((listened + 1).min(LISTENS));
        listened == LISTENS
    }

    /// Whether others write, so that this library never does.
    pub fn is_silent(&self) -> bool {
        self.others.get()
    }

    /// This library added to the totals.
    pub fn has_told(&self, ring: &Ring) {
        self.known.set(sum(ring));
    }
}

fn sum(ring: &Ring) -> u64 {
    SHARED
        .into_iter()
        .fold(0, |sum, total| sum.wrapping_add(ring.total(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent_until_it_has_listened(voice: &Voice, sum: u64) {
        for look in 0..LISTENS {
            assert!(!voice.hears(sum), "{look}");
        }
        assert!(voice.hears(sum));
    }

    /// Alone it writes, in the ring of another recorder as well, whatever that has in it already; beside others it never
    /// does again.
    #[test]
    fn others_are_heard() {
        let voice = Voice::new();
        silent_until_it_has_listened(&voice, 7);
        for sum in [7, 12, 20] {
            voice.known.set(sum);
            assert!(voice.hears(sum), "{sum}");
        }
        silent_until_it_has_listened(&voice, 0);
        assert!(!voice.hears(1));
        for sum in [1, 0, 7] {
            assert!(!voice.hears(sum), "{sum}");
        }
    }

    /// Others that speak while it listens are heard as well.
    #[test]
    fn it_listens_first() {
        let voice = Voice::new();
        assert!(!voice.hears(0));
        assert!(!voice.hears(1));
        assert!((0..100).all(|_| !voice.hears(1)));
    }
}
