//! `bypassprof record`: runs a command, or follows running processes, and writes a recording.
//!
//! Joins `collect` (what happens), `trace` (the file) and `resolve` (names of what was sampled). The command's exit
//! status becomes ours.

use super::{Failure, crash, dpdk, gate};
use crate::collect::probes::{Place, Probes};
use crate::collect::{CollectError, Outcome, Recorder, Tally, Target, proc};
use crate::resolve::{LocalSymbols, SampledAddresses};
use crate::trace::record::{Meta, Notice, Pid, Sample, Symbols};
use crate::trace::{ReadError, Reader, Symbolizer, WriteError, Writer};
use bypassprof_wire::names::SESSION_VARIABLE;
use rustix::process::{Pid as SysPid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::Arc;
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
    /// Stop after so many seconds; a command that was started is ended
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Count and stamp the bursts of a DPDK program, which needs no change for it
    #[arg(long, conflicts_with = "pid")]
    dpdk: bool,
    /// Follow these running processes
    #[arg(short, long, value_delimiter = ',', value_name = "PID", conflicts_with = "command",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: Vec<Pid>,
    /// If the command dies by a signal, tell what it was doing then, and keep that in the recording
    #[arg(long, conflicts_with = "pid")]
    on_crash: bool,
    /// Command to run and record
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if !(seconds > 0.0 && seconds <= 1e9) {
        return Err("must be more than 0".to_string());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Names what was sampled, from the files of this machine.
#[derive(Default)]
pub(super) struct LocalNames {
    sampled: SampledAddresses,
}

impl Symbolizer for LocalNames {
    fn meta(&mut self, meta: &Meta) {
        self.sampled.meta(meta);
    }
    fn sample(&mut self, sample: &Sample) {
        self.sampled.sample(sample);
    }
    fn finish(&mut self) -> Vec<Symbols> {
        let mut files = LocalSymbols::while_recording();
        let sampled = std::mem::take(&mut self.sampled).finish();
        sampled
            .iter()
            .map(|(mapping, at)| files.names(mapping, at))
            .collect()
    }
}

/// Records.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if args.pid.is_empty() && args.command.is_empty() {
        return Err(Failure::wrong_use("there is nothing to record")
            .hint("`bypassprof record -- COMMAND`, or -p PID"));
    }
    let interrupted = Arc::new(AtomicUsize::new(0));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let count = Arc::clone(&interrupted);
        // A second request is a firmer one.
        let caught = count_signal(signal, count);
        caught.map_err(|e| Failure::failed(format!("cannot catch signals: {e}")))?;
    }
    for &pid in &args.pid {
        if proc::threads(pid).is_err() {
            return Err(Failure::failed(CollectError::NoProcess { pid }));
        }
    }
    check_output(&args.output)?;
    if args.pid.is_empty() {
        record_command(&args, &interrupted)
    } else {
        record_running(&args, &interrupted)
    }
}

fn count_signal(signal: i32, count: Arc<AtomicUsize>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal])?;
    std::thread::Builder::new()
        .name("signals".to_string())
        .spawn(move || {
            for _ in signals.forever() {
                // Only a count: nothing is published with it.
                count.fetch_add(1, Ordering::Relaxed);
            }
        })?;
    Ok(())
}

/// Nothing but an earlier recording is overwritten.
pub(super) fn check_output(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Failure::failed(format!(
            "cannot write {}: {e}",
            path.display()
        ))),
        Ok(meta) if meta.len() == 0 && meta.is_file() => Ok(()),
        Ok(_) => match Reader::open(path) {
            Ok(_) | Err(ReadError::Version { .. }) => Ok(()),
            Err(_) => Err(Failure::failed(format!(
                "{} exists and is not a recording; it is left as it is",
                path.display()
            ))
            .hint("-o with another name")),
        },
    }
}

/// The file while it is written: it takes its final name's place at once, and goes away if recording fails.
struct Output {
    path: PathBuf,
}

