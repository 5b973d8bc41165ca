//! Where the recorder runs: the options that keep it off the CPUs of what it records.
//!
//! In: words of the command line; out: this process kept to some CPUs, and those its command may run on. Called before
//! any thread is started, since threads keep what they are given.

use super::Failure;
use crate::collect::proc;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// Options of `record` and `stat`.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Observer effect")]
pub struct AffinityArgs {
    /// CPUs for the recorder itself: 0-1
    #[arg(long, value_name = "CPUS")]
    housekeeping_cpus: Option<String>,
    /// CPUs that the recorder never runs on, and between its beginning and its end does not interrupt: 2-7
    #[arg(long, value_name = "CPUS")]
    isolated: Option<String>,
}

impl AffinityArgs {
    /// Whether some CPUs are not to be interrupted.
    pub fn isolates(&self) -> bool {
        self.isolated.is_some()
    }

    /// Moves this process, and with it all threads it starts from now on. Returns the CPUs it had, for its command, if
    /// there are fewer now.
    pub fn apply(&self) -> Result<Option<String>, Failure> {
        if self.housekeeping_cpus.is_none() && self.isolated.is_none() {
            return Ok(None);
        }
        let had = allowed().map_err(|e| Failure::failed(format!("cannot tell CPUs: {e}")))?;
        let list = |option: &str, text: &Option<String>| {
            let Some(text) = text else {
                return Ok(None);
            };
            let cpus = proc::parse_cpus(text);
            let online = proc::cpus();
            if cpus.is_empty() || cpus.iter().any(|c| !online.contains(c)) {
                let wrong = format!("{option} {text} is no list of CPUs that are online");
                return Err(Failure::wrong_use(wrong).hint("like 0-2,5"));
            }
            Ok(Some(cpus))
        };
        let wanted = list("--housekeeping-cpus", &self.housekeeping_cpus)?;
        let isolated = list("--isolated", &self.isolated)?.unwrap_or_default();
        let mut cpus = wanted.unwrap_or_else(|| had.clone());
        cpus.retain(|c| !isolated.contains(c));
        if cpus.is_empty() {
            return Err(Failure::wrong_use(
                "--isolated leaves no CPU for the recorder",
            ));
        }
        run_on(&cpus).map_err(|e| Failure::failed(format!("cannot keep to CPUs {cpus:?}: {e}")))?;
        let had: Vec<_> = had.iter().map(u32::to_string).collect();
        Ok(Some(had.join(",")))
    }
}

/// The CPUs that this thread may run on.
fn allowed() -> io::Result<Vec<u32>> {
    let set = sched_getaffinity(None)?;
    let all = 0..CpuSet::MAX_CPU as u32;
    Ok(all.filter(|&cpu| set.is_set(cpu as usize)).collect())
}

/// Keeps this thread, and those it starts, to some CPUs.
pub fn run_on(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| (cpu as usize) < CpuSet::MAX_CPU) {
        set.set(cpu as usize);
    }
    Ok(sched_setaffinity(None, &set)?)
}
