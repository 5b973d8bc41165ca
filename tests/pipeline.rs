//! A program whose parts are known, because it measures them with its own clock: a pipeline of driver, TCP, application
//! and copy, each so many turns of the same loop, with a known share of empty polls, requests that wait for one another
//! and for the drain of the transmit queue; on one thread, on two, on three, or in two processes.
//!
//! In: a shape and what is planted in it; out: a recording, and the lines that the program wrote about itself. The
//! program ([`program`]) is this very test binary, started again. What is asserted is with the tests that record it.

use crate::busy::{self, loops};
use crate::support::{Place, Run};
use std::process::Command;

mod beside;
mod planted;
mod program;
mod request;

/// The shape of the program and what is planted in it.
const PLAN: &str = "BYPASSPROF_TEST_PIPELINE";
/// The socket of the application's process.
const SOCKET: &str = "BYPASSPROF_TEST_PIPELINE_SOCKET";
/// A prime, so that nothing falls into step with the rounds.
const FREQUENCY: &str = "3989";

/// Where the parts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One loop does it all.
    One,
    /// The application on a thread of its own, asleep between requests.
    Two,
    /// Driver, TCP and application each on a thread, joined by queues.
    Three,
    /// The application in a process of its own.
    Processes,
}

const SHAPES: [(&str, Shape); 4] = [
    ("one", Shape::One),
    ("two", Shape::Two),
    ("three", Shape::Three),
    ("processes", Shape::Processes),
];

/// Function, phase and mean length in us of an idle CPU, of each part.
const PARTS: &[(&str, &str, u64)] = &[
    ("poll_device", "empty_poll", 45),
    ("do_driver", "driver_rx", 30),
    ("do_tcp", "tcp_rx", 40),
    ("do_app", "app", 60),
    ("do_copy", "copy", 50),
    ("do_timer", "tcp_timer", 25),
];

/// Functions that only something planted uses, and their phases.
const PLANTED: &[(&str, &str)] = &[("do_ack", "ack_only"), ("do_spin", "sync")];

/// What the program's own functions are, for `--pack`.
fn pack() -> String {
    let mut pack = r#"name = "pipeline"
about = "the pipeline of a test"
symbols = ["*pipeline::do_*"]

[[role]]
name = "pipeline"
below = ["*pipeline::do_*"]
"#
    .to_owned();
    // Rounds that find nothing are no function's: probes tell of them.
    let parts = PARTS.iter().filter(|part| part.1 != "empty_poll");
    let parts = parts.map(|&(function, phase, _)| (function, phase));
    for (function, phase) in parts.chain(PLANTED.iter().copied()) {
        pack += "\n[[rule]]\norder = \"first\"\n";
        pack += &format!("phase = \"{phase}\"\nsymbols = [\"*pipeline::{function}\"]\n");
    }
    pack
}

// Here and not with the program: packs know them by this module's name.
loops!(poll_device do_driver do_tcp do_app do_copy do_timer do_ack do_spin);

/// Turns of a part in a microsecond of a CPU that does nothing else.
pub fn turns_per_us() -> u64 {
    busy::turns_per_us(5)
}

/// Runs the tool and what it records before others, where that is allowed, and alike: a recorder that is left out reads
/// rings too late. Where sessions share the CPUs first (sched(7), autogroup), as a session of its own.
const BEFORE_OTHERS: &str = r#"renice -n -20 $$ >/dev/null 2>&1
echo -20 2>/dev/null >/proc/self/autogroup
exec "$0" "$@""#;

/// This test binary as another program: a test of this module that is one in name only.
fn this_binary(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("pipeline::{name}");
    command.args(["--exact", &name, "--ignored", "--nocapture"]);
    command
}

/// Records the program; gives where, and what it told.
pub fn recorded(shape: Shape) -> (Place, String) {
    let place = Place::new();
    let out = record(&place, shape, "nothing", turns_per_us(), "bypassprof.mcap");
    (place, out)
}

/// Records the program into a file of this name; gives what it told.
pub fn record(place: &Place, shape: Shape, planted: &str, turns: u64, file: &str) -> String {
    std::fs::write(place.path("pipeline.toml"), pack()).unwrap();
    let (name, _) = SHAPES.iter().find(|(_, s)| *s == shape).unwrap();
    let program = this_binary("program::program");
    let tool = place.bypassprof(&["record", "-F", FREQUENCY, "-o", file, "--"]);
    let mut record = Command::new("setsid");
    record
        .args(["--wait", "sh", "-c", BEFORE_OTHERS])
        .arg(tool.get_program())
        .args(tool.get_args())
        .current_dir(place.path(""))
        .arg(program.get_program())
        .args(program.get_args())
        .env(PLAN, format!("{name} {planted} {turns}"))
        .env(SOCKET, place.path("socket"));
    let run = Run::of(&mut record);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    run.out
}

/// The lines of the program's output that begin with `word`: name and number.
pub fn told<'a>(out: &'a str, word: &str) -> Vec<(&'a str, f64)> {
    let lines = out
        .lines()
        .filter_map(|l| l.split_once(&format!("{word} ")));
    let pairs = lines.filter_map(|(_, rest)| rest.split_once(' '));
    pairs
        .map(|(name, n)| (name, n.trim().parse().unwrap()))
        .collect()
}
