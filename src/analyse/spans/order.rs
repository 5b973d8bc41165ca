//! Events of all rings in the order of time, a short window in memory.
//!
//! In: each ring's events, nearly in order (events of a burst carry the stamp of its beginning), rings one after the
//! other as the file holds them; out: all events by stamp, equal ones in the order in which they came. What comes after
//! its time was given out is counted and left out: a span must not be made of events in the wrong order.
//!
//! A ring's events lie in a few runs, each in order: an event goes behind the first run that ends before it. What is given
//! out at once is merged two runs at a time, without a branch that depends on which of them is next.

use bypassprof_wire::Point;
use std::collections::{BTreeMap, VecDeque};
use std::mem::swap;

/// One event, as much of it as spans need: half a cache line, since each is copied a dozen times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Counter value.
    pub tsc: u64,
    /// Flow, or the point's own use of the field.
    pub flow: u32,
    /// Arguments: which of an event's says who puts it in.
    pub args: [u32; 2],
    /// Number of the ring.
    pub ring: u32,
    order: u32,
    /// Where.
    pub point: Point,
}

const _: () = assert!(size_of::<Stamped>() == 32);

impl Stamped {
    /// Whether it comes before another one: by stamp, then by the number in which it came. Numbers begin anew after 2^32
    /// events, far more than wait; they are compared by their distance.
    fn is_before(&self, other: &Stamped) -> bool {
        let came_before = (self.order.wrapping_sub(other.order) as i32) < 0;
        (self.tsc < other.tsc) | ((self.tsc == other.tsc) & came_before)
    }
}

/// Runs of a ring. A stack that stamps a burst's packets with its beginning needs two, sampled rounds a third.
const RUNS: usize = 4;
/// Most events that wait, all rings together: the oldest are given out before the window is over, and what comes too late
/// then is counted as late.
pub const MOST_WAITING: usize = 1 << 21;

/// A ring's events that wait.
#[derive(Debug, Default)]
struct Source {
    /// Newest stamp.
    newest: u64,
    /// The last stamp of each run, 0 where it is empty: which run an event goes to is seen here.
    ends: [u64; RUNS],
    /// Each in order.
    runs: [VecDeque<Stamped>; RUNS],
}

impl Source {
    fn push(&mut self, event: Stamped) {
        let ends = self.ends.iter_mut().zip(&mut self.runs);
        for (end, run) in ends {
            if *end <= event.tsc {
                *end = event.tsc;
                run.push_back(event);
                return;
            }
        }
        let [.., last] = &mut self.runs;
        let later = last.iter().rev().take_while(|e| e.tsc > event.tsc);
        let at = last.len() - later.count();
        last.insert(at, event);
    }

    /// Gives the beginnings of its runs to be merged, up to `until`.
    fn give(&mut self, until: u64, merge: &mut Merge) {
        for (end, run) in self.ends.iter_mut().zip(&mut self.runs) {
            merge.take(run, until);
            if run.is_empty() {
                *end = 0;
            }
        }
    }
}

/// Runs that are merged, one behind the other; its memory is kept.
#[derive(Debug, Default)]
struct Merge {
    from: Vec<Stamped>,
    to: Vec<Stamped>,
    /// Where each run ends.
    ends: Vec<usize>,
}

impl Merge {
    /// Takes the beginning of a run, up to `until`.
    fn take(&mut self, run: &mut VecDeque<Stamped>, until: u64) {
        if run.front().is_none_or(|event| event.tsc >= until) {
            return;
        }
        let count = run.partition_point(|event| event.tsc < until);
        let (front, back) = run.as_slices();
        let of_front = count.min(front.len());
        self.from.extend_from_slice(&front[..of_front]);
        self.from.extend_from_slice(&back[..count - of_front]);
        run.drain(..count);
        self.ends.push(self.from.len());
    }

