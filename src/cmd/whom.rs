//! Whom to look at and for how long: the options that `record` and `stat` share.
//!
//! In: words of the command line; out: a [`Target`], a [`Switch`]. What cannot be meant is told with how to say it.

use super::Failure;
use super::switch::Switch;
use crate::collect::{CollectError, Target, proc};
use crate::trace::record::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `record` and `stat`.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Whom and when")]
pub struct WhomArgs {
    /// Follow these running processes
    #[arg(short, long, value_delimiter = ',', value_name = "PID",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub pid: Vec<Pid>,
    /// Everything that runs on this machine
    #[arg(short, long, conflicts_with_all = ["pid", "cgroup"])]
    pub all: bool,
    /// Everything that runs on these CPUs: 0-2,5
    #[arg(short = 'C', long = "cpus", value_name = "CPUS", value_parser = cpus, conflicts_with = "pid")]
    pub cpus: Option<Cpus>,
    /// Everything that runs in this control group: a name below /sys/fs/cgroup, or a path
    #[arg(long, value_name = "GROUP", conflicts_with = "pid")]
    pub cgroup: Option<PathBuf>,
    /// Stop after so many seconds; a command that was started is ended
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Begin so many milliseconds after the command; -1: when told to by signal or --control
    #[arg(short = 'D', long, value_name = "MS", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..=3_600_000))]
    pub delay: Option<i64>,
    /// Take `enable`, `disable`, `ping` and `stop` from fd:CTL,ACK or fifo:CTL,ACK; without ACK there are no answers
    #[arg(long, value_name = "WHERE")]
    pub control: Option<String>,
}

/// A list of CPUs.
#[derive(Clone, Debug)]
pub struct Cpus(Vec<u32>);

fn cpus(text: &str) -> Result<Cpus, String> {
    let is_list = |c: char| c.is_ascii_digit() || c == '-' || c == ',';
    let cpus = proc::parse_cpus(text);
    if cpus.is_empty() || !text.chars().all(is_list) {
        return Err("should be like 0-2,5".to_owned());
    }
    let online = proc::cpus();
    match cpus.iter().find(|c| !online.contains(c)) {
        Some(cpu) => Err(format!("CPU {cpu} is not online")),
        None => Ok(Cpus(cpus)),
    }
}

/// A time in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if !(seconds > 0.0 && seconds <= 1e9) {
        return Err("must be more than 0".to_string());
    }
    Ok(Duration::from_secs_f64(seconds))
}

impl WhomArgs {
    /// Whom to look at besides, or instead of, a command; `None` if only a command was named.
    pub fn target(&self) -> Result<Option<Target>, Failure> {
        for &pid in &self.pid {
            if proc::threads(pid).is_err() {
                return Err(Failure::failed(CollectError::NoProcess { pid }));
            }
        }
        let cpus = self.cpus.as_ref().map_or_else(proc::cpus, |c| c.0.clone());
        if let Some(name) = &self.cgroup {
            return Ok(Some(Target::Cgroup(cgroup(name)?, cpus)));
        }
        if self.all || self.cpus.is_some() {
            return Ok(Some(Target::Cpus(cpus)));
        }
        Ok((!self.pid.is_empty()).then(|| Target::Running(self.pid.clone())))
    }

    /// What starts and stops it on the way.
    pub fn switch(&self) -> Result<Switch, Failure> {
        Switch::new(self.delay, self.control.as_deref())
    }
}

/// Where control groups are, that events can be opened for: version 1's own hierarchy of perf first.
const HIERARCHIES: &[&str] = &[
    "/sys/fs/cgroup/perf_event",
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
];

fn cgroup(name: &Path) -> Result<PathBuf, Failure> {
    let inside = name.strip_prefix("/").unwrap_or(name);
    let places = HIERARCHIES.iter().map(|h| Path::new(h).join(inside));
    let mut all = std::iter::once(name.to_path_buf()).chain(places);
    let is_group = |p: &PathBuf| p.join("cgroup.procs").is_file();
    all.find(is_group).ok_or_else(|| {
        Failure::failed(format!("there is no control group {}", name.display()))
            .hint("its path below /sys/fs/cgroup, as in /proc/PID/cgroup")
    })
}
