//! What the kernel lets this user do.
//!
//! In: the kernel's settings, what was tried; out: [`Check`]s.

use super::{Check, Root, State, Tried};

/// The oldest kernel that has all that is asked of it.
const OLDEST: (u64, u64) = (5, 13);
/// From here on groups are read with samples of inherited events.
const GROUPS: (u64, u64) = (6, 12);

pub(super) fn checks(root: &Root, tried: &Tried) -> Vec<Check> {
    vec![
        kernel(root),
        perf(root, tried),
        paranoid(root),
        kptr_restrict(root),
        mlock(root, tried),
        open_files(tried),
        sample_rate(root),
        capabilities(root),
        seccomp(root),
        container(root),
        namespaces(root),
        tracefs(root),
        ptrace(root),
    ]
}

fn kernel(root: &Root) -> Check {
    let id = "kernel";
    let Some(release) = root.text("/proc/sys/kernel/osrelease") else {
        return unknown(id, "its release cannot be read");
    };
    let mut parts = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u64>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST {
        let prevents = "recording: inherited events with build ids are refused";
        return Check::bad(
            id,
            State::Prevents,
            release,
            prevents,
            "Linux 5.13 or later",
        );
    }
    if version < GROUPS {
        let prevents = "counters in every sample without a gap: a group that is asked for is opened for each thread, \
                        milliseconds after it began; the usual one is totals only";
        return Check::bad(id, State::Limits, release, prevents, "Linux 6.12 or later");
    }
    Check::good(id, release)
}

fn unknown(id: &'static str, found: &str) -> Check {
    Check {
        state: State::Unknown,
        ..Check::good(id, found)
    }
}

fn perf(root: &Root, tried: &Tried) -> Check {
    let id = "perf";
    if !root.exists("/proc/sys/kernel/perf_event_paranoid") && tried.user.is_some() {
        return Check::bad(
            id,
            State::Prevents,
            "this kernel has no perf events",
            "recording and counting",
            "a kernel with CONFIG_PERF_EVENTS",
        );
    }
    match (&tried.user, &tried.kernel) {
        (Some(why), _) => Check::bad(
            id,
            State::Prevents,
            format!("not even user code can be counted: {why}"),
            "recording and counting",
            "in a container a seccomp profile that allows perf_event_open, or `--cap-add PERFMON`; else `sysctl \
             kernel.perf_event_paranoid=2`",
        ),
        (None, Some(why)) => Check::bad(
            id,
            State::Limits,
            format!("user code can be counted, the kernel cannot: {why}"),
            "the kernel's part of stacks and counts; -a, -C and --cgroup",
            "sysctl kernel.perf_event_paranoid=1 for the kernel, =0 for whole CPUs too",
        ),
        (None, None) => Check::good(id, "user code and the kernel can be counted"),
    }
}

fn paranoid(root: &Root) -> Check {
    let id = "paranoid";
    let fix = "sysctl kernel.perf_event_paranoid=1";
    let Some(level) = root.number("/proc/sys/kernel/perf_event_paranoid") else {
        return unknown(id, "kernel.perf_event_paranoid cannot be read");
    };
    let found = format!("kernel.perf_event_paranoid is {level}");
    if capable(root, PERFMON) || capable(root, SYS_ADMIN) || level < 1 {
        return Check::good(id, found);
    }
    match level {
        3.. => Check::bad(
            id,
            State::Prevents,
            found,
            "perf events of any kind for users without CAP_PERFMON",
            fix,
        ),
        2 => Check::bad(
            id,
            State::Limits,
            found,
            "looking at the kernel, at whole CPUs and at what tracepoints record",
            "sysctl kernel.perf_event_paranoid=1 for the kernel, =0 for whole CPUs, =-1 for tracepoints",
        ),
        _ => Check::bad(
            id,
            State::Limits,
            found,
            "whole CPUs (-a, -C) and what tracepoints record",
            "sysctl kernel.perf_event_paranoid=0 for whole CPUs, =-1 for tracepoints",
        ),
    }
}

fn kptr_restrict(root: &Root) -> Check {
    let id = "kptr_restrict";
    let Some(level) = root.number("/proc/sys/kernel/kptr_restrict") else {
        return unknown(id, "kernel.kptr_restrict cannot be read");
    };
    let found = format!("kernel.kptr_restrict is {level}");
    let hidden = level >= 2 || (level == 1 && !capable(root, SYSLOG));
    let hidden_by_paranoia = level == 0
        && !capable(root, SYSLOG)
        && root
            .number("/proc/sys/kernel/perf_event_paranoid")
            .is_some_and(|p| p > 1);
    if hidden || hidden_by_paranoia {
        let fix = if hidden {
            "sysctl kernel.kptr_restrict=0"
        } else {
            "sysctl kernel.perf_event_paranoid=1"
        };
        return Check::bad(id, State::Limits, found, "names of kernel functions", fix);
    }
    Check::good(id, found)
}

