//! Each thread counted by itself: opened when the kernel tells that it began, read and closed when it ended.
//!
//! In: events that are open for all of them together, and the threads that are there; out: [`Told`] of each thread, and
//! [`Untold`]. What a thread does before it is opened, and threads that end sooner, are counted with all of them only:
//! since Linux 5.13 and before 6.19 the kernel does not say what a thread counted when it ends.

use super::counting::{Alone, Counting, Reading};
use super::perf::Watch;
use super::proc;
use crate::trace::record::{Meta, Tid};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;

/// One thread and its counts.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its number.
    pub tid: Tid,
    /// Its name; empty if it ended before it could be asked.
    pub name: String,
    /// What was counted of each event.
    pub readings: Vec<Reading>,
}

/// Threads that have no counts of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// They ended before events could be opened for them.
    pub ended_sooner: u64,
    /// Events could not be opened for them, for this reason.
    pub refused: u64,
    /// Why, of the first.
    pub why: Option<String>,
    /// They had counts, but so many threads are not kept.
    pub not_kept: u64,
    /// Records of threads that the kernel had no room for: threads may be missing.
    pub records_lost: u64,
}

struct Running {
    name: String,
    events: Alone,
}

/// Threads that ended are kept up to this many; what later ones counted stays in the sum of all.
const MOST_KEPT: usize = 10_000;

/// Threads that are counted one by one.
pub struct Apart {
    watch: Watch,
    running: BTreeMap<Tid, Running>,
    ended: Vec<Told>,
    untold: Untold,
    /// Whether events count now.
    counts: bool,
}

impl Apart {
    /// Opens events for these threads, stopped, and watches for those that they make. `on_exec`: they start by
    /// themselves when the thread runs its program.
    pub fn open(counting: &Counting, tids: &[Tid], on_exec: bool) -> io::Result<Apart> {
        let mut apart = Apart {
            // First watched, then opened: what is made in between is told.
            watch: Watch::open(tids, &proc::cpus())?,
            running: BTreeMap::new(),
            ended: Vec::new(),
            untold: Untold::default(),
            counts: on_exec,
        };
        for &tid in tids {
            apart.add(counting, tid, on_exec);
        }
        Ok(apart)
    }

    /// Files that can be read from when a thread has come or gone.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.watch.files()
    }

    /// Lets threads count from now on, those that come later too.
    pub fn enable(&mut self) {
        self.counts = true;
        for thread in self.running.values() {
            // Of a thread that is gone there is nothing to count.
            let _ = thread.events.enable();
        }
    }

    /// Keeps them from counting.
    pub fn disable(&mut self) {
        self.counts = false;
        for thread in self.running.values() {
            // As above.
            let _ = thread.events.disable();
        }
    }

    /// Opens events for threads that have come, and reads those of threads that have gone.
    pub fn turn(&mut self, counting: &Counting) {
        for meta in self.watch.drain() {
            match meta {
                Meta::Thread(thread) if thread.name.is_empty() => {
                    self.end(counting, thread.tid);
                    self.add(counting, thread.tid, false);
                }
                Meta::Thread(thread) => {
                    if let Some(running) = self.running.get_mut(&thread.tid) {
                        running.name = thread.name;
                    }
                }
                Meta::Exit(exit) => self.end(counting, exit.tid),
                Meta::Lost(lost) => self.untold.records_lost += lost.records + lost.samples,
                _ => {}
            }
        }
    }

    /// All threads that were counted, by number, and what is missing.
    pub fn finish(mut self, counting: &Counting) -> (Vec<Told>, Untold) {
        self.turn(counting);
        for tid in self.running.keys().copied().collect::<Vec<_>>() {
            self.end(counting, tid);
        }
        self.ended.sort_by_key(|told| told.tid);
        (self.ended, self.untold)
    }

    fn add(&mut self, counting: &Counting, tid: Tid, on_exec: bool) {
        let opened = counting.alone(tid, on_exec).and_then(|events| {
            if self.counts && !on_exec {
                events.enable()?;
            }
            Ok(events)
        });
        match opened {
            Ok(events) => {
                let name = std::fs::read_to_string(format!("/proc/{tid}/comm"));
                let name = name.unwrap_or_default().trim_end().to_owned();
                self.running.insert(tid, Running { name, events });
            }
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => self.untold.ended_sooner += 1,
            Err(e) => {
                self.untold.refused += 1;
                self.untold.why.get_or_insert_with(|| e.to_string());
            }
        }
    }

    fn end(&mut self, counting: &Counting, tid: Tid) {
        let Some(thread) = self.running.remove(&tid) else {
            return;
        };
        if self.ended.len() >= MOST_KEPT {
            self.untold.not_kept += 1;
            return;
        }
        self.ended.push(Told {
            tid,
            name: thread.name,
            readings: counting.read_alone(&thread.events),
        });
    }
}
