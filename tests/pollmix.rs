//! A program whose share of empty polling is known, because it measures it with its own clock: the report must say the
//! same, to a point in a hundred. The program is this very test binary, started again as [`program`].

use crate::busy::{cpu_ns, loops, turns_per_us, wait_for_recorder};
use crate::in_peace;
use crate::support::{Place, Run, names_in, row};
use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the program does, in its environment: share of empty polling in per cent, then words.
const MIX: &str = "BYPASSPROF_TEST_MIX";
/// CPU time that the program uses.
const LENGTH_NS: u64 = 1_500_000_000;
/// An empty and a busy stretch together, on average.
const CYCLE_NS: u64 = 400_000;
/// Lengths of an empty poll.
const POLLS_NS: [u64; 3] = [50, 300, 2000];

loops!(empty_poll in_receive in_timer in_application);

struct Program {
    rounds: PollLoop,
    turns_per_us: u64,
    flood: bool,
    seed: u64,
    frame: u32,
}

impl Program {
    fn turns(&self, ns: u64) -> u64 {
        (ns * self.turns_per_us / 1000).max(1)
    }

    /// Between half and one and a half of `ns`, so that nothing falls into step with the sampling.
    fn about(&mut self, ns: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        ns / 2 + self.seed % ns.max(1)
    }

    fn poll_for_nothing(&mut self, poll_ns: u64, ns: u64) {
        let (poll, end) = (self.turns(poll_ns), cpu_ns() + ns);
        loop {
            for _ in 0..(ns / 10 / poll_ns).max(1) {
                self.rounds.begin();
                empty_poll(poll);
                self.rounds.rx_burst(0, 0, 32, self.frame);
                self.rounds.end();
            }
            if cpu_ns() >= end {
                break;
            }
        }
    }

    fn work(&mut self, kind: u64, ns: u64) {
        let turns = self.turns(ns);
        self.rounds.begin();
        match kind % 3 {
            0 => {
                in_receive(turns);
                self.rounds.rx_burst(0, 1, 32, self.frame);
                self.frame += 1;
            }
            1 => {
                self.rounds.rx_burst(0, 0, 32, self.frame);
                in_timer(turns);
                self.rounds.worked(1);
            }
            _ => {
                let burst = self.rounds.rx_burst(0, 4, 32, self.frame);
                burst.emit(points::TCP_IN, Flow::from_raw(7), self.frame);
                in_application(turns);
                self.frame += 4;
            }
        }
        if self.flood && kind.is_multiple_of(150) {
            // More than a ring holds, faster than anyone reads.
            for event in 0..400_000 {
                probe::emit(points::APP_END, Flow::from_raw(7), event);
            }
        }
        self.rounds.end();
    }
}

/// Shares a CPU with the polling thread.
fn compete() {
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    // The new thread inherits the one CPU.
    std::thread::spawn(|| {
        loop {
            empty_poll(2_000_000);
            std::thread::sleep(Duration::from_millis(3));
        }
    });
}

/// Not a test: the program that the others record. It prints its true share.
#[test]
#[ignore = "the program that the tests of this module record"]
fn program() {
    let mix = std::env::var(MIX).unwrap();
    let percent: u64 = mix.split(' ').next().unwrap().parse().unwrap();
    if mix.contains("preempted") {
        compete();
    }
    let mut program = Program {
        turns_per_us: turns_per_us(1),
        rounds: PollLoop::new(),
        flood: mix.contains("flooding"),
        seed: 0x9e37_79b9_7f4a_7c15,
        frame: 0,
    };
    // Off CPU, which is neither work nor polling, until someone listens.
    wait_for_recorder();
    if mix.contains("unprivileged") {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
    }
    let start = cpu_ns();
    let mut empty = 0;
    for cycle in 0.. {
        let begin = cpu_ns();
        if begin - start >= LENGTH_NS {
            break;
        }
        let ns = program.about(CYCLE_NS * percent / 100);
        program.poll_for_nothing(POLLS_NS[cycle as usize / 3 % 3], ns);
        empty += cpu_ns() - begin;
        let ns = program.about(CYCLE_NS * (100 - percent) / 100);
        program.work(cycle, ns);
    }
    let all = cpu_ns() - start;
    println!("true share {}", empty as f64 / all as f64);
}

/// The program, by itself.
fn command(mix: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "pollmix::program", "--ignored", "--nocapture"])
        .env(MIX, mix);
    command
}

fn true_share(out: &str) -> f64 {
    let line = out.lines().find_map(|l| l.split_once("true share "));
    line.unwrap_or_else(|| panic!("no share in {out}"))
        .1
        .parse()
        .unwrap()
}

/// Records the program behind other commands' words; gives the true share and the report.
fn measured(place: &Place, before: &[&str], mix: &str) -> (f64, Value) {
    let program = command(mix);
    let mut record = place.bypassprof(&["record", "--"]);
    record
        .args(before)
        .arg(program.get_program())
        .args(program.get_args())
        .env(MIX, mix);
    let run = Run::of(&mut record);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert!(run.err.contains(" 0 rings not reached"), "{}", run.err);
    (true_share(&run.out), place.report())
}

