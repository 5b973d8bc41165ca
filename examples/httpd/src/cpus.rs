//! Which CPU a thread runs on.
//!
//! In: a number; out: the calling thread on that one of the CPUs which the process may use, counted round. A container or
//! `taskset` decides which those are.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// Keeps the calling thread on the `n`-th CPU that it may use.
pub fn pin(n: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let count = allowed.count() as usize;
    if let Some(cpu) = cpus.nth(n % count.max(1)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread is on one CPU that it may use, whatever the number; others stay where they are.
    #[test]
    fn one_of_those_allowed() {
        let before = sched_getaffinity(None).unwrap();
        for n in [0, 1, 1000] {
            let after = std::thread::spawn(move || {
                pin(n).unwrap();
                sched_getaffinity(None).unwrap()
            });
            let after = after.join().unwrap();
            assert_eq!(after.count(), 1);
            let mut cpus = 0..CpuSet::MAX_CPU;
            assert!(cpus.any(|cpu| after.is_set(cpu) && before.is_set(cpu)));
        }
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
