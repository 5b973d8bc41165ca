//! Events of all rings in the order of time, a short window in memory.
//!
//! In: each ring's events, nearly in order (events of a burst carry the stamp of its beginning), rings one after the
//! other as the file holds them; out: all events by stamp, equal ones in the order of their ring. What comes after its
//! time was given out is counted and left out: a span must not be made of events in the wrong order.

use bypassprof_wire::{Event, Point};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

/// One event, as much of it as spans need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Counter value.
    pub tsc: u64,
    /// Number of the ring.
    pub ring: u32,
    /// Where.
    pub point: Point,
    /// Flow, or the point's own use of the field.
    pub flow: u32,
    /// The first arguments.
    pub args: [u32; 4],
    order: u64,
}

impl PartialOrd for Stamped {
    fn partial_cmp(&self, other: &Stamped) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stamped {
    fn cmp(&self, other: &Stamped) -> Ordering {
        (self.tsc, self.order).cmp(&(other.tsc, other.order))
    }
}

/// Puts events in order. Lengths are counter ticks.
#[derive(Debug)]
pub struct Order {
    waiting: BinaryHeap<Reverse<Stamped>>,
    /// Newest stamp of each ring.
    newest: BTreeMap<u32, u64>,
    /// A ring's own events are at most this far out of order.
    slack: u64,
    /// A silent ring is waited for as long as this.
    window: u64,
    given: u64,
    taken: u64,
    late: u64,
}

impl Order {
    /// For rings that are each in order but for `slack` and in the file within `window` of each other.
    pub fn new(slack: u64, window: u64) -> Order {
        Order {
            waiting: BinaryHeap::new(),
            newest: BTreeMap::new(),
            slack,
            window: window.max(slack),
            given: 0,
            taken: 0,
            late: 0,
        }
    }

    /// Makes a ring known, so that it is waited for.
    pub fn ring(&mut self, ring: u32) {
        self.newest.entry(ring).or_insert(0);
    }

    /// Takes an event.
    pub fn push(&mut self, ring: u32, event: &Event, point: Point) {
        let tsc = event.tsc.raw();
        let newest = self.newest.entry(ring).or_insert(0);
        *newest = tsc.max(*newest);
        if tsc < self.given {
            self.late += 1;
            return;
        }
        self.taken += 1;
        let [a, b, c, d, ..] = event.args;
        self.waiting.push(Reverse(Stamped {
            tsc,
            ring,
            point,
            flow: event.flow.raw(),
            args: [a, b, c, d],
            order: self.taken,
        }));
    }

    /// Gives out what nothing older can follow any more.
    pub fn settle(&mut self, out: &mut impl FnMut(Stamped)) {
        let oldest = self.newest.values().min().copied().unwrap_or(0);
        let newest = self.newest.values().max().copied().unwrap_or(0);
        let all_told = oldest.saturating_sub(self.slack);
        self.give(all_told.max(newest.saturating_sub(self.window)), out);
    }

    /// Gives out all that is left.
    pub fn finish(&mut self, out: &mut impl FnMut(Stamped)) {
        self.give(u64::MAX, out);
    }

    fn give(&mut self, until: u64, out: &mut impl FnMut(Stamped)) {
        while let Some(Reverse(next)) = self.waiting.peek() {
            if next.tsc >= until {
                break;
            }
            if let Some(Reverse(event)) = self.waiting.pop() {
                out(event);
            }
        }
        self.given = self.given.max(until.min(u64::MAX - 1));
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Events that came too late.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bypassprof_wire::{Flow, Tsc, points};
    use proptest::prelude::*;

    fn event(tsc: u64) -> Event {
        Event {
            tsc: Tsc::from_raw(tsc),
            point: points::TCP_IN,
            flow: Flow::NONE,
            args: [0; 10],
            arg_count: 1,
        }
    }

    proptest! {
        /// Rings read block by block, a little out of order in themselves, come out in order and whole.
        #[test]
        fn in_order(steps in proptest::collection::vec((0u32..3, 0u64..20, 0u64..5), 1..200)) {
            let mut order = Order::new(5, 1_000_000);
            (0..3).for_each(|r| order.ring(r));
            let mut clocks = [1000u64; 3];
            let mut seen = Vec::new();
            for &(ring, step, back) in &steps {
                let clock = &mut clocks[ring as usize];
                *clock += step;
                order.push(ring, &event(*clock - back), points::TCP_IN);
                order.settle(&mut |e| seen.push(e.tsc));
            }
            order.finish(&mut |e| seen.push(e.tsc));
            prop_assert_eq!(seen.len(), steps.len());
            prop_assert!(seen.is_sorted());
            prop_assert_eq!(order.late(), 0);
        }
    }

    /// A silent ring is not waited for longer than the window; what it says then is late.
    #[test]
    fn silent_ring() {
        let mut order = Order::new(1, 100);
        order.ring(0);
        order.ring(1);
        let mut seen = Vec::new();
        for tsc in [1000, 1050, 1200] {
            order.push(0, &event(tsc), points::TCP_IN);
        }
        order.settle(&mut |e| seen.push(e.tsc));
        assert_eq!(seen, [1000, 1050]);
        order.push(1, &event(1010), points::TCP_IN);
        assert_eq!((order.late(), order.waiting()), (1, 1));
    }
}