/// Locked memory that rings of one CPU like to have.
const RING_KIB: i64 = 516;

fn mlock(root: &Root, tried: &Tried) -> Check {
    let id = "mlock";
    let Some(kib) = root.number("/proc/sys/kernel/perf_event_mlock_kb") else {
        return unknown(id, "kernel.perf_event_mlock_kb cannot be read");
    };
    let limit = tried
        .locked
        .map_or("unlimited".to_owned(), |b| format!("{} KiB", b / 1024));
    let found = format!("{kib} KiB a CPU for perf's rings, {limit} to be locked besides");
    let enough = capable(root, IPC_LOCK) || tried.locked.is_none() || kib >= RING_KIB;
    if enough {
        return Check::good(id, found);
    }
    Check::bad(
        id,
        State::Limits,
        found,
        "rings of the usual size: smaller ones lose samples sooner",
        "sysctl kernel.perf_event_mlock_kb=8192, or `ulimit -l unlimited`",
    )
}

/// Files that a program with some hundred threads on some ten CPUs needs.
const MANY_FILES: u64 = 16_384;

fn open_files(tried: &Tried) -> Check {
    let id = "open-files";
    let (Some(now), most) = tried.files else {
        return Check::good(id, "as many as there is memory for");
    };
    let most_text = most.map_or("without a limit".to_owned(), |m| format!("to {m}"));
    let found = format!("{now} now, raised {most_text} when needed");
    if most.is_none_or(|m| m >= MANY_FILES) {
        return Check::good(id, found);
    }
    Check::bad(
        id,
        State::Limits,
        found,
        "attaching to programs with many threads: an event is a file for each thread and CPU",
        "ulimit -Hn 1048576 (as root), or LimitNOFILE= of the service",
    )
}

/// A rate below this is not what `record` asks for.
const USUAL_HZ: i64 = 997;

fn sample_rate(root: &Root) -> Check {
    let id = "sample-rate";
    let Some(hz) = root.number("/proc/sys/kernel/perf_event_max_sample_rate") else {
        return unknown(id, "kernel.perf_event_max_sample_rate cannot be read");
    };
    let found = format!("at most {hz} Hz");
    if hz >= USUAL_HZ {
        return Check::good(id, found);
    }
    Check::bad(
        id,
        State::Limits,
        found,
        "the usual rate: the kernel lowers its limit by itself when interrupts take long",
        "sysctl kernel.perf_cpu_time_max_percent=0 kernel.perf_event_max_sample_rate=100000",
    )
}

const IPC_LOCK: u32 = 14;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const SYSLOG: u32 = 34;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

fn capable(root: &Root, capability: u32) -> bool {
    let field = root.field("/proc/self/status", "CapEff");
    let set = field.and_then(|f| u64::from_str_radix(&f, 16).ok());
    set.is_some_and(|set| set >> capability & 1 == 1)
}

fn capabilities(root: &Root) -> Check {
    let id = "capabilities";
    if root.field("/proc/self/status", "CapEff").is_none() {
        return unknown(id, "/proc/self/status cannot be read");
    }
    let wanted = [
        (
            PERFMON,
            "PERFMON",
            "the kernel, whole CPUs and other users' programs",
        ),
        (
            SYS_PTRACE,
            "SYS_PTRACE",
            "files and mappings of other users' programs",
        ),
        (SYSLOG, "SYSLOG", "addresses of kernel functions"),
        (
            IPC_LOCK,
            "IPC_LOCK",
            "rings beyond the limit on locked memory",
        ),
        (
            NET_ADMIN,
            "NET_ADMIN",
            "network devices of the demo and the benchmarks",
        ),
        (NET_RAW, "NET_RAW", "AF_PACKET and AF_XDP"),
        (BPF, "BPF", "AF_XDP's program"),
    ];
    let lacking: Vec<_> = wanted.iter().filter(|w| !capable(root, w.0)).collect();
    if lacking.is_empty() {
        return Check::good(id, "all that are of use");
    }
    let names: Vec<_> = lacking.iter().map(|w| w.1).collect();
    let uses: Vec<_> = lacking.iter().map(|w| w.2).collect();
    let lower: Vec<_> = names
        .iter()
        .map(|n| format!("cap_{}", n.to_lowercase()))
        .collect();
    Check::bad(
        id,
        State::Limits,
        format!("without {}", names.join(", ")),
        uses.join("; "),
        format!("setcap {}+ep $(command -v bypassprof)", lower.join(",")),
    )
}

