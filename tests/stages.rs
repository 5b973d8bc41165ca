//! A pipeline whose parts are known: driver, TCP, application, copy, each so many turns of the same loop, with a known
//! share of empty polls, requests that wait for one another and for the drain of the transmit queue. The ledger must
//! find the parts to 2 points in 100, the spans their lengths to 5 %. The program is this test binary, started again as
//! [`program`].

use crate::support::{Place, Run, measured_in_peace};
use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How many threads the program is to have, where it is to run.
const RUN: &str = "BYPASSPROF_TEST_STAGES";
/// CPU time that the program uses.
const LENGTH_NS: u64 = 2_000_000_000;
/// A prime, so that nothing falls into step with the rounds.
const FREQUENCY: &str = "3989";

/// Mean length of each part in us of an idle CPU, by function.
const PARTS: &[(&str, &str, u64)] = &[
    ("poll_device", "empty_poll", 45),
    ("do_driver", "driver_rx", 30),
    ("do_tcp", "tcp_rx", 40),
    ("do_app", "app", 60),
    ("do_copy", "copy", 50),
    ("do_timer", "tcp_timer", 25),
];

/// What the program's own functions are.
const PACK: &str = r#"
name = "stages"
about = "the pipeline of a test"
symbols = ["*stages::do_*"]

[[role]]
name = "pipeline"
below = ["*stages::do_*"]

[[rule]]
phase = "driver_rx"
order = "first"
symbols = ["*stages::do_driver"]

[[rule]]
phase = "tcp_rx"
order = "first"
symbols = ["*stages::do_tcp"]

[[rule]]
phase = "app"
order = "first"
symbols = ["*stages::do_app"]

[[rule]]
phase = "copy"
order = "first"
symbols = ["*stages::do_copy"]

[[rule]]
phase = "tcp_timer"
order = "first"
symbols = ["*stages::do_timer"]
"#;

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Loops that call nothing, so that samples in them are in the function of that name.
macro_rules! parts {
    ($($name:ident)*) => { $(
        #[inline(never)]
        fn $name(turns: u64) {
            let (mut x, mut i) = (turns | 1, 0);
            while i < turns {
                x ^= x << 7;
                x ^= x >> 9;
                i += 1;
            }
            std::hint::black_box(x);
        }
    )* };
}
parts!(calibrate poll_device do_driver do_tcp do_app do_copy do_timer);

/// Lengths of the stages as the program's own clock sees them.
#[derive(Default)]
struct Lengths {
    sums: [f64; STAGES.len()],
    requests: f64,
}

/// The stages of `spans`.
const STAGES: [&str; 8] = [
    "receive",
    "tcp_in",
    "wait_wakeup",
    "wait_app",
    "app",
    "wait_send",
    "wait_drain",
    "total",
];

impl Lengths {
    /// A request with the ends of its stages.
    fn add(&mut self, ends: [Instant; 8]) {
        for (at, pair) in ends.windows(2).enumerate() {
            self.sums[at] += (pair[1] - pair[0]).as_nanos() as f64;
        }
        self.sums[7] += (ends[7] - ends[0]).as_nanos() as f64;
        self.requests += 1.0;
    }
}

/// What the application's thread is told to do, and what it tells when it is done: woken up, begun, ended.
type Told = (Flow, [u64; 2]);
type Done = [Instant; 3];

/// The application on a thread of its own, asleep between requests.
fn application(told: &mpsc::Receiver<Told>, done: &mpsc::Sender<Done>) {
    probe::name_thread("application");
    loop {
        probe::emit(points::SLEEP, Flow::NONE, 0);
        let Ok((flow, [app, copy])) = told.recv() else {
            return;
        };
        let woken = Instant::now();
        probe::emit(points::WAKE, Flow::NONE, 3);
        let begun = Instant::now();
        probe::emit(points::APP_START, flow, 0);
        do_app(app);
        do_copy(copy);
        let ended = Instant::now();
        probe::emit(points::APP_END, flow, 500);
        let _ = done.send([woken, begun, ended]);
    }
}

