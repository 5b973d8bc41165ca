//! When each connection has to be looked at again, whether or not a frame comes.
//!
//! In: a connection's next deadline, told again whenever it changes; out: those that are due, earliest first. A deadline
//! that moves back leaves its old entry in the heap, which is put right when it is reached: moving back is what
//! deadlines do with every acknowledgement.

use smoltcp::time::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One connection's entry.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    deadline: Option<Instant>,
    /// The earliest of its places in the heap.
    queued: Option<Instant>,
}

/// The deadlines of all connections.
#[derive(Debug, Default)]
pub struct Deadlines {
    entries: Vec<Entry>,
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Deadlines {
    /// Sets a connection's deadline, or takes it away.
    pub fn set(&mut self, index: usize, deadline: Option<Instant>) {
        if self.entries.len() <= index {
            self.entries.resize(index + 1, Entry::default());
        }
        let entry = &mut self.entries[index];
        entry.deadline = deadline;
        if let Some(deadline) = deadline
            && entry.queued.is_none_or(|queued| deadline < queued)
        {
            entry.queued = Some(deadline);
            self.heap.push(Reverse((deadline, index)));
        }
    }

    /// The next connection whose deadline has come, and that deadline, which is taken away.
    pub fn pop_due(&mut self, now: Instant) -> Option<(usize, Instant)> {
        while let Some(&Reverse((time, index))) = self.heap.peek()
            && time <= now
        {
            self.heap.pop();
            let entry = &mut self.entries[index];
            if entry.queued != Some(time) {
                continue;
            }
            entry.queued = None;
            match entry.deadline {
                Some(deadline) if deadline <= now => {
                    entry.deadline = None;
                    return Some((index, deadline));
                }
                later => self.set(index, later),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    fn due(deadlines: &mut Deadlines, ms: i64) -> Vec<usize> {
        std::iter::from_fn(|| deadlines.pop_due(at(ms)))
            .map(|(index, _)| index)
            .collect()
    }

    /// Deadlines come once, earliest first, at their last word: moved back, moved forth, taken away.
    #[test]
    fn the_last_word_counts() {
        let mut deadlines = Deadlines::default();
        for (index, ms) in [(0, 10), (1, 5), (2, 20), (3, 7)] {
            deadlines.set(index, Some(at(ms)));
        }
        deadlines.set(0, Some(at(30)));
        deadlines.set(2, Some(at(6)));
        deadlines.set(3, None);
        assert_eq!(due(&mut deadlines, 4), []);
        assert_eq!(due(&mut deadlines, 29), [1, 2]);
        assert_eq!(due(&mut deadlines, 30), [0]);
        assert_eq!(due(&mut deadlines, 99), []);
    }

    /// A deadline that moves with every acknowledgement does not fill the heap.
    #[test]
    fn moving_back_takes_no_room() {
        let mut deadlines = Deadlines::default();
        for ms in 0..10_000 {
            deadlines.set(0, Some(at(ms + 1000)));
            assert_eq!(deadlines.pop_due(at(ms)), None);
            assert!(deadlines.heap.len() <= 1);
        }
    }
}
