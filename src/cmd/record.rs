//! `bypassprof record`: runs a command, or follows running processes, and writes a recording.
//!
//! Joins `collect` (what happens), `trace` (the file) and `resolve` (names of what was sampled). The command's exit
//! status becomes ours.

use super::affinity::AffinityArgs;
use super::callgraph::CallGraph;
use super::child::{self, End, Ending, ended, exit_code};
use super::events::EventArgs;
use super::naming::{FolderArgs, LocalNames};
use super::output::{self, Output};
use super::switch::{Order, Switch};
use super::whom::WhomArgs;
use super::{Failure, crash, dpdk, gate};
use crate::collect::events::Machine;
use crate::collect::events::refusal::{self, Sight};
use crate::collect::perf::PlanError;
use crate::collect::probes::{Place, Probes};
use crate::collect::{CollectError, Cut, Finished, Outcome, Recorder, Tally, Target, Wanted, proc};
use crate::trace::Writer;
use crate::trace::record::Notice;
use bypassprof_wire::names::SESSION_VARIABLE;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Arguments of `record`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write
    #[arg(short, long, default_value = "bypassprof.mcap")]
    output: PathBuf,
    /// Samples per second and CPU
    #[arg(short = 'F', long, default_value_t = 997, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    frequency: u64,
    /// Count and stamp the bursts of a DPDK program, which needs no change for it
    #[arg(long, conflicts_with = "pid")]
    dpdk: bool,
    /// Look at the headers of a DPDK program's packets: of all, or of one burst in N at random. Never at what they carry
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    per_packet: Option<u64>,
    /// Leave out command lines and the folders of files
    #[arg(long)]
    redact: bool,
    /// If the command dies by a signal, tell what it was doing then, and keep that in the recording
    #[arg(long, requires = "command")]
    on_crash: bool,
    /// How to walk the stacks of programs: auto, fp, dwarf[,BYTES], lbr, none
    #[arg(long, value_name = "HOW", default_value = "auto")]
    call_graph: CallGraph,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    folders: FolderArgs,
    #[command(flatten)]
    whom: WhomArgs,
    /// Lower the rate so that the recorder uses no more than this share of a CPU: 2%
    #[arg(long, value_name = "SHARE", value_parser = super::filter::share, help_heading = "Observer effect")]
    budget: Option<f64>,
    #[command(flatten)]
    affinity: AffinityArgs,
    /// Command to run and record
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Records.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let target = args.whom.target()?;
    if target.is_none() && args.command.is_empty() {
        return Err(Failure::wrong_use("there is nothing to record")
            .hint("`bypassprof record -- COMMAND`, -p PID, or -a"));
    }
    if matches!(target, Some(Target::Running(_))) && !args.command.is_empty() {
        return Err(Failure::wrong_use(
            "-p follows processes that run; a command is another recording",
        )
        .hint("one of them, or -a with the command"));
    }
    // Before any thread is started: threads stay where they were started.
    let command_cpus = args.affinity.apply()?;
    let groups = args.events.groups(&Machine::here())?;
    let interrupted = child::interrupts()?;
    output::check(&args.output)?;
    args.folders.check()?;
    let job = Job {
        wanted: Wanted {
            frequency_hz: args.frequency,
            events: groups,
            stacks: args.call_graph.source(target.as_ref(), &args.command),
            waits: false,
            budget: args.budget,
            reads_counters: !args.affinity.isolates(),
        },
        args: &args,
        interrupted: &interrupted,
        command_cpus,
    };
    match target {
        Some(target) if args.command.is_empty() => job.record_running(&target),
        target => job.record_command(target),
    }
}

/// Opens events and only then the file, so that a refusal leaves nothing behind.
fn start(
    target: &Target,
    wanted: Wanted,
    args: &Args,
    probes: Result<Probes, Notice>,
) -> Result<(Recorder, Output), Failure> {
    let mut output = None;
    let writer = || {
        let (opened, file) = Output::create(&args.output)?;
        output = Some(opened);
        let mut writer = Writer::to_file(&args.output, file)?;
        if args.redact {
            writer.redact();
        }
        Ok(writer)
    };
    let names = Box::new(LocalNames::new(args.folders.folders()));
    match (
        Recorder::start(target, wanted, writer, names, probes),
        output,
    ) {
        (Ok(recorder), Some(output)) => Ok((recorder, output)),
        (outcome, output) => {
            if let Some(output) = output {
                output.discard();
            }
            Err(match outcome {
                Err(e) => collect_failure(&e, target),
                Ok(_) => Failure::failed("the recording was not opened"),
            })
        }
    }
}

