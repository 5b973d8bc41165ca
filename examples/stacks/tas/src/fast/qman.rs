//! The queue manager: which flow may send next, and when.
//!
//! In: flows with bytes to send, each with a rate; out: flows whose turn it is, oldest due first. Flows without a rate
//! take turns on the no-limit list; paced ones stand in a skip list of four levels, ordered by the time of their next
//! segment. It refuses to know segments and windows.

use std::collections::VecDeque;

const LEVELS: usize = 4;
const NONE: u32 = u32::MAX;
/// How far a flow that always had something to send may catch up, in ns: its core was late, not the flow.
const CREDIT: u64 = 10_000_000;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The flow's place.
    pub flow: u32,
    /// How long ago it could have been, in ns.
    pub late: u64,
    /// Its rate in bytes per second; 0: none.
    pub rate: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    listed: bool,
    rate: u64,
    /// Time of the next segment, in ns.
    due: u64,
    next: [u32; LEVELS],
}

const EMPTY: Entry = Entry {
    listed: false,
    rate: 0,
    due: 0,
    next: [NONE; LEVELS],
};

/// The flows of one fast-path core that may send.
#[derive(Debug)]
pub struct Qman {
    entries: Vec<Entry>,
    nolimit: VecDeque<(u32, u64)>,
    heads: [u32; LEVELS],
    random: u32,
}

impl Default for Qman {
    fn default() -> Qman {
        Qman {
            entries: Vec::new(),
            nolimit: VecDeque::new(),
            heads: [NONE; LEVELS],
            random: 0x2545_f491,
        }
    }
}

impl Qman {
    /// The flow has something to send, at most at `rate` bytes per second, 0: as fast as it goes.
    #[inline(never)]
    pub fn qman_set(&mut self, flow: u32, rate: u64, now: u64) {
        // A flow that was silent gets no credit for it.
        self.set_impl(flow, rate, now, now);
    }

    /// The same for a flow that has just had its turn and has more to send: virtual time goes on where it was.
    pub fn qman_set_again(&mut self, flow: u32, rate: u64, now: u64) {
        self.set_impl(flow, rate, now, now.saturating_sub(CREDIT));
    }

    fn set_impl(&mut self, flow: u32, rate: u64, now: u64, earliest: u64) {
        let at = flow as usize;
        if self.entries.len() <= at {
            self.entries.resize(at + 1, EMPTY);
        }
        if self.entries[at].listed {
            return;
        }
        self.entries[at].listed = true;
        self.entries[at].rate = rate;
        if rate == 0 {
            self.nolimit.push_back((flow, now));
        } else {
            self.entries[at].due = self.entries[at].due.max(earliest);
            self.queue_activate_skiplist(flow);
        }
    }

    /// A segment of `bytes` was sent: the next one is due when the rate has had time for it.
    pub fn charge(&mut self, flow: u32, bytes: u32) {
        if let Some(entry) = self.entries.get_mut(flow as usize)
            && let Some(gap) = (u64::from(bytes) * 1_000_000_000).checked_div(entry.rate)
        {
            entry.due += gap;
        }
    }

    /// The next flow whose turn it is.
    #[inline(never)]
    pub fn qman_poll(&mut self, now: u64) -> Option<Turn> {
        self.poll_skiplist(now).or_else(|| self.poll_nolimit(now))
    }

    #[inline(never)]
    fn poll_nolimit(&mut self, now: u64) -> Option<Turn> {
        let (flow, since) = self.nolimit.pop_front()?;
        self.entries[flow as usize].listed = false;
        Some(Turn {
            flow,
            late: now.saturating_sub(since),
            rate: 0,
        })
    }

    #[inline(never)]
    fn poll_skiplist(&mut self, now: u64) -> Option<Turn> {
        let flow = self.heads[0];
        let entry = self.entries.get(flow as usize)?;
        let (due, rate, next) = (entry.due, entry.rate, entry.next);
        if due > now {
            return None;
        }
        for (head, after) in self.heads.iter_mut().zip(next) {
            if *head == flow {
                *head = after;
            }
        }
        self.entries[flow as usize].listed = false;
        Some(Turn {
            flow,
            late: now - due,
            rate,
        })
    }