fn seccomp(root: &Root) -> Check {
    let id = "seccomp";
    match root.field("/proc/self/status", "Seccomp").as_deref() {
        Some("0") => Check::good(id, "no filter on system calls"),
        Some(_) => Check::bad(
            id,
            State::Limits,
            "system calls are filtered",
            "perf_event_open, if the filter forbids it (Docker's does without CAP_PERFMON)",
            "docker run --security-opt seccomp=unconfined --cap-add PERFMON, or a profile that allows perf_event_open",
        ),
        None => unknown(id, "/proc/self/status cannot be read"),
    }
}

/// The namespace that all processes are in: its number is fixed.
const INITIAL_PIDS: &str = "pid:[4026531836]";

fn container(root: &Root) -> Check {
    let id = "container";
    let marks = [
        ("/.dockerenv", "Docker"),
        ("/run/.containerenv", "Podman"),
        ("/run/systemd/container", "systemd-nspawn or alike"),
    ];
    let kube = root.exists("/var/run/secrets/kubernetes.io");
    let mark = marks.iter().find(|m| root.exists(m.0)).map(|m| m.1);
    let initial = root.link("/proc/self/ns/pid").as_deref() == Some(INITIAL_PIDS);
    match mark.or(kube.then_some("Kubernetes")) {
        Some(kind) if initial => {
            Check::good(id, format!("files of {kind}, but all processes are seen"))
        }
        Some(kind) => Check::bad(
            id,
            State::Limits,
            format!("inside a container ({kind})"),
            "processes outside of it; tracefs and settings of the kernel are those of the host",
            "run bypassprof on the host with -p, or with --privileged --pid=host",
        ),
        None => Check::good(id, "not in a container"),
    }
}

fn namespaces(root: &Root) -> Check {
    let id = "namespaces";
    let whole = root.text("/proc/self/uid_map").is_none_or(|map| {
        let fields: Vec<_> = map.split_whitespace().collect();
        fields == ["0", "0", "4294967295"]
    });
    let allowed = root
        .number("/proc/sys/user/max_user_namespaces")
        .is_none_or(|n| n > 0)
        && root
            .number("/proc/sys/kernel/unprivileged_userns_clone")
            .is_none_or(|n| n > 0)
        && root
            .number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
            .is_none_or(|n| n == 0);
    let mut prevents = Vec::new();
    if !whole {
        prevents.push("the kernel: inside a user namespace perf sees user code only, and tracepoints count nothing");
    }
    if !allowed && !capable(root, SYS_ADMIN) {
        prevents.push("`cargo demo` and the benchmarks without root");
    }
    if prevents.is_empty() {
        let found = if allowed {
            "the initial user namespace; users may make their own"
        } else {
            "the initial user namespace"
        };
        return Check::good(id, found);
    }
    Check::bad(
        id,
        State::Limits,
        if whole {
            "users may make no namespaces"
        } else {
            "inside a user namespace"
        },
        prevents.join("; "),
        "outside of it; sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 \
         kernel.apparmor_restrict_unprivileged_userns=0, whichever there are",
    )
}

fn tracefs(root: &Root) -> Check {
    let id = "tracefs";
    let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let place = places
        .iter()
        .find(|p| !root.names(&format!("{p}/events")).is_empty());
    match place {
        Some(place) => Check::good(id, format!("mounted and readable at {place}")),
        None => Check::bad(
            id,
            State::Prevents,
            "not mounted, or not readable for this user",
            "tracepoints by name",
            "mount -t tracefs tracefs /sys/kernel/tracing; for other users than root -o gid=GROUP,mode=0750",
        ),
    }
}

fn ptrace(root: &Root) -> Check {
    let id = "ptrace";
    match root.number("/proc/sys/kernel/yama/ptrace_scope") {
        None | Some(0) => Check::good(id, "processes of the same user may be attached to"),
        Some(_) if capable(root, SYS_PTRACE) => {
            Check::good(id, "restricted, but not for this user")
        }
        Some(level) => Check::bad(
            id,
            State::Limits,
            format!("kernel.yama.ptrace_scope is {level}"),
            "-p for processes that are not children of the recorder",
            "sysctl kernel.yama.ptrace_scope=0",
        ),
    }
}
