//! What the machine is: counters, clock, and what makes its times vary.
//!
//! In: the machine's files, what was tried; out: [`Check`]s.

use super::{Check, Root, State, Tried};
use crate::collect::skew::Doubt;

pub(super) fn checks(root: &Root, tried: &Tried) -> Vec<Check> {
    vec![
        pmu(tried),
        nmi_watchdog(root),
        tsc(root, tried),
        cpu_isolation(root),
        governor(root),
        turbo(root),
        smt(root),
    ]
}

fn pmu(tried: &Tried) -> Check {
    let id = "pmu";
    match &tried.cycles {
        None if tried.has_counters => Check::good(id, "cycles can be counted"),
        Some(why) => Check::bad(
            id,
            State::Limits,
            why.clone(),
            "cycles, instructions, cache, TLB and branch misses: cpu-clock is sampled instead",
            if tried.has_counters {
                "sysctl kernel.perf_event_paranoid=1"
            } else {
                "in the virtual machine's definition: a virtual PMU (QEMU: -cpu host,pmu=on; VMware: vpmc.enable=TRUE), \
                 or bare metal"
            },
        ),
        None => Check {
            state: State::Unknown,
            ..Check::good(id, "not tried")
        },
    }
}

fn nmi_watchdog(root: &Root) -> Check {
    let id = "nmi-watchdog";
    match root.number("/proc/sys/kernel/nmi_watchdog") {
        Some(1) => Check::bad(
            id,
            State::Limits,
            "the NMI watchdog is on",
            "one counter of each CPU: groups of four may not fit",
            "sysctl kernel.nmi_watchdog=0",
        ),
        _ => Check::good(id, "off: all counters are free"),
    }
}

fn tsc(root: &Root, tried: &Tried) -> Check {
    let id = "tsc";
    if std::env::consts::ARCH != "x86_64" {
        return Check::good(id, "the generic timer: one clock for all CPUs");
    }
    let source = root.text("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let Some(flags) = root.field("/proc/cpuinfo", "flags") else {
        return Check {
            state: State::Unknown,
            ..Check::good(id, "/proc/cpuinfo cannot be read")
        };
    };
    let source = source.unwrap_or_else(|| "unknown".to_owned());
    let Some(doubt) = Doubt::of(&flags, &source, tried.skew) else {
        let skew = tried.skew.map_or(String::new(), |s| {
            format!(
                "; CPUs agree within the {} ns that asking takes",
                s.within_ns
            )
        });
        return Check::good(id, format!("invariant; clock source {source}{skew}"));
    };
    let (state, prevents, fix) = match &doubt {
        Doubt::Varies(_) => (
            State::Prevents,
            "times of events: ticks change their length with the CPU's frequency",
            "a CPU with an invariant counter; in a virtual machine `invtsc` among its CPU's features",
        ),
        Doubt::Apart(_) => (
            State::Prevents,
            "joining events of different CPUs",
            "boot with tsc=reliable only if the firmware is known to be right; else another machine",
        ),
        Doubt::Replaced(_) => (
            State::Limits,
            "cheap clocks for programs: each reading is a system call",
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        ),
    };
    Check::bad(id, state, doubt.to_string(), prevents, fix)
}

fn cpu_isolation(root: &Root) -> Check {
    let id = "cpu-isolation";
    let line = root.text("/proc/cmdline").unwrap_or_default();
    let isolated = root
        .text("/sys/devices/system/cpu/isolated")
        .unwrap_or_default();
    let nohz = root
        .text("/sys/devices/system/cpu/nohz_full")
        .unwrap_or_default();
    let nohz = nohz.trim_matches(['(', ')']).replace("null", "");
    let options: Vec<_> = line
        .split_whitespace()
        .filter(|o| {
            ["isolcpus=", "nohz_full=", "rcu_nocbs="]
                .iter()
                .any(|p| o.starts_with(p))
        })
        .collect();
    if !isolated.is_empty() || !nohz.trim().is_empty() || !options.is_empty() {
        let found = format!(
            "isolated: {}; without ticks: {}",
            if isolated.is_empty() {
                "none"
            } else {
                &isolated
            },
            if nohz.trim().is_empty() {
                "none"
            } else {
                nohz.trim()
            }
        );
        return Check::good(id, found);
    }
    Check::bad(
        id,
        State::Limits,
        "no CPU is kept from other work",
        "steady times of a polling thread: ticks and other tasks interrupt it",
        "boot with isolcpus=managed_irq,domain,2-7 nohz_full=2-7 rcu_nocbs=2-7; then --housekeeping-cpus and --isolated",
    )
}

fn governor(root: &Root) -> Check {
    let id = "governor";
    let mut governors: Vec<String> = Vec::new();
    for cpu in root.names("/sys/devices/system/cpu") {
        let file = format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor");
        if let Some(governor) = root.text(&file).filter(|g| !governors.contains(g)) {
            governors.push(governor);
        }
    }
    match governors.as_slice() {
        [] => Check::good(id, "the frequency is not the kernel's to choose"),
        [one] if one == "performance" => Check::good(id, "performance"),
        some => Check::bad(
            id,
            State::Limits,
            some.join(", "),
            "steady times: the frequency follows the load, and cycles per request differ from nanoseconds",
            "for g in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance > $g; done",
        ),
    }
}

fn turbo(root: &Root) -> Check {
    let id = "turbo";
    let intel = root
        .number("/sys/devices/system/cpu/intel_pstate/no_turbo")
        .map(|n| n == 0);
    let others = root
        .number("/sys/devices/system/cpu/cpufreq/boost")
        .map(|n| n == 1);
    if intel.or(others) == Some(true) {
        return Check::bad(
            id,
            State::Limits,
            "the CPU may run faster for a while",
            "steady times: how fast depends on heat and on what the other cores do",
            "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo, or echo 0 > /sys/devices/system/cpu/cpufreq/boost",
        );
    }
    Check::good(id, "off, or not to be seen from here")
}

fn smt(root: &Root) -> Check {
    let id = "smt";
    match root.number("/sys/devices/system/cpu/smt/active") {
        Some(1) => Check::bad(
            id,
            State::Limits,
            "two threads share a core",
            "steady times of a polling thread: its core's other half takes part of it",
            "echo off > /sys/devices/system/cpu/smt/control, or leave the other half of its core idle",
        ),
        _ => Check::good(id, "off: a CPU is a core, as far as this machine tells"),
    }
}
