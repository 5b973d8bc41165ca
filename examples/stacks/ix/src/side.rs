//! The side poll: a storage scheduler that has nothing to schedule, in every round of every core.
//!
//! In: rounds; out: time spent. In the ReFlex variant each core writes its word of one array in every round and looks at
//! the others'. Words side by side share cache lines, so that idle cores take the line from each other: on 24 cores 86 %
//! of the time. Here the array can be padded, left as it was, or not be polled at all.

use crate::config::SidePoll;
use bypassprof_probe::{self as probe, Flow, points};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words between those of two cores when they are padded: two cache lines, since processors fetch them in pairs.
const PADDED: usize = 16;

/// One round in so many tells how long its side poll took.
const SAMPLED: u32 = 1021;

/// The array that all cores write.
#[derive(Clone, Debug)]
pub struct TokenState {
    words: Arc<[AtomicU64]>,
    stride: usize,
}

impl TokenState {
    /// The array for so many cores; empty if nothing is polled.
    pub fn new(cores: usize, poll: SidePoll) -> TokenState {
        let stride = match poll {
            SidePoll::Off => 0,
            SidePoll::Padded => PADDED,
            SidePoll::Shared => 1,
        };
        TokenState {
            words: (0..cores * stride).map(|_| AtomicU64::new(0)).collect(),
            stride,
        }
    }
}

/// One core's scheduler.
#[derive(Debug)]
pub struct Scheduler {
    state: TokenState,
    own: usize,
    rounds: u64,
    countdown: u32,
}

impl Scheduler {
    /// The scheduler of a core.
    pub fn new(state: TokenState, core: usize) -> Scheduler {
        Scheduler {
            own: core * state.stride,
            state,
            rounds: 0,
            countdown: 1,
        }
    }

    /// Whether there is anything to poll.
    pub fn is_on(&self) -> bool {
        self.own < self.state.words.len()
    }

    /// Gives our word a new value and looks whether any core has asked for something.
    #[inline(never)]
    pub fn nvme_sched(&mut self) {
        self.countdown -= 1;
        let start = if self.countdown == 0 {
            self.countdown = SAMPLED;
            probe::enabled().then(probe::now)
        } else {
            None
        };
        self.rounds += 1;
        // Relaxed: values that nothing hangs on; what costs is the cache line's journey.
        self.state.words[self.own].store(self.rounds, Ordering::Relaxed);
        let words = self.state.words.iter().step_by(self.state.stride);
        let seen = words.fold(0, |all, word| all | word.load(Ordering::Relaxed));
        std::hint::black_box(seen);
        if let Some(start) = start {
            let ticks = probe::now().since(start).ticks();
            let ticks = ticks.min(u64::from(u32::MAX)) as u32;
            probe::emit(points::SIDE_POLL, Flow::NONE, ticks);
        }
    }
}