struct Program {
    rounds: PollLoop,
    turns_per_us: u64,
    /// Turns of each of [`PARTS`].
    turns: [u64; 6],
    seed: u64,
    frames: [u32; 2],
    lengths: Lengths,
}

impl Program {
    /// About the mean number of turns of a part, counted.
    fn part(&mut self, part: usize) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let mean = PARTS[part].2 * self.turns_per_us;
        let turns = mean / 2 + self.seed % mean;
        self.turns[part] += turns;
        turns
    }

    fn empty_round(&mut self) {
        let turns = self.part(0);
        self.rounds.begin();
        poll_device(turns);
        self.rounds.rx_burst(0, 0, 32, self.frames[0]);
        self.rounds.end();
    }

    /// Two requests in one burst: the second waits for the first, both wait for the drain.
    fn round_of_work(&mut self) {
        let flows = [Flow::from_raw(7), Flow::from_raw(8)];
        let parts: Vec<u64> = [1, 2, 2, 3, 4, 3, 4, 5].map(|p| self.part(p)).into();
        let now = Instant::now;
        self.rounds.begin();
        let begun = now();
        do_driver(parts[0]);
        self.rounds.rx_burst(0, 2, 32, self.frames[0]);
        let mut tcp = [begun; 2];
        let mut delivered = [begun; 2];
        for n in 0..2 {
            tcp[n] = now();
            probe::emit_with(
                points::TCP_IN,
                flows[n],
                self.frames[0] + n as u32,
                [100, 0, 0],
            );
            do_tcp(parts[1 + n]);
            delivered[n] = now();
            probe::emit_with(points::DELIVER, flows[n], 100, [0; 3]);
        }
        let mut app = [[begun; 2]; 2];
        for n in 0..2 {
            app[n][0] = now();
            probe::emit(points::APP_START, flows[n], 0);
            do_app(parts[3 + 2 * n]);
            do_copy(parts[4 + 2 * n]);
            let frame = self.frames[1] + n as u32;
            probe::emit_with6(points::TCP_OUT, flows[n], frame, [500, 0, 0, 0, 0, 0]);
            app[n][1] = now();
            probe::emit(points::APP_END, flows[n], 500);
        }
        do_timer(parts[7]);
        let taken = now();
        self.rounds.tx_burst(0, 2, 2, self.frames[1]);
        self.rounds.end();
        self.frames = self.frames.map(|f| f + 2);
        for n in 0..2 {
            let [start, end] = app[n];
            // No one sleeps, and the reply leaves TCP before the application is done.
            let ends = [
                begun,
                tcp[n],
                delivered[n],
                delivered[n],
                start,
                end,
                end,
                taken,
            ];
            self.lengths.add(ends);
        }
    }

    /// One request whose application runs on another thread.
    fn round_of_two_threads(&mut self, told: &mpsc::Sender<Told>, done: &mpsc::Receiver<Done>) {
        let flow = Flow::from_raw(7);
        let parts: Vec<u64> = (1..=5).map(|p| self.part(p)).collect();
        let now = Instant::now;
        self.rounds.begin();
        let begun = now();
        do_driver(parts[0]);
        self.rounds.rx_burst(0, 1, 32, self.frames[0]);
        let tcp = now();
        probe::emit_with(points::TCP_IN, flow, self.frames[0], [100, 0, 0]);
        do_tcp(parts[1]);
        let delivered = now();
        probe::emit_with(points::DELIVER, flow, 100, [0; 3]);
        told.send((flow, [parts[2], parts[3]])).unwrap();
        let [woken, start, end] = done.recv().unwrap();
        let out = now();
        probe::emit_with6(points::TCP_OUT, flow, self.frames[1], [500, 0, 0, 0, 0, 0]);
        do_timer(parts[4]);
        let taken = now();
        self.rounds.tx_burst(0, 1, 1, self.frames[1]);
        self.rounds.end();
        self.frames = self.frames.map(|f| f + 1);
        self.lengths
            .add([begun, tcp, delivered, woken, start, end, out, taken]);
    }
}

