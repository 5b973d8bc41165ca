//! A live system in, records out: perf events, /proc and clocks, written to a recording as they come.
//!
//! In: processes, a [`crate::trace::Writer`] or another sink, something that names addresses, where probes meet us; out: a
//! finished recording and its [`Tally`]. It refuses to know how a command is started, what signals mean and how names are
//! found.

pub mod apart;
pub mod clock;
pub mod core;
pub mod counting;
pub mod doctor;
pub mod events;
mod kernel;
pub mod limits;
pub mod oom;
pub mod perf;
pub mod probes;
pub mod proc;
pub mod recent;
mod recorder;
pub mod remains;
pub mod rights;
pub mod skew;
pub mod snapshot;
mod target;
pub mod trigger;

use crate::trace::WriteError;
use crate::trace::record::{Notice, Pid};
use crate::units::Nanos;
use probes::ProbeTally;
pub use recorder::{Cut, Finished, Recorder, Wanted};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
pub use target::Target;

/// Why recording failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// There is nothing that could be sampled.
    #[error(transparent)]
    Plan(#[from] perf::PlanError),
    /// An event could not be opened.
    #[error(transparent)]
    Open(#[from] perf::group::OpenError),
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The number asked for.
        pid: Pid,
    },
    /// A control group could not be opened.
    #[error("cannot open control group {path}: {source}")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An event could not be switched on.
    #[error("cannot start recording: {source}")]
    Start {
        /// What the kernel said.
        source: io::Error,
    },
    /// The recording could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What went into a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// From start to finish.
    pub elapsed: Duration,
    /// Samples written.
    pub samples: u64,
    /// Samples that the kernel lost.
    pub samples_lost: u64,
    /// Other records that the kernel lost.
    pub records_lost: u64,
    /// Samples whose user stack is cut or could not be walked.
    pub stacks_unknown: u64,
    /// Switch records written.
    pub switches: u64,
    /// Threads seen.
    pub threads: u64,
    /// What was sampled, and how often.
    pub sampled: String,
    /// Rings, slots and drops of programs with probes.
    pub probes: ProbeTally,
    /// Rings that could not be reached.
    pub rings_unreached: u64,
    /// CPU time of the recorder.
    pub recorder_cpu: Duration,
    /// Times it woke up.
    pub recorder_wakeups: u64,
    /// Counted events and their totals.
    pub counters: Vec<(String, u64)>,
    /// What the user should know.
    pub notices: Vec<Notice>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// CPU time that this process has used.
pub fn cpu_time() -> Nanos {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Nanos::from_ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