/// Removes what a dead program left in its user's directory, where it is kept for post mortem.
fn sweep(user: u32, report: &Value) {
    let dir = format!("/dev/shm/bypassprof-{user}");
    let program = format!("{}-", poller(report)["pid"]);
    let names = names_in(dir.as_ref()).into_iter();
    for name in names.filter(|n| n.starts_with(&program)) {
        std::fs::remove_file(format!("{dir}/{name}")).unwrap();
    }
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// The reported row of the polling thread.
fn poller(report: &Value) -> &Value {
    let threads = report["threads"].as_array().unwrap();
    let probed: Vec<_> = threads.iter().filter(|t| t["probes"] == true).collect();
    assert_eq!(probed.len(), 1, "{threads:#?}");
    probed[0]
}

/// The reported share is the true one, and what the functions did is in their names.
fn agrees(mix: &str, truth: f64, report: &Value) {
    let thread = poller(report);
    let (empty, useful) = (&thread["empty_poll_share"], &thread["useful_share"]);
    let share = number(empty) / (number(empty) + number(useful));
    assert!(
        (share - truth).abs() < 0.01,
        "{mix}: reported {share}, true {truth}: {thread:#} {:#}",
        report["trust"]
    );
    let unknown = number(&thread["unknown_share"]) / number(&thread["on_cpu_share"]);
    assert!(unknown < 0.01, "{thread:#}");
    assert_eq!(report["trust"]["events_dropped"], 0);
    let functions = &report["functions"];
    for name in ["in_receive", "in_timer", "in_application"] {
        let row = row(functions, name);
        let wrong = number(&row["empty_poll_share"]) / number(&row["self_share"]);
        assert!(wrong < 0.02, "{row:#}");
    }
    let row = row(functions, "empty_poll");
    let right = number(&row["empty_poll_share"]) / number(&row["self_share"]);
    // The other thread of a preempted program uses the same loop.
    assert!(right > 0.97 || mix.contains("preempted"), "{row:#}");
}

/// Little, much and nearly nothing but polling.
#[test]
fn known_shares() {
    in_peace(|| {
        for mix in ["30", "70", "95"] {
            let (truth, report) = measured(&Place::new(), &[], mix);
            agrees(mix, truth, &report);
        }
    });
}

/// Time that another thread took in the middle of polls and of work is neither.
#[test]
fn preempted_in_the_middle() {
    in_peace(|| {
        let (truth, report) = measured(&Place::new(), &[], "70 preempted");
        agrees("70 preempted", truth, &report);
        assert!(
            number(&poller(&report)["off_cpu_share"]) > 0.1,
            "{report:#}"
        );
    });
}

/// A program that was started long before is switched on and found.
#[test]
fn joined_while_it_runs() {
    in_peace(|| {
        let place = Place::new();
        let program = command("70").stdout(Stdio::piped()).spawn().unwrap();
        let pid = program.id().to_string();
        let run = place.run(&["record", "-p", &pid]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let out = Run::from(program.wait_with_output().unwrap()).out;
        let report = place.report();
        agrees("70", true_share(&out), &report);
        sweep(rustix::process::geteuid().as_raw(), &report);
    });
}

/// In a PID namespace of its own the program calls itself by other numbers; its samples and its ring are one thread.
#[test]
fn in_a_pid_namespace() {
    in_peace(|| {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: only root makes PID namespaces here");
            return;
        }
        let inside = ["unshare", "--pid", "--fork", "--kill-child"];
        let (truth, report) = measured(&Place::new(), &inside, "70");
        agrees("70", truth, &report);
    });
}

/// Another user's program, which cannot enter the session directory of root's recorder, is found in its own.
#[test]
fn another_user() {
    in_peace(|| {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: only root runs programs as someone else");
            return;
        }
        let place = Place::new();
        // Nobody must reach the program.
        let program = std::env::current_exe().unwrap();
        std::fs::copy(program, place.path("program")).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(place.path(""), open).unwrap();
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let mut record = place.bypassprof(&["record", "--", "setpriv"]);
        record.args(nobody).arg(place.path("program"));
        let run = Run::of(record.args(command("70").get_args()).env(MIX, "70"));
        assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
        let report = place.report();
        agrees("70", true_share(&run.out), &report);
        sweep(65_534, &report);
    });
}

/// A program that gives root's privileges away after its first probe is recorded all the same.
#[test]
fn gives_privileges_away() {
    in_peace(|| {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: only root has privileges to give away");
            return;
        }
        let (truth, report) = measured(&Place::new(), &[], "70 unprivileged");
        agrees("70", truth, &report);
    });
}

/// Where rings drop, what is claimed is true, and the rest is called unknown.
#[test]
fn dropping_rings() {
    in_peace(|| {
        let (truth, report) = measured(&Place::new(), &[], "70 flooding");
        let thread = poller(&report);
        let on_cpu = number(&thread["on_cpu_share"]);
        let empty = number(&thread["empty_poll_share"]) / on_cpu;
        let unknown = number(&thread["unknown_share"]) / on_cpu;
        assert!(
            number(&report["trust"]["events_dropped"]) > 0.0,
            "{report:#}"
        );
        assert!(
            empty < truth + 0.01 && empty + unknown > truth - 0.01,
            "{truth} is not between {empty} and {}",
            empty + unknown
        );
    });
}