/// Not a test: the program that the test records. It prints its parts and its stages.
#[test]
#[ignore = "the program that the test of this module records"]
fn program() {
    let two_threads = std::env::var(RUN).unwrap() == "2";
    const TURNS: u64 = 500_000;
    let start = cpu_ns();
    calibrate(TURNS);
    let turns_per_us = (TURNS * 1000 / (cpu_ns() - start).max(1)).max(1);
    let mut program = Program {
        rounds: PollLoop::new(),
        turns_per_us,
        turns: [0; 6],
        seed: 0x9e37_79b9_7f4a_7c15,
        frames: [0; 2],
        lengths: Lengths::default(),
    };
    for wait in 0.. {
        if probe::enabled() {
            break;
        }
        assert!(wait < 20_000, "no recorder listens");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (told, is_told) = mpsc::channel();
    let (is_done, done) = mpsc::channel();
    let thread = two_threads.then(|| std::thread::spawn(move || application(&is_told, &is_done)));
    let start = cpu_ns();
    // Of two threads each uses about half.
    while cpu_ns() - start < LENGTH_NS / if two_threads { 2 } else { 1 } {
        for _ in 0..20 {
            (0..4).for_each(|_| program.empty_round());
            if two_threads {
                program.round_of_two_threads(&told, &done);
            } else {
                program.round_of_work();
            }
        }
    }
    drop(told);
    if let Some(thread) = thread {
        thread.join().unwrap();
    }
    let all: u64 = program.turns.iter().sum();
    for ((_, phase, _), turns) in PARTS.iter().zip(program.turns) {
        println!("part {phase} {}", turns as f64 / all as f64);
    }
    for (stage, sum) in STAGES.iter().zip(program.lengths.sums) {
        println!("stage {stage} {}", sum / program.lengths.requests);
    }
    println!("requests all {}", program.lengths.requests);
}

/// The lines of the program's output that begin with `word`: name and number.
fn told<'a>(out: &'a str, word: &str) -> Vec<(&'a str, f64)> {
    let lines = out
        .lines()
        .filter_map(|l| l.split_once(&format!("{word} ")));
    let pairs = lines.filter_map(|(_, rest)| rest.split_once(' '));
    pairs
        .map(|(name, n)| (name, n.trim().parse().unwrap()))
        .collect()
}

fn json(place: &Place, args: &[&str]) -> Value {
    let run = place.run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

/// Records the program with so many threads.
fn recorded(threads: &str) -> (Place, String) {
    let place = Place::new();
    std::fs::write(place.path("stages.toml"), PACK).unwrap();
    let mut record = place.bypassprof(&["record", "-F", FREQUENCY, "--"]);
    let run = Run::of(
        record
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "stages::program", "--ignored", "--nocapture"])
            .env(RUN, threads),
    );
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    (place, run.out)
}

