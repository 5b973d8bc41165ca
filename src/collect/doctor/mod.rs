//! What this machine, kernel and user may do, and what would have to change.
//!
//! In: `/proc`, `/sys`, what this process may; out: [`Check`]s, each with what it prevents and the command that fixes
//! it. Nothing is changed here. It refuses to know how they are shown.

mod hardware;
mod permissions;
mod stacks;

use crate::collect::counting::{Counting, Whom};
use crate::collect::events::Machine;
use crate::collect::skew::{self, Skew};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::{Path, PathBuf};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// It works, with less or with more noise.
    Limits,
    /// It prevents something altogether.
    Prevents,
    /// It cannot be told from here.
    Unknown,
}

impl State {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Limits => "limits",
            State::Prevents => "no",
            State::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Short stable name.
    pub id: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What that prevents or costs; empty if nothing.
    pub prevents: String,
    /// The command that changes it; empty if there is none or nothing is to be changed.
    pub fix: String,
}

impl Check {
    fn good(id: &'static str, found: impl Into<String>) -> Check {
        Check {
            id,
            state: State::Good,
            found: found.into(),
            prevents: String::new(),
            fix: String::new(),
        }
    }

    fn bad(
        id: &'static str,
        state: State,
        found: impl Into<String>,
        prevents: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check {
            id,
            state,
            found: found.into(),
            prevents: prevents.into(),
            fix: fix.into(),
        }
    }
}

/// The machine's files.
pub struct Root(PathBuf);