impl Output {
    fn create(path: &Path) -> Result<(Output, File), WriteError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path);
        let file = file.map_err(|source| WriteError::Create {
            path: path.to_path_buf(),
            source,
        })?;
        let path = path.to_path_buf();
        Ok((Output { path }, file))
    }

    /// Leaves nothing behind: half a recording on a full disk harms more than it helps.
    fn discard(&self) {
        if self.path.is_file() {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens events and only then the file, so that a refusal leaves nothing behind.
fn start(
    target: &Target,
    args: &Args,
    probes: Result<Probes, Notice>,
) -> Result<(Recorder, Output), Failure> {
    let mut output = None;
    let path = &args.output;
    let writer = || {
        let (opened, file) = Output::create(path)?;
        output = Some(opened);
        Writer::to_file(path, file)
    };
    let names = Box::new(LocalNames::default());
    match (
        Recorder::start(target, args.frequency, writer, names, probes),
        output,
    ) {
        (Ok(recorder), Some(output)) => Ok((recorder, output)),
        (outcome, output) => {
            if let Some(output) = output {
                output.discard();
            }
            Err(match outcome {
                Err(e) => collect_failure(&e),
                Ok(_) => Failure::failed("the recording was not opened"),
            })
        }
    }
}

fn collect_failure(error: &CollectError) -> Failure {
    let failure = Failure::failed(error);
    let source = match error {
        CollectError::Perf { source } => source.kind(),
        CollectError::Open(e) => e.source.kind(),
        _ => return failure,
    };
    match source {
        io::ErrorKind::PermissionDenied => failure.hint(
            "as root, with CAP_PERFMON, or after `sysctl kernel.perf_event_paranoid=2`; another user's process needs \
             CAP_SYS_PTRACE",
        ),
        _ => failure,
    }
}

fn record_command(args: &Args, interrupted: &AtomicUsize) -> Result<ExitCode, Failure> {
    let words: Vec<String> = args
        .command
        .iter()
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let cannot_run = |e: io::Error| Failure::failed(format!("cannot run {}: {e}", words[0]));
    let session = Place::create();
    let mut environment = match &session {
        Ok(place) => vec![(SESSION_VARIABLE, place.path().as_os_str())],
        Err(_) => Vec::new(),
    };
    if args.on_crash {
        crash::allow_core();
    }
    let preload = args
        .dpdk
        .then(|| dpdk::preload(&args.command))
        .transpose()?;
    if let Some(preload) = &preload {
        environment.push((dpdk::PRELOAD_VARIABLE, preload.as_os_str()));
    }
    let held = gate::hold(&args.command, &environment).map_err(cannot_run)?;
    let probes = session
        .map(|place| Probes::of_session(place, held.child.id()))
        .map_err(|e| Notice {
            id: "no-session".to_string(),
            text: format!(
                "there is no session directory in /dev/shm ({e}): probes are not recorded"
            ),
        });
    let target = Target::Starting(held.child.id(), words.clone());
    let (mut recorder, output) = match start(&target, args, probes) {
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
    let mut watch = args.on_crash.then(|| crash::Watch::of(child.id()));
    let started = Instant::now();
    let mut ending = Ending::default();
    let mut failed = None;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(Failure::failed)? {
            break status;
        }
        if let Some(watch) = &mut watch {
            watch.look();
        }
        let over = args.duration.is_some_and(|d| started.elapsed() >= d);
        ending.step(&child, interrupted.load(Ordering::Relaxed), over);
        let wait = match recorder.as_mut().map(Recorder::turn) {
            Some(Ok(wait)) => wait,
            Some(Err(e)) => {
                // Without a recording the command still has its own work to do: it is let run, and its user told now.
                recorder = None;
                output.discard();
                failed = Some(collect_failure(&e).say());
                continue;
            }
            None => IDLE,
        };
        let left = args.duration.map(|d| d.saturating_sub(started.elapsed()));
        std::thread::sleep(left.filter(|l| !l.is_zero()).map_or(wait, |l| l.min(wait)));
    };
    let outcome = Outcome {
        code: status.code(),
        signal: status.signal(),
    };
    match (recorder, failed) {
        (Some(recorder), None) => {
            // What we ended, or the user, did not crash.
            let watch = watch.as_ref().filter(|_| ending.since.is_none());
            finish(recorder, &output, outcome, args, watch)?;
        }
        (_, failed) => return Ok(failed.unwrap_or(ExitCode::FAILURE)),
    }
    if ending.by_duration {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(exit_code(outcome)))
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
            }
        }
        Err(e) => {
            output.discard();
            return Err(collect_failure(&e));
        }
    }
    Ok(())
}

/// How often a command is looked after when nothing is recorded any more.
const IDLE: Duration = Duration::from_millis(20);

/// What a shell would say of a command that ended so.
fn exit_code(outcome: Outcome) -> u8 {
    match (outcome.code, outcome.signal) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => (128 + signal) as u8,
        (None, None) => 1,
    }
}

/// Ends a command step by step: its own chance at the signal the terminal sent it, then SIGINT, SIGTERM, SIGKILL.
#[derive(Default)]
struct Ending {
    since: Option<Instant>,
    sent: Option<Signal>,
    by_duration: bool,
}

impl Ending {
    fn step(&mut self, child: &Child, interrupts: usize, over: bool) {
        if self.since.is_none() {
            if interrupts == 0 && !over {
                return;
            }
            self.by_duration = over && interrupts == 0;
            self.since = Some(Instant::now());
        }
        let waited = self.since.map_or(Duration::ZERO, |s| s.elapsed());
        let signal = if waited > Duration::from_secs(6) || interrupts > 2 {
            Signal::KILL
        } else if waited > Duration::from_secs(3) || self.by_duration {
            Signal::TERM
        } else if waited > Duration::from_millis(200) {
            Signal::INT
        } else {
            return;
        };
        if self.sent != Some(signal) {
            self.sent = Some(signal);
            if let Some(pid) = SysPid::from_raw(child.id().cast_signed()) {
                // It may have ended by itself; the next turn sees that.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

fn record_running(args: &Args, interrupted: &AtomicUsize) -> Result<ExitCode, Failure> {
    let target = Target::Running(args.pid.clone());
    let (mut recorder, output) = start(&target, args, Ok(Probes::of_processes(&args.pid)))?;
    let started = Instant::now();
    let over = || {
        interrupted.load(Ordering::Relaxed) > 0
            || args.duration.is_some_and(|d| started.elapsed() >= d)
            || args.pid.iter().all(|&pid| ended(pid))
    };
    while !over() {
        let wait = recorder.turn().map_err(|e| {
            output.discard();
            collect_failure(&e)
        })?;
        let left = args.duration.map(|d| d.saturating_sub(started.elapsed()));
        std::thread::sleep(left.map_or(wait, |l| l.min(wait)));
    }
    finish(recorder, &output, Outcome::default(), args, None)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a process is gone, or only its exit status is left.
fn ended(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

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
        "  trust: {} samples ({} at {} Hz), {} lost, {} stacks cut or broken, {} other records lost, recorder used {:.3} s",
        tally.samples,
        tally.event,
        tally.frequency_hz,
        tally.samples_lost,
        tally.stacks_unknown,
        tally.records_lost,
        tally.recorder_cpu.as_secs_f64()
    );
}
