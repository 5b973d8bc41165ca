//! What probes cost a server: compiled in and off, recorded, and not compiled in at all.
//!
//! In: a stack; out: the server's own time of work for a request in each state, beside two measurements of the same state,
//! whose difference is the noise. Beside it what the off points of a request must cost: their number times that of one,
//! which a loop here measures; for most servers that is far below what requests can tell apart.

use super::case::Case;
use crate::Failure;
use crate::events::Events;
use crate::measure::Bench;
use crate::server::{Server, signal};
use crate::site::{Site, Stack};
use crate::spread::Spread;
use bypassprof_probe::{self as probe, Flow, points};
use rustix::process::Signal;
use serde::Serialize;
use std::hint::black_box;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A recorder has opened its events by then.
const SETTLE: Duration = Duration::from_millis(600);

/// How a server's probes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    OffAgain,
    Recorded,
    CompiledOut,
}

const STATES: [State; 4] = [
    State::Off,
    State::Recorded,
    State::OffAgain,
    State::CompiledOut,
];

/// What was found of one row.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Which.
    pub stack: Stack,
    /// Work for a request with probes off, in ns.
    pub off_ns: Option<Spread>,
    /// The same again, relative to the mean of both: the noise.
    pub noise: Option<Spread>,
    /// Recorded, relative to off.
    pub recorded: Option<Spread>,
    /// Without probes in the program, relative to off.
    pub compiled_out: Option<Spread>,
    /// Events of a request, recorded.
    pub events: Option<f64>,
    /// One point that is off, in ns.
    pub off_point_ns: f64,
    /// Why something is missing.
    pub missing: Option<String>,
}

/// Measures one row, given what a point costs that is off: so many cycles of all states in an order that moves on.
pub fn measure(
    bench: &Bench,
    stack: Stack,
    bare: Option<&Path>,
    cycles: u32,
    time: Duration,
    off_point_ns: f64,
) -> Result<Cost, Failure> {
    let mut cost = Cost {
        stack,
        off_ns: None,
        noise: None,
        recorded: None,
        compiled_out: None,
        events: None,
        off_point_ns,
        missing: None,
    };
    let mut figures: Vec<[Option<f64>; 4]> = Vec::new();
    for cycle in 0..cycles as usize {
        let mut of_cycle = [None; 4];
        for turn in 0..STATES.len() {
            let state = STATES[(turn + cycle) % STATES.len()];
            let program = match (state, bare) {
                (State::CompiledOut, None) => continue,
                (State::CompiledOut, Some(bare)) => bare,
                _ => &bench.programs.httpd,
            };
            match once(bench, stack, state, program, time) {
                Ok((work, events)) => {
                    of_cycle[state as usize] = work;
                    cost.events = events.or(cost.events);
                }
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(failure) => {
                    cost.missing
                        .get_or_insert_with(|| format!("{state:?}: {failure}"));
                }
            }
        }
        figures.push(of_cycle);
    }
    let at = |f: &[Option<f64>; 4], state: State| f[state as usize];
    let off = |f: &[Option<f64>; 4]| Some((at(f, State::Off)? + at(f, State::OffAgain)?) / 2.0);
    let relative = |state: State| {
        let of_cycle = |f: &[Option<f64>; 4]| Some(at(f, state)? / off(f)? - 1.0);
        Spread::of(figures.iter().filter_map(of_cycle))
    };
    cost.off_ns = Spread::of(figures.iter().filter_map(off));
    let noise = |f: &[Option<f64>; 4]| Some(at(f, State::OffAgain)? / at(f, State::Off)? - 1.0);
    cost.noise = Spread::of(figures.iter().filter_map(noise));
    cost.recorded = relative(State::Recorded);
    cost.compiled_out = relative(State::CompiledOut);
    Ok(cost)
}

/// Work for a request, and events for one where they were recorded.
fn once(
    bench: &Bench,
    stack: Stack,
    state: State,
    program: &Path,
    time: Duration,
) -> Result<(Option<f64>, Option<f64>), Failure> {
    let site = Site::new(bench.lab, stack)?;
    let log = bench.out.join(format!("{}-probes.log", stack.name()));
    let command = bench.command(&site, program, &[], &log)?;
    let server = Server::start(stack.name(), command, bench.stop)?;
    let file = bench.out.join(format!("{}-probes.mcap", stack.name()));
    let recorder = match state {
        State::Recorded => Some(attach(bench, &server, &file)?),
        _ => None,
    };
    let load = Case::Many.load(time);
    let seen = bench.load(&server, &site, load);
    let mut events = None;
    if let Some(mut recorder) = recorder {
        signal(&recorder, Signal::INT);
        let ended = recorder.wait();
        ended.map_err(|e| Failure::Wrong(format!("the recorder is gone: {e}")))?;
        let told = Events::read(&file)?;
        let requests: u64 = told
            .threads
            .iter()
            .map(|t| t.count(points::APP_START))
            .sum();
        let all: usize = told.threads.iter().map(|t| t.events.len()).sum();
        events = (requests > 0).then(|| all as f64 / requests as f64);
    }
    server.end()?;
    let (_, work) = seen?;
    Ok((work, events))
}

fn attach(bench: &Bench, server: &Server, file: &Path) -> Result<Child, Failure> {
    let mut command = Command::new(&bench.programs.bypassprof);
    command.args(["record", "-F", "997", "-o"]).arg(file);
    command.args(["-p", &server.pid().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    let child = bench.cpus.for_client(|| command.spawn());
    let child = child.map_err(|e| Failure::Wrong(format!("cannot start the recorder: {e}")))?;
    bench.stop.sleep(SETTLE)?;
    Ok(child)
}

/// What a point costs in a program that nobody records: the best of some loops, less the loop itself.
pub fn off_point_ns() -> f64 {
    // Short enough that a few loops are done without the thread being sent off its CPU.
    const TIMES: u32 = 100_000;
    const LOOPS: u32 = 200;
    let best = |with: bool| {
        let once = || {
            let begun = Instant::now();
            for n in 0..TIMES {
                let n = black_box(n);
                if with {
                    probe::emit(points::TIMER, Flow::NONE, n);
                }
            }
            begun.elapsed().as_nanos() as f64
        };
        (0..LOOPS).map(|_| once()).fold(f64::INFINITY, f64::min)
    };
    ((best(true) - best(false)) / f64::from(TIMES)).max(0.0)
}
