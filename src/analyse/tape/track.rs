//! What one thread's changes are within the stretches of its time that count.
//!
//! In: changes nearly in order of time, stretches in order and apart; out: a change where a stretch begins or something
//! changes within it, and one to nothing where it ends. Without stretches all of the time counts, and changes pass as they
//! are. It refuses to know what changes.

use std::collections::VecDeque;

/// A value that changes.
pub struct Track<V> {
    /// Stretches that are not over; `None` if all of the time counts.
    only: Option<VecDeque<(u64, u64)>>,
    now: Option<V>,
    /// Up to where all is told.
    told: u64,
}

impl<V> Default for Track<V> {
    fn default() -> Self {
        Track {
            only: None,
            now: None,
            told: 0,
        }
    }
}

impl<V: Copy> Track<V> {
    /// The same within these stretches alone.
    pub fn within(stretches: impl IntoIterator<Item = (u64, u64)>) -> Track<V> {
        Track {
            only: Some(stretches.into_iter().collect()),
            ..Track::default()
        }
    }

    /// From `at` on there is another value. Gives what is to be told, with when.
    pub fn change(&mut self, at: u64, value: V, out: &mut impl FnMut(u64, Option<V>)) {
        if self.only.is_none() {
            out(at, Some(value));
            return;
        }
        let at = at.max(self.told);
        self.tell(at, out);
        self.now = Some(value);
        let inside = self.only.as_ref().and_then(VecDeque::front);
        if inside.is_some_and(|&(from, _)| from < at) {
            out(at, self.now);
        }
    }

    /// Nothing changes any more.
    pub fn end(&mut self, out: &mut impl FnMut(u64, Option<V>)) {
        self.tell(u64::MAX, out);
    }

    /// Tells what begins and ends before `until`; a stretch that begins right there begins with the next value.
    fn tell(&mut self, until: u64, out: &mut impl FnMut(u64, Option<V>)) {
        while let Some(only) = &mut self.only
            && let Some(&(from, to)) = only.front()
            && from < until
        {
            if from >= self.told && self.now.is_some() {
                out(from, self.now);
            }
            if to > until {
                break;
            }
            if self.now.is_some() {
                out(to, None);
            }
            only.pop_front();
        }
        self.told = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(stretches: &[(u64, u64)], changes: &[(u64, char)]) -> Vec<(u64, Option<char>)> {
        let mut track = Track::within(stretches.iter().copied());
        let mut told = Vec::new();
        let mut out = |at, value| told.push((at, value));
        for &(at, value) in changes {
            track.change(at, value, &mut out);
        }
        track.end(&mut out);
        told
    }

    /// What holds before a stretch holds from its beginning on; nothing does where it ends.
    #[test]
    fn clipped() {
        let changes = [(5, 'a'), (15, 'b'), (25, 'c'), (30, 'd')];
        assert_eq!(
            told(&[(10, 20), (30, 40)], &changes),
            [
                (10, Some('a')),
                (15, Some('b')),
                (20, None),
                (30, Some('d')),
                (40, None)
            ]
        );
        assert_eq!(told(&[(0, 3)], &changes), []);
        let mut all = Vec::new();
        Track::default().change(7, 'x', &mut |at, value| all.push((at, value)));
        assert_eq!(all, [(7, Some('x'))]);
    }

    proptest! {
        /// Whatever changes whenever: at each moment of a stretch the value is the one of the last change, and nothing
        /// outside.
        #[test]
        fn as_it_was(
            lengths in proptest::collection::vec((1u64..9, 1u64..9), 0..6),
            steps in proptest::collection::vec((1u64..9, proptest::char::range('a', 'e')), 0..9),
        ) {
            let mut clock = 0;
            let stretches: Vec<_> = lengths.into_iter().map(|(pause, length)| {
                let from = clock + pause;
                clock = from + length;
                (from, clock)
            }).collect();
            let mut clock = 0;
            let changes: Vec<_> = steps.into_iter().map(|(step, value)| {
                clock += step;
                (clock, value)
            }).collect();
            let told = told(&stretches, &changes);
            for at in 0..120 {
                let last = |of: &[(u64, Option<char>)]| of.iter().rev().find(|c| c.0 <= at).and_then(|c| c.1);
                let counts = stretches.iter().any(|s| s.0 <= at && at < s.1);
                let real: Vec<_> = changes.iter().map(|&(at, value)| (at, Some(value))).collect();
                let expected = last(&real).filter(|_| counts);
                prop_assert_eq!(last(&told), expected, "at {}: {:?} of {:?}", at, told, stretches);
            }
        }
    }
}
