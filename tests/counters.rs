//! What the machine's counters say: sampled `cycles` with its group where there is a PMU, `cpu-clock` and a reason where
//! there is none. The program is this test binary, started again as [`program`]; `tests/pmu/run` runs this module on an
//! emulated machine that has a PMU.

use crate::support::{Place, Run};
use bypassprof::trace::record::Notice;
use bypassprof::trace::{Reader, Record};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

/// CPU time by a clock of the kernel.
fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits until a thread that was just made has been opened by a recorder to which the kernel does not hand it on; on a machine
/// that is emulated that takes seconds.
fn be_opened() {
    if cfg!(target_arch = "aarch64") {
        std::thread::sleep(Duration::from_secs(4));
    }
}

/// Not a test: two threads that compute for half a second of CPU time each.
#[test]
#[ignore = "the program that the tests of this module record"]
fn program() {
    let began = cpu_time(ClockId::ProcessCPUTime);
    let busy = || {
        be_opened();
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

/// How often [`phases`] goes from one of its two phases to the other, and the CPU time of each.
const TIMES: u32 = 10;
const PHASE: Duration = Duration::from_millis(25);

#[inline(never)]
fn compute_only(until: Duration) {
    let mut x = 1u64;
    while cpu_time(ClockId::ThreadCPUTime) < until {
        for _ in 0..1000 {
            x = std::hint::black_box(x.wrapping_mul(3) + 1);
        }
    }
}

#[inline(never)]
fn touch_fresh_pages(until: Duration) {
    // As far apart as the largest pages, so that each touch is a fault; and too large to be kept by the allocator.
    const APART: usize = 2 << 20;
    while cpu_time(ClockId::ThreadCPUTime) < until {
        let mut pages = vec![0u8; 32 * APART];
        for at in (0..pages.len()).step_by(APART) {
            pages[at] = 1;
        }
        std::hint::black_box(&pages);
    }
}

/// Not a test: computes for a while, touches fresh pages for a while, and so on; says how often it faulted.
#[test]
#[ignore = "the program that the tests of this module record"]
fn phases() {
    be_opened();
    for _ in 0..TIMES {
        compute_only(cpu_time(ClockId::ThreadCPUTime) + PHASE);
        touch_fresh_pages(cpu_time(ClockId::ThreadCPUTime) + PHASE);
    }
    // Field 10 of proc_pid_stat(5): faults of this thread that needed no disk.
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    println!("faulted {}", after_name.split_whitespace().nth(7).unwrap());
}

/// Not a test: as many turns of a loop of two instructions as [`TURNS`] says.
#[test]
#[ignore = "the program that the tests of this module count"]
#[allow(unsafe_code)]
fn looping() {
    let turns: u64 = std::env::var(TURNS).map_or(0, |n| n.parse().unwrap());
    if turns == 0 {
        return;
    }
    be_opened();
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a loop over one register, which ends: it touches no memory.
    unsafe {
        std::arch::asm!("2: subs {n}, {n}, #1", "b.ne 2b", n = inout(reg) turns => _, options(nomem, nostack));
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("2: dec {n}", "jnz 2b", n = inout(reg) turns => _, options(nomem, nostack));
    }
}

const TURNS: &str = "BYPASSPROF_TEST_TURNS";

/// Counts events over [`looping`].
fn counted(events: &str, turns: u64) -> Value {
    let place = Place::new();
    let mut command = place.bypassprof(&["stat", "--json", "-e", events, "--"]);
    command
        .arg(std::env::current_exe().unwrap())
        .env(TURNS, turns.to_string());
    command.args(["--exact", "counters::looping", "--ignored"]);
    let run = Run::of(&mut command);
    let document = run.out.find("{\n").map_or("", |at| &run.out[at..]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    serde_json::from_str(document).unwrap()
}

fn value(stat: &Value, at: usize) -> Option<f64> {
    stat["counters"][at]["value"].as_f64()
}

/// Whether instructions can be counted here; if not it is said why.
fn counts_instructions() -> bool {
    let stat = counted("task-clock,instructions:u", 0);
    if value(&stat, 1).is_some() {
        return true;
    }
    let why = stat["counters"][1]["why"].as_str().unwrap();
    assert!(
        why.contains("PMU") || why.contains("does not count"),
        "{why}"
    );
    eprintln!("left out: {why}");
    false
}

/// The number of retired instructions as this CPU's manual has it.
const RAW: &str = if cfg!(target_arch = "aarch64") {
    "r8:u"
} else {
    "r00c0:u"
};
/// Few turns and many: the difference is the loop alone.
const FEW: u64 = 1_000_000;
const MANY: u64 = 101_000_000;

/// A loop of two instructions is counted as such: by name, by number, alone, and in a group whose members ran the same
/// time.
#[test]
fn a_known_loop() {
    if !counts_instructions() {
        return;
    }
    let loops = 2.0 * (MANY - FEW) as f64;
    for events in [
        format!("instructions:u,{RAW},cycles:u"),
        format!("{{instructions:u,{RAW},cycles:u}}"),
        format!("{{instructions,{RAW},cycles}}:u"),
    ] {
        let (few, many) = (counted(&events, FEW), counted(&events, MANY));
        for at in 0..2 {
            let turns = value(&many, at).unwrap() - value(&few, at).unwrap();
            assert!(
                (0.999..1.001).contains(&(turns / loops)),
                "{events} {at}: {turns} of {loops}: {many:#}"
            );
        }
        let share = |at: usize| many["counters"][at]["running_share"].as_f64().unwrap();
        if events.starts_with('{') {
            assert_eq!(share(0), share(1), "{many:#}");
        }
        let ipc = many["ratios"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["id"] == "ipc")
            .unwrap();
        let expected = value(&many, 0).unwrap() / value(&many, 2).unwrap();
        assert!(
            (ipc["value"].as_f64().unwrap() - expected).abs() < 1e-6,
            "{ipc}"
        );
        // Read by tests/pmu/run.
        eprintln!(
            "loop of two instructions: {} of {loops}",
            value(&many, 0).unwrap() - value(&few, 0).unwrap()
        );
    }
}

/// More events than there are counters: each has its turn and is scaled to what it would have been; a group that can
/// never fit is refused, a weak one is taken apart.
#[test]
fn more_events_than_counters() {
    if !counts_instructions() {
        return;
    }
    let events = ["instructions:u"; 16].join(",");
    let (few, many) = (counted(&events, FEW), counted(&events, MANY));
    let loops = 2.0 * (MANY - FEW) as f64;
    let mut shared = 0;
    for at in 0..16 {
        let counter = &many["counters"][at];
        let turns = value(&many, at).unwrap() - value(&few, at).unwrap_or(0.0);
        assert!(
            (0.8..1.2).contains(&(turns / loops)),
            "{turns} of {loops}: {counter:#}"
        );
        let share = counter["running_share"].as_f64().unwrap();
        if share < 0.99 {
            shared += 1;
            let really = counter["scaled_from"].as_f64().unwrap();
            assert!(
                (really / share / value(&many, at).unwrap() - 1.0).abs() < 0.01,
                "{counter:#}"
            );
        }
    }
    assert!(shared > 0, "{many:#}");
    eprintln!("multiplexed: {shared} of 16 events had turns");
    let group = format!("task-clock,{{{events}}}");
    let stat = counted(&group, FEW);
    let refused = (1..17).filter(|&at| value(&stat, at).is_none()).count();
    assert_eq!(refused, 16, "{stat:#}");
    let stat = counted(&format!("{group}:W"), FEW);
    assert!(value(&stat, 1).is_some(), "{stat:#}");
}

/// A raw event is sampled with the group that was asked for; samples stand for what was counted.
#[test]
fn sampled_raw_group() {
    if !counts_instructions() {
        return;
    }
    let place = Place::new();
    let events = format!("{{{RAW},cycles:u}}");
    let mut command = place.bypassprof(&["record", "-F", "499", "-e", &events, "--"]);
    command
        .arg(std::env::current_exe().unwrap())
        .env(TURNS, MANY.to_string());
    let run = Run::of(command.args(["--exact", "counters::looping", "--ignored"]));
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let summary = reader.meta();
    let total = summary.counters.as_ref().unwrap().values[0]
        .as_ref()
        .unwrap();
    let (mut samples, mut weight, mut member) = (0, 0, 0);
    for record in reader.records() {
        if let Record::Sample(sample) = record.unwrap() {
            samples += 1;
            weight += sample.period;
            // Running totals of each thread: that of the one that loops is the largest.
            member = sample.group[0].max(member);
        }
    }
    // An emulator tells of an overflow at its timer's next tick; what was counted until then is in the member alone.
    let least = if cfg!(target_arch = "aarch64") {
        0.2
    } else {
        0.8
    };
    let share = weight as f64 / total.value as f64;
    let counted = member as f64 / total.value as f64;
    assert!(
        samples > 20 && (least..1.2).contains(&share) && counted > 0.8,
        "{samples} samples, {weight} and {member} of {total:?}"
    );
    let events = summary.session.events.iter();
    let members = events.filter(|e| e.leader == Some(0)).count();
    assert_eq!(members, 1, "{}", run.err);
    let told = summary.notices.iter().any(|n| n.id == "group-per-thread");
    assert_eq!(told, kernel() < (6, 12), "{}", run.err);
}

/// What this CPU lacks is told event by event; the rest is counted.
#[test]
fn partial_availability() {
    let stat = counted(
        "task-clock,cycles,LLC-prefetch-misses,node-prefetch-misses",
        FEW,
    );
    assert!(value(&stat, 0).is_some());
    assert_eq!(value(&stat, 1).is_some(), has_pmu(), "{stat:#}");
    for at in 1..4 {
        let counter = &stat["counters"][at];
        assert_eq!(
            counter["value"].is_null(),
            counter["why"].is_string(),
            "{counter:#}"
        );
    }
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

fn recorded(program: &str, options: &[&str]) -> (Place, Reader, Run) {
    let place = Place::new();
    let mut command = place.bypassprof(&["record"]);
    command.args(options).arg("--");
    let this = Command::new(std::env::current_exe().unwrap());
    command.arg(this.get_program());
    let name = format!("counters::{program}");
    command.args(["--exact", &name, "--ignored", "--nocapture"]);
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    (place, reader, run)
}

/// Every sample carries the group's running totals, which only grow and end below what was counted in all.
#[test]
fn the_group_rides_in_the_samples() {
    let (_place, reader, run) = recorded("program", &[]);
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
        // Kernels before 6.12 refuse a group that is read with inherited events; nobody asked for it thread by thread.
        assert_eq!(members.is_empty(), kernel() < (6, 12), "{}", run.err);
        assert_eq!(members.is_empty(), told("no-group"), "{}", run.err);
    }
    let mut last: BTreeMap<(u32, u32), Vec<u64>> = BTreeMap::new();
    let of_sample = |record| match record {
        Record::Sample(sample) => Some(sample),
        Record::Switch(_) | Record::Slots(..) => None,
    };
    let samples = reader.records().filter_map(|r| of_sample(r.unwrap()));
    let mut samples: Vec<_> = samples.collect();
    samples.sort_by_key(|s| s.time);
    for sample in &samples {
        assert_eq!(sample.group.len(), members.len());
        let before = last.entry((sample.tid, sample.cpu)).or_default();
        assert!(before.iter().zip(&sample.group).all(|(a, b)| a <= b));
        before.clone_from(&sample.group);
    }
    assert!(samples.len() > 20, "{} samples: {}", samples.len(), run.err);
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
    let (_place, reader, run) = recorded("program", &[]);
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

/// A group that was asked for has its values in the samples of each thread, whether or not the kernel hands it on to threads
/// made later: both threads of the program count, and what they ran before they were opened is told.
#[test]
fn a_group_that_was_asked_for() {
    let group = if counts_instructions() {
        "{cycles,instructions,page-faults}"
    } else {
        "{cpu-clock,page-faults,task-clock}"
    };
    let (_place, reader, run) = recorded("program", &["-e", group]);
    let summary = reader.meta();
    let told = |id: &str| summary.notices.iter().find(|n| n.id == id);
    let handed_on = kernel() >= (6, 12);
    assert_eq!(told("group-per-thread").is_none(), handed_on, "{}", run.err);
    assert!(told("no-group").is_none(), "{}", run.err);
    assert!(
        handed_on || told("threads-unsampled").is_some(),
        "{}",
        run.err
    );
    let mut last: BTreeMap<(u32, u32), Vec<u64>> = BTreeMap::new();
    for record in reader.records() {
        if let Record::Sample(sample) = record.unwrap() {
            assert_eq!(sample.group.len(), 2);
            last.insert((sample.tid, sample.cpu), sample.group);
        }
    }
    let mut of_threads: BTreeMap<u32, u64> = BTreeMap::new();
    for ((tid, _), group) in &last {
        *of_threads.entry(*tid).or_default() += group[0].max(group[1]);
    }
    let busy = of_threads.values().filter(|&&n| n > 1_000_000).count();
    assert!(busy >= 2, "{of_threads:?}: {}", run.err);
    // Read by whoever runs tests/pmu/run.
    let unsampled = told("threads-unsampled").map(|n| n.text.as_str());
    eprintln!("group by thread: {}", unsampled.unwrap_or("handed on"));
}

/// Counts are told to the phase that they were counted in: pages are touched in one of two phases only, and nearly all
/// faults are in the rows that the kernel's part of it and the touching function have.
#[test]
fn by_phase() {
    let group = match (has_pmu(), counts_instructions()) {
        (true, true) => "{cycles,instructions,page-faults}",
        (true, false) => "{cycles,page-faults}",
        (false, _) => "{cpu-clock,page-faults}",
    };
    let (place, reader, run) = recorded("phases", &["-e", group]);
    let pack = r#"
        name = "phases"
        about = "a program of a test"
        symbols = ["*counters::compute_only"]
        [[rule]]
        order = "first"
        phase = "app"
        symbols = ["*counters::compute_only"]
        [[rule]]
        order = "first"
        phase = "tcp_tx"
        symbols = ["*counters::touch_fresh_pages"]
    "#;
    std::fs::write(place.path("phases.toml"), pack).unwrap();
    let told = place.run(&["ledger", "--json", "--pack", "phases.toml"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let ledger: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let names = ledger["counters"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|n| n.as_str().unwrap()).collect();
    let counter = |name: &str| names.iter().position(|n| n.starts_with(name));
    let rows = ledger["rows"].as_array().unwrap().iter();
    let rows: BTreeMap<&str, Vec<u64>> = rows
        .filter(|r| r["level"] == "program")
        .map(|r| {
            let counts = r["counts"].as_array().unwrap().iter();
            let counts = counts.map(|c| c.as_u64().unwrap()).collect();
            (r["phase"].as_str().unwrap(), counts)
        })
        .collect();
    let of = |phase: &str, at: usize| {
        rows.get(phase)
            .map_or(0, |r| r.get(at).copied().unwrap_or(0))
    };
    let faults = counter("page-faults").expect("the kernel counts them");
    let notices = &reader.meta().notices;
    let told = notices.iter().any(|n| n.id == "clock-with-group");
    assert_eq!(told, !has_pmu(), "{}", run.err);
    let all = ledger["accounts"][0]["counts"][faults].as_u64().unwrap();
    let truth = run.out.split("faulted ").nth(1).unwrap();
    let truth: u64 = truth.split_whitespace().next().unwrap().parse().unwrap();
    // The program began as a copy of the recorder, and its other thread waits.
    assert!(
        (truth / 10 * 9..truth / 10 * 11 + 500).contains(&all),
        "{all} of {truth}"
    );
    let [computing, touching] = ["app", "tcp_tx"].map(|phase| of(phase, faults));
    let kernel = of("alloc", faults) + of("kernel_syscall", faults) + of("irq", faults);
    assert!(computing < all / 10, "{computing} of {all}: {rows:?}");
    // Before its first phase there are faults where no rule knows the code: the loader's.
    let known = all - of("unaccounted", faults);
    assert!(
        touching + kernel > known / 10 * 8,
        "{touching} and {kernel} of {all}: {rows:?}"
    );
    if let Some(instructions) = counter("instructions") {
        let per_cycle = of("app", instructions) as f64 / of("app", 0) as f64;
        eprintln!("computing: {per_cycle:.2} instructions a cycle");
        assert!(per_cycle > 0.1);
    }
    let text = place.run(&["ledger", "--pack", "phases.toml"]);
    assert!(text.out.contains("page-faults"), "{}", text.out);
}

/// Free ports are given out in turn: this one was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A whole recording of a server with probes under load, and what is told of it: counters for each request, a ledger
/// that adds up, an explanation. The server and its load lie beside the tool where they were built.
#[test]
fn a_server() {
    let beside = |name: &str| {
        let tool = std::path::Path::new(env!("CARGO_BIN_EXE_bypassprof"));
        tool.with_file_name(name)
    };
    let (server, load) = (beside("httpd"), beside("loadgen"));
    if !server.exists() || !load.exists() {
        eprintln!("left out: httpd and loadgen are not built");
        return;
    }
    let place = Place::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = place.bypassprof(&["record", "--"]);
    command.arg(server).args(["--listen", &address]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut recorder = command.spawn().unwrap();
    let mut said = BufReader::new(recorder.stdout.take().unwrap());
    let mut ready = String::new();
    said.read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ready linux"), "{ready}");
    // What a program does before the recorder has found it is not counted.
    std::thread::sleep(Duration::from_millis(500));
    let url = format!("http://{address}/");
    let loaded = Run::of(Command::new(load).args([&url, "-c", "4", "-d", "3", "--json"]));
    let pid = rustix::process::Pid::from_child(&recorder);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = Run::from(recorder.wait_with_output().unwrap());
    assert_eq!(
        (loaded.code, run.code),
        (Some(0), Some(0)),
        "{}{}",
        loaded.err,
        run.err
    );
    let told = |args: &[&str]| -> Value {
        let run = place.run(args);
        assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
        serde_json::from_str(&run.out).unwrap()
    };
    let load: Value = serde_json::from_str(&loaded.out).unwrap();
    let stat = told(&["stat", "--json"]);
    let [asked, answered] = [&load, &stat].map(|v| v["requests"].as_u64().unwrap());
    // Those on their way at the end are answered, but not waited for.
    assert!(
        asked > 0 && answered.abs_diff(asked) <= 4 + asked / 100,
        "{asked} {stat:#}"
    );
    let clock = counter(&stat, "task-clock");
    assert!(clock["per_request"].as_f64().unwrap() > 0.0, "{clock:#}");
    let ledger = told(&["ledger", "--json"]);
    let shares = ledger["rows"].as_array().unwrap().iter();
    let shares: f64 = shares
        .filter(|r| r["level"] == "program")
        .map(|r| r["share"].as_f64().unwrap())
        .sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    let spans = told(&["spans", "--json"]);
    assert!(!spans["stages"].as_array().unwrap().is_empty(), "{spans:#}");
    let explained = told(&["explain", "--json"]);
    let findings = explained["findings"].as_array().unwrap().iter();
    let findings: Vec<_> = findings.map(|f| f["id"].as_str().unwrap()).collect();
    if has_pmu() {
        assert!(counter(&stat, "cycles")["per_request"].as_f64().unwrap() > 0.0);
    }
    // Read by whoever runs tests/pmu/run.
    eprintln!("a server: {asked} requests asked, {answered} answered, findings {findings:?}");
}

fn counter<'a>(stat: &'a Value, name: &str) -> &'a Value {
    let mut counters = stat["counters"].as_array().unwrap().iter();
    let named = counters.find(|c| c["name"].as_str().unwrap().starts_with(name));
    named.unwrap_or_else(|| panic!("no {name} in {stat:#}"))
}
