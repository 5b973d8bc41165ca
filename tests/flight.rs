//! Snapshots of a program that runs with its flight recorder on: at once, and of each thing that they can wait for. The
//! program is this test binary, started again as [`program`].

use crate::support::{Place, Run};
use bypassprof::trace::record::Notice;
use bypassprof::trace::{Reader, Record};
use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Says to the program that it is to work without rounds of polling.
const NO_ROUNDS: &str = "BYPASSPROF_TEST_NO_ROUNDS";

/// Not a test: serves a request a millisecond, and does what it is told line by line.
#[test]
#[ignore = "the program that the tests of this module take snapshots of"]
fn program() {
    let (told, orders) = mpsc::channel();
    std::thread::spawn(move || {
        std::io::stdin()
            .lines()
            .map_while(Result::ok)
            .for_each(|l| drop(told.send(l)));
    });
    let polls = std::env::var_os(NO_ROUNDS).is_none();
    let mut rounds = PollLoop::new();
    let flow = Flow::from_raw(7);
    for n in 0u32.. {
        if polls {
            rounds.begin();
            let burst = rounds.rx_burst(0, 1, 32, n);
            burst.emit_with(points::TCP_IN, flow, n, [100, 0, 65_535]);
        }
        probe::emit(points::APP_START, flow, n);
        match orders.try_recv().as_deref() {
            Ok("ask") => probe::trigger(5),
            Ok("slow") => std::thread::sleep(Duration::from_millis(60)),
            Ok("drop") => probe::emit(points::DROP, flow, 4 << 24),
            Ok("stall") => std::thread::sleep(Duration::from_millis(800)),
            Ok("flight") => assert!(probe::flight(1 << 20)),
            Ok("threads") => (0..100).for_each(|_| drop(std::thread::spawn(one_event))),
            Ok("call") => assert_eq!(reached_by_uprobe(n), n),
            Ok("end") => return,
            Err(mpsc::TryRecvError::Disconnected) => return,
            _ => {}
        }
        probe::emit(points::APP_END, flow, 151);
        probe::emit_with6(points::TCP_OUT, flow, n, [151, 151, 65_535, 65_535, 0, 0]);
        if polls {
            rounds.tx_burst(0, 1, 1, n);
            rounds.end();
        }
        if n == 0 {
            println!("\nready");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A thread that has a ring for as long as the program runs, or none if there is no room for one.
fn one_event() {
    probe::emit(points::APP_START, Flow::from_raw(8), 1);
    loop {
        std::thread::park();
    }
}

#[inline(never)]
fn reached_by_uprobe(n: u32) -> u32 {
    std::hint::black_box(n)
}

/// The program, killed at the end.
pub struct Program(
    Child,
    #[expect(dead_code, reason = "it must stay open")] Lines<BufReader<ChildStdout>>,
);

impl Program {
    pub fn start(session: &Path, flight: &str) -> Program {
        Program::start_with(|command| {
            command
                .env("BYPASSPROF_SESSION", session)
                .env("BYPASSPROF_FLIGHT", flight);
        })
    }

    pub fn start_with(change: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "flight::program",
                "--exact",
                "--ignored",
                "--nocapture",
                "-q",
            ])
            .env_remove("BYPASSPROF_SESSION")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line == "ready");
        assert!(ready, "the program did not start");
        // It goes on talking to who started it.
        Program(child, lines)
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }

    pub fn tell(&mut self, order: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Lets it end by itself.
    pub fn end(mut self) {
        self.tell("end");
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A session directory of its own.
fn session() -> tempfile::TempDir {
    let prefix = "bypassprof-test-";
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in("/dev/shm")
        .unwrap()
}

fn notices(file: &Path) -> Vec<Notice> {
    Reader::open(file).unwrap().meta().notices.clone()
}

/// The points that the slots of a recording begin events of, in the order in which they were written.
fn points_of(file: &Path) -> Vec<probe::Point> {
    let reader = Reader::open(file).unwrap();
    let slots = reader.records().filter_map(|record| match record.unwrap() {
        Record::Slots(_, block) => Some(block.slots),
        _ => None,
    });
    slots.flatten().map(|slot| slot.point()).collect()
}

/// How many of them are of a point.
fn count(file: &Path, point: probe::Point) -> usize {
    points_of(file).iter().filter(|p| **p == point).count()
}

/// The newest events become a recording that other commands open; what the rings lost is in it, to the slot; the
/// program goes on.
#[test]
fn snapshot_now() {
    let (place, session) = (Place::new(), session());
    // A ring of 1024 slots: seven slots and more a request are over it in a fifth of a second.
    let mut program = Program::start(session.path(), "64K");
    std::thread::sleep(Duration::from_millis(600));
    let run = place.run(&["snapshot", "-p", &program.pid()]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let file = place.path("bypassprof.mcap");
    let reader = Reader::open(&file).unwrap();
    let meta = reader.meta();
    let (ring, totals) = (&meta.rings[&0], &meta.totals[&0]);
    assert!(
        ring.flight && ring.capacity == 1024 && ring.first_slot > 0,
        "{ring:?}"
    );
    // What may be torn, and what the program wrote while its ring was copied.
    let overwritten = totals.dropped_slots - ring.first_slot;
    assert!((8..200).contains(&overwritten), "{overwritten}");
    assert_eq!(meta.slot_counts[&0] + overwritten, 1024);
    let told = format!("overwritten: {overwritten} slots while");
    assert!(run.err.contains(&told), "{}", run.err);
    assert!(count(&file, points::APP_END) > 50);
    let spans = place.run(&["spans", "--json"]);
    assert_eq!(spans.code, Some(0), "{}", spans.err);
    let spans: serde_json::Value = serde_json::from_str(&spans.out).unwrap();
    assert!(spans["requests"].as_u64() > Some(50), "{spans:#}");
    let told = place.run(&["postmortem", "bypassprof.mcap"]);
    assert!(told.out.contains("it did not end"), "{}", told.out);
    // Taken twice, since nothing was taken away.
    let again = place.run(&["snapshot", "-p", &program.pid(), "--redact", "-o", "b.mcap"]);
    assert_eq!(again.code, Some(0), "{}", again.err);
    let redacted = Reader::open(&place.path("b.mcap")).unwrap();
    assert_eq!(redacted.meta().session.host, "");
    program.tell("ask");
    program.end();
    assert_eq!(std::fs::read_dir(session.path()).unwrap().count(), 0);
}

/// A program that turns its flight recorder on by itself.
#[test]
fn started_by_the_program() {
    let (place, session) = (Place::new(), session());
    let mut program = Program::start_with(|command| {
        command.env("BYPASSPROF_SESSION", session.path());
    });
    let pid = program.pid();
    let rings = || {
        let run = place.run(&["snapshot", "-p", &pid]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
        let rings = reader.meta().rings.values();
        let flight: Vec<bool> = rings.map(|ring| ring.flight).collect();
        (flight, run.err.contains("no flight recorder is on"))
    };
    assert_eq!(rings(), (vec![], true));
    program.tell("flight");
    let began = Instant::now();
    while rings() != (vec![true], false) {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", rings());
    }
    program.end();
}

/// The counter when the file was written, and that of the newest event in it, in 48 bits.
fn newest(file: &Path) -> (u64, u64) {
    let reader = Reader::open(file).unwrap();
    let stamps = reader.records().filter_map(|record| match record.unwrap() {
        Record::Slots(_, block) => Some(block.slots),
        _ => None,
    });
    let stamps = stamps.flatten().filter(|s| s.point() == points::APP_END);
    let newest = stamps.map(|s| s.word0 >> 16).max().unwrap();
    let clock = reader.meta().clocks.last().unwrap().tsc_after;
    (clock & 0xffff_ffff_ffff, newest)
}

/// A recorder is killed while it records a program that has its flight recorder on: a few seconds later the program
/// keeps its newest events again.
#[test]
fn recorder_killed() {
    let (place, session) = (Place::new(), session());
    let program = Program::start(session.path(), "64K");
    let pid = program.pid();
    let snapshot = |name: &str| {
        let run = place.run(&["snapshot", "-p", &pid, "-o", name]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        Reader::open(&place.path(name)).unwrap().meta().rings[&0].flight
    };
    assert!(snapshot("before.mcap"));
    let (_, first) = newest(&place.path("before.mcap"));
    let mut recorder = place.bypassprof(&["record", "-p", &pid]);
    let mut recorder = recorder.stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while snapshot("meanwhile.mcap") {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "nothing was recorded"
        );
    }
    // It tells every half second that it is there.
    std::thread::sleep(Duration::from_millis(1200));
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let killed = Instant::now();
    while !snapshot("after.mcap") {
        assert!(
            killed.elapsed() < Duration::from_secs(20),
            "the recorder's wish outlives it"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(snapshot("after.mcap"));
    let (clock, last) = newest(&place.path("after.mcap"));
    assert!(last > first);
    // Ticks of a second, by what passed since the first snapshot at the least.
    let second = (clock - first) / began.elapsed().as_secs().max(1);
    assert!(clock - last < second, "{clock} {last}");
}

/// A command that waits, and what it says.
struct Waiting {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Waiting {
    fn start(place: &Place, args: &[&str]) -> Waiting {
        let mut command = place.bypassprof(args);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, heard) = mpsc::channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|l| drop(said.send(l)));
        });
        let mut waiting = Waiting {
            child,
            lines: heard,
        };
        waiting.expect("waiting");
        waiting
    }

    /// The next line with these words.
    fn expect(&mut self, words: &str) -> String {
        let mut all = Vec::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|e| panic!("{words:?} was not said ({e}): {all:#?}"));
            if line.contains(words) {
                return line;
            }
            all.push(line);
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each thing that can be waited for is found, named and saved with what came before it and behind it; the newest few
/// snapshots stay; the end of the process is the last of them.
#[test]
fn every_trigger() {
    let (place, session) = (Place::new(), session());
    let mut program = Program::start(session.path(), "1M");
    let root = rustix::process::geteuid().is_root();
    let mut causes = "trigger,drops,latency=30ms,stall=300ms,signal".to_owned();
    if root {
        causes.push_str(",call=main::flight::reached_by_uprobe");
    } else {
        println!("left out: only root can place uprobes");
    }
    let pid = program.pid();
    let args = [
        "snapshot", "-p", &pid, "--on", &causes, "--every", "0s", "--after", "20ms",
    ];
    let mut waiting = Waiting::start(
        &place,
        &[&args[..], &["--keep", "2", "-o", "s.mcap"]].concat(),
    );
    let found = |waiting: &mut Waiting, why: &str| {
        waiting.expect(why);
        let line = waiting.expect(" in s-");
        place.path(line.rsplit(' ').next().unwrap())
    };
    program.tell("ask");
    let file = found(&mut waiting, "the program asked for it");
    assert_eq!(count(&file, points::TRIGGER), 1);
    let all = points_of(&file);
    let mut parts = all.split(|point| *point == points::TRIGGER);
    let requests = |part: Option<&[probe::Point]>| {
        let part = part.unwrap().iter();
        part.filter(|point| **point == points::APP_END).count()
    };
    assert!(requests(parts.next()) > 1, "nothing of what led to it");
    assert!(requests(parts.next()) > 1, "nothing of what followed");
    assert!(notices(&file)[0].text.contains("asked for it"));
    program.tell("drop");
    assert_eq!(
        count(&found(&mut waiting, "dropped something"), points::DROP),
        1
    );
    program.tell("slow");
    // Told while it is on its way, or at its end.
    found(&mut waiting, "bypassprof: a request ");
    waiting.signal(rustix::process::Signal::USR1);
    found(&mut waiting, "SIGUSR1");
    if root {
        program.tell("call");
        found(&mut waiting, "reached_by_uprobe was called");
    }
    program.0.kill().unwrap();
    assert_eq!(program.0.wait().unwrap().signal(), Some(9));
    let last = found(&mut waiting, "the process ended without a word");
    assert!(count(&last, points::APP_END) > 10);
    waiting.expect("snapshots");
    assert!(waiting.child.wait().unwrap().success());
    let number = |path: &Path| -> u32 {
        let name = path.file_stem().unwrap().to_str().unwrap();
        name.strip_prefix("s-").unwrap().parse().unwrap()
    };
    let mut left: Vec<u32> = place.names().iter().map(|n| number(n.as_ref())).collect();
    left.sort_unstable();
    assert_eq!(left, [number(&last) - 1, number(&last)], "the newest two");
}

/// Waits for one thing to be told of a program, and for the file of it.
fn told(session: &Path, cause: &str, order: &str, why: &str, change: impl FnOnce(&mut Command)) {
    let place = Place::new();
    let mut program = Program::start_with(|command| {
        command.env("BYPASSPROF_SESSION", session);
        change(command);
    });
    let pid = program.pid();
    let args = ["snapshot", "-p", &pid, "--on", cause, "--count", "1"];
    let mut waiting = Waiting::start(&place, &args);
    program.tell(order);
    waiting.expect(why);
    waiting.expect("bypassprof-1.mcap");
    assert!(waiting.child.wait().unwrap().success());
    assert_eq!(place.names(), ["bypassprof-1.mcap"]);
}

/// Threads that get no ring are drops, and a program that does not poll stands still if nothing moves while a request is
/// on its way.
#[test]
fn rings_and_progress() {
    let session = session();
    let why = "events were dropped, or a thread got no ring";
    told(session.path(), "drops", "threads", why, |command| {
        command.env("BYPASSPROF_FLIGHT", "64K");
    });
    let why = "nothing moves for 200 ms while a request is on its way";
    told(session.path(), "stall=200ms", "stall", why, |command| {
        command.env("BYPASSPROF_FLIGHT", "1M").env(NO_ROUNDS, "1");
    });
}

/// A polling thread that stands still is told once; moments that come too soon are counted and not saved.
#[test]
fn stall_and_rate() {
    let (place, session) = (Place::new(), session());
    let mut program = Program::start(session.path(), "1M");
    let pid = program.pid();
    let args = [
        "snapshot",
        "-p",
        &pid,
        "--on",
        "stall=200ms,trigger",
        "--every",
        "1000s",
        "--after",
        "0ms",
    ];
    let mut waiting = Waiting::start(&place, &args);
    program.tell("stall");
    waiting.expect("polled and stands still for 200 ms");
    waiting.expect("bypassprof-1.mcap");
    program.tell("ask");
    std::thread::sleep(Duration::from_millis(1500));
    waiting.signal(rustix::process::Signal::INT);
    let last = waiting.expect("snapshots");
    assert!(
        last.contains("1 snapshots; ") && !last.contains("; 0 more"),
        "{last}"
    );
    assert_eq!(place.names(), ["bypassprof-1.mcap"]);
}

/// What cannot be done is said, with what to try.
#[test]
fn refusals() {
    let place = Place::new();
    let me = std::process::id().to_string();
    let tries: [(&[&str], i32, &str); 4] = [
        (&["snapshot", "-p", "4194304"], 1, "there is no process"),
        (&["snapshot", "-p", "1"], 1, "has no rings"),
        (&["snapshot"], 2, "--pid"),
        (
            &["snapshot", "-p", &me, "--on", "latency"],
            2,
            "latency=TIME",
        ),
    ];
    for (args, code, words) in tries {
        let run: Run = place.run(args);
        assert_eq!(run.code, Some(code), "{args:?}: {}", run.err);
        assert!(run.err.contains(words), "{args:?}: {}", run.err);
    }
    assert_eq!(place.names(), [""; 0]);
}