/// The ledger's parts are those that the program knows of itself; gives its number of requests. What else the program
/// does (making numbers, reading its clock, handing over between threads) it does not know, and is left out of both.
fn parts_agree(place: &Place, out: &str) -> f64 {
    let ledger = json(
        place,
        &["ledger", "--json", "--by", "role", "--pack", "stages.toml"],
    );
    let rows: Vec<_> = ledger["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["thread"] == "pipeline")
        .collect();
    let cycles = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let parts = told(out, "part");
    assert_eq!(parts.len(), 6, "{out}");
    let known = |phase: &Value| parts.iter().any(|(known, _)| phase == known);
    let compared = rows.iter().filter(|r| known(&r["phase"]));
    let all: f64 = compared.map(|r| cycles(r, "cycles")).sum();
    for &(phase, truth) in &parts {
        let row = rows.iter().find(|r| r["phase"] == phase);
        let row = row.unwrap_or_else(|| panic!("no {phase} in {ledger:#}"));
        let share = cycles(row, "cycles") / all;
        assert!(
            (share - truth).abs() < 0.02,
            "{phase}: {share}, true {truth}: {ledger:#}"
        );
        let inside = cycles(row, "low") <= cycles(row, "cycles")
            && cycles(row, "cycles") <= cycles(row, "high");
        assert!(inside, "{row:#}");
    }
    let requests = told(out, "requests")[0].1;
    assert_eq!(ledger["requests"].as_f64(), Some(requests));
    requests
}

/// The stages of all requests are those that the program knows of itself.
fn stages_agree(place: &Place, out: &str, requests: f64) {
    let spans = json(place, &["spans", "--json", "--show", "5"]);
    let counted = spans["requests"].as_f64().unwrap();
    assert_eq!(counted, requests, "{spans:#}");
    for key in [
        "torn",
        "unfinished",
        "headless",
        "late_events",
        "pipelined",
        "split",
    ] {
        assert_eq!(spans[key], 0, "{spans:#}");
    }
    for (stage, truth) in told(out, "stage") {
        let stages = spans["stages"].as_array().unwrap();
        let row = stages.iter().find(|s| s["name"] == stage).unwrap();
        let mean = row["mean"].as_f64().unwrap();
        // Between the program's own clock and its stamp lies up to so much, and anything may happen there.
        let close = (mean - truth).abs() < f64::max(0.05 * truth, 1_000.0);
        assert!(close, "{stage}: {mean} ns, true {truth}: {spans:#}");
        if row["count"] == 0 {
            assert_eq!(truth, 0.0, "{stage}");
            continue;
        }
        assert_eq!(row["count"].as_f64(), Some(requests), "{row:#}");
    }
}

/// One thread: phases and stages, and what can be asked of the requests.
#[test]
fn known_pipeline() {
    measured_in_peace(|| {
        let (place, out) = recorded("1");
        let requests = parts_agree(&place, &out);
        stages_agree(&place, &out, requests);
        // The slowest 1 %: one in a hundred, none faster than the threshold, five of them as timelines that add up.
        let slow = json(
            &place,
            &["spans", "--json", "--slowest", "1%", "--show", "5"],
        );
        let few = slow["requests"].as_f64().unwrap() / requests;
        assert!((0.005..0.02).contains(&few), "{few}");
        let shown = slow["slowest"].as_array().unwrap();
        assert_eq!(shown.len(), 5);
        for request in shown {
            let total = request["total_ns"].as_u64().unwrap();
            assert!(Some(total) >= slow["threshold_ns"].as_u64());
            let stages = request["stages"].as_array().unwrap().iter();
            let sum: u64 = stages.map(|s| s[1].as_u64().unwrap()).sum();
            assert!(sum.abs_diff(total) <= 8, "{request:#}");
        }
        let text = place.run(&["spans", "--slowest", "1%", "--show", "2"]).out;
        assert!(
            text.contains("the slowest 1 % of") && text.contains("wait_drain"),
            "{text}"
        );
        let one = json(&place, &["spans", "--json", "--flow", "7"]);
        assert_eq!(one["requests"].as_f64(), Some(requests / 2.0));
        let none = json(&place, &["spans", "--json", "--window", "900..901"]);
        assert_eq!(none["requests"], 0);
    });
}

/// The application on a thread of its own: the same, and the time until it wakes up is told apart.
#[test]
fn known_pipeline_of_two_threads() {
    measured_in_peace(|| {
        let (place, out) = recorded("2");
        let requests = parts_agree(&place, &out);
        stages_agree(&place, &out, requests);
    });
}
