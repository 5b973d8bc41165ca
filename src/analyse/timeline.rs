//! One thread's time, cut where its state changes: on or off a CPU, working or polling, with its samples in between.
//!
//! In: transitions of the polling loop, switches and samples, each stream nearly in order of time; out: time by state,
//! and each sample with the state it fell into. Nothing is final until [`Timeline::sweep`] has passed it; what comes
//! later than that is counted, never guessed. All times are counter values.

use super::pollstate::{PollState, Transition};
use std::collections::VecDeque;

/// Whether the thread was on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// On one that counts.
    On = 0,
    /// On none.
    Off = 1,
    /// Where its time does not count.
    Elsewhere = 2,
    /// Not known before the first switch, which tells.
    Undecided = 3,
}

/// Ticks of one thread by what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// On a CPU, by [`PollState`].
    pub on: [u64; 3],
    /// Off CPU, by the state its loop was in.
    pub off: [u64; 3],
}

impl Shares {
    /// All ticks.
    pub fn total(&self) -> u64 {
        self.on.iter().chain(&self.off).sum()
    }

    /// What is left without a part of it, or what came since it.
    pub fn since(&self, before: &Shares) -> Shares {
        let less = |now: [u64; 3], before: [u64; 3]| {
            std::array::from_fn(|at| now[at].saturating_sub(before[at]))
        };
        Shares {
            on: less(self.on, before.on),
            off: less(self.off, before.off),
        }
    }

    /// Adds another time.
    pub fn add(&mut self, other: &Shares) {
        let sums = self.on.iter_mut().chain(&mut self.off);
        let others = other.on.iter().chain(&other.off);
        sums.zip(others).for_each(|(sum, ticks)| *sum += ticks);
    }
}

/// One thread's streams, waiting to be joined. `S` is what a sample carries.
#[derive(Clone, Debug)]
pub struct Timeline<S> {
    poll: VecDeque<Transition>,
    /// When, where it was before, where it is from then on.
    switches: VecDeque<(u64, Cpu, Cpu)>,
    samples: VecDeque<(u64, S)>,
    swept: u64,
    end: u64,
    /// What of the time counts, in order and apart; `None` if all of it does.
    only: Option<VecDeque<(u64, u64)>>,
    poll_now: PollState,
    cpu_now: Cpu,
    ticks: [[u64; 3]; 4],
    /// `ticks` as they were at each [`Timeline::cut`].
    cuts: Vec<[[u64; 3]; 4]>,
    late: u64,
}

fn shares(ticks: &[[u64; 3]; 4]) -> Shares {
    Shares {
        on: ticks[Cpu::On as usize],
        off: ticks[Cpu::Off as usize],
    }
}

/// Puts `item` in its place by `key`, behind equal ones. Cheap when it belongs near the end.
fn insert<T>(queue: &mut VecDeque<T>, item: T, key: impl Fn(&T) -> u64) {
    let tsc = key(&item);
    let behind = queue.iter().rev().take_while(|other| key(other) > tsc);
    let at = queue.len() - behind.count();
    queue.insert(at, item);
}

impl<S> Timeline<S> {
    /// A thread that lived from `start` to `end`, in state `before` until a transition tells otherwise.
    pub fn new(start: u64, end: u64, before: PollState) -> Timeline<S> {
        Timeline {
            poll: VecDeque::new(),
            switches: VecDeque::new(),
            samples: VecDeque::new(),
            swept: start,
            end: end.max(start),
            only: None,
            poll_now: before,
            cpu_now: Cpu::Undecided,
            ticks: [[0; 3]; 4],
            cuts: Vec::new(),
            late: 0,
        }
    }

    /// The same, but only these stretches of time count, which are in order and apart.
    #[must_use]
    pub fn within(mut self, stretches: impl IntoIterator<Item = (u64, u64)>) -> Timeline<S> {
        self.only = Some(stretches.into_iter().collect());
        self
    }

    /// The loop changed its state.
    #[inline]
    pub fn transition(&mut self, transition: Transition) {
        self.late += u64::from(transition.tsc < self.swept && !self.is_fresh());
        insert(&mut self.poll, transition, |t| t.tsc);
    }

