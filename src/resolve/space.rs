//! What was mapped where, at which time: the executable memory of every process through its life.
//!
//! In: mapping, thread and exec records in any order; out: the mapping that held an address of a process at a time.
//! A forked process has its parent's mappings until it maps or executes something itself. It refuses to open files.

use super::files::is_file;
use crate::trace::record::{Mapping, Meta, Pid};
use crate::units::{Avma, Nanos};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::ops::Deref;

/// The executable memory of all recorded processes, and of the kernel.
#[derive(Clone, Debug, Default)]
pub struct AddressSpaces {
    processes: HashMap<Pid, Process, RandomState>,
    /// How many mappings there are.
    mappings: usize,
}

/// A mapping of a process.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// What was mapped.
    pub mapping: Mapping,
    /// How many were told of before it: those who ask again and again can keep what they know of it.
    pub number: usize,
}

impl Deref for Mapped {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}

#[derive(Clone, Debug, Default)]
struct Process {
    parent: Option<(Pid, Nanos)>,
    execs: Vec<Nanos>,
    mappings: Vec<Mapped>,
    /// When what is mapped changed, in order.
    changes: Vec<Nanos>,
}

/// A time in which what is mapped in a process does not change: an address means the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    pid: Pid,
    /// How often it had changed before.
    pub number: usize,
    begin: Nanos,
    end: Option<Nanos>,
}

impl Epoch {
    /// Whether this is the process's epoch at `time`.
    pub fn holds(&self, pid: Pid, time: Nanos) -> bool {
        self.pid == pid && self.begin <= time && self.end.is_none_or(|end| time < end)
    }
}

/// Longest line of forebears that is searched: a chain of forks without exec is short in any sane program.
const MAX_FORKS: usize = 64;

impl AddressSpaces {
    /// Takes note of a record if it says something about address spaces.
    pub fn add(&mut self, meta: &Meta) {
        match meta {
            Meta::Mapping(mapping) => {
                let process = self.processes.entry(mapping.pid).or_default();
                process.changed(mapping.time);
                process.mappings.push(Mapped {
                    mapping: mapping.clone(),
                    number: self.mappings,
                });
                self.mappings += 1;
            }
            Meta::Thread(thread) if thread.tid == thread.pid => {
                let process = self.processes.entry(thread.pid).or_default();
                if thread.exec {
                    process.executed(thread.time);
                } else if thread.parent != 0 && thread.parent != thread.pid {
                    process.parent.get_or_insert((thread.parent, thread.time));
                }
            }
            // Any thread may call exec; the process has its new name then, whichever thread it was.
            Meta::Thread(thread) if thread.exec => {
                let process = self.processes.entry(thread.pid).or_default();
                process.executed(thread.time);
            }
            _ => {}
        }
    }

    /// The mapping that held `address` in process `pid` at `time`. One that was recorded a little after `time` is taken
    /// when nothing older fits, since a running process is described only after its first samples.
    pub fn find(&self, pid: Pid, time: Nanos, address: Avma) -> Option<&Mapped> {
        let (mut pid, mut time) = (pid, time);
        for _ in 0..MAX_FORKS {
            let process = self.processes.get(&pid)?;
            let exec = process.execs.iter().filter(|&&e| e <= time).max();
            let next_exec = process.execs.iter().filter(|&&e| e > time).min();
            let holds = |m: &&Mapped| {
                address.0 >= m.start.0
                    && address.0 - m.start.0 < m.len
                    && exec.is_none_or(|&e| m.time >= e)
                    && next_exec.is_none_or(|&e| m.time < e)
            };
            let earlier = process.mappings.iter().filter(|m| m.time <= time);
            // Among mappings of the same time the one recorded last lies on top.
            let found = earlier.filter(holds).max_by_key(|m| m.time);
            if let Some(found) = found {
                return Some(process.moved_from(found, exec).unwrap_or(found));
            }
            if let (None, Some((parent, forked))) = (exec, process.parent)
                && let Some(found) = self.find_own(parent, forked.min(time), address)
            {
                return Some(found);
            }
            let later = process.mappings.iter().filter(|m| m.time > time);
            let found = later.filter(holds).min_by_key(|m| m.time);
            if found.is_some() {
                return found;
            }
            match (exec, process.parent) {
                (None, Some((parent, forked))) => (pid, time) = (parent, forked.min(time)),
                _ => return None,
            }
        }
        None
    }

    /// The epoch of a process that `time` lies in.
    pub fn epoch(&self, pid: Pid, time: Nanos) -> Epoch {
        let process = self.processes.get(&pid);
        let changes = process.map_or(&[][..], |p| &p.changes);
        let number = changes.partition_point(|&at| at <= time);
        let begin = number.checked_sub(1).map(|last| changes[last]);
        Epoch {
            pid,
            number,
            begin: begin.unwrap_or_default(),
            end: changes.get(number).copied(),
        }
    }

    fn find_own(&self, pid: Pid, time: Nanos, address: Avma) -> Option<&Mapped> {
        let process = self.processes.get(&pid)?;
        let exec = process.execs.iter().filter(|&&e| e <= time).max();
        let earlier = process.mappings.iter().filter(|m| m.time <= time);
        earlier
            .filter(|m| exec.is_none_or(|&e| m.time >= e))
            .filter(|m| address.0 >= m.start.0 && address.0 - m.start.0 < m.len)
            .max_by_key(|m| m.time)
    }
}