/// Why it did not begin, with what would help.
pub(super) fn collect_failure(error: &CollectError, target: &Target) -> Failure {
    let failure = Failure::failed(error);
    let (source, sight) = match error {
        CollectError::Plan(PlanError::Perf { source }) => (source, Sight::User),
        CollectError::Plan(_) => {
            return failure
                .hint("`bypassprof list` for what this machine has, `bypassprof doctor` for why");
        }
        CollectError::Open(e) => match target {
            Target::Cpus(_) | Target::Cgroup(..) => (&e.source, Sight::Cpus),
            Target::Running(_) if e.source.kind() == io::ErrorKind::PermissionDenied => {
                return failure
                    .hint("another user's process needs root, or CAP_PERFMON and CAP_SYS_PTRACE");
            }
            Target::Starting(..) | Target::Running(_) => (&e.source, Sight::User),
        },
        _ => return failure,
    };
    match source.kind() {
        io::ErrorKind::PermissionDenied => failure.hint(refusal::denied(sight)),
        _ => failure,
    }
}

/// What is to be done.
struct Job<'a> {
    args: &'a Args,
    wanted: Wanted,
    interrupted: &'a AtomicUsize,
    /// What the command may run on, if the recorder keeps to fewer CPUs.
    command_cpus: Option<String>,
}