    /// The thread went from where it `was` to where it is `now`.
    pub fn switch(&mut self, tsc: u64, was: Cpu, now: Cpu) {
        self.late += u64::from(tsc < self.swept && !self.is_fresh());
        insert(&mut self.switches, (tsc, was, now), |s| s.0);
    }

    /// A sample of the thread.
    pub fn sample(&mut self, tsc: u64, sample: S) {
        self.late += u64::from(tsc < self.swept && !self.is_fresh());
        insert(&mut self.samples, (tsc, sample), |s| s.0);
    }

    /// Transitions, switches and samples that came after their time had been swept; they count from there on.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// What waits to be swept.
    pub fn waiting(&self) -> usize {
        self.poll.len() + self.switches.len() + self.samples.len()
    }

    fn is_fresh(&self) -> bool {
        self.ticks == [[0; 3]; 4]
    }

    /// Settles all time before `until`: adds it up by state and gives out the samples in it with their poll state.
    pub fn sweep(&mut self, until: u64, out: &mut impl FnMut(PollState, S)) {
        loop {
            let poll = self.poll.front().map_or(u64::MAX, |t| t.tsc);
            let switch = self.switches.front().map_or(u64::MAX, |s| s.0);
            let sample = self.samples.front().map_or(u64::MAX, |s| s.0);
            let next = poll.min(switch).min(sample);
            if next >= until {
                break;
            }
            self.advance(next);
            // A state holds from its stamp on, so of equal stamps the sample comes last.
            if poll == next {
                if let Some(transition) = self.poll.pop_front() {
                    self.poll_now = transition.state;
                }
            } else if switch == next {
                if let Some((_, was, now)) = self.switches.pop_front() {
                    if self.cpu_now == Cpu::Undecided {
                        self.decide(was);
                    }
                    self.cpu_now = now;
                }
            } else if let Some((tsc, sample)) = self.samples.pop_front()
                && self.counts(tsc)
            {
                out(self.poll_now, sample);
            }
        }
        self.advance(until);
    }

    fn advance(&mut self, to: u64) {
        let to = to.min(self.end);
        if to > self.swept {
            let ticks = self.counting(self.swept, to);
            self.ticks[self.cpu_now as usize][self.poll_now as usize] += ticks;
            self.swept = to;
        }
    }

    /// How much counts of the time from `from` to `to`; nothing before `to` is asked about again.
    fn counting(&mut self, from: u64, to: u64) -> u64 {
        let Some(only) = &mut self.only else {
            return to - from;
        };
        let mut sum = 0;
        while let Some(&(begin, end)) = only.front() {
            sum += end.min(to).saturating_sub(begin.max(from));
            if end > to {
                break;
            }
            only.pop_front();
        }
        sum
    }

    /// Whether what happened at `tsc`, up to which all is settled, counts.
    fn counts(&self, tsc: u64) -> bool {
        let next = self.only.as_ref().map(VecDeque::front);
        next.is_none_or(|next| next.is_some_and(|&(begin, end)| begin <= tsc && tsc < end))
    }

    /// Of a thread that has not switched yet, up to here: it `was` there, and is until a switch tells otherwise.
    pub fn assume(&mut self, was: Cpu) {
        if self.cpu_now == Cpu::Undecided {
            self.decide(was);
            self.cpu_now = was;
        }
    }

    /// From where all is settled on nothing is known of the loop, until a transition tells.
    pub fn doubt(&mut self) {
        self.poll_now = PollState::Unknown;
    }

    /// What is settled, without what is not decided.
    pub fn settled(&self) -> Shares {
        shares(&self.ticks)
    }

    fn decide(&mut self, was: Cpu) {
        for ticks in std::iter::once(&mut self.ticks).chain(&mut self.cuts) {
            let undecided = std::mem::take(&mut ticks[Cpu::Undecided as usize]);
            for (sum, ticks) in ticks[was as usize].iter_mut().zip(undecided) {
                *sum += ticks;
            }
        }
    }

