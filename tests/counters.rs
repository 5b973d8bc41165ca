//! What the machine's counters say: sampled `cycles` with its group where there is a PMU, `cpu-clock` and a reason where
//! there is none. The program is this test binary, started again as [`program`]; `tests/pmu/run` runs this module on an
//! emulated machine that has a PMU.

use crate::support::{Place, Run};
use bypassprof::trace::record::Notice;
use bypassprof::trace::{Reader, Record};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// CPU time by a clock of the kernel.
fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Not a test: two threads that compute for half a second of CPU time each.
#[test]
#[ignore = "the program that the tests of this module record"]
fn program() {
    let began = cpu_time(ClockId::ProcessCPUTime);
    let busy = || {
        let mut x = 1u64;
        while cpu_time(ClockId::ThreadCPUTime) < Duration::from_millis(500) {
            for _ in 0..1000 {
                x = std::hint::black_box(x.wrapping_mul(3) + 1);
            }
        }
    };
    let other = std::thread::spawn(busy);
    busy();
    other.join().unwrap();
    let ended = cpu_time(ClockId::ProcessCPUTime);
    println!(
        "used {} of {} us",
        (ended - began).as_micros(),
        ended.as_micros()
    );
}

/// Whether the kernel has found counters of the CPU.
fn has_pmu() -> bool {
    let devices = std::fs::read_dir("/sys/bus/event_source/devices").into_iter();
    let names = devices.flatten().flatten().map(|d| d.file_name());
    let mut names = names.map(|n| n.to_string_lossy().into_owned());
    names.any(|n| n == "cpu" || n.starts_with("cpu_") || n.starts_with("armv8"))
}

/// Major and minor number of the running kernel.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn recorded() -> (Place, Reader, Run) {
    let place = Place::new();
    let mut command = place.bypassprof(&["record", "--"]);
    let this = Command::new(std::env::current_exe().unwrap());
    command.arg(this.get_program());
    command.args(["--exact", "counters::program", "--ignored", "--nocapture"]);
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    (place, reader, run)
}

/// Every sample carries the group's running totals, which only grow and end below what was counted in all.
#[test]
fn the_group_rides_in_the_samples() {
    let (_place, reader, run) = recorded();
    let summary = reader.meta();
    let events = &summary.session.events;
    let told = |id: &str| summary.notices.iter().any(|n: &Notice| n.id == id);
    let name = events[0].name.trim_end_matches(":u");
    if has_pmu() {
        assert_eq!(name, "cycles", "{}", run.err);
    } else {
        assert_eq!(name, "cpu-clock", "{}", run.err);
        assert!(told("no-pmu"), "{}", run.err);
    }
    let members: Vec<_> = (0..events.len())
        .filter(|&e| events[e].leader == Some(0))
        .collect();
    if events.iter().any(|e| e.name.starts_with("instructions")) {
        // Kernels before 6.12 refuse a group that is read with inherited events, and the recorder says so.
        assert_eq!(members.is_empty(), kernel() < (6, 12), "{}", run.err);
        assert_eq!(members.is_empty(), told("no-group"), "{}", run.err);
    }
    let mut last: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut samples = 0;
    for record in reader.records() {
        let Record::Sample(sample) = record.unwrap() else {
            continue;
        };
        samples += 1;
        assert_eq!(sample.group.len(), members.len());
        let before = last.entry(sample.tid).or_default();
        assert!(before.iter().zip(&sample.group).all(|(a, b)| a <= b));
        *before = sample.group;
    }
    assert!(samples > 20, "{samples} samples: {}", run.err);
    let totals = &summary.counters.as_ref().unwrap().values;
    assert_eq!(totals.len(), events.len());
    for (at, &event) in members.iter().enumerate() {
        let total = totals[event].as_ref().unwrap().value;
        let seen: u64 = last.values().map(|group| group[at]).sum();
        assert!(seen <= total, "{}: {seen} of {total}", events[event].name);
        assert!(
            seen > total / 2,
            "{}: {seen} of {total}",
            events[event].name
        );
    }
    let total = |event: &str| {
        let at = events.iter().position(|e| e.name.starts_with(event))?;
        totals[at].as_ref().map(|t| t.value)
    };
    // Read by tests/pmu/run, on a machine where a cycle is an instruction.
    eprintln!(
        "counted {:?} cycles, {:?} instructions, {} of them in samples",
        total("cycles"),
        total("instructions"),
        members.len()
    );
}

/// The CPU time that was counted is what the program says that it used, but for its beginning and its end.
#[test]
fn counted_alongside() {
    let (_place, reader, run) = recorded();
    let summary = reader.meta();
    let named = |name: &str| {
        let events = &summary.session.events;
        let at = events.iter().position(|e| e.name.starts_with(name))?;
        Some(summary.counters.as_ref()?.values[at].as_ref()?.value)
    };
    let told = run.out.split("used ").nth(1).unwrap();
    let mut told = told.split(' ').filter_map(|word| word.parse::<u64>().ok());
    let (least, most) = (told.next().unwrap() * 1000, told.next().unwrap() * 1000);
    let clock = named("task-clock").unwrap();
    // Its time as a copy of the recorder is in `most`; after it has told it lives a little longer.
    assert!(
        (least / 100 * 98..most / 100 * 102 + 50_000_000).contains(&clock),
        "counted {clock} ns, used {least} to {most} ns"
    );
    assert!(named("page-faults").unwrap() > 0);
    assert!(named("context-switches").is_none_or(|n| n > 0));
}