impl Process {
    fn executed(&mut self, time: Nanos) {
        self.changed(time);
        self.execs.push(time);
    }

    fn changed(&mut self, time: Nanos) {
        let at = self.changes.partition_point(|&before| before <= time);
        self.changes.insert(at, time);
    }

    /// The file whose text was moved into this anonymous memory, as programs do that want it on huge pages: memory that
    /// lies wholly where code of a file lay until then.
    fn moved_from(&self, memory: &Mapping, exec: Option<&Nanos>) -> Option<&Mapped> {
        if memory.path != "//anon" {
            return None;
        }
        let inside = |m: &&Mapped| {
            let (outer, inner) = (m.range(), memory.range());
            outer.start <= inner.start && inner.end <= outer.end
        };
        let before = |m: &&Mapped| m.time <= memory.time && exec.is_none_or(|&e| m.time >= e);
        let files = self.mappings.iter().filter(|m| is_file(&m.path));
        files.filter(before).filter(inside).max_by_key(|m| m.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Thread;

    fn map(pid: Pid, time: u64, start: u64, len: u64, path: &str) -> Meta {
        Meta::Mapping(Mapping {
            time: Nanos::from_ns(time),
            pid,
            start: Avma(start),
            len,
            path: path.into(),
            ..Mapping::default()
        })
    }

    fn thread(pid: Pid, parent: Pid, time: u64, exec: bool) -> Meta {
        Meta::Thread(Thread {
            time: Nanos::from_ns(time),
            pid,
            tid: pid,
            parent,
            parent_tid: parent,
            exec,
            ..Thread::default()
        })
    }

    fn spaces(metas: &[Meta]) -> AddressSpaces {
        let mut spaces = AddressSpaces::default();
        metas.iter().for_each(|m| spaces.add(m));
        spaces
    }

    fn path(spaces: &AddressSpaces, pid: Pid, time: u64, address: u64) -> &str {
        let found = spaces.find(pid, Nanos::from_ns(time), Avma(address));
        found.map_or("", |m| m.path.as_str())
    }

    /// A later mapping hides an earlier one from its time on.
    #[test]
    fn remapped() {
        let s = spaces(&[
            map(1, 10, 0x1000, 0x1000, "a"),
            map(1, 20, 0x1800, 0x100, "b"),
        ]);
        assert_eq!(path(&s, 1, 15, 0x1850), "a");
        assert_eq!(path(&s, 1, 25, 0x1850), "b");
        assert_eq!(path(&s, 1, 25, 0x1900), "a");
        assert_eq!(path(&s, 1, 25, 0x2000), "");
        assert_eq!(path(&s, 2, 25, 0x1000), "");
    }

    /// Text that was moved onto huge pages keeps its file; anonymous memory elsewhere has none.
    #[test]
    fn moved_text() {
        let s = spaces(&[
            map(1, 10, 0x40_0000, 0x40_0000, "/a"),
            map(1, 20, 0x40_0000, 0x20_0000, "//anon"),
            map(1, 20, 0x70_0000, 0x20_0000, "//anon"),
        ]);
        assert_eq!(path(&s, 1, 25, 0x41_0000), "/a");
        assert_eq!(path(&s, 1, 25, 0x71_0000), "//anon");
    }

    /// A child runs its parent's code, as it was at the fork, until it executes something else.
    #[test]
    fn fork_then_exec() {
        let s = spaces(&[
            map(1, 10, 0x1000, 0x1000, "parent"),
            thread(2, 1, 20, false),
            map(1, 25, 0x1000, 0x1000, "parent later"),
            thread(3, 2, 22, false),
            thread(2, 1, 30, true),
            map(2, 31, 0x5000, 0x1000, "child"),
        ]);
        assert_eq!(path(&s, 2, 28, 0x1000), "parent");
        assert_eq!(path(&s, 3, 28, 0x1000), "parent");
        assert_eq!(path(&s, 2, 35, 0x1000), "");
        assert_eq!(path(&s, 2, 35, 0x5000), "child");
        assert_eq!(path(&s, 2, 28, 0x5000), "");
    }

    /// A process that was running already is described a little after its first samples.
    #[test]
    fn described_late() {
        let s = spaces(&[map(7, 100, 0x1000, 0x1000, "a")]);
        assert_eq!(path(&s, 7, 90, 0x1010), "a");
    }

    /// Within an epoch nothing changes; one ends where the next begins.
    #[test]
    fn epochs() {
        let s = spaces(&[map(1, 10, 0x1000, 0x1000, "a"), thread(1, 0, 20, true)]);
        let epoch = |time| s.epoch(1, Nanos::from_ns(time));
        let numbers = [0, 9, 10, 19, 20, 99].map(|time| epoch(time).number);
        assert_eq!(numbers, [0, 0, 1, 1, 2, 2]);
        for time in 0..30 {
            let held = (0..30).filter(|&other| epoch(time).holds(1, Nanos::from_ns(other)));
            let same = (0..30).filter(|&other| epoch(other).number == epoch(time).number);
            assert!(held.eq(same), "{time}");
        }
        assert!(!epoch(5).holds(2, Nanos::from_ns(5)));
    }

    /// Processes that name each other as parents do not trap the search.
    #[test]
    fn hostile_parents() {
        let s = spaces(&[thread(1, 2, 5, false), thread(2, 1, 5, false)]);
        assert_eq!(path(&s, 1, 9, 0x1000), "");
    }
}
