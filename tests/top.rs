//! The live view against a program that says what it did: once as JSON, and on a pseudo-terminal with keys, a snapshot
//! and both ways out. The program is this test binary, started again as [`program`].
#![allow(unsafe_code)]

use crate::support::{Place, Run, row};
use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many working rounds the program does, in its environment; 0 is without an end.
const ROUNDS: &str = "BYPASSPROF_TEST_TOP";
const FRAMES: u32 = 4;

/// So many turns of a loop that calls nothing.
macro_rules! turns {
    ($turns:expr) => {{
        let (mut x, mut i) = (1u64, 0);
        while i < $turns {
            x ^= x << 7;
            x ^= x >> 9;
            i += 1;
        }
        std::hint::black_box(x);
    }};
}

#[inline(never)]
fn empty_poll() {
    turns!(3_000);
}

#[inline(never)]
fn in_application() {
    turns!(10_000);
}

/// Not a test: polls, and every now and then receives a burst, answers a request, hands something on and drops one.
#[test]
#[ignore = "the program that the tests of this module look at"]
fn program() {
    let rounds: u32 = std::env::var(ROUNDS).unwrap().parse().unwrap();
    probe::name_thread("poller");
    for wait in 0.. {
        if probe::enabled() {
            break;
        }
        assert!(wait < 20_000, "no one looks");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut poll = PollLoop::new();
    let mut round = 0;
    while rounds == 0 || round < rounds {
        for _ in 0..10 {
            poll.begin();
            empty_poll();
            poll.rx_burst(0, 0, 32, 0);
            poll.end();
        }
        poll.begin();
        let burst = poll.rx_burst(0, FRAMES, 32, round * FRAMES);
        let flow = Flow::from_raw(7);
        burst.emit_with(points::DELIVER, flow, 100, [round % 9, 0, 0]);
        if round.is_multiple_of(10) {
            burst.emit(points::DROP, flow, 0);
        }
        in_application();
        probe::emit(points::APP_END, flow, 100);
        poll.tx_burst(0, 1, 1, round);
        poll.end();
        round += 1;
        // Others need the CPU too.
        if round.is_multiple_of(20) {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

const WORDS: [&str; 4] = ["--exact", "top::program", "--ignored", "--nocapture"];

fn program_itself() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

/// Counts are those of the program, to the last one; shares add up; the functions are its own.
#[test]
fn once_says_what_the_program_did() {
    let place = Place::new();
    let program = program_itself();
    let options = ["top", "--once", "--json", "--interval", "30", "--"];
    let words = [&options[..], &[&program], &WORDS].concat();
    let run = Run::of(place.bypassprof(&words).env(ROUNDS, "1500"));
    assert_eq!(run.code, Some(0), "{}", run.err);
    let top: Value = serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e}: {}", run.out));
    assert_eq!(top["schema"], "bypassprof.top/1");
    let counted = &top["since_start"];
    assert_eq!(counted["requests"], 1500, "{top:#}");
    assert_eq!(counted["rx_packets"], 1500 * FRAMES);
    assert_eq!(counted["rx_bursts"], 1500);
    assert_eq!(counted["tx_packets"], 1500);
    assert_eq!(counted["polls"], 1500 * 11);
    assert_eq!(counted["empty_polls"], 1500 * 10);
    assert_eq!(top["counted"], *counted);
    let thread = row(&top["threads"], "poller");
    assert_eq!(thread["drops"], 150);
    assert_eq!(thread["queue_depth_max"], 8);
    assert_eq!(thread["rates"]["rx_burst"], f64::from(FRAMES));
    assert_eq!(top["trust"]["events_dropped"], 0);
    let share = |name: &str| thread[name].as_f64().unwrap();
    let sum = share("useful_share")
        + share("empty_poll_share")
        + share("unknown_share")
        + share("off_cpu_share");
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    // Three parts of empty polling to one of work, and what probes and sleeping cost beside it.
    let ratio = share("empty_poll_share") / share("useful_share");
    assert!((1.2..6.0).contains(&ratio), "{ratio}");
    let polls = row(&top["functions"], "empty_poll");
    assert!(polls["empty_poll_share"].as_f64() > polls["useful_share"].as_f64());
    assert!(place.names().is_empty(), "{:?}", place.names());
}

/// Without a terminal the live view says what to do instead.
#[test]
fn needs_a_terminal() {
    let run = Place::new().run(&["top", "--", "true"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("--once"), "{}", run.err);
}

/// A terminal of 80 columns and 24 lines, and what is written on it.
struct Terminal {
    ours: File,
    theirs: File,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn new() -> Terminal {
        let (mut ours, mut theirs) = (0, 0);
        let size = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let none = std::ptr::null_mut();
        // SAFETY: two descriptors are written, the size is read; there is no name and no mode.
        let made = unsafe { libc::openpty(&mut ours, &mut theirs, none, none.cast(), &size) };
        assert_eq!(made, 0);
        // SAFETY: both were made a moment ago and are no one else's.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut reads, keeps) = (ours.try_clone().unwrap(), Arc::clone(&written));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reads.read(&mut bytes) {
                keeps.lock().unwrap().extend_from_slice(&bytes[..n]);
            }
        });
        Terminal {
            ours,
            theirs,
            written,
        }
    }

    fn mode(&self) -> [u32; 4] {
        // SAFETY: all zeroes is a value of it, and the call writes it.
        let mode = unsafe {
            let mut mode: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.theirs.as_raw_fd(), &mut mode), 0);
            mode
        };
        [mode.c_iflag, mode.c_oflag, mode.c_cflag, mode.c_lflag]
    }

    fn run(&self, mut command: Command) -> Child {
        let end = || Stdio::from(self.theirs.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm").spawn().unwrap()
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the size is read.
        let set = unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(set, 0);
    }

    fn press(&self, keys: &str) {
        (&self.ours).write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until it is written, from here on.
    fn wait_for(&self, what: &str, from: usize) -> usize {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let text = self.text();
            let rest = text.get(from..).unwrap_or_default();
            if rest.contains(what) {
                return text.len();
            }
            assert!(Instant::now() < until, "no {what:?} in {rest:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

struct Polling(Child);

impl Polling {
    fn start() -> Polling {
        let mut command = Command::new(program_itself());
        command.args(WORDS).env(ROUNDS, "0");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Polling(command.spawn().unwrap())
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LEFT: &str = "\x1b[?1049l";

/// On a program that runs: keys do what they say, the picture follows the size of the terminal, a snapshot is a
/// recording with the program's events and names, and `q` gives the terminal back as it was.
#[test]
fn keys_on_a_terminal() {
    let place = Place::new();
    let program = Polling::start();
    let pid = program.0.id().to_string();
    let terminal = Terminal::new();
    let mode = terminal.mode();
    let words = ["top", "--interval", "0.3", "-p", &pid];
    let mut top = terminal.run(place.bypassprof(&words));
    let at = terminal.wait_for("poller", 0);
    assert_ne!(terminal.mode(), mode);
    terminal.wait_for("empty_poll", 0);
    terminal.press("d");
    let at = terminal.wait_for("drops", at);
    terminal.press("p");
    let at = terminal.wait_for("PAUSED", at);
    terminal.press("ph");
    let at = terminal.wait_for("keys", at);
    terminal.press("x");
    terminal.resize(10, 40);
    let at = terminal.wait_for("poller", at);
    terminal.press("s");
    terminal.wait_for("bypassprof-top-1.mcap", at);
    terminal.press("q");
    assert!(top.wait().unwrap().success());
    assert_eq!(terminal.mode(), mode);
    assert!(terminal.text().contains(LEFT));
    let snapshot = place.path("bypassprof-top-1.mcap");
    let run = place.run(&["report", "--json", &snapshot.display().to_string()]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert!(report["trust"]["events"].as_u64() > Some(100), "{report:#}");
    row(&report["functions"], "empty_poll");
}

/// Signals end the view as `q` does, whatever its size was last; so does the end of all that it looks at.
#[test]
fn ends_of_a_view() {
    use rustix::process::Signal;
    let place = Place::new();
    let mut program = Polling::start();
    let pid = program.0.id().to_string();
    let words = ["top", "--interval", "0.3", "-p", &pid];
    for signal in [
        Some(Signal::INT),
        Some(Signal::TERM),
        Some(Signal::HUP),
        None,
    ] {
        let terminal = Terminal::new();
        let mode = terminal.mode();
        let mut top = terminal.run(place.bypassprof(&words));
        let at = terminal.wait_for("poller", 0);
        // No room for anything, and again for all of it.
        terminal.resize(2, 9);
        let at = terminal.wait_for("least", at);
        terminal.resize(24, 80);
        terminal.wait_for("poller", at);
        match signal {
            Some(signal) => {
                let raw = rustix::process::Pid::from_child(&top);
                rustix::process::kill_process(raw, signal).unwrap();
            }
            None => drop(program.0.kill()),
        }
        assert!(top.wait().unwrap().success(), "{signal:?}");
        assert_eq!(terminal.mode(), mode, "{signal:?}");
        terminal.wait_for(LEFT, 0);
        if signal.is_none() {
            terminal.wait_for("what was looked at has ended", 0);
        }
    }
    program.0.wait().unwrap();
    let run = place.run(&["top", "--once", "-p", &pid]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains(&pid), "{}", run.err);
}
