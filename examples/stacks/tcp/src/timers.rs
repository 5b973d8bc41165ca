//! When to look at which connection again: a hierarchical timing wheel (Varghese and Lauck, 1987).
//!
//! In: deadlines that move, mostly later; out: names of connections whose time has come. Setting, moving and taking out
//! are O(1), whatever the number of connections. A connection stands here at most once at its earliest promise; a
//! deadline that moved later is found out when the old one comes. Time is cut into ticks: what is due within a tick comes
//! at its end, so at most one tick late and never early.

use crate::event::ConnId;
use crate::time::Time;

/// Nanoseconds of a tick as a power of two: 1.024 us, below what pacing and the shortest delayed acknowledgement need.
const TICK: u32 = 10;
/// Slots of a level as a power of two.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Levels: together they reach 2^58 ns, nine years.
const LEVELS: usize = 8;
const NONE: u32 = u32::MAX;

/// A connection's place.
#[derive(Clone, Copy, Debug)]
struct Node {
    at: Time,
    tick: u64,
    generation: u32,
    before: u32,
    after: u32,
    /// Level and slot in one; `NONE` when it stands nowhere.
    list: u32,
}

const NOWHERE: Node = Node {
    at: Time::ZERO,
    tick: 0,
    generation: 0,
    before: NONE,
    after: NONE,
    list: NONE,
};

/// Promises.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Ticks that are over.
    elapsed: u64,
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    /// A bit for each slot that is not empty.
    taken: [u64; LEVELS],
    /// By connection index.
    nodes: Vec<Node>,
}

impl Timers {
    /// For `most` connections, whose room is made at once: growing would make one packet wait for all of them.
    pub fn new(most: usize) -> Timers {
        Timers {
            elapsed: 0,
            heads: Box::new([[NONE; SLOTS]; LEVELS]),
            taken: [0; LEVELS],
            nodes: Vec::with_capacity(most),
        }
    }

    /// Makes sure that the connection is looked at by `at`; `armed` is what it was promised before.
    #[inline]
    pub fn arm(&mut self, conn: ConnId, at: Time, armed: &mut Option<Time>) {
        if armed.is_none_or(|promised| at < promised) {
            *armed = Some(at);
            self.set(conn, at);
        }
    }

