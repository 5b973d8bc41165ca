//! Which process and thread it is that calls itself so in its own PID namespace.
//!
//! In: what a program's files say about it; out: numbers of the recorder's namespace, from `NSpid` in /proc. A process
//! is known by namespace, number and start time together, so that a number that was used again is not mistaken.

use crate::trace::record::{Pid, Tid};
use bypassprof_ring::reader::{Facts, SessionDir};
use bypassprof_wire::names::ProcessKey;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A process as it sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its number.
    pub pid: u32,
    /// Inode of its PID namespace; 0 if not known.
    pub namespace: u64,
    /// When it started, in ticks after boot; 0 if not known.
    pub start_time: u64,
}

/// When a process of our namespace started, in ticks after boot; `None` if there is no such process.
pub fn start_time(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    start_of(&stat)
}

/// The 22nd field; the second is a name that may hold anything.
fn start_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

/// The number of a task in the innermost namespace it lives in.
fn inner_number(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

fn namespace(pid: Pid) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid"))
        .ok()
        .map(|m| m.ino())
}

impl Inside {
    /// What a program's files say of it.
    pub fn of(facts: &Facts) -> Inside {
        Inside {
            pid: facts.pid,
            namespace: facts.pid_namespace,
            start_time: facts.start_time,
        }
    }

    fn is(&self, pid: Pid) -> bool {
        (self.start_time == 0 || start_time(pid) == Some(self.start_time))
            && (self.namespace == 0 || namespace(pid).is_none_or(|n| n == self.namespace))
            && fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|s| inner_number(&s) == Some(self.pid))
    }

    /// Whether its namespace is ours.
    fn is_at_home(&self) -> bool {
        self.namespace == 0 || namespace(std::process::id()) == Some(self.namespace)
    }

    /// Its number in our namespace; `None` if it is gone and cannot be told any more.
    pub fn outside(&self) -> Option<Pid> {
        if self.is(self.pid) {
            return Some(self.pid);
        }
        if self.is_at_home() {
            // It is gone; its number was ours.
            return Some(self.pid);
        }
        let entries = fs::read_dir("/proc").ok()?;
        let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        pids.into_iter().find(|&pid| self.is(pid))
    }

    /// The number in our namespace of its thread that calls itself `tid`, when the process itself is `pid` here.
    /// A thread that is gone keeps its own number.
    pub fn thread_outside(&self, pid: Pid, tid: u32) -> Tid {
        if tid == self.pid {
            return pid;
        }
        if self.is_at_home() || pid == self.pid {
            return tid;
        }
        let entries = fs::read_dir(format!("/proc/{pid}/task"));
        let tids = entries.into_iter().flatten();
        let tids = tids.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<Tid>().ok());
        let same = |&t: &Tid| {
            let status = fs::read_to_string(format!("/proc/{pid}/task/{t}/status"));
            status.is_ok_and(|s| inner_number(&s) == Some(tid))
        };
        tids.into_iter().find(same).unwrap_or(tid)
    }

    /// Whether the process that is `pid` here lives no more.
    pub fn is_gone(&self, pid: Pid) -> bool {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => true,
            Ok(stat) => {
                let dead = stat
                    .rsplit_once(") ")
                    .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
                dead || (self.start_time != 0 && start_of(&stat) != Some(self.start_time))
            }
        }
    }
}

/// Whether the process that left files in a directory lives no more, on this machine or since it was started.
pub fn is_gone(dir: &SessionDir, key: ProcessKey) -> bool {
    let facts = dir.look_at_control(key).map(|control| control.facts());
    let facts = facts.unwrap_or_default();
    if facts.boot_id != 0 && !is_of_this_boot(&facts) {
        return true;
    }
    let inside = Inside {
        pid: key.pid,
        namespace: facts.pid_namespace,
        start_time: key.start_time,
    };
    inside.outside().is_none_or(|pid| inside.is_gone(pid))
}

/// Whether a file was written since this machine was started, so that its counter values mean the same as ours.
pub fn is_of_this_boot(facts: &Facts) -> bool {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = boot.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).is_ok_and(|boot| boot == facts.boot_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields are found behind any name, numbers in the innermost namespace.
    #[test]
    fn proc_files() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        assert_eq!(start_of(stat), Some(4242));
        assert_eq!(inner_number("Name:\tx\nNSpid:\t900\t31\t1\n"), Some(1));
        assert_eq!(inner_number("Name:\tx\n"), None);
    }

    /// This very process is found, and one that has its number but another start is not.
    #[test]
    fn this_process() {
        let pid = std::process::id();
        let inside = Inside {
            pid,
            namespace: namespace(pid).unwrap(),
            start_time: start_time(pid).unwrap(),
        };
        assert_eq!(inside.outside(), Some(pid));
        assert!(!inside.is_gone(pid));
        let other = Inside {
            start_time: inside.start_time + 1,
            ..inside
        };
        assert!(other.is_gone(pid));
    }
}