impl Job<'_> {
    /// Runs a command and records it, or `all` while it runs.
    fn record_command(&self, all: Option<Target>) -> Result<ExitCode, Failure> {
        let args = self.args;
        let words = child::words(&args.command);
        let cannot_run = |e: io::Error| Failure::failed(format!("cannot run {}: {e}", words[0]));
        let session = Place::create();
        let mut environment = match &session {
            Ok(place) => vec![(SESSION_VARIABLE, place.path().as_os_str())],
            Err(_) => Vec::new(),
        };
        let preload = args
            .dpdk
            .then(|| dpdk::preload(&args.command))
            .transpose()?;
        if let Some(preload) = &preload {
            environment.push((dpdk::PRELOAD_VARIABLE, preload.as_os_str()));
        }
        if args.on_crash {
            crash::allow_core();
        }
        let cpus = self.command_cpus.as_deref();
        let held =
            gate::hold(&args.command, &environment, cpus, gate::Words::Here).map_err(cannot_run)?;
        let probes = session
            .map(|place| {
                Probes::of_session(place, held.child.id())
                    .looking_at_frames(args.per_packet.unwrap_or(0))
            })
            .map_err(|e| Notice {
                id: "no-session".to_string(),
                text: format!(
                    "there is no session directory in /dev/shm ({e}): probes are not recorded"
                ),
            });
        let target = all.unwrap_or_else(|| Target::Starting(held.child.id(), words.clone()));
        let mut switch = match args.whom.switch() {
            Ok(switch) => switch,
            Err(failure) => {
                held.cancel();
                return Err(failure);
            }
        };
        let wanted = Wanted {
            waits: switch.waits,
            ..self.wanted.clone()
        };
        let (mut recorder, output) = match start(&target, wanted, args, probes) {
            Ok((recorder, output)) => (Some(recorder), output),
            Err(failure) => {
                held.cancel();
                return Err(failure);
            }
        };
        let mut child = match held.release() {
            Ok(child) => child,
            Err(e) => {
                drop(recorder);
                output.discard();
                return Err(cannot_run(e));
            }
        };
        let end = End::of(&child).map_err(Failure::failed)?;
        let mut watch = args.on_crash.then(|| crash::Watch::of(child.id()));
        let started = Instant::now();
        switch.begin();
        let mut ending = Ending::default();
        let mut failed = None;
        let mut stopped = false;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(Failure::failed)? {
                break status;
            }
            if let Some(watch) = &mut watch {
                watch.look();
            }
            let over = stopped || args.whom.duration.is_some_and(|d| started.elapsed() >= d);
            ending.step(&child, self.interrupted.load(Ordering::Relaxed), over);
            let turned = recorder.as_mut().map(|r| {
                stopped |= follow(&mut switch, r)?;
                r.turn()
            });
            let wait = match turned {
                Some(Ok(wait)) => wait,
                Some(Err(e)) => {
                    // Without a recorder the command still has its own work to do: it is let run, and its user told now.
                    let cut = recorder.take().map(|r| r.cut_short(e, Outcome::default()));
                    failed = cut.map(|cut| kept(&cut, &output).say());
                    continue;
                }
                None => IDLE,
            };
            end.wait(self.next_look(wait, started, &switch));
        };
        let outcome = Outcome {
            code: status.code(),
            signal: status.signal(),
        };
        match (recorder, failed) {
            (Some(recorder), None) => {
                // What we ended, or the user, did not crash.
                let watch = watch.as_ref().filter(|_| !ending.has_begun());
                finish(recorder, &output, outcome, args, watch)?;
            }
            (_, failed) => return Ok(failed.unwrap_or(ExitCode::FAILURE)),
        }
        if ending.by_duration {
            return Ok(ExitCode::SUCCESS);
        }
        Ok(ExitCode::from(exit_code(outcome)))
    }

    /// The time until something has to be done.
    fn next_look(&self, wait: Duration, started: Instant, switch: &Switch) -> Duration {
        let left = self
            .args
            .whom
            .duration
            .map(|d| d.saturating_sub(started.elapsed()));
        let left = left.filter(|l| !l.is_zero());
        [left, switch.due()]
            .into_iter()
            .flatten()
            .fold(wait, Duration::min)
    }

    /// Records what runs already.
    fn record_running(&self, target: &Target) -> Result<ExitCode, Failure> {
        let args = self.args;
        let pids = match target {
            Target::Running(pids) => pids.clone(),
            _ => proc::all(),
        };
        let mut switch = args.whom.switch()?;
        let wanted = Wanted {
            waits: switch.waits,
            ..self.wanted.clone()
        };
        let looks = self.args.per_packet.unwrap_or(0);
        let probes = Ok(Probes::of_processes(&pids).looking_at_frames(looks));
        let (mut recorder, output) = start(target, wanted, args, probes)?;
        let started = Instant::now();
        switch.begin();
        let ends = matches!(target, Target::Running(_));
        let over = || {
            self.interrupted.load(Ordering::Relaxed) > 0
                || args.whom.duration.is_some_and(|d| started.elapsed() >= d)
                || (ends && pids.iter().all(|&pid| ended(pid)))
        };
        while !over() {
            let turned = follow(&mut switch, &mut recorder)
                .and_then(|stopped| Ok((stopped, recorder.turn()?)));
            let (stopped, wait) = match turned {
                Ok(turned) => turned,
                Err(e) => return Err(kept(&recorder.cut_short(e, Outcome::default()), &output)),
            };
            if stopped {
                break;
            }
            std::thread::sleep(self.next_look(wait, started, &switch));
        }
        finish(recorder, &output, Outcome::default(), args, None)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Carries out what has been ordered; whether it is over.
fn follow(switch: &mut Switch, recorder: &mut Recorder) -> Result<bool, CollectError> {
    let mut over = false;
    for order in switch.orders() {
        match order {
            Order::Enable => recorder.enable()?,
            Order::Disable => recorder.disable(),
            Order::Stop => over = true,
        }
        switch.done();
    }
    Ok(over)
}

/// Closes the recording and says what is in it.
fn finish(
    recorder: Recorder,
    output: &Output,
    outcome: Outcome,
    args: &Args,
    watch: Option<&crash::Watch>,
) -> Result<(), Failure> {
    let mut told = None;
    let before_end = |writer: &mut Writer| {
        if let Some(watch) = watch.filter(|_| outcome.signal.is_some()) {
            told = Some(watch.tell(outcome, writer));
        }
    };
    match recorder.finish(outcome, before_end) {
        Ok(tally) => {
            summarize(&tally, args);
            if args.dpdk {
                dpdk::say(&tally);
            }
            if let Some(told) = told {
                crash::say(told, &args.output);
            } else if watch.is_some() {
                crash::say_of_shells(outcome);
            }
        }
        Err(cut) => return Err(kept(&cut, output)),
    }
    Ok(())
}

/// What is said of a recording that was cut short, and whether its file stays.
fn kept(cut: &Cut, output: &Output) -> Failure {
    let mut failure = Failure::failed(&cut.why);
    if cut.kept == (0, 0) {
        output.discard();
        return failure;
    }
    let ((samples, slots), lost) = (cut.kept, cut.lost);
    let finished = match cut.finished {
        Finished::Whole => "it is finished, names included",
        Finished::WithoutNames => "there was no room for names",
        Finished::Not => "there was no room to finish it",
    };
    failure.message.push_str(&format!(
        "\n  kept: {samples} samples and {slots} slots in {}; lost: {} and {}; {finished}",
        output.path().display(),
        lost.0,
        lost.1
    ));
    failure
}

/// How often a command is looked after when nothing is recorded any more.
const IDLE: Duration = Duration::from_millis(20);

fn summarize(tally: &Tally, args: &Args) {
    let bytes = fs::metadata(&args.output).map_or(0, |m| m.len());
    eprintln!(
        "bypassprof: {:.1} s of {} thread{} in {} ({:.1} KiB)",
        tally.elapsed.as_secs_f64(),
        tally.threads,
        if tally.threads == 1 { "" } else { "s" },
        args.output.display(),
        bytes as f64 / 1024.0
    );
    for notice in &tally.notices {
        eprintln!("  note: {} [{}]", notice.text, notice.id);
    }
    let counters =
        tally
            .counters
            .iter()
            .skip(1)
            .map(|(name, value)| match name.trim_end_matches(":u") {
                "task-clock" => format!("{name} {:.3} s", *value as f64 / 1e9),
                _ => format!("{name} {value}"),
            });
    eprintln!("  counted: {}", counters.collect::<Vec<_>>().join(", "));
    let probes = &tally.probes;
    if probes.rings > 0 || tally.rings_unreached > 0 {
        eprintln!(
            "  probes: {} rings, {} slots, {} dropped, {} rings not reached",
            probes.rings, probes.slots, probes.dropped, tally.rings_unreached
        );
    }
    eprintln!(
        "  trust: {} samples ({}), {} lost, {} stacks cut or broken, {} other records lost, recorder used {:.3} s in {} wake-ups",
        tally.samples,
        tally.sampled,
        tally.samples_lost,
        tally.stacks_unknown,
        tally.records_lost,
        tally.recorder_cpu.as_secs_f64(),
        tally.recorder_wakeups
    );
}
