//! What recording costs a server: time spent working for a request, at a fixed rate.
//!
//! In: a server, a rate; out: the difference that recording makes, beside that of `perf record -F 997 -g`, and beside the
//! difference between two bare measurements, which is the noise. One server runs all the while; in each cycle it is
//! measured bare twice, recorded by us, and recorded by perf, in an order that moves on by one each time. A polling
//! server's CPU time says nothing, so its own account of rounds that did something is what counts: it reads the counter
//! once a round whether or not anybody records.

use crate::Failure;
use crate::interval::Interval;
use crate::load::Load;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::server::{Server, signal};
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Arguments of `cost`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Server to measure
    #[arg(long, value_enum, default_value = "fstack")]
    stack: Stack,
    /// Requests per second
    #[arg(long, default_value_t = 5000)]
    rate: u32,
    /// Connections
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Cycles of four measurements
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    cycles: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// Who records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Bare,
    BareAgain,
    Ours,
    Perf,
}

const MODES: [Mode; 4] = [Mode::Bare, Mode::Ours, Mode::BareAgain, Mode::Perf];
/// A recorder has opened its events by then.
const SETTLE: Duration = Duration::from_millis(1200);

/// Measures.
pub fn run(args: &Args) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let programs = Programs::ready()?;
    let perf = Command::new("perf").arg("version").output().is_ok();
    let lab = Lab::new()?;
    let scratch = std::env::temp_dir().join(format!("stackbench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|source| Failure::Write {
        path: scratch.display().to_string(),
        source,
    })?;
    let outcome = measure(args, &programs, perf, &lab, &scratch, &stop);
    // Recordings of a measurement are of no use after it.
    let _ = std::fs::remove_dir_all(&scratch);
    print!("{}", table(args, &outcome?));
    Ok(())
}

/// ns for a request, by mode, one entry a cycle.
type Cycles = Vec<[Option<f64>; 4]>;

fn measure(
    args: &Args,
    programs: &Programs,
    perf: bool,
    lab: &Lab,
    scratch: &Path,
    stop: &Stop,
) -> Result<Cycles, Failure> {
    let site = Site::new(lab, args.stack)?;
    let mut command = site.server.command(&programs.httpd);
    command.args(site.httpd_arguments());
    // What we start inherits where we run: the server has a CPU of its own, client and recorders share another.
    run_on(0);
    let server = Server::start("httpd", command, stop)?;
    run_on(1);
    let load = |seconds| Load {
        rate: Some(args.rate),
        ..Load::closed(args.connections, Duration::from_secs(seconds))
    };
    load(2).run(programs, &site, stop)?;
    let slot = Duration::from_secs(args.seconds) + SETTLE * 2;
    let progress = Progress::new(slot * 4 * args.cycles);
    let mut cycles = Vec::new();
    for cycle in 0..args.cycles {
        let mut figures = [None; 4];
        for turn in 0..MODES.len() {
            let mode = MODES[(turn + cycle as usize) % MODES.len()];
            if mode == Mode::Perf && !perf {
                continue;
            }
            progress.step(&format!("cycle {} of {}: {mode:?}", cycle + 1, args.cycles));
            let recorder = attach(mode, programs, server.pid(), scratch)?;
            stop.sleep(SETTLE)?;
            let before = server.totals(stop)?;
            let seen = load(args.seconds).run(programs, &site, stop)?;
            let after = server.totals(stop)?;
            detach(recorder)?;
            let requests = after.requests - before.requests;
            if requests == 0 || seen.errors > 0 {
                let why = format!("{} requests failed in {mode:?}", seen.errors);
                return Err(Failure::Wrong(why));
            }
            let working = (after.working_ns - before.working_ns) as f64;
            figures[mode as usize] = Some(working / requests as f64);
        }
        cycles.push(figures);
    }
    progress.done();
    server.end()?;
    Ok(cycles)
}

/// Keeps this thread, and what it starts from here on, on one CPU, if there is such a one.
fn run_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(e) = sched_setaffinity(None, &set) {
        eprintln!("stackbench: not on CPU {cpu}, so the figures are noisier: {e}");
    }
}

fn attach(
    mode: Mode,
    programs: &Programs,
    pid: u32,
    scratch: &Path,
) -> Result<Option<Child>, Failure> {
    let mut command = match mode {
        Mode::Bare | Mode::BareAgain => return Ok(None),
        Mode::Ours => {
            let mut command = Command::new(&programs.bypassprof);
            command.args(["record", "-F", "997", "-o"]);
            command.arg(scratch.join("ours.mcap"));
            command
        }
        Mode::Perf => {
            let mut command = Command::new("perf");
            command.args(["record", "-F", "997", "-g", "-o"]);
            command.arg(scratch.join("perf.data"));
            command
        }
    };
    command.args(["-p", &pid.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::null()).spawn();
    let child = child.map_err(|e| Failure::Wrong(format!("cannot start {mode:?}: {e}")))?;
    Ok(Some(child))
}

fn detach(recorder: Option<Child>) -> Result<(), Failure> {
    let Some(mut recorder) = recorder else {
        return Ok(());
    };
    if let Ok(Some(status)) = recorder.try_wait() {
        return Err(Failure::Wrong(format!(
            "a recorder ended early with {status}"
        )));
    }
    signal(&recorder, Signal::INT);
    let waited = recorder.wait();
    waited.map_err(|e| Failure::Wrong(format!("a recorder is gone: {e}")))?;
    Ok(())
}

/// The relative difference of each cycle's `mode` to the mean of its two bare measurements.
fn against_bare(cycles: &Cycles, mode: Mode) -> Vec<f64> {
    let difference = |c: &[Option<f64>; 4]| {
        let bare = (c[Mode::Bare as usize]? + c[Mode::BareAgain as usize]?) / 2.0;
        Some(c[mode as usize]? / bare - 1.0)
    };
    cycles.iter().filter_map(difference).collect()
}

fn table(args: &Args, cycles: &Cycles) -> String {
    let noise =
        |c: &[Option<f64>; 4]| Some(c[Mode::BareAgain as usize]? / c[Mode::Bare as usize]? - 1.0);
    let noise: Vec<f64> = cycles.iter().filter_map(noise).collect();
    let bare: Vec<f64> = cycles
        .iter()
        .filter_map(|c| c[Mode::Bare as usize])
        .collect();
    let (ours, perf) = (
        against_bare(cycles, Mode::Ours),
        against_bare(cycles, Mode::Perf),
    );
    let beyond: Vec<f64> = ours.iter().zip(&perf).map(|(o, p)| o - p).collect();
    let bare = Interval::of(&bare);
    let mut lines = vec![
        format!(
            "{} at {} requests/s on {} connections, {} cycles of {} s each; mean +- 95 % interval",
            args.stack.name(),
            args.rate,
            args.connections,
            args.cycles,
            args.seconds
        ),
        format!(
            "bare                                   {:.0} +-{:.0} ns of work a request",
            bare.mean, bare.half
        ),
        format!(
            "bare again (noise)                     {}",
            Interval::of(&noise).percent()
        ),
        format!(
            "bypassprof record -F 997, with probes  {}",
            Interval::of(&ours).percent()
        ),
    ];
    if perf.is_empty() {
        lines.push("perf record -F 997 -g                  not installed".to_string());
    } else {
        lines.push(format!(
            "perf record -F 997 -g                  {}",
            Interval::of(&perf).percent()
        ));
        lines.push(format!(
            "bypassprof beyond perf                 {}",
            Interval::of(&beyond).percent()
        ));
    }
    lines.join("\n") + "\n"
}