    /// Puts all that was taken behind `out`, in order.
    fn give(&mut self, out: &mut Vec<Stamped>) {
        while self.ends.len() > 2 {
            self.to.clear();
            self.to.reserve(self.from.len());
            let mut start = 0;
            for pair in 0..self.ends.len().div_ceil(2) {
                let middle = self.ends[2 * pair];
                let end = self.ends.get(2 * pair + 1).copied().unwrap_or(middle);
                let (one, other) = (&self.from[start..middle], &self.from[middle..end]);
                merge(one, other, &mut self.to);
                self.ends[pair] = end;
                start = end;
            }
            self.ends.truncate(self.ends.len().div_ceil(2));
            swap(&mut self.from, &mut self.to);
        }
        let (one, other) = self.from.split_at(self.ends.first().copied().unwrap_or(0));
        out.reserve(self.from.len());
        merge(one, other, out);
        self.from.clear();
        self.ends.clear();
    }
}

/// Puts two runs behind `out` as one.
fn merge(one: &[Stamped], other: &[Stamped], out: &mut Vec<Stamped>) {
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (one.get(i), other.get(j)) {
        // Which of them is next is anyone's guess, the processor's too: both places move on without a branch.
        let is_other = y.is_before(x);
        out.push(*if is_other { y } else { x });
        i += usize::from(!is_other);
        j += usize::from(is_other);
    }
    out.extend_from_slice(&one[i..]);
    out.extend_from_slice(&other[j..]);
}

/// Puts events in order. Lengths are counter ticks.
#[derive(Debug)]
pub struct Order {
    sources: BTreeMap<u32, Source>,
    /// Events of one ring are at most this far out of order.
    slack: u64,
    /// A silent ring is waited for as long as this.
    window: u64,
    most: usize,
    counts: Counts,
    merge: Merge,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: usize,
    given: u64,
    taken: u32,
    late: u64,
}

/// Where one ring's events go in.
pub struct Inlet<'a> {
    ring: u32,
    source: &'a mut Source,
    counts: &'a mut Counts,
}

impl Inlet<'_> {
    /// Hears of an event that no one needs: the ring is not silent.
    pub fn heard(&mut self, tsc: u64) {
        self.source.newest = tsc.max(self.source.newest);
    }

    /// Takes an event.
    pub fn push(&mut self, tsc: u64, point: Point, flow: u32, args: [u32; 2]) {
        self.heard(tsc);
        if tsc < self.counts.given {
            self.counts.late += 1;
            return;
        }
        self.counts.taken = self.counts.taken.wrapping_add(1);
        self.counts.waiting += 1;
        self.source.push(Stamped {
            tsc,
            flow,
            args,
            ring: self.ring,
            order: self.counts.taken,
            point,
        });
    }
}

impl Order {
    /// For rings that are each in order but for `slack` and in the file within `window` of each other.
    pub fn new(slack: u64, window: u64) -> Order {
        Order {
            sources: BTreeMap::new(),
            slack,
            window: window.max(slack),
            most: MOST_WAITING,
            counts: Counts::default(),
            merge: Merge::default(),
        }
    }

    /// Waits for everything that may come, as long as there is room.
    pub fn wait_for_all(&mut self) {
        (self.slack, self.window) = (u64::MAX, u64::MAX);
    }

    /// Makes a ring known, so that it is waited for.
    pub fn ring(&mut self, ring: u32) {
        self.sources.entry(ring).or_default();
    }

