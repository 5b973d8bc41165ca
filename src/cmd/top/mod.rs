//! `bypassprof top`: what runs now, thread by thread, once or again and again.
//!
//! Joins `collect` (records as they come), `analyse::live` (what they say of an interval) and `present::top`. Nothing is
//! written unless a snapshot is asked for.

mod namer;
mod terminal;
mod watch;

use super::affinity::AffinityArgs;
use super::child::{self, Ending};
use super::gate::{self, Words};
use super::{Failure, output};
use crate::analyse::live::order::Key;
use crate::collect::probes::{Place, Probes};
use crate::collect::snapshot::Live as Running;
use crate::collect::{CollectError, Outcome, Target, clock, proc};
use crate::present::style::Style;
use crate::present::top::{self as present, Shown};
use crate::trace::record::{Notice, Pid};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::names::SESSION_VARIABLE;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use watch::Watch;

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look at these running processes; without it and without a command: at all that have probes
    #[arg(short, long, value_delimiter = ',', value_name = "PID", conflicts_with = "command",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: Vec<Pid>,
    /// Tell of one interval as text and end
    #[arg(long)]
    once: bool,
    /// The same as JSON
    #[arg(long, requires = "once")]
    json: bool,
    /// Length of an interval in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Sort threads by this
    #[arg(long, value_name = "WHAT", default_value = "useful", value_parser = key)]
    sort: Key,
    /// Samples per second and CPU
    #[arg(short = 'F', long, default_value_t = 997, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    frequency: u64,
    /// File that a snapshot is written to; a number goes in front of its ending
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "bypassprof-top.mcap"
    )]
    output: PathBuf,
    /// How many of the last seconds go into a snapshot
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = super::whom::seconds)]
    keep: Duration,
    #[command(flatten)]
    affinity: AffinityArgs,
    /// Command to run and look at
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = super::whom::seconds(text)?;
    // Below that, what threads did is mostly not there yet.
    if !(0.1..=3600.0).contains(&interval.as_secs_f64()) {
        return Err("between 0.1 and 3600".to_owned());
    }
    Ok(interval)
}

fn key(text: &str) -> Result<Key, String> {
    let named = Key::ALL.iter().find(|k| k.1 == text);
    let names: Vec<_> = Key::ALL.iter().map(|k| k.1).collect();
    named.map(|k| k.0).ok_or_else(|| names.join(", "))
}

/// Looks.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let on_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !args.once && !on_terminal {
        return Err(Failure::wrong_use("the live view needs a terminal")
            .hint("`bypassprof top --once`, with --json for programs"));
    }
    output::check(&args.output)?;
    let command_cpus = args.affinity.apply()?;
    let interrupted = child::interrupts()?;
    if !args.command.is_empty() {
        return of_command(&args, &interrupted, command_cpus.as_deref());
    }
    let pids = match args.pid.as_slice() {
        [] => with_probes()?,
        pids => pids.to_vec(),
    };
    if let Some(&pid) = pids.iter().find(|&&pid| proc::threads(pid).is_err()) {
        return Err(Failure::failed(CollectError::NoProcess { pid }));
    }
    for &pid in &pids {
        if Running::find(pid).is_ok_and(|r| is_recorded(&r)) {
            return Err(Failure::failed(format!(
                "process {pid} is being recorded, and an event goes to one reader only"
            ))
            .hint("when that recording is over; `snapshot -p` takes nothing away. After a recorder that was killed, `record -p PID --duration 1` takes over first"));
        }
    }
    let probes = Ok(Probes::of_processes(&pids));
    let mut watch = Watch::start(&Target::Running(pids.clone()), &args, probes)?;
    let mut over = || pids.iter().all(|&pid| child::ended(pid));
    look(&args, &mut watch, &interrupted, &mut over)?;
    watch.finish(Outcome::default())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether someone takes a process's events already, or was killed while doing so.
fn is_recorded(running: &Running) -> bool {
    running.control().is_on() && running.control().mode() == Mode::Drain
}

