//! How fast recordings are analysed, and how much memory that takes: each command of the release build over a made-up
//! recording with as many events as one likes.
//!
//! `cargo bench --bench analysis`; `BYPASSPROF_EVENTS` (10 million) and `BYPASSPROF_SAMPLES` (a hundredth of that) set
//! the size, several sizes may be given with commas between. Targets: docs/architecture.md, section 11. CPU time of all
//! threads is shown beside wall time, since a busy machine slows only the latter.

mod traffic;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use traffic::Traffic;

/// Events a second that the budget asks of `spans`.
const TARGET: f64 = 10e6;
/// How often a command's memory and CPU time are read while it runs.
const LOOK: Duration = Duration::from_millis(5);

/// What a command took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

fn main() {
    let sizes = std::env::var("BYPASSPROF_EVENTS").unwrap_or_else(|_| "10000000".into());
    let samples: Option<u64> = std::env::var("BYPASSPROF_SAMPLES")
        .ok()
        .map(|s| s.parse().expect("BYPASSPROF_SAMPLES is a number"));
    let dir = tempfile::tempdir().expect("a directory for recordings");
    let file = dir.path().join("big.mcap");
    for size in sizes.split(',') {
        let events = size.parse().expect("BYPASSPROF_EVENTS are numbers");
        let traffic = Traffic {
            events,
            samples: samples.unwrap_or(events / 100),
            flows: 10_000,
            requests_each: 100,
            ..Traffic::default()
        };
        let started = Instant::now();
        traffic::write(&file, traffic).expect("space for the recording");
        let bytes = std::fs::metadata(&file).expect("the recording").len();
        println!(
            "{events} events, {} samples, {:.0} MB, made in {:.1} s",
            traffic.samples,
            bytes as f64 / 1e6,
            started.elapsed().as_secs_f64()
        );
        commands(&file, events);
    }
}

fn commands(file: &Path, events: u64) {
    let commands: [&[&str]; 6] = [
        &["ledger", "--json"],
        &["spans", "--json"],
        &["spans", "--json", "--slowest", "1%", "--show", "5"],
        &["explain", "--json"],
        &["report", "--json"],
        &["flamegraph", "-o", "/dev/null"],
    ];
    for words in commands {
        let cost = cost(words, file);
        println!(
            "  {:<40} {:6.2} s  {:6.2} s of CPU  {:7.1} MiB  {:6.1} M events/s  {:.2} x target",
            words.join(" "),
            cost.wall,
            cost.cpu,
            cost.peak_mib,
            events as f64 / cost.wall / 1e6,
            events as f64 / cost.wall / TARGET,
        );
    }
}

fn cost(words: &[&str], file: &Path) -> Cost {
    let program = std::env::var("BYPASSPROF_PROGRAM");
    let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_bypassprof").into());
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(words)
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool");
    let mut cost = Cost::default();
    loop {
        let ended = child.try_wait().expect("a child of ours");
        if let Some(status) = ended {
            assert!(status.success(), "{words:?}: {status}");
            cost.wall = started.elapsed().as_secs_f64();
            return cost;
        }
        cost.peak_mib = peak_mib(child.id()).max(cost.peak_mib);
        cost.cpu = cpu(child.id()).max(cost.cpu);
        std::thread::sleep(LOOK);
    }
}

fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|p| p.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Seconds of user and system time: fields 14 and 15 of proc_pid_stat(5), in hundredths on every Linux there is.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}
