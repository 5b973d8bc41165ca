//! `record --on-crash`: a command that died by a signal gets its post mortem while everything is there.
//!
//! In: the recording just before its last record, and how the command ended; out: the post mortem as a record of it, and
//! as text. A core dump is used if the kernel wrote one where it can be found.

use super::Failure;
use super::postmortem::{gather, so_far};
use crate::analyse::Packs;
use crate::analyse::postmortem::signal_name;
use crate::collect::core::Core;
use crate::collect::oom::OomWatch;
use crate::collect::{Outcome, remains};
use crate::present::postmortem as present;
use crate::present::style::Style;
use crate::trace::Writer;
use crate::trace::record::{Crash, Meta, Missing, Pid, PostMortem};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Events of each thread that are told.
const LAST: usize = 20;

/// What is watched while a command runs, so that its end can be told.
pub struct Watch {
    pid: Pid,
    oom: OomWatch,
    /// Where it was, the last time that was looked at, or where it began: a core lies there.
    directory: Option<PathBuf>,
    /// No file of the command's is older: by the kernel's coarse clock, and it may have ended before we looked.
    started: SystemTime,
}

/// Lets the command that is started next leave a core as large as the system's limit allows.
pub fn allow_core() {
    let maximum = getrlimit(Resource::Core).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    // Without it there is a post mortem from the rings alone, which says so.
    let _ = setrlimit(Resource::Core, limit);
}

/// Tells the user, shortly: all of it is in the recording.
pub fn say(told: Result<String, Failure>, output: &Path) {
    match told {
        Ok(text) => {
            let head = text.split("\n\n").next().unwrap_or_default();
            eprintln!("bypassprof: post mortem of {}", head.replace('\n', "\n  "));
            eprintln!("  all of it: bypassprof postmortem {}", output.display());
        }
        Err(failure) => {
            eprintln!("bypassprof: there is no post mortem: {}", failure.message);
        }
    }
}

/// Says where a command that ended by itself seems to be a shell whose program died: what is told is told of the command.
pub fn say_of_shells(outcome: Outcome) {
    const FIRST: i32 = 128;
    let signal = outcome.code.and_then(|code| code.checked_sub(FIRST));
    if let Some(signal) = signal.filter(|signal| (1..=31).contains(signal)) {
        eprintln!(
            "bypassprof: there is no post mortem: the command ended by itself, but with {}, as a shell does whose program \
             was killed by {}\n  try: the program itself as the command, or `exec` before it in the script",
            FIRST + signal,
            signal_name(signal)
        );
    }
}

impl Watch {
    /// Of a command that was just started.
    pub fn of(pid: Pid) -> Watch {
        Watch {
            pid,
            oom: OomWatch::of(pid),
            directory: std::env::current_dir().ok(),
            started: SystemTime::now() - Duration::from_secs(1),
        }
    }

    /// To be called often while it runs.
    pub fn look(&mut self) {
        if self.oom.look()
            && let Ok(directory) = fs::read_link(format!("/proc/{}/cwd", self.pid))
        {
            self.directory = Some(directory);
        }
    }

    /// The command died: writes why and what it was doing; gives it as text.
    pub fn tell(&self, outcome: Outcome, writer: &mut Writer) -> Result<String, Failure> {
        let mut crash = Crash {
            pid: self.pid,
            signal: outcome.signal,
            exit_code: outcome.code,
            oom_kills: self.oom.kills(),
            told_by: "the recorder".to_owned(),
            ..Crash::default()
        };
        match self.core() {
            Ok(core) => {
                crash.missing.extend(gather::stacks(&core, writer)?);
                writer
                    .meta(&Meta::Crash(remains::crash_of(&core)))
                    .map_err(Failure::failed)?;
            }
            Err(how) => crash.missing.push(Missing {
                what: "the threads' stacks at the end".to_owned(),
                how,
            }),
        }
        writer.meta(&Meta::Crash(crash)).map_err(Failure::failed)?;
        let answer = so_far(writer, &Packs::built_in(), LAST, None)?;
        let text = present::text(&answer, Style::PLAIN);
        let told = PostMortem { text: text.clone() };
        writer
            .meta(&Meta::PostMortem(told))
            .map_err(Failure::failed)?;
        Ok(text)
    }

    /// The core that the kernel wrote, or why there is none to be found.
    fn core(&self) -> Result<Core, String> {
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        let pattern = pattern.trim();
        if let Some(program) = pattern.strip_prefix('|') {
            let program = program.split(' ').next().unwrap_or_default();
            return Err(format!(
                "the kernel gives core dumps to {program}: with systemd, `coredumpctl dump {} -o core`, then `bypassprof \
                 postmortem core` with the recording",
                self.pid
            ));
        }
        let fixed = pattern.split('%').next().unwrap_or_default();
        let (directory, name) = fixed.rsplit_once('/').unwrap_or(("", fixed));
        let directory = match (directory, &self.directory) {
            ("", Some(own)) => own.clone(),
            ("", None) => return Err("where it ran is not known".to_owned()),
            (directory, Some(own)) => own.join(directory),
            (directory, None) => PathBuf::from(directory),
        };
        let ours = |path: &Path| {
            let new = fs::metadata(path).and_then(|m| m.modified());
            new.is_ok_and(|at| at >= self.started) && Core::is_one(path)
        };
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let named = entries.filter(|e| e.file_name().to_string_lossy().starts_with(name));
        let mut cores = named.map(|e| e.path()).filter(|p| ours(p));
        let found = cores.find_map(|path| Core::open(&path).ok().filter(|c| c.pid == self.pid));
        found.ok_or_else(|| {
            format!(
                "the kernel left no core dump in {}: the limit may be 0 (`ulimit -H -c`), or the directory not the \
                 program's to write",
                directory.display()
            )
        })
    }
}