    fn set(&mut self, conn: ConnId, at: Time) {
        let index = conn.index();
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, NOWHERE);
        }
        self.unlink(conn.index);
        let tick = at.as_nanos().div_ceil(1 << TICK);
        let node = &mut self.nodes[index];
        node.at = at;
        node.tick = tick;
        node.generation = conn.generation;
        self.link(conn.index);
    }

    /// The connection is gone.
    pub fn cancel(&mut self, conn: ConnId) {
        if (conn.index()) < self.nodes.len() {
            self.unlink(conn.index);
        }
    }

    fn link(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick.max(self.elapsed);
        // The highest digit in which it differs from now is its level; what is beyond all levels waits in the last slot.
        let far = (self.elapsed ^ tick) >> (BITS * LEVELS as u32) != 0;
        let (level, slot) = if far {
            let top = LEVELS - 1;
            let last = (self.elapsed >> (BITS * top as u32)).wrapping_sub(1);
            (top, last as usize % SLOTS)
        } else {
            let differs = (self.elapsed ^ tick) | (SLOTS as u64 - 1);
            let level = ((63 - differs.leading_zeros()) / BITS) as usize;
            (level, (tick >> (BITS * level as u32)) as usize % SLOTS)
        };
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        self.taken[level] |= 1 << slot;
        if head != NONE {
            self.nodes[head as usize].before = index;
        }
        let node = &mut self.nodes[index as usize];
        node.before = NONE;
        node.after = head;
        node.list = (level * SLOTS + slot) as u32;
    }

    fn unlink(&mut self, index: u32) {
        let Node {
            before,
            after,
            list,
            ..
        } = self.nodes[index as usize];
        if list == NONE {
            return;
        }
        self.nodes[index as usize].list = NONE;
        if after != NONE {
            self.nodes[after as usize].before = before;
        }
        if before != NONE {
            self.nodes[before as usize].after = after;
            return;
        }
        let (level, slot) = (list as usize / SLOTS, list as usize % SLOTS);
        self.heads[level][slot] = after;
        if after == NONE {
            self.taken[level] &= !(1 << slot);
        }
    }

    /// The first slot that is not empty: its level, its number, its first tick.
    fn first(&self) -> Option<(usize, usize, u64)> {
        // A lower level is over before the next slot of a higher one begins.
        (0..LEVELS).find_map(|level| {
            if self.taken[level] == 0 {
                return None;
            }
            let shift = BITS * level as u32;
            let here = (self.elapsed >> shift) as u32 % SLOTS as u32;
            let ahead = self.taken[level].rotate_right(here).trailing_zeros();
            let slot = (here + ahead) as usize % SLOTS;
            let tick = ((self.elapsed >> shift) + u64::from(ahead)) << shift;
            Some((level, slot, tick.max(self.elapsed)))
        })
    }

    /// When to call [`Timers::due`] again: at most a tick after the earliest promise, perhaps before it.
    pub fn next(&self) -> Option<Time> {
        let (_, _, tick) = self.first()?;
        Some(Time::from_nanos(tick.saturating_mul(1 << TICK)))
    }

    /// The next connection whose time has come, with the promise that was made.
    pub fn due(&mut self, now: Time) -> Option<(ConnId, Time)> {
        let now = now.as_nanos() >> TICK;
        loop {
            let Some((level, slot, tick)) = self.first().filter(|first| first.2 <= now) else {
                self.elapsed = self.elapsed.max(now);
                return None;
            };
            self.elapsed = tick;
            let index = self.heads[level][slot];
            if level == 0 {
                self.unlink(index);
                let node = self.nodes[index as usize];
                let generation = node.generation;
                return Some((ConnId { index, generation }, node.at));
            }
            // The slot's time begins: its connections move to lower levels.
            self.taken[level] &= !(1 << slot);
            let mut next = std::mem::replace(&mut self.heads[level][slot], NONE);
            while next != NONE {
                let after = self.nodes[next as usize].after;
                self.link(next);
                next = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(index: u32) -> ConnId {
        ConnId {
            index,
            generation: 7,
        }
    }

    proptest! {
        /// Whatever is set, moved and taken out, each comes once, not early, and not later than a tick after its time when
        /// the wheel is asked at the times it names.
        #[test]
        fn comes_in_time(
            steps in proptest::collection::vec((0u32..20, 0u64..1 << 45, 0u32..45, any::<bool>()), 1..200),
            start in 0u64..1 << 50,
        ) {
            let mut timers = Timers::new(20);
            let mut now = Time::from_nanos(start);
            prop_assert_eq!(timers.due(now), None);
            let mut promised = [None::<Time>; 20];
            for (index, delay, shift, gone) in steps {
                let at = Time::from_nanos(now.as_nanos() + (delay >> shift));
                if gone {
                    timers.cancel(name(index));
                    promised[index as usize] = None;
                } else {
                    timers.arm(name(index), at, &mut promised[index as usize]);
                }
                if let Some(next) = timers.next() {
                    let earliest = promised.iter().flatten().min().unwrap();
                    prop_assert!(next.as_nanos() <= earliest.as_nanos() + (1 << TICK));
                    if delay % 3 == 0 { now = now.max(next); }
                }
                while let Some((conn, at)) = timers.due(now) {
                    prop_assert_eq!(promised[conn.index()].take(), Some(at));
                    prop_assert!(at <= now);
                }
                for at in promised.iter().flatten() {
                    prop_assert!(now.as_nanos() < at.as_nanos() + (1 << TICK));
                }
            }
            // The rest comes, too, when time runs from one named moment to the next.
            let mut rounds = 0;
            while let Some(next) = timers.next() {
                now = now.max(next);
                while let Some((conn, at)) = timers.due(now) {
                    prop_assert_eq!(promised[conn.index()].take(), Some(at));
                }
                rounds += 1;
                prop_assert!(rounds < 20 * (LEVELS + 1));
            }
            prop_assert!(promised.iter().all(Option::is_none));
        }
    }

    /// What lies beyond the last level is kept.
    #[test]
    fn far_away() {
        let mut timers = Timers::new(20);
        let at = Time::from_nanos(1 << 62);
        timers.arm(name(1), at, &mut None);
        let mut rounds = 0;
        loop {
            let next = timers.next().unwrap();
            if let Some(found) = timers.due(next) {
                assert_eq!(found, (name(1), at));
                break;
            }
            rounds += 1;
            assert!(rounds < 100_000);
        }
    }
}