    #[inline(never)]
    fn queue_activate_skiplist(&mut self, flow: u32) {
        let due = self.entries[flow as usize].due;
        let top = self.level();
        let mut before = NONE;
        for level in (0..LEVELS).rev() {
            loop {
                let next = self.after(before, level);
                if next == NONE || self.entries[next as usize].due > due {
                    break;
                }
                before = next;
            }
            if level <= top {
                let next = self.after(before, level);
                self.entries[flow as usize].next[level] = next;
                match self.entries.get_mut(before as usize) {
                    Some(entry) => entry.next[level] = flow,
                    None => self.heads[level] = flow,
                }
            } else {
                self.entries[flow as usize].next[level] = NONE;
            }
        }
    }

    fn after(&self, flow: u32, level: usize) -> u32 {
        match self.entries.get(flow as usize) {
            Some(entry) => entry.next[level],
            None => self.heads[level],
        }
    }

    /// Three of four flows are on the lowest level only, and so on.
    fn level(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        (self.random.trailing_zeros() as usize / 2).min(LEVELS - 1)
    }

    /// When there will be a turn: now, later, or never.
    pub fn next_due(&self) -> Option<u64> {
        if !self.nolimit.is_empty() {
            return Some(0);
        }
        self.entries.get(self.heads[0] as usize).map(|e| e.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Flows without a rate take turns; a flow that is listed already is not listed twice.
    #[test]
    fn nolimit_flows_take_turns() {
        let mut qman = Qman::default();
        for flow in [4, 2, 4, 9] {
            qman.qman_set(flow, 0, 10);
        }
        let mut turns = Vec::new();
        while let Some(turn) = qman.qman_poll(25) {
            assert_eq!((turn.late, turn.rate), (15, 0));
            turns.push(turn.flow);
        }
        assert_eq!(turns, [4, 2, 9]);
        assert_eq!(qman.next_due(), None);
    }

    /// A paced flow sends one segment per interval of its rate: 1000 bytes at 1 MB/s are a millisecond.
    #[test]
    fn a_rate_spaces_segments() {
        let mut qman = Qman::default();
        let mut sent = Vec::new();
        for now in (0..5_000_000).step_by(100_000) {
            qman.qman_set(1, 1_000_000, now);
            if qman.qman_poll(now).is_some() {
                sent.push(now);
                qman.charge(1, 1000);
            }
        }
        assert_eq!(sent, [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]);
    }

    /// A core that comes late lets a flow catch up, but not by more than its credit; a flow that was silent gets none.
    #[test]
    fn late_cores_catch_up() {
        let mut qman = Qman::default();
        let burst = |qman: &mut Qman, now| {
            let mut sent = 0;
            while qman.qman_poll(now).is_some() {
                sent += 1;
                qman.charge(1, 1000);
                qman.qman_set_again(1, 1_000_000, now);
            }
            sent
        };
        qman.qman_set(1, 1_000_000, 1_000_000);
        assert_eq!(burst(&mut qman, 6_000_000), 6);
        assert_eq!(burst(&mut qman, 1_000_000_000), 11 + 1);
        let mut qman = Qman::default();
        qman.qman_set(1, 1_000_000, 0);
        assert!(qman.qman_poll(0).is_some());
        qman.charge(1, 1000);
        qman.qman_set(1, 1_000_000, 500_000_000);
        assert_eq!(burst(&mut qman, 500_000_000), 1);
    }

    proptest! {
        /// Paced flows come in the order of their due times, none before its time, each once.
        #[test]
        fn order_is_that_of_due_times(dues in prop::collection::vec(0u64..1000, 1..200), now in 0u64..1200) {
            let mut qman = Qman::default();
            for (flow, &due) in dues.iter().enumerate() {
                qman.qman_set(flow as u32, 1, due);
            }
            let mut last = 0;
            let mut turns = 0;
            while let Some(turn) = qman.qman_poll(now) {
                let due = dues[turn.flow as usize];
                prop_assert!(due >= last && due <= now);
                prop_assert_eq!(turn.late, now - due);
                (last, turns) = (due, turns + 1);
            }
            prop_assert_eq!(turns, dues.iter().filter(|&&d| d <= now).count());
        }
    }
}
