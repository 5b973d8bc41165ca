//! Which threads have events of their own, where the kernel hands none on to threads made later.
//!
//! In: what the kernel tells of threads, in any order; out: whether one is new, and what was open for one that is gone. Numbers
//! of threads are used again: times tell them apart. It refuses to know what is open.

use crate::trace::record::{Pid, Tid};
use crate::units::Nanos;
use std::collections::BTreeMap;

/// Threads, each with what is open for it.
pub struct Threads<O> {
    open: BTreeMap<Tid, Thread<O>>,
}

struct Thread<O> {
    pid: Pid,
    /// When it was made, or was first seen.
    since: Nanos,
    open: O,
}

impl<O> Default for Threads<O> {
    fn default() -> Threads<O> {
        let open = BTreeMap::new();
        Threads { open }
    }
}

impl<O> Threads<O> {
    /// Whether the thread of this number that was there at that time is known.
    pub fn has(&self, tid: Tid, at: Nanos) -> bool {
        self.open.get(&tid).is_some_and(|t| at <= t.since)
    }

    /// Whether a thread of this number is known.
    pub fn is_there(&self, tid: Tid) -> bool {
        self.open.contains_key(&tid)
    }

    /// Takes note of a thread. Gives what was open for one of the same number, if nobody told of its end.
    pub fn add(&mut self, pid: Pid, tid: Tid, since: Nanos, open: O) -> Option<O> {
        let thread = Thread { pid, since, open };
        self.open.insert(tid, thread).map(|earlier| earlier.open)
    }

    /// The thread that had this number at that time has ended.
    pub fn remove(&mut self, tid: Tid, at: Nanos) -> Option<O> {
        self.open.get(&tid).filter(|t| t.since <= at)?;
        self.open.remove(&tid).map(|thread| thread.open)
    }

    /// A process runs another program: the one thread that is left of it has the process's number, whichever it had.
    pub fn exec(&mut self, pid: Pid) {
        if self.open.contains_key(&pid) {
            return;
        }
        let left = self.open.iter().find(|(_, t)| t.pid == pid);
        if let Some(thread) = left.map(|(&tid, _)| tid).and_then(|t| self.open.remove(&t)) {
            self.open.insert(pid, thread);
        }
    }

    /// What is open.
    pub fn open(&self) -> impl Iterator<Item = &O> {
        self.open.values().map(|t| &t.open)
    }

    /// Closes everything.
    pub fn clear(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Nanos {
        Nanos::from_ns(ns)
    }

    /// A number that is used again is another thread, in whatever order beginning and end are told.
    #[test]
    fn numbers_used_again() {
        let mut threads = Threads::default();
        assert_eq!(threads.add(1, 7, at(10), "first"), None);
        assert!(threads.has(7, at(10)) && threads.has(7, at(5)) && !threads.has(7, at(20)));
        // The end of the first comes after the beginning of the second.
        assert_eq!(threads.add(1, 7, at(20), "second"), Some("first"));
        assert_eq!(threads.remove(7, at(15)), None);
        assert_eq!(threads.remove(7, at(25)), Some("second"));
        assert_eq!(threads.remove(7, at(25)), None);
    }

    /// After an exec by another thread than the first the process's number is that thread's.
    #[test]
    fn another_program() {
        let mut threads = Threads::default();
        threads.add(1, 1, at(1), "first");
        threads.add(1, 2, at(2), "other");
        threads.add(3, 3, at(2), "another process");
        threads.exec(1);
        assert_eq!(threads.remove(1, at(5)), Some("first"));
        threads.exec(1);
        assert!(threads.has(1, at(2)) && !threads.has(2, at(2)));
        assert_eq!(threads.remove(1, at(9)), Some("other"));
        threads.exec(1);
        assert_eq!(threads.open().collect::<Vec<_>>(), [&"another process"]);
    }
}
