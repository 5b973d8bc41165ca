//! On which CPUs what we start runs.
//!
//! In: a wish; out: this thread's own affinity, which everything started from it inherits. The client has the last CPU
//! alone, or all that servers leave it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that this process was given, divided between servers and their client.
#[derive(Clone, Copy)]
pub struct Cpus {
    all: CpuSet,
    servers: CpuSet,
    client: CpuSet,
}

impl Cpus {
    /// Servers may use all, as their own placing and the scheduler decide; the client has the last one.
    pub fn own() -> Cpus {
        let all = sched_getaffinity(None).unwrap_or_default();
        Cpus {
            all,
            servers: all,
            client: some(&all, all.count().saturating_sub(1) as usize..),
        }
    }

    /// Servers have the first so many, the client the others, but at least the last one.
    pub fn apart(servers: usize) -> Cpus {
        let own = Cpus::own();
        let count = own.all.count() as usize;
        Cpus {
            servers: some(&own.all, 0..servers.clamp(1, count.max(1))),
            client: some(&own.all, servers.min(count.saturating_sub(1))..),
            ..own
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.count() as usize
    }

    /// How many the client has.
    pub fn of_client(&self) -> usize {
        self.client.count() as usize
    }

    /// The client's as a list that command lines take.
    pub fn client_list(&self) -> String {
        let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| self.client.is_set(cpu));
        cpus.map(|cpu| cpu.to_string())
            .collect::<Vec<_>>()
            .join(",")
    }

    /// What is started by `f` has the client's CPUs only.
    pub fn for_client<T>(&self, f: impl FnOnce() -> T) -> T {
        self.on(&self.client, f)
    }

    /// What is started by `f` has the servers' CPUs only.
    pub fn for_servers<T>(&self, f: impl FnOnce() -> T) -> T {
        self.on(&self.servers, f)
    }

    fn on<T>(&self, cpus: &CpuSet, f: impl FnOnce() -> T) -> T {
        // Where it is refused, the figures are noisier; the run's spread shows it.
        let _ = sched_setaffinity(None, cpus);
        let done = f();
        let _ = sched_setaffinity(None, &self.all);
        done
    }
}

/// Those of a set, counted from its first one, that lie in a range.
fn some(all: &CpuSet, range: impl std::ops::RangeBounds<usize>) -> CpuSet {
    let mut set = CpuSet::new();
    let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu));
    for (_, cpu) in cpus.enumerate().filter(|(at, _)| range.contains(at)) {
        set.set(cpu);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers and client share a CPU only where there are too few.
    #[test]
    fn divided() {
        let count = Cpus::own().all.count() as usize;
        for servers in 1..=count + 1 {
            let cpus = Cpus::apart(servers);
            assert_eq!(cpus.servers.count() as usize, servers.min(count));
            assert_eq!(
                cpus.of_client(),
                count.saturating_sub(servers).max(1),
                "{servers} of {count}"
            );
        }
    }
}
