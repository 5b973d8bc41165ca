//! How long a thread, or a flow, had its application's attention lately.
//!
//! In: when the application began and ended requests, in the order of time; out: how much of a stretch of time before
//! now it spent on them. A short memory: what is older than the oldest turn that is kept is not told.

use super::queue::Queue;
use super::stamp::Stamp;

/// Turns that are remembered.
const MOST: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    start: u64,
    end: u64,
    /// Length of all turns before this one.
    before: u64,
}

/// The turns of one thread or one flow; stamps and lengths are counter ticks.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    over: Queue<Turn>,
    sum: u64,
    running: Stamp,
}

impl Turns {
    /// A request is begun; one that has not ended is left for it.
    pub fn began(&mut self, tsc: u64) {
        self.ended(tsc);
        self.running = tsc.into();
    }

    /// The request that was begun last has ended.
    pub fn ended(&mut self, tsc: u64) {
        let Some(start) = std::mem::take(&mut self.running).get() else {
            return;
        };
        if self.over.len() == MOST {
            self.over.pop_front();
        }
        let end = tsc.max(start);
        self.over.push_back(Turn {
            start,
            end,
            before: self.sum,
        });
        self.sum += end - start;
    }

    /// Something of each of its parts, so that all of it is near.
    pub fn glance(&self) -> u64 {
        self.sum ^ self.over.near().start
    }

    /// How much of `from` to `now` was spent on requests.
    pub fn within(&self, from: u64, now: u64) -> u64 {
        let started = self.started_by(from);
        let before = match started.checked_sub(1).and_then(|at| self.over.get(at)) {
            Some(turn) => turn.before + turn.end.min(from).saturating_sub(turn.start),
            None => self.over.front().map_or(self.sum, |turn| turn.before),
        };
        let running = self.running.get();
        let running = running.map_or(0, |s| now.saturating_sub(s.max(from)));
        (self.sum - before + running).min(now.saturating_sub(from))
    }

    /// How many turns began at `from` or before. Most are asked for soon after: looked for from the end on, twice as far
    /// each time, and then between the last two places.
    fn started_by(&self, from: u64) -> usize {
        let all = self.over.len();
        let is_later = |back: usize| {
            let turn = all.checked_sub(back).and_then(|at| self.over.get(at));
            turn.is_some_and(|turn| turn.start > from)
        };
        let mut not_later = 1;
        while is_later(not_later) {
            not_later *= 2;
        }
        let mut later = not_later / 2;
        while not_later - later > 1 {
            let middle = later.midpoint(not_later);
            if is_later(middle) {
                later = middle;
            } else {
                not_later = middle;
            }
        }
        all - later
    }

    /// Nobody will ask about the time before `tsc` again.
    pub fn forget_before(&mut self, tsc: u64) {
        while self.over.front().is_some_and(|turn| turn.end <= tsc) {
            self.over.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parts of turns at both ends count in part; what is still running counts until now.
    #[test]
    fn parts() {
        let mut turns = Turns::default();
        for (start, end) in [(10, 20), (30, 40)] {
            turns.began(start);
            turns.ended(end);
        }
        turns.began(50);
        assert_eq!(turns.within(0, 60), 30);
        assert_eq!(turns.within(15, 60), 25);
        assert_eq!(turns.within(25, 50), 10);
        assert_eq!(turns.within(55, 60), 5);
        turns.forget_before(20);
        assert_eq!(turns.within(25, 60), 20);
    }

    proptest! {
        /// The sum is that of looking at every tick.
        #[test]
        fn equals_tick_by_tick(
            steps in proptest::collection::vec((0u64..9, 0u64..9), 0..20),
            from in 0u64..200,
        ) {
            let mut turns = Turns::default();
            let (mut clock, mut busy) = (0, Vec::new());
            for (pause, length) in steps {
                turns.began(clock + pause);
                turns.ended(clock + pause + length);
                busy.extend(clock + pause..clock + pause + length);
                clock += pause + length;
            }
            let expected = busy.iter().filter(|&&t| t >= from).count() as u64;
            prop_assert_eq!(turns.within(from, clock), if from < clock { expected } else { 0 });
        }
    }
}