    /// Ends a slice of the thread's time at `until`, behind which nothing was swept yet: see [`Timeline::finish_cut`].
    pub fn cut(&mut self, until: u64, out: &mut impl FnMut(PollState, S)) {
        self.sweep(until, out);
        self.cuts.push(self.ticks);
    }

    /// The same, but nothing after `end` counts as the thread's time.
    pub fn ending(mut self, end: u64) -> Timeline<S> {
        self.end = self.end.min(end.max(self.swept));
        self
    }

    /// Settles everything and gives the sums. A thread that never switched was all the time where it `was`.
    pub fn finish(self, was: Cpu, out: &mut impl FnMut(PollState, S)) -> Shares {
        self.finish_cut(was, out).0
    }

    /// [`Timeline::finish`], and the sums from each cut to the next.
    pub fn finish_cut(
        mut self,
        was: Cpu,
        out: &mut impl FnMut(PollState, S),
    ) -> (Shares, Vec<Shares>) {
        self.sweep(u64::MAX, out);
        let samples: Vec<_> = self.samples.drain(..).collect();
        for (tsc, sample) in samples {
            if self.counts(tsc) {
                out(self.poll_now, sample);
            }
        }
        self.decide(was);
        let mut before = Shares::default();
        let cuts = self.cuts.iter().map(|ticks| {
            let now = shares(ticks);
            now.since(&std::mem::replace(&mut before, now))
        });
        (shares(&self.ticks), cuts.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cpu::{Elsewhere, Off, On};
    use PollState::{EmptyPolling, Unknown, Working};
    use proptest::prelude::*;

    fn at(tsc: u64, state: PollState) -> Transition {
        Transition { tsc, state }
    }

    /// Preemption in the middle of polling is off-CPU time, and the state goes on afterwards.
    #[test]
    fn preempted_poller() {
        let mut line = Timeline::new(0, 100, Working);
        line.transition(at(10, EmptyPolling));
        line.transition(at(90, Working));
        line.switch(30, On, Off);
        line.switch(70, Off, On);
        line.sample(20, 'a');
        line.sample(95, 'b');
        line.sample(90, 'c');
        let mut seen = Vec::new();
        let shares = line.finish(On, &mut |s, x| seen.push((s, x)));
        assert_eq!(shares.on, [20, 40, 0]);
        assert_eq!(shares.off, [0, 40, 0]);
        assert_eq!(seen, [(EmptyPolling, 'a'), (Working, 'c'), (Working, 'b')]);
    }

    /// A thread that first enters a CPU was off before; one that never switches is on if it was seen to run.
    #[test]
    fn before_the_first_switch() {
        let mut line: Timeline<()> = Timeline::new(0, 10, Working);
        line.switch(4, Off, On);
        assert_eq!(line.finish(On, &mut |_, ()| {}).off, [4, 0, 0]);
        let line: Timeline<()> = Timeline::new(0, 10, Unknown);
        assert_eq!(line.clone().finish(On, &mut |_, ()| {}).on, [0, 0, 10]);
        assert_eq!(line.finish(Off, &mut |_, ()| {}).off, [0, 0, 10]);
    }

    /// Only what lies in the stretches counts, however the time is swept.
    #[test]
    fn within_stretches() {
        let mut line = Timeline::new(0, 100, Working).within([(10, 20), (40, 70)]);
        line.transition(at(50, EmptyPolling));
        line.switch(60, On, Off);
        for tsc in [5, 10, 19, 20, 45, 69, 70] {
            line.sample(tsc, tsc);
        }
        let mut seen = Vec::new();
        line.sweep(15, &mut |s, x| seen.push((s, x)));
        let shares = line.finish(On, &mut |s, x| seen.push((s, x)));
        assert_eq!((shares.on, shares.off), ([20, 10, 0], [0, 10, 0]));
        let working = [10, 19, 45].map(|t| (Working, t));
        assert_eq!(seen, [&working[..], &[(EmptyPolling, 69)]].concat());
    }

    /// Time where it does not count is in neither sum, before the first switch too.
    #[test]
    fn elsewhere() {
        let mut line: Timeline<()> = Timeline::new(0, 100, Working);
        line.switch(30, Elsewhere, On);
        line.switch(50, On, Elsewhere);
        let shares = line.finish(Off, &mut |_, ()| {});
        assert_eq!((shares.on, shares.off), ([20, 0, 0], [0; 3]));
    }

    /// Slices hold the same as the whole, also from before it was known where the thread was.
    #[test]
    fn cut_in_slices() {
        let mut line: Timeline<()> = Timeline::new(0, 100, Working);
        line.transition(at(40, EmptyPolling));
        line.switch(60, On, Off);
        line.cut(25, &mut |_, ()| {});
        line.cut(50, &mut |_, ()| {});
        line.cut(100, &mut |_, ()| {});
        let (all, slices) = line.finish_cut(On, &mut |_, ()| {});
        let on: Vec<_> = slices.iter().map(|s| s.on).collect();
        assert_eq!(on, [[25, 0, 0], [15, 10, 0], [0, 10, 0]]);
        let mut sum = Shares::default();
        slices.iter().for_each(|s| sum.add(s));
        assert_eq!((sum, all.off), (all, [0, 40, 0]));
    }

    /// What comes after its time was swept is counted and holds from there on.
    #[test]
    fn too_late() {
        let mut line = Timeline::new(0, 100, Working);
        line.sample(60, ());
        line.sweep(50, &mut |_, ()| panic!("not settled yet"));
        line.transition(at(20, EmptyPolling));
        assert_eq!(line.late(), 1);
        let mut states = Vec::new();
        let shares = line.finish(On, &mut |s, ()| states.push(s));
        assert_eq!((shares.on, states), ([50, 50, 0], vec![EmptyPolling]));
    }

    /// The state at a time, the slow way: the last change at or before it.
    fn naive<T: Copy>(changes: &[(u64, T)], tsc: u64) -> Option<T> {
        let before = changes.iter().filter(|c| c.0 <= tsc);
        before.max_by_key(|c| c.0).map(|c| c.1)
    }

    proptest! {
        /// Any streams, swept at any times, give what looking up every single tick gives.
        #[test]
        fn equals_tick_by_tick(
            poll in proptest::collection::btree_map(0u64..200, 0u8..3, 0..30),
            switches in proptest::collection::btree_map(0u64..200, any::<bool>(), 0..20),
            samples in proptest::collection::vec(0u64..200, 0..30),
            swap in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
            sweeps in proptest::collection::vec(0u64..200, 0..4),
        ) {
            let state = |n: u8| [Working, EmptyPolling, Unknown][n as usize];
            let poll: Vec<_> = poll.into_iter().map(|(t, n)| (t, state(n))).collect();
            let switches: Vec<_> = switches.into_iter().collect();
            let mut line = Timeline::new(0, 200, Working);
            let mut shuffled = poll.clone();
            if shuffled.len() > 1 {
                for index in &swap {
                    let i = index.index(shuffled.len() - 1);
                    shuffled.swap(i, i + 1);
                }
            }
            shuffled.iter().for_each(|&(t, s)| line.transition(at(t, s)));
            switches.iter().for_each(|&(t, on)| line.switch(t, if on { Off } else { On }, if on { On } else { Off }));
            samples.iter().for_each(|&t| line.sample(t, t));
            let mut seen = Vec::new();
            let mut sweeps = sweeps;
            sweeps.sort_unstable();
            for until in sweeps {
                line.sweep(until, &mut |s, t| seen.push((t, s)));
            }
            let shares = line.finish(On, &mut |s, t| seen.push((t, s)));
            let before = switches.first().is_none_or(|&(_, on)| !on);
            let mut expected = Shares::default();
            for tsc in 0..200 {
                let state = naive(&poll, tsc).unwrap_or(Working) as usize;
                let on = naive(&switches, tsc).unwrap_or(before);
                if on { expected.on[state] += 1 } else { expected.off[state] += 1 }
            }
            prop_assert_eq!(shares, expected);
            let mut expected: Vec<_> = samples.iter().map(|&t| (t, naive(&poll, t).unwrap_or(Working))).collect();
            expected.sort();
            seen.sort();
            prop_assert_eq!(seen, expected);
        }
    }
}
