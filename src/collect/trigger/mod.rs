//! Waits for something to happen in a process with probes: a call, a request that took too long, a drop, a function
//! reached, a thread that stands still.
//!
//! In: a process and what to wait for; out: a sentence for each thing that happened. It looks at the rings every few
//! milliseconds and disturbs no one; the process must have its flight recorder on, or nothing of the past is kept. It
//! refuses to know what is done about it.

mod follow;
mod reached;

use super::snapshot::Live;
use crate::trace::record::Tid;
use follow::{Follow, Seen};
pub use reached::Function;
use reached::Reached;
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// What to wait for.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The program asks for it: `probe::trigger`.
    pub asked: bool,
    /// A request takes longer than this.
    pub latency: Option<Duration>,
    /// Something is dropped: a frame, an item of a full queue, an event, a ring for a thread.
    pub drops: bool,
    /// A polling thread stands still for so long, or no thread moves while a request is on its way.
    pub stall: Option<Duration>,
    /// A function is called.
    pub function: Option<Function>,
}

/// Why waiting cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// A function cannot be watched.
    #[error("cannot watch calls of {name}: {source}")]
    Function {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What was counted at the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    asked: u64,
    lost: u64,
}

/// How far a thread was at the last look.
#[derive(Clone, Copy, Debug)]
struct Progress {
    steps: u64,
    since: Instant,
    /// Whether it has been told that it stands still.
    told: bool,
}

/// Something that is waited for.
pub struct Trigger {
    when: When,
    follow: Follow,
    reached: Option<Reached>,
    counted: Counted,
    progress: HashMap<(u32, u64), Progress>,
}

impl Trigger {
    /// Begins to wait.
    pub fn new(live: &Live, when: When) -> Result<Trigger, WaitError> {
        let reached = when.function.as_ref().map(|function| {
            Reached::new(live.pid(), function).map_err(|source| WaitError::Function {
                name: function.name.clone(),
                source,
            })
        });
        let mut trigger = Trigger {
            follow: Follow::new(when.latency),
            reached: reached.transpose()?,
            counted: Counted::default(),
            progress: HashMap::new(),
            when,
        };
        trigger.follow.look(live);
        trigger.counted = trigger.count(live);
        Ok(trigger)
    }

    /// Looks; a sentence for what has happened since the last look, if anything.
    pub fn look(&mut self, live: &Live) -> Option<String> {
        let seen = self.follow.look(live);
        let counted = self.count(live);
        let before = std::mem::replace(&mut self.counted, counted);
        let found = [
            self.asked(before),
            self.dropped(before, &seen),
            self.when.latency.and(seen.slow),
            self.stands_still(),
            self.reached.as_mut().and_then(Reached::look),
        ];
        let found: Vec<String> = found.into_iter().flatten().collect();
        (!found.is_empty()).then(|| found.join("; "))
    }

    /// Slots that were overwritten before this could look at them.
    pub fn missed(&self) -> u64 {
        self.follow.missed()
    }

    fn count(&self, live: &Live) -> Counted {
        Counted {
            asked: live.control().triggers(),
            lost: live
                .control()
                .unreached()
                .wrapping_add(self.follow.dropped_slots()),
        }
    }

    fn asked(&self, before: Counted) -> Option<String> {
        let asked = self.when.asked && self.counted.asked != before.asked;
        asked.then(|| "the program asked for it".to_owned())
    }

    fn dropped(&self, before: Counted, seen: &Seen) -> Option<String> {
        if !self.when.drops {
            return None;
        }
        if let Some(drop) = &seen.drop {
            return Some(drop.clone());
        }
        let lost = self.counted.lost > before.lost;
        lost.then(|| "events were dropped, or a thread got no ring".to_owned())
    }

    fn stands_still(&mut self) -> Option<String> {
        let limit = self.when.stall?;
        let waiting = self.follow.requests() > 0;
        let mut found = None;
        let mut any_moved = false;
        for thread in self.follow.threads() {
            let now = Progress {
                steps: thread.steps,
                since: Instant::now(),
                told: false,
            };
            let progress = self.progress.entry(thread.key).or_insert(now);
            if progress.steps != thread.steps {
                any_moved = true;
                *progress = now;
            }
            let still = progress.since.elapsed() >= limit && !progress.told;
            if still && !thread.ended && (thread.polls && !thread.sleeps || waiting) {
                found = Some((thread.key, thread.tid, thread.name.clone(), thread.polls));
            }
        }
        let (key, tid, name, polls) = found.filter(|(.., polls)| *polls || !any_moved)?;
        if let Some(progress) = self.progress.get_mut(&key) {
            progress.told = true;
        }
        Some(still(tid, &name, limit, polls))
    }
}

fn still(tid: Tid, name: &str, limit: Duration, polls: bool) -> String {
    let ms = limit.as_millis();
    if polls {
        format!("thread {tid} ({name}) polled and stands still for {ms} ms")
    } else {
        format!(
            "nothing moves for {ms} ms while a request is on its way, thread {tid} ({name}) neither"
        )
    }
}
