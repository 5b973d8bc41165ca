//! `bypassprof snapshot`: the newest events of a running process, now or when something happens.
//!
//! Joins `collect` (rings, what happens) and `trace` (the file). The process is not stopped and nothing of it is changed.

use super::output::{self, Output};
use super::{Failure, child};
use crate::collect::events::uprobe;
use crate::collect::snapshot::{FindError, Live, Taken};
use crate::collect::trigger::{Function, Trigger, When};
use crate::trace::Writer;
use crate::trace::record::{Notice, Pid};
use crate::units::FileOffset;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Arguments of `snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The process
    #[arg(short, long, value_name = "PID", required = true,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: Pid,
    /// File to write; with --on a number goes in front of its ending
    #[arg(short, long, default_value = super::load::DEFAULT_FILE)]
    output: PathBuf,
    /// Wait for this, save what led to it, and wait again: trigger (the program asks), signal (SIGUSR1 to this
    /// command), drops, latency=5ms (a request takes longer), stall=100ms (a polling thread stands still),
    /// call=FUNCTION (it is called). The end of the process is always waited for
    #[arg(long, value_delimiter = ',', value_name = "WHAT", value_parser = cause)]
    on: Vec<Cause>,
    /// How long after the moment to save, so that what follows is in it too
    #[arg(long, default_value = "50ms", value_name = "TIME", value_parser = length)]
    after: Duration,
    /// Save at most once in this time; what happens in between is counted
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = length)]
    every: Duration,
    /// Keep so many of the newest snapshots
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep: u64,
    /// End after so many snapshots
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Leave out command lines and the folders of files
    #[arg(long)]
    redact: bool,
}

/// What is waited for.
#[derive(Clone, Debug)]
enum Cause {
    Trigger,
    Signal,
    Drops,
    Latency(Duration),
    Stall(Duration),
    Call(String),
}

fn cause(text: &str) -> Result<Cause, String> {
    let (what, value) = match text.split_once('=') {
        Some((what, value)) => (what, Some(value)),
        None => (text, None),
    };
    match (what, value) {
        ("trigger", None) => Ok(Cause::Trigger),
        ("signal", None) => Ok(Cause::Signal),
        ("drops", None) => Ok(Cause::Drops),
        ("latency", Some(limit)) => length(limit).map(Cause::Latency),
        ("stall", Some(limit)) => length(limit).map(Cause::Stall),
        ("call", Some(name)) if !name.is_empty() => Ok(Cause::Call(name.to_owned())),
        _ => Err("trigger, signal, drops, latency=TIME, stall=TIME or call=FUNCTION".to_owned()),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let wrong = || "a number with ns, us, ms or s, for example 5ms".to_owned();
    let end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(wrong)?;
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit = match &text[end..] {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(wrong()),
    };
    let seconds = number * unit;
    if !(0.0..=1e9).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Takes a snapshot, or waits for something and takes them as it happens.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let live = Live::find(args.pid).map_err(|e| not_found(&e))?;
    if args.on.is_empty() {
        output::check(&args.output)?;
        save(&live, &args, &args.output, None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let when = when(&args)?;
    if live.control().flight_bytes() == 0 {
        eprintln!(
            "bypassprof: process {} has no flight recorder on: only what is in its rings at the moment is saved\n  try: start it with BYPASSPROF_FLIGHT=64M",
            args.pid
        );
    }
    Watch::new(&args, &live, when)?.run()
}

fn not_found(error: &FindError) -> Failure {
    let failure = Failure::failed(error);
    match error {
        FindError::NoProcess(_) => failure,
        FindError::NoProbes(_) => failure.hint(
            "as the user of the process or as root; start it with BYPASSPROF_FLIGHT=64M, so that its newest events are kept",
        ),
    }
}

fn when(args: &Args) -> Result<When, Failure> {
    let mut when = When::default();
    for cause in &args.on {
        match cause {
            Cause::Trigger => when.asked = true,
            Cause::Signal => {}
            Cause::Drops => when.drops = true,
            Cause::Latency(limit) => when.latency = Some(*limit),
            Cause::Stall(limit) => when.stall = Some(*limit),
            Cause::Call(name) => when.function = Some(function(args.pid, name)?),
        }
    }
    Ok(when)
}

/// The function in the first of the process's files that has it.
fn function(pid: Pid, name: &str) -> Result<Function, Failure> {
    let rights = crate::collect::rights::Rights::of(pid).unwrap_or_default();
    let mut paths = vec![PathBuf::from(format!("/proc/{pid}/exe"))];
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    for line in maps.lines().filter(|l| l.contains("r-xp")) {
        if let Some(at) = line.find('/') {
            let path = PathBuf::from(format!("/proc/{pid}/root{}", &line[at..]));
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    let find = |path: PathBuf| {
        let text = path.to_str()?;
        let at = rights.within(|| uprobe::place(text, name, 0)).ok()?;
        Some(Function {
            name: name.to_owned(),
            path,
            at: FileOffset(at),
        })
    };
    paths.into_iter().find_map(find).ok_or_else(|| {
        Failure::failed(format!("no file of process {pid} has a function {name}"))
            .hint("the name as `bypassprof report` prints it; the program must not be stripped")
    })
}

/// Waiting, and what was saved so far.
struct Watch<'a> {
    args: &'a Args,
    live: &'a Live,
    trigger: Trigger,
    signalled: Arc<AtomicUsize>,
    interrupted: Arc<AtomicUsize>,
    saved: u64,
    last: Option<Instant>,
    passed_over: u64,
}

impl<'a> Watch<'a> {
    fn new(args: &'a Args, live: &'a Live, when: When) -> Result<Watch<'a>, Failure> {
        let (signalled, interrupted) = (Arc::default(), Arc::default());
        let by_signal = args.on.iter().any(|c| matches!(c, Cause::Signal));
        let usr1 = by_signal.then_some((libc::SIGUSR1, &signalled));
        let ends = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].map(|s| (s, &interrupted));
        for (signal, count) in ends.into_iter().chain(usr1) {
            child::count_signal(signal, Arc::clone(count))
                .map_err(|e| Failure::failed(format!("cannot catch signals: {e}")))?;
        }
        let trigger = Trigger::new(live, when).map_err(|e| {
            Failure::failed(e).hint(
                "as root: uprobes need CAP_PERFMON, or kernel.perf_event_paranoid of 1 or less",
            )
        })?;
        Ok(Watch {
            args,
            live,
            trigger,
            signalled,
            interrupted,
            saved: 0,
            last: None,
            passed_over: 0,
        })
    }

    fn run(mut self) -> Result<ExitCode, Failure> {
        eprintln!("bypassprof: waiting; SIGINT ends it");
        let mut signals = 0;
        while self.interrupted.load(Ordering::Relaxed) == 0 {
            if self.live.is_gone() {
                // One that ended by itself has taken its rings with it, or tells of no crash.
                if !self.live.control().has_left() {
                    self.save("the process ended without a word: killed, or crashed")?;
                }
                break;
            }
            let found = self.trigger.look(self.live);
            let count = self.signalled.load(Ordering::Relaxed);
            let by_signal = std::mem::replace(&mut signals, count) != count;
            let by_signal = by_signal.then(|| "SIGUSR1".to_owned());
            let why: Vec<String> = found.into_iter().chain(by_signal).collect();
            if !why.is_empty() {
                if self
                    .last
                    .is_some_and(|last| last.elapsed() < self.args.every)
                {
                    self.passed_over += 1;
                } else {
                    self.wait(self.args.after);
                    self.save(&why.join("; "))?;
                    self.last = Some(Instant::now());
                }
                if self.args.count.is_some_and(|count| self.saved >= count) {
                    break;
                }
            }
            self.wait(LOOK_EVERY);
        }
        let (missed, passed) = (self.trigger.missed(), self.passed_over);
        eprintln!(
            "bypassprof: {} snapshots; {passed} more moments passed over; {missed} slots overwritten before they were looked at",
            self.saved
        );
        Ok(ExitCode::SUCCESS)
    }

    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.live.is_gone() {
            std::thread::sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn save(&mut self, why: &str) -> Result<(), Failure> {
        self.saved += 1;
        let path = numbered(&self.args.output, self.saved);
        output::check(&path)?;
        let mut text = why.to_owned();
        if self.passed_over > 0 {
            text.push_str(&format!(
                "; {} moments since the last snapshot were passed over",
                self.passed_over
            ));
            self.passed_over = 0;
        }
        save(self.live, self.args, &path, Some(text))?;
        if let Some(old) = self.saved.checked_sub(self.args.keep).filter(|&n| n > 0) {
            // One that was taken away by someone else is gone as well.
            let _ = fs::remove_file(numbered(&self.args.output, old));
        }
        Ok(())
    }
}

/// `name.mcap` as `name-3.mcap`.
pub(super) fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!("-{number}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

fn save(live: &Live, args: &Args, path: &Path, why: Option<String>) -> Result<(), Failure> {
    let (output, file) = Output::create(path).map_err(Failure::failed)?;
    let notice = |text: &String| Notice {
        id: "trigger".to_owned(),
        text: text.clone(),
    };
    let notices = why.iter().map(notice).collect();
    let taken = Writer::to_file(path, file).and_then(|mut writer| {
        if args.redact {
            writer.redact();
        }
        live.save(writer, notices)
    });
    let taken = taken.map_err(|e| {
        output.discard();
        Failure::failed(e)
    })?;
    tell(&taken, path, why.as_deref());
    Ok(())
}

fn tell(taken: &Taken, path: &Path, why: Option<&str>) {
    let looked = &taken.looked;
    let overwritten: u64 = looked.rings.iter().map(|r| r.overwritten).sum();
    let before: u64 = looked.rings.iter().map(|r| r.gone_before).sum();
    if let Some(why) = why {
        eprintln!("bypassprof: {why}");
    }
    eprintln!(
        "bypassprof: {} slots of {} rings in {}",
        looked.slots(),
        looked.rings.len(),
        path.display()
    );
    eprintln!(
        "  overwritten: {overwritten} slots while they were copied, {before} before; {} rings not reached",
        looked.rings_unreached()
    );
    for error in &looked.unread {
        eprintln!("  not read: {error}");
    }
    if !taken.dead && taken.flight_bytes == 0 {
        eprintln!(
            "  note: no flight recorder is on: rings hold only what a recorder has not read\n  try: start the program with BYPASSPROF_FLIGHT=64M"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times need a unit, causes a value where there is one to give, names keep their ending.
    #[test]
    fn words() {
        assert_eq!(length("1.5ms"), Ok(Duration::from_micros(1500)));
        assert!(length("5").is_err() && length("-1s").is_err() && length("ms").is_err());
        assert!(matches!(cause("stall=100ms"), Ok(Cause::Stall(d)) if d.as_millis() == 100));
        assert!(matches!(cause("call=f"), Ok(Cause::Call(name)) if name == "f"));
        assert!(cause("call=").is_err() && cause("latency").is_err() && cause("x").is_err());
        assert_eq!(numbered(Path::new("a/b.mcap"), 3), Path::new("a/b-3.mcap"));
        assert_eq!(numbered(Path::new("b"), 1), Path::new("b-1"));
    }
}
