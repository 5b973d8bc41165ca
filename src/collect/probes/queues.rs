//! Counts of device queues, from the queue files of programs that have one.
//!
//! In: a program's queue file; out: a record for each entry that changed, and what its devices say of themselves. What was
//! counted before this recording began is taken off.

use super::tasks::Inside;
use super::telemetry::Telemetry;
use crate::collect::clock;
use crate::trace::record::{Meta, Pid, Queue};
use crate::trace::{RingSink, WriteError};
use bypassprof_ring::reader::{QueueCounts, QueueFile, SessionDir};
use bypassprof_wire::names::ProcessKey;
use std::collections::HashMap;

/// One program's queue file.
#[derive(Debug, Default)]
pub struct Queues {
    file: Option<QueueFile>,
    /// What entries held when this recording began.
    before: HashMap<u32, QueueCounts>,
    told: HashMap<u32, QueueCounts>,
    /// What the program says of its devices when asked.
    telemetry: Option<Telemetry>,
}

impl Queues {
    /// Those of a program that was found running: what it counted until now is not ours.
    pub fn from_now(dir: &SessionDir, key: ProcessKey) -> Queues {
        let file = dir.queues(key).ok();
        let entries = file.iter().flat_map(QueueFile::entries);
        Queues {
            before: entries.map(|e| (e.entry, e)).collect(),
            file,
            ..Queues::default()
        }
    }

    /// Whether the program counts queues at all.
    pub fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Bursts that the program could not count, and its ports that are not looked at.
    pub fn missed(&self) -> (u64, u64) {
        let state = self.file.as_ref().map(QueueFile::state).unwrap_or_default();
        (state.uncounted, u64::from(state.refused.count_ones()))
    }

    /// Writes what has changed since the last time.
    pub fn tell(
        &mut self,
        dir: &SessionDir,
        key: ProcessKey,
        pid: Pid,
        inside: &Inside,
        writer: &mut dyn RingSink,
    ) -> Result<(), WriteError> {
        if self.file.is_none() {
            self.file = dir.queues(key).ok();
        }
        for counts in self.file.iter().flat_map(QueueFile::entries) {
            if self.told.get(&counts.entry) == Some(&counts) {
                continue;
            }
            let before = self.before.get(&counts.entry);
            writer.meta(&Meta::Queue(record(&counts, before, pid, inside)))?;
            self.told.insert(counts.entry, counts);
        }
        if self.telemetry.is_none() && !self.told.is_empty() {
            let file = dir.queues(key).ok();
            self.telemetry = file.and_then(|file| Telemetry::of(pid, file));
        }
        for device in self.telemetry.iter().flat_map(Telemetry::take) {
            writer.meta(&Meta::Device(device))?;
        }
        Ok(())
    }
}

fn record(counts: &QueueCounts, before: Option<&QueueCounts>, pid: Pid, inside: &Inside) -> Queue {
    let since =
        |now: u64, field: fn(&QueueCounts) -> u64| now.saturating_sub(before.map_or(0, field));
    let sizes = counts.sizes.iter().map(|&(size, calls)| {
        let earlier = before.and_then(|b| b.sizes.iter().find(|s| s.0 == size));
        (size, calls.saturating_sub(earlier.map_or(0, |s| s.1)))
    });
    Queue {
        number: counts.entry,
        time: clock::now(),
        pid,
        tid: inside.thread_outside(pid, counts.tid),
        lcore: counts.lcore,
        port: counts.port,
        port_name: counts.port_name.clone(),
        queue: counts.queue,
        receives: counts.receives,
        accepted_known: counts.accepted_known,
        sampled: counts.sampled,
        frames: since(counts.frames, |c| c.frames),
        refused: since(counts.refused, |c| c.refused),
        bytes: since(counts.bytes, |c| c.bytes),
        bytes_of: since(counts.bytes_of, |c| c.bytes_of),
        unlooked: since(counts.unlooked, |c| c.unlooked),
        sizes: sizes.filter(|s| s.1 > 0).collect(),
    }
}
