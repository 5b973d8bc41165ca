//! Counts of device queues, from the queue files of programs that have one.
//!
//! In: a program's queue file; out: a record for each entry that changed, and what its devices say of themselves. What was
//! counted before this recording began is taken off.

use super::tasks::Inside;
use super::telemetry::Telemetry;
use crate::collect::clock;
use crate::trace::record::{Device, DevicePool, Meta, Pid, Queue};
use crate::trace::{RingSink, WriteError};
use crate::units::Nanos;
use bypassprof_ring::reader::{PoolUse, QueueCounts, QueueFile, SessionDir};
use bypassprof_wire::names::ProcessKey;
use std::collections::HashMap;

/// Longest time without a word of the program's own on its pools before the queue file's are taken.
const SILENCE: Nanos = Nanos::from_ns(1_500_000_000);

/// One program's queue file.
#[derive(Debug, Default)]
pub struct Queues {
    file: Option<QueueFile>,
    /// What entries held when this recording began.
    before: HashMap<u32, QueueCounts>,
    told: HashMap<u32, QueueCounts>,
    /// What the program says of its devices when asked.
    telemetry: Option<Telemetry>,
    /// When something was said of its devices or pools last.
    said: Nanos,
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
        let mut devices: Vec<_> = self.telemetry.iter().flat_map(Telemetry::take).collect();
        let silent = clock::now().since(self.said) > SILENCE;
        if devices.is_empty() && !silent {
            return Ok(());
        }
        let pools = self.file.as_ref().map(QueueFile::pools).unwrap_or_default();
        if devices.is_empty() && !pools.is_empty() {
            devices.push(Device {
                time: clock::now(),
                pid,
                ..Device::default()
            });
        }
        for mut device in devices {
            self.said = device.time;
            complete(&mut device.pools, &pools);
            writer.meta(&Meta::Device(device))?;
        }
        Ok(())
    }
}

/// Adds what the probes saw of pools to what the program says of them.
fn complete(told: &mut Vec<DevicePool>, seen: &[PoolUse]) {
    for pool in seen {
        match told.iter_mut().find(|t| t.name == pool.name) {
            Some(known) => known.free = known.free.or(Some(pool.free)),
            None => told.push(DevicePool {
                name: pool.name.clone(),
                size: pool.size,
                free: Some(pool.free),
            }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says itself counts; what it leaves out is taken from the probes.
    #[test]
    fn pools_are_completed() {
        let pool = |name: &str, free| DevicePool {
            name: name.to_owned(),
            size: 10,
            free,
        };
        let seen = |name: &str, free| PoolUse {
            name: name.to_owned(),
            size: 10,
            free,
        };
        let mut told = vec![pool("a", Some(3)), pool("b", None), pool("c", None)];
        complete(&mut told, &[seen("a", 4), seen("b", 5), seen("d", 6)]);
        let all = [
            pool("a", Some(3)),
            pool("b", Some(5)),
            pool("c", None),
            pool("d", Some(6)),
        ];
        assert_eq!(told, all);
    }
}
