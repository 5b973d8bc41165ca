//! On which CPUs what we start runs.
//!
//! In: a wish; out: this thread's own affinity, which everything started from it inherits. The client has the last CPU
//! alone; servers may use all, as their own placing and the scheduler decide.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this process was given.
#[derive(Clone, Copy)]
pub struct Cpus {
    all: CpuSet,
    last: CpuSet,
}

impl Cpus {
    /// Those of the calling thread.
    pub fn own() -> Cpus {
        let all = sched_getaffinity(None).unwrap_or_default();
        let mut last = CpuSet::new();
        if let Some(cpu) = (0..CpuSet::MAX_CPU).rfind(|&cpu| all.is_set(cpu)) {
            last.set(cpu);
        }
        Cpus { all, last }
    }

    /// What is started by `f` has the last CPU only.
    pub fn on_last<T>(&self, f: impl FnOnce() -> T) -> T {
        // Where it is refused, the figures are noisier; the run's spread shows it.
        let _ = sched_setaffinity(None, &self.last);
        let done = f();
        let _ = sched_setaffinity(None, &self.all);
        done
    }
}