impl Root {
    /// Files that lie below another directory than `/`.
    pub fn at(path: &Path) -> Root {
        Root(path.to_path_buf())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file.trim_start_matches('/'))
    }

    fn text(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(file)).ok()?;
        Some(text.trim().to_owned())
    }

    fn number(&self, file: &str) -> Option<i64> {
        self.text(file)?.parse().ok()
    }

    fn exists(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    fn link(&self, file: &str) -> Option<String> {
        let target = fs::read_link(self.path(file)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The value behind a key of a file such as `/proc/self/status`.
    fn field(&self, file: &str, key: &str) -> Option<String> {
        let text = self.text(file)?;
        let line = text
            .lines()
            .find(|l| l.split(':').next().is_some_and(|k| k.trim() == key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }
}

/// What this process may, tried.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Why user code cannot be counted.
    pub user: Option<String>,
    /// Why the kernel cannot be counted.
    pub kernel: Option<String>,
    /// Why cycles cannot be counted.
    pub cycles: Option<String>,
    /// Whether the kernel has found counters of the CPU.
    pub has_counters: bool,
    /// Bytes that may be locked.
    pub locked: Option<u64>,
    /// Files that may be open, as it is and as it may be raised.
    pub files: (Option<u64>, Option<u64>),
    /// How far apart the counters of CPUs are; `None` with one CPU.
    pub skew: Option<Skew>,
}

impl Tried {
    /// Of this process.
    pub fn here() -> Tried {
        let machine = Machine::here();
        let why = |event: &str| {
            let groups = machine.encode(event).ok()?;
            let counting = Counting::open(groups, &Whom::Tasks(vec![0]), false, &machine);
            counting.read().into_iter().find_map(|r| r.value.err())
        };
        let files = getrlimit(Resource::Nofile);
        Tried {
            user: why("cpu-clock:u"),
            kernel: why("cpu-clock:k"),
            cycles: why("cycles"),
            has_counters: machine.has_cpu_counters(),
            locked: getrlimit(Resource::Memlock).current,
            files: (files.current, files.maximum),
            skew: skew::measure(skew::AT_LEISURE),
        }
    }
}

/// Everything that was looked at, in the order in which it stands in the way.
pub fn checks(root: &Root, tried: &Tried) -> Vec<Check> {
    let mut checks = permissions::checks(root, tried);
    checks.extend(hardware::checks(root, tried));
    checks.extend(stacks::checks(root));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn of(files: &[(&str, &str)], tried: &Tried) -> Vec<Check> {
        let dir = tree(files);
        checks(&Root::at(dir.path()), tried)
    }

    /// Every check answers on a machine without any files, and says that it does not know.
    #[test]
    fn empty_machine() {
        let checks = of(&[], &Tried::default());
        let ids: Vec<_> = checks.iter().map(|c| c.id).collect();
        for id in [
            "kernel",
            "perf",
            "pmu",
            "paranoid",
            "kptr_restrict",
            "mlock",
            "open-files",
            "capabilities",
            "seccomp",
            "container",
            "tracefs",
            "namespaces",
            "hugepages",
            "dpdk",
            "tsc",
            "nmi-watchdog",
            "cpu-isolation",
            "governor",
            "smt",
            "sample-rate",
            "ptrace",
            "shm",
        ] {
            assert!(ids.contains(&id), "{id} of {ids:?}");
        }
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            let bad = [State::Limits, State::Prevents].contains(&check.state);
            assert_eq!(bad, !check.prevents.is_empty(), "{check:?}");
        }
    }

    /// A machine with everything in the way: each is named with its fix.
    #[test]
    fn hostile_machine() {
        let files = [
            ("proc/sys/kernel/osrelease", "5.10.0-8\n"),
            ("proc/sys/kernel/perf_event_paranoid", "3\n"),
            ("proc/sys/kernel/kptr_restrict", "2\n"),
            ("proc/sys/kernel/perf_event_mlock_kb", "0\n"),
            ("proc/sys/kernel/perf_event_max_sample_rate", "50\n"),
            ("proc/sys/kernel/nmi_watchdog", "1\n"),
            ("proc/sys/kernel/yama/ptrace_scope", "1\n"),
            (
                "proc/self/status",
                "CapEff:\t0000000000000000\nSeccomp:\t2\nNoNewPrivs:\t1\n",
            ),
            ("proc/self/uid_map", "0 1000 1\n"),
            ("proc/sys/user/max_user_namespaces", "0\n"),
            ("proc/cpuinfo", "flags\t\t: fpu tsc hypervisor\n"),
            ("proc/cmdline", "quiet\n"),
            ("proc/meminfo", "HugePages_Total:       0\n"),
            (".dockerenv", ""),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet\n",
            ),
            ("sys/devices/system/cpu/smt/active", "1\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
        ];
        let tried = Tried {
            kernel: Some("no".to_owned()),
            user: Some("no".to_owned()),
            cycles: Some("no".to_owned()),
            locked: Some(65_536),
            files: (Some(1024), Some(1024)),
            ..Tried::default()
        };
        let checks = of(&files, &tried);
        for (id, state, fix) in [
            ("kernel", State::Prevents, "5.13"),
            ("perf", State::Prevents, ""),
            ("pmu", State::Limits, ""),
            (
                "paranoid",
                State::Prevents,
                "sysctl kernel.perf_event_paranoid=1",
            ),
            (
                "kptr_restrict",
                State::Limits,
                "sysctl kernel.kptr_restrict=0",
            ),
            ("mlock", State::Limits, "ulimit -l"),
            (
                "sample-rate",
                State::Limits,
                "kernel.perf_event_max_sample_rate=100000",
            ),
            (
                "nmi-watchdog",
                State::Limits,
                "sysctl kernel.nmi_watchdog=0",
            ),
            ("ptrace", State::Limits, "sysctl kernel.yama.ptrace_scope=0"),
            ("seccomp", State::Limits, "seccomp"),
            ("container", State::Limits, ""),
            ("namespaces", State::Limits, "user.max_user_namespaces"),
            ("tsc", State::Prevents, ""),
            ("hugepages", State::Limits, "nr_hugepages"),
            ("smt", State::Limits, "smt/control"),
            ("governor", State::Limits, "scaling_governor"),
            ("tracefs", State::Prevents, "mount -t tracefs"),
            ("cpu-isolation", State::Limits, "isolcpus"),
        ] {
            let check = checks.iter().find(|c| c.id == id).unwrap();
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.fix.contains(fix), "{check:?}");
        }
    }

    /// A machine made for it: nothing to complain about.
    #[test]
    fn good_machine() {
        let files = [
            ("proc/sys/kernel/osrelease", "6.12.1\n"),
            ("proc/sys/kernel/perf_event_paranoid", "-1\n"),
            ("proc/sys/kernel/kptr_restrict", "0\n"),
            ("proc/sys/kernel/perf_event_mlock_kb", "8192\n"),
            ("proc/sys/kernel/perf_event_max_sample_rate", "100000\n"),
            ("proc/sys/kernel/nmi_watchdog", "0\n"),
            (
                "proc/self/status",
                "CapEff:\t000001ffffffffff\nSeccomp:\t0\n",
            ),
            ("proc/self/uid_map", "         0          0 4294967295\n"),
            ("proc/sys/user/max_user_namespaces", "1000\n"),
            ("proc/cpuinfo", "flags\t\t: tsc constant_tsc nonstop_tsc\n"),
            (
                "proc/meminfo",
                "HugePages_Total:      64\nHugePages_Free:      64\nHugepagesize:       2048 kB\n",
            ),
            ("sys/devices/system/cpu/isolated", "2-3\n"),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "tsc\n",
            ),
            ("sys/devices/system/cpu/smt/active", "0\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "performance\n",
            ),
            ("sys/kernel/tracing/events/net/x", ""),
        ];
        let tried = Tried {
            has_counters: true,
            locked: None,
            files: (Some(1 << 20), Some(1 << 20)),
            skew: Some(Skew {
                apart_ns: 0,
                within_ns: 20,
                cpus: (0, 1),
            }),
            ..Tried::default()
        };
        for check in of(&files, &tried) {
            let free = ["dpdk", "shm", "capabilities", "iommu"].contains(&check.id);
            assert!(free || check.state == State::Good, "{check:?}");
        }
    }
}
