//! Which bursts are stamped, and which of those have their frames looked at.
//!
//! In: bursts as they go by, stamps, and what the recorder wants; out: whether the next burst may go the quick way. A
//! stamp costs more than all the rest, so that bursts are stamped one in N, N chosen anew after each so that stamps take
//! at most one part in [`BUDGET`] of the time: every burst where bursts take long, few where they are short. Frames are
//! looked at in one burst in as many as the recorder says, by a second count that idleness does not touch: a burst after
//! an idle time, which is always stamped, is chosen no more often than any other.

use core::cell::Cell;

/// Stamps and events take at most one part of the time in so many.
const BUDGET: u64 = 1000;
/// Ticks that one stamped burst costs where packets have the caches.
const STAMP_TICKS: u64 = 1000;
/// Most bursts between two stamped ones.
const MOST_SKIPPED: u64 = 4096;
/// A distance that is never reached.
const NEVER: u32 = u32::MAX;

/// A thread's bursts until something is to be done.
#[repr(C)]
pub struct Pace {
    /// Bursts that may still go the quick way.
    left: Cell<u32>,
    /// What `left` began with.
    start: Cell<u32>,
    /// Bursts since the last stamped one that `left` does not tell.
    passed: Cell<u32>,
    /// Bursts until frames are looked at, from the last stamped one on.
    look: Cell<u32>,
    /// One in how many that was chosen for; 0 for none.
    one_in: Cell<u32>,
    random: Cell<u32>,
    last: Cell<u64>,
    /// Ticks that a burst took lately, with all that goes with it.
    usual: Cell<u64>,
}

impl Pace {
    /// All zero, so that the pool of them takes no room in the library's file; [`Pace::begin`] comes next.
    pub const fn new() -> Pace {
        Pace {
            left: Cell::new(0),
            start: Cell::new(0),
            passed: Cell::new(0),
            look: Cell::new(0),
            one_in: Cell::new(0),
            random: Cell::new(0),
            last: Cell::new(0),
            usual: Cell::new(0),
        }
    }

    /// Begins with chance from a seed.
    pub fn begin(&self, seed: u64) {
        self.random.set(seed as u32 | 1);
        self.look.set(NEVER);
        self.usual.set(STAMP_TICKS * BUDGET);
    }

    /// Whether the next burst may go the quick way.
    pub fn is_quick(&self) -> bool {
        self.left.get() > 0
    }

    /// The same; the burst then does.
    #[inline(always)]
    pub fn takes_one(&self) -> bool {
        let Some(left) = self.left.get().checked_sub(1) else {
            return false;
        };
        self.left.set(left);
        true
    }

    /// The burst moved nothing, and is none.
    #[inline(always)]
    pub fn takes_back(&self) {
        // One that was made inside of it may have begun anew.
        if self.left.get() < self.start.get() {
            self.left.set(self.left.get() + 1);
        }
    }

    /// The next burst is to be stamped, whenever it comes.
    pub fn force(&self) {
        let gone = self.start.get() - self.left.get();
        self.passed.set(self.passed.get().saturating_add(gone));
        self.start.set(0);
        self.left.set(0);
    }

    /// Whether the burst that is about to be stamped is one whose frames are looked at, as the recorder wants it now.
    pub fn looks(&self, one_in: u64) -> bool {
        let one_in = u32::try_from(one_in).unwrap_or(NEVER / 2).min(NEVER / 2);
        if self.one_in.replace(one_in) != one_in {
            let from_here = match one_in {
                0 => NEVER,
                n => self.distance(n),
            };
            // Counted from the last stamped burst.
            let gone = self.passed.get().saturating_add(self.start.get());
            self.look.set(from_here.saturating_add(gone));
        }
        one_in > 0 && self.look.get() <= self.passed.get() + self.start.get() + 1
    }

    /// A burst was stamped, and its frames looked at if `looked`. Returns one in how many is stamped now.
    pub fn choose_next(&self, stamp: u64, looked: bool) -> u64 {
        self.force();
        let bursts = self.passed.replace(0).saturating_add(1);
        let since = stamp.saturating_sub(self.last.replace(stamp));
        // A stretch off the CPU is smoothed out.
        let usual = self.usual.get();
        let each = (since / u64::from(bursts)).min(usual.saturating_mul(16).max(1));
        let usual = (usual - usual / 8 + each / 8).max(1);
        self.usual.set(usual);
        let one_in = (STAMP_TICKS * BUDGET / usual).clamp(1, MOST_SKIPPED);
        match self.one_in.get() {
            0 => self.look.set(NEVER),
            n if looked => self.look.set(self.distance(n)),
            _ => self.look.set(self.look.get().saturating_sub(bursts).max(1)),
        }
        let next = self.distance(one_in as u32).min(self.look.get()) - 1;
        self.start.set(next);
        self.left.set(next);
        one_in
    }

    /// From 1 on, `mean` on the whole: even spacing would lock onto a loop's own rhythm.
    fn distance(&self, mean: u32) -> u32 {
        // Xorshift (Marsaglia 2003).
        let mut random = self.random.get();
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        self.random.set(random);
        1 + random % (2 * mean - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through bursts of `ticks`, each of which ends idleness if `idle`; returns how many were stamped and looked at.
    fn go(bursts: u64, ticks: u64, one_in: u64, idle: impl Fn(u64) -> bool) -> (u64, u64) {
        let pace = Pace::new();
        pace.begin(12345);
        let (mut stamped, mut looked) = (0, 0);
        for at in 0..bursts {
            if idle(at) {
                pace.force();
            }
            if pace.takes_one() {
                continue;
            }
            let looks = pace.looks(one_in);
            looked += u64::from(looks);
            stamped += u64::from(at > bursts / 2);
            pace.choose_next(1_000_000 + at * ticks, looks);
        }
        (stamped, looked)
    }

    /// Long bursts are all stamped; of short ones so few that stamps keep to their part of the time.
    #[test]
    fn stamps_keep_to_their_part() {
        assert_eq!(go(10_000, STAMP_TICKS * BUDGET, 0, |_| false).0, 4999);
        let (stamped, looked) = go(1_000_000, 800, 0, |_| false);
        let expected = 500_000 * 800 / (STAMP_TICKS * BUDGET);
        assert!(stamped.abs_diff(expected) < expected / 5, "{stamped}");
        assert_eq!(looked, 0);
    }

    /// One burst in N is looked at, whether bursts end idle times or not, and whatever the stamps do.
    #[test]
    fn looks_are_one_in_n() {
        for ticks in [800, 200_000] {
            for one_in in [1u64, 2, 37, 1000] {
                for every in [2, 7, u64::MAX] {
                    let (_, looked) = go(400_000, ticks, one_in, |at| at % every == 0);
                    let expected = 400_000 / one_in;
                    assert!(
                        looked.abs_diff(expected) <= expected / 8,
                        "{ticks} ticks, one in {one_in}, idle each {every}: {looked}"
                    );
                }
            }
        }
    }

    /// A burst after an idle time is looked at as often as the others.
    #[test]
    fn idleness_does_not_choose() {
        let pace = Pace::new();
        pace.begin(99);
        let mut looked = [0u64; 4];
        for at in 0..400_000u64 {
            let place = (at % 4) as usize;
            if place == 0 {
                pace.force();
            }
            if pace.takes_one() {
                continue;
            }
            let looks = pace.looks(10);
            looked[place] += u64::from(looks);
            pace.choose_next(at * 800, looks);
        }
        for n in looked {
            assert!(n.abs_diff(10_000) < 800, "{looked:?}");
        }
    }
}
