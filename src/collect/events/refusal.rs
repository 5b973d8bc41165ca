//! Why the kernel does not open an event, in words.
//!
//! In: an event and the kernel's error; out: a sentence, with what to do about it. It refuses to try again.

use super::{Encoded, Machine};
use std::fs;
use std::io;

/// What a user without privileges needs `kernel.perf_event_paranoid` at or below for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// His own programs, without the kernel.
    User,
    /// What the kernel does for them.
    Kernel,
    /// Whatever runs on a CPU.
    Cpus,
}

impl Sight {
    fn most(self) -> i64 {
        match self {
            Sight::User => 2,
            Sight::Kernel => 1,
            Sight::Cpus => 0,
        }
    }
}

/// How it could be had after all, on this machine.
pub fn denied(sight: Sight) -> String {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    advice(sight, level.ok().and_then(|l| l.trim().parse().ok()))
}

fn advice(sight: Sight, level: Option<i64>) -> String {
    let most = sight.most();
    match level {
        None => "this kernel has no perf events, or hides them from this user".to_owned(),
        Some(level) if level <= most => format!(
            "kernel.perf_event_paranoid is {level}, which allows it, so a filter on system calls (seccomp, as in a \
             container) or a security module does not: with a profile that allows perf_event_open, or `--cap-add PERFMON`"
        ),
        Some(level) => format!(
            "kernel.perf_event_paranoid is {level}; as root, with CAP_PERFMON, or after `sysctl \
             kernel.perf_event_paranoid={most}`"
        ),
    }
}

/// The sentence; `whole_cpus`: it was to be of everything that runs there.
pub fn why(event: &Encoded, error: &io::Error, machine: &Machine, whole_cpus: bool) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) if event.is_of_the_cpu() => {
            if !machine.has_cpu_counters() {
                "this machine shows no counters of its CPU (no PMU, as in most virtual machines)"
                    .to_owned()
            } else if event.precise > 0 && error.raw_os_error() == Some(libc::EOPNOTSUPP) {
                "this CPU cannot sample it without skid: leave out `p`".to_owned()
            } else {
                "this CPU does not count it".to_owned()
            }
        }
        Some(libc::EOPNOTSUPP) => "it can be counted but not sampled".to_owned(),
        Some(libc::ENOENT) => "the kernel does not know it".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            let (what, sight) = if whole_cpus {
                ("this user may not look at whole CPUs", Sight::Cpus)
            } else if event.is_of_the_kernel() {
                let what = "it happens in the kernel, which this user may not look at";
                (what, Sight::Kernel)
            } else if event.chosen && !event.exclude.kernel {
                ("this user may not count it in the kernel", Sight::Kernel)
            } else {
                // Without the kernel it was tried too.
                ("this user may not count it", Sight::User)
            };
            format!("{what}: {}", denied(sight))
        }
        Some(libc::EINVAL) if event.set.cpus.is_some() => {
            "its PMU counts whole CPUs, not programs: use -a".to_owned()
        }
        Some(libc::EINVAL) => {
            "its PMU does not take it with these options and modifiers".to_owned()
        }
        Some(libc::EMFILE) => {
            "no more files may be open in this process: raise `ulimit -n`".to_owned()
        }
        Some(libc::ENOSPC) => "all breakpoints of the CPU are in use".to_owned(),
        Some(libc::EBUSY) => "another program has the PMU for itself".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The level that is named is the one that would do; where the level is not in the way, something else is named.
    #[test]
    fn levels() {
        for (sight, level, words) in [
            (
                Sight::User,
                4,
                "is 4; as root, with CAP_PERFMON, or after `sysctl kernel.perf_event_paranoid=2`",
            ),
            (Sight::User, 3, "paranoid=2`"),
            (Sight::User, 2, "seccomp"),
            (Sight::Kernel, 2, "paranoid=1`"),
            (Sight::Kernel, 1, "seccomp"),
            (Sight::Cpus, 1, "paranoid=0`"),
            (Sight::Cpus, 0, "seccomp"),
        ] {
            let told = advice(sight, Some(level));
            assert!(told.contains(words), "{sight:?} at {level}: {told}");
        }
        assert!(advice(Sight::User, None).contains("no perf events"));
    }
}
