//! Whether the kernel ended a process for want of memory: what its cgroup counts.
//!
//! In: a process; out: how many processes of its cgroup were killed so since it was first seen there. A process may be
//! moved, and its cgroup is not told any more once it is dead: it is looked up again and again while it runs.

use crate::trace::record::Pid;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// The counter of a process's cgroup.
#[derive(Debug)]
pub struct OomWatch {
    pid: Pid,
    /// Where it is counted, and what each said first. One that is about to end may be seen in another cgroup already.
    counters: BTreeMap<PathBuf, u64>,
    looked: Option<Instant>,
}

impl OomWatch {
    /// Of a process that runs.
    pub fn of(pid: Pid) -> OomWatch {
        OomWatch {
            pid,
            counters: BTreeMap::new(),
            looked: None,
        }
    }

    /// To be called often while the process runs; whether it looked this time.
    pub fn look(&mut self) -> bool {
        if self.looked.is_some_and(|l| l.elapsed() < EVERY) {
            return false;
        }
        self.looked = Some(Instant::now());
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid));
        let Some(path) = text.ok().and_then(|text| counter_of(&text)) else {
            return true;
        };
        if let (Entry::Vacant(new), Some(kills)) = (self.counters.entry(path.clone()), kills(&path))
        {
            new.insert(kills);
        }
        true
    }

    /// Kills since then; `None` if there is no such counter.
    pub fn kills(&self) -> Option<u64> {
        let since = |(path, before): (&PathBuf, &u64)| Some(kills(path)?.saturating_sub(*before));
        // What one counts, those above it may count too.
        self.counters.iter().filter_map(since).max()
    }
}

/// The file that counts for a process, from its /proc/PID/cgroup.
fn counter_of(text: &str) -> Option<PathBuf> {
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?.trim_start_matches('/')))
    });
    let mut found = None;
    for (controllers, path) in lines {
        if controllers.split(',').any(|c| c == "memory") {
            let base = PathBuf::from("/sys/fs/cgroup/memory").join(path);
            return Some(base.join("memory.oom_control"));
        }
        if controllers.is_empty() {
            found = Some(
                PathBuf::from("/sys/fs/cgroup")
                    .join(path)
                    .join("memory.events"),
            );
        }
    }
    found
}

fn kills(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Either version of cgroups is found; with both, the one that has the controller counts.
    #[test]
    fn both_versions() {
        let one = "9:memory:/web\n1:name=systemd:/init\n0::/unified\n";
        let path = "/sys/fs/cgroup/memory/web/memory.oom_control";
        assert_eq!(counter_of(one), Some(path.into()));
        let two = counter_of("0::/user.slice/a.scope\n");
        assert_eq!(
            two,
            Some("/sys/fs/cgroup/user.slice/a.scope/memory.events".into())
        );
        assert_eq!(counter_of(""), None);
    }
}
