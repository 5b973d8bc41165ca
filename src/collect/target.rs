//! Whom to record, and what events are opened for.
//!
//! In: processes, CPUs, control groups; out: a [`Whom`]. It refuses to know what is opened.

use super::counting::Whom;
use super::{CollectError, proc};
use crate::trace::record::{Pid, Tid};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

/// Whom to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process that is about to run this program; recording starts when it does.
    Starting(Pid, Vec<String>),
    /// Processes that are running.
    Running(Vec<Pid>),
    /// Everything on these CPUs.
    Cpus(Vec<u32>),
    /// A control group, by its directory, on these CPUs.
    Cgroup(PathBuf, Vec<u32>),
}

impl Target {
    /// What events are opened for.
    pub fn whom(&self) -> Result<Whom, CollectError> {
        Ok(match self {
            Target::Starting(pid, _) => Whom::Tasks(vec![*pid]),
            Target::Running(pids) => Whom::Tasks(threads_of(pids)?),
            Target::Cpus(cpus) => Whom::Cpus(cpus.clone()),
            Target::Cgroup(path, cpus) => {
                let file = File::open(path).map_err(|source| CollectError::Cgroup {
                    path: path.clone(),
                    source,
                })?;
                Whom::Cgroup(file, cpus.clone())
            }
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &[u32]| {
            let texts: Vec<_> = numbers.iter().map(u32::to_string).collect();
            texts.join(",")
        };
        match self {
            Target::Starting(_, command) => f.write_str(&command.join(" ")),
            Target::Running(pids) => write!(f, "process {}", list(pids)),
            Target::Cpus(cpus) => write!(f, "CPUs {}", list(cpus)),
            Target::Cgroup(path, _) => write!(f, "control group {}", path.display()),
        }
    }
}

fn threads_of(pids: &[Pid]) -> Result<Vec<Tid>, CollectError> {
    let mut tids = Vec::new();
    for &pid in pids {
        let threads = proc::threads(pid).map_err(|_| CollectError::NoProcess { pid })?;
        tids.extend(threads);
    }
    Ok(tids)
}