    /// Where the events of a ring go in.
    pub fn inlet(&mut self, ring: u32) -> Inlet<'_> {
        Inlet {
            ring,
            source: self.sources.entry(ring).or_default(),
            counts: &mut self.counts,
        }
    }

    /// Gives out what nothing older can follow any more.
    pub fn settle(&mut self, out: &mut Vec<Stamped>) {
        let newest = || self.sources.values().map(|s| s.newest);
        let all_told = newest().min().unwrap_or(0).saturating_sub(self.slack);
        let latest = newest().max().unwrap_or(0);
        self.give(all_told.max(latest.saturating_sub(self.window)), out);
        if self.counts.waiting > self.most {
            self.give_early(out);
        }
    }

    /// Too many wait: half of the time that they span is given out.
    fn give_early(&mut self, out: &mut Vec<Stamped>) {
        let runs = || self.sources.values().flat_map(|s| &s.runs);
        let oldest = runs().filter_map(|r| r.front()).map(|e| e.tsc).min();
        let newest = runs().filter_map(|r| r.back()).map(|e| e.tsc).max();
        if let (Some(oldest), Some(newest)) = (oldest, newest) {
            self.give(oldest + (newest - oldest).div_ceil(2).max(1), out);
        }
    }

    /// Gives out all that is left.
    pub fn finish(&mut self, out: &mut Vec<Stamped>) {
        self.give(u64::MAX, out);
    }

    fn give(&mut self, until: u64, out: &mut Vec<Stamped>) {
        let sources = self.sources.values_mut();
        sources.for_each(|source| source.give(until, &mut self.merge));
        self.counts.waiting -= self.merge.from.len();
        self.merge.give(out);
        self.counts.given = self.counts.given.max(until.min(u64::MAX - 1));
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.counts.waiting
    }

    /// Events that came too late.
    pub fn late(&self) -> u64 {
        self.counts.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bypassprof_wire::points;
    use proptest::prelude::*;

    /// An event of a ring, with a number of its own.
    fn push(order: &mut Order, ring: u32, tsc: u64, number: u32) {
        let mut inlet = order.inlet(ring);
        inlet.push(tsc, points::TCP_IN, 0, [number, 0]);
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
                push(&mut order, ring, *clock - back, 0);
                order.settle(&mut seen);
            }
            order.finish(&mut seen);
            prop_assert_eq!(seen.len(), steps.len());
            prop_assert!(seen.is_sorted_by_key(|e| (e.tsc, e.order)));
            prop_assert_eq!(order.waiting(), 0);
            prop_assert_eq!(order.late(), 0);
        }
    }

    /// However far out of order in itself, a ring comes out in order, equal stamps as they came.
    #[test]
    fn many_runs() {
        let mut order = Order::new(1_000, 1_000);
        let stamps = [50u64, 40, 30, 20, 10, 25, 20, 60, 5];
        for (at, &tsc) in (0u32..).zip(&stamps) {
            push(&mut order, 0, tsc, at);
        }
        let mut seen = Vec::new();
        order.finish(&mut seen);
        let seen: Vec<_> = seen.iter().map(|e| (e.tsc, e.args[0])).collect();
        let mut expected: Vec<_> = stamps.into_iter().zip(0u32..).collect();
        expected.sort();
        assert_eq!((seen, order.waiting()), (expected, 0));
    }

    /// Memory has an end: a ring that is not heard from is not waited for while others fill it, and what it then says
    /// too late is counted.
    #[test]
    fn too_many() {
        let mut order = Order {
            most: 100,
            ..Order::new(1, 1_000_000)
        };
        order.ring(0);
        order.ring(1);
        let mut seen = Vec::new();
        for tsc in 0..1000 {
            push(&mut order, 0, tsc, 0);
            order.settle(&mut seen);
            assert!(order.waiting() <= 100);
        }
        push(&mut order, 1, 10, 0);
        order.finish(&mut seen);
        assert!(seen.iter().map(|e| e.tsc).eq(0..1000));
        assert_eq!(order.late(), 1);
    }

    /// A silent ring is not waited for longer than the window; what it says then is late.
    #[test]
    fn silent_ring() {
        let mut order = Order::new(1, 100);
        order.ring(0);
        order.ring(1);
        let mut seen = Vec::new();
        for tsc in [1000, 1050, 1200] {
            push(&mut order, 0, tsc, 0);
        }
        order.settle(&mut seen);
        assert!(seen.iter().map(|e| e.tsc).eq([1000, 1050]));
        push(&mut order, 1, 1010, 0);
        assert_eq!((order.late(), order.waiting()), (1, 1));
    }
}
