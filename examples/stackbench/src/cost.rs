//! What recording costs a server: time spent working for a request, at a fixed rate.
//!
//! In: a server, a rate, a sampling frequency; out: the difference that recording makes, beside those of `perf record -g`
//! and `perf record --call-graph dwarf`, and beside the difference between two bare measurements, which is the noise; and
//! what each recorder took and left. One server runs all the while; each cycle measures it once in every [`Mode`], in an
//! order that moves on by one each time. A polling server's CPU time says nothing, so its own account of rounds that did
//! something is what counts: it reads the counter once a round whether or not anybody records.

mod recorder;

use self::recorder::{Left, MODES, Mode, Recorder};
use crate::Failure;
use crate::interval::Interval;
use crate::load::Load;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::server::Server;
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::Path;
use std::process::Command;
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
    /// Samples a second
    #[arg(short = 'F', long, default_value_t = 997, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    frequency: u32,
    /// Cycles of five measurements
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    cycles: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

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

/// One measurement.
#[derive(Clone, Copy)]
struct Figures {
    /// ns of work for a request.
    work: f64,
    /// Of the recorder, if there was one.
    left: Option<Left>,
}

/// By mode, one entry a cycle.
type Cycle = [Option<Figures>; MODES.len()];

fn measure(
    args: &Args,
    programs: &Programs,
    perf: bool,
    lab: &Lab,
    scratch: &Path,
    stop: &Stop,
) -> Result<Vec<Cycle>, Failure> {
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
    let progress = Progress::new(slot * MODES.len() as u32 * args.cycles);
    let mut cycles = Vec::new();
    for cycle in 0..args.cycles {
        let mut figures = [None; MODES.len()];
        for turn in 0..MODES.len() {
            let mode = MODES[(turn + cycle as usize) % MODES.len()];
            if mode.is_perf() && !perf {
                continue;
            }
            progress.step(&format!("cycle {} of {}: {mode:?}", cycle + 1, args.cycles));
            let recorder = Recorder::attach(mode, programs, server.pid(), args.frequency, scratch)?;
            stop.sleep(SETTLE)?;
            let before = server.totals(stop)?;
            let seen = load(args.seconds).run(programs, &site, stop)?;
            let after = server.totals(stop)?;
            let left = recorder.map(Recorder::detach).transpose()?;
            let requests = after.requests - before.requests;
            if requests == 0 || seen.errors > 0 {
                let why = format!("{} requests failed in {mode:?}", seen.errors);
                return Err(Failure::Wrong(why));
            }
            let working = (after.working_ns - before.working_ns) as f64;
            figures[mode as usize] = Some(Figures {
                work: working / requests as f64,
                left,
            });
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

/// The relative difference of each cycle's `mode` to the mean of its two bare measurements.
fn against_bare(cycles: &[Cycle], mode: Mode) -> Vec<f64> {
    let difference = |c: &Cycle| {
        let work = |mode: Mode| Some(c[mode as usize]?.work);
        let bare = (work(Mode::Bare)? + work(Mode::BareAgain)?) / 2.0;
        Some(work(mode)? / bare - 1.0)
    };
    cycles.iter().filter_map(difference).collect()
}

fn table(args: &Args, cycles: &[Cycle]) -> String {
    let work = |c: &Cycle, mode: Mode| Some(c[mode as usize]?.work);
    let bare: Vec<f64> = cycles.iter().filter_map(|c| work(c, Mode::Bare)).collect();
    let again = |c: &Cycle| Some(work(c, Mode::BareAgain)? / work(c, Mode::Bare)? - 1.0);
    let noise: Vec<f64> = cycles.iter().filter_map(again).collect();
    let bare = Interval::of(&bare);
    let line = |name: &str, what: String| format!("{name:<46} {what}");
    let mut lines = vec![
        format!(
            "{} at {} requests/s on {} connections, {} cycles of {} s each; mean +- 95 % interval",
            args.stack.name(),
            args.rate,
            args.connections,
            args.cycles,
            args.seconds
        ),
        line(
            "bare",
            format!("{:.0} +-{:.0} ns of work a request", bare.mean, bare.half),
        ),
        line(
            &Mode::BareAgain.words(args.frequency),
            Interval::of(&noise).percent(),
        ),
    ];
    let ours = against_bare(cycles, Mode::Ours);
    for mode in [Mode::Ours, Mode::Perf, Mode::PerfDwarf] {
        let name = mode.words(args.frequency);
        let more = against_bare(cycles, mode);
        if more.is_empty() {
            lines.push(line(&name, "not installed".into()));
            continue;
        }
        let left: Vec<Left> = cycles
            .iter()
            .filter_map(|c| c[mode as usize]?.left)
            .collect();
        let mean = |of: fn(&Left) -> f64| left.iter().map(of).sum::<f64>() / left.len() as f64;
        let sum = |of: fn(&Left) -> u64| left.iter().map(of).sum::<u64>();
        lines.push(line(
            &name,
            format!(
                "{}; recorder: {:.1} % of a CPU, {:.2} s for names at the end, {:.0} kB/s, {} samples, {} lost",
                Interval::of(&more).percent(),
                100.0 * mean(|l| l.cpus),
                mean(|l| l.naming),
                mean(|l| l.bytes) / 1e3,
                sum(|l| l.samples),
                sum(|l| l.lost)
            ),
        ));
        if mode.is_perf() {
            let beyond: Vec<f64> = ours.iter().zip(&more).map(|(o, p)| o - p).collect();
            let beyond = Interval::of(&beyond).percent();
            lines.push(line("  bypassprof beyond it", beyond));
        }
    }
    lines.join("\n") + "\n"
}