/// Processes of this machine that have probes which can be reached and that no one records: an event goes to one reader.
fn with_probes() -> Result<Vec<Pid>, Failure> {
    let me = std::process::id();
    let mut pids = proc::all();
    pids.retain(|&pid| pid != me && Running::find(pid).is_ok_and(|r| !is_recorded(&r)));
    if pids.is_empty() {
        return Err(Failure::failed(
            "no process with probes runs here that is not being recorded, or it is another user's",
        )
        .hint("-p PID for one without, or `bypassprof top -- COMMAND`"));
    }
    Ok(pids)
}

fn of_command(
    args: &Args,
    interrupted: &AtomicUsize,
    cpus: Option<&str>,
) -> Result<ExitCode, Failure> {
    let words = child::words(&args.command);
    let cannot_run = |e: io::Error| Failure::failed(format!("cannot run {}: {e}", words[0]));
    let session = Place::create();
    let environment = session
        .iter()
        .map(|place| (SESSION_VARIABLE, place.path().as_os_str()));
    let environment: Vec<_> = environment.collect();
    let own_words = if args.once {
        Words::Aside
    } else {
        Words::Nowhere
    };
    let held = gate::hold(&args.command, &environment, cpus, own_words).map_err(cannot_run)?;
    let pid = held.child.id();
    let probes = session
        .map(|place| Probes::of_session(place, pid))
        .map_err(|e| Notice {
            id: "no-session".to_owned(),
            text: format!(
                "there is no session directory in /dev/shm ({e}): probes are not looked at"
            ),
        });
    let target = Target::Starting(pid, words.clone());
    let mut watch = match Watch::start(&target, args, probes) {
        Ok(watch) => watch,
        Err(failure) => {
            held.cancel();
            return Err(failure);
        }
    };
    let mut child = held.release().map_err(cannot_run)?;
    let mut status = None;
    let mut over = || {
        // What cannot be waited for will not end later either.
        status = child.try_wait().unwrap_or_default();
        status.is_some()
    };
    let looked = look(args, &mut watch, interrupted, &mut over);
    let outcome = match status {
        Some(status) => Outcome {
            code: status.code(),
            signal: status.signal(),
        },
        None => end(&mut child, &mut watch)?,
    };
    watch.finish(outcome)?;
    looked?;
    Ok(match status {
        Some(_) => ExitCode::from(child::exit_code(outcome)),
        None => ExitCode::SUCCESS,
    })
}

/// Ends a command that outlived the interest in it.
fn end(child: &mut Child, watch: &mut Watch) -> Result<Outcome, Failure> {
    let mut ending = Ending::default();
    loop {
        if let Some(status) = child.try_wait().map_err(Failure::failed)? {
            return Ok(Outcome {
                code: status.code(),
                signal: status.signal(),
            });
        }
        ending.step(child, 0, true);
        watch.turn()?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Once, or until the user or the programs end it.
fn look(
    args: &Args,
    watch: &mut Watch,
    interrupted: &AtomicUsize,
    over: &mut dyn FnMut() -> bool,
) -> Result<(), Failure> {
    if args.once {
        return once(args, watch, interrupted, over);
    }
    terminal::look(args, watch, interrupted, over)
}

/// How long names are waited for before functions are told without them.
const PATIENCE: Duration = Duration::from_secs(20);

fn once(
    args: &Args,
    watch: &mut Watch,
    interrupted: &AtomicUsize,
    over: &mut dyn FnMut() -> bool,
) -> Result<(), Failure> {
    let until = Instant::now() + args.interval;
    let mut ended = false;
    while Instant::now() < until && !ended && interrupted.load(Ordering::Relaxed) == 0 {
        // Asked first: what a program that has ended left is taken in the turn that follows.
        ended = over();
        let wait = watch.turn()?;
        if !ended {
            std::thread::sleep(wait.min(until.saturating_duration_since(Instant::now())));
        }
    }
    let at = clock::now();
    if ended {
        watch.drain()?;
    }
    watch.settle(at, args.sort)?;
    let patience = Instant::now() + PATIENCE;
    while watch.awaits_names() && Instant::now() < patience {
        watch.turn()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    print(watch.shown(), args.json)
}

fn print(shown: &Shown, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        present::json::json(shown).map_err(Failure::failed)? + "\n"
    } else {
        present::text::text(shown, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)
}
