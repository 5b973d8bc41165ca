//! Why the kernel does not open an event, in words.
//!
//! In: an event and the kernel's error; out: a sentence, with what to do about it. It refuses to try again.

use super::{Encoded, Machine};
use std::fs;
use std::io;

/// The sentence.
pub fn why(event: &Encoded, error: &io::Error, machine: &Machine) -> String {
    let paranoid = || {
        let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        level.unwrap_or_default().trim().to_owned()
    };
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
            let what = if event.is_of_the_kernel() {
                "it happens in the kernel, which this user may not look at"
            } else {
                "this user may not count it"
            };
            format!(
                "{what}: kernel.perf_event_paranoid is {}; as root, with CAP_PERFMON, or after \
                 `sysctl kernel.perf_event_paranoid=1`",
                paranoid()
            )
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
