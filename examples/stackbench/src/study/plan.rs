//! A study's plan: which rows, which sweeps, how long and how often, from a TOML file.
//!
//! In: text; out: a [`Plan`], or which key is wrong and how to put it right. It refuses to know what a machine can do.

use super::points::{Point, Workload};
use crate::site::Stack;
use bypassprof::trace::file::text_up_to;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// The plan that is followed when none is named: all of it in under 20 minutes on two CPUs.
const REDUCED: &str = include_str!("../../plans/reduced.toml");

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such file.
    #[error("cannot read the plan {path}: {source}")]
    Read {
        /// Where.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what a plan looks like.
    #[error("{path} is no plan: {why}")]
    Wrong {
        /// Where.
        path: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// When runs are recorded. A recorded run is one more run, so that the recorder is in no figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recording {
    /// In the first repetition.
    First,
    /// In every repetition.
    #[default]
    Every,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// Rows.
    pub stacks: Vec<Stack>,
    /// Seconds that each run measures.
    pub seconds: f64,
    /// Seconds of load before that.
    pub warmup: f64,
    /// How often each point is measured.
    pub repetitions: u32,
    /// Which of them are recorded.
    #[serde(default)]
    pub record: Recording,
    /// Throughput against the length of replies.
    pub large_send: Option<Bodies>,
    /// Latency of one connection.
    pub idle_latency: Option<Bodies>,
    /// Against the number of connections.
    pub connections: Option<Connections>,
    /// Against the number of the server's threads.
    pub multicore: Option<Multicore>,
    /// One thing changed at one point, beside the row as it is.
    #[serde(default)]
    pub experiment: Vec<Experiment>,
}

/// A sweep of reply lengths.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bodies {
    /// Bytes of the replies' bodies.
    pub bodies: Vec<u32>,
    /// Connections.
    #[serde(default = "one")]
    pub connections: u32,
}

/// A sweep of connections.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Connections {
    /// Connections, each of which asks again once it has its reply.
    #[serde(default)]
    pub closed: Vec<u32>,
    /// Connections that share `rate`.
    #[serde(default)]
    pub open: Vec<u32>,
    /// Requests per second of the open loop.
    #[serde(default)]
    pub rate: u32,
}

/// A sweep of the server's threads.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Multicore {
    /// Threads of the server.
    pub threads: Vec<u32>,
    /// Connections.
    pub connections: u32,
}

/// A row with one thing changed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Experiment {
    /// What it is called in tables.
    pub name: String,
    /// The row.
    pub stack: Stack,
    /// What it is told besides.
    pub arguments: Vec<String>,
    /// Where: a point that the plan has.
    pub workload: Workload,
    /// The swept quantity there.
    pub at: u32,
    /// What it is to confirm or refute.
    pub question: String,
}

fn one() -> u32 {
    1
}

/// Longest plan that is read, in MiB.
const LONGEST: u64 = 1;

impl Plan {
    /// The reduced one.
    pub fn reduced() -> Result<Plan, PlanError> {
        Plan::parse("the built-in plan", REDUCED)
    }

    /// Of a file.
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let name = path.display().to_string();
        match text_up_to(path, LONGEST) {
            Ok(text) => Plan::parse(&name, &text),
            Err(source) => Err(PlanError::Read { path: name, source }),
        }
    }

    fn parse(path: &str, text: &str) -> Result<Plan, PlanError> {
        let wrong = |why: String| PlanError::Wrong {
            path: path.to_string(),
            why,
        };
        let plan: Plan = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        match plan.mistake() {
            Some(why) => Err(wrong(why)),
            None => Ok(plan),
        }
    }

    /// What the types allow and the study does not.
    fn mistake(&self) -> Option<String> {
        let out = |name: &str, value: f64, from: f64, to: f64| {
            let inside = (from..=to).contains(&value);
            (!inside).then(|| format!("{name} = {value}: from {from} to {to} is possible"))
        };
        out("seconds", self.seconds, 0.2, 600.0)
            .or_else(|| out("warmup", self.warmup, 0.0, 600.0))
            .or_else(|| out("repetitions", f64::from(self.repetitions), 1.0, 99.0))
            .or_else(|| {
                let rows = &self.stacks;
                let twice = (1..rows.len()).find(|&at| rows[..at].contains(&rows[at]));
                let none = rows
                    .is_empty()
                    .then(|| "stacks = []: name at least one row".to_string());
                none.or(twice.map(|at| format!("stacks: {} is there twice", rows[at].name())))
            })
            .or_else(|| {
                self.points().is_empty().then(|| {
                    "nothing to do: give [large-send], [idle-latency], [connections] or [multicore]"
                        .to_string()
                })
            })
            .or_else(|| self.wrong_point())
            .or_else(|| self.wrong_experiment())
    }

    fn wrong_point(&self) -> Option<String> {
        let points = self.points();
        let most = |workload: Workload| match workload {
            Workload::LargeSend | Workload::IdleLatency => 1 << 30,
            Workload::Connections => 60_000,
            Workload::Multicore => 1024,
        };
        let wrong = points.iter().find(|p| p.at == 0 || p.at > most(p.workload));
        if let Some(point) = wrong {
            let (name, at) = (point.workload.name(), point.at);
            let most = most(point.workload);
            return Some(format!("[{name}] {at}: from 1 to {most} is possible"));
        }
        let open = self.connections.as_ref().filter(|c| !c.open.is_empty());
        if open.is_some_and(|c| c.rate == 0) {
            return Some(
                "[connections] open needs rate = requests per second of all connections together"
                    .to_string(),
            );
        }
        let twice = (1..points.len()).find(|&at| points[..at].contains(&points[at]))?;
        Some(format!("{} is there twice", points[twice].words()))
    }

    fn wrong_experiment(&self) -> Option<String> {
        let points = self.points();
        for experiment in &self.experiment {
            if !self.stacks.contains(&experiment.stack) {
                return Some(format!(
                    "experiment {}: its row {} is not in stacks",
                    experiment.name,
                    experiment.stack.name()
                ));
            }
            if !points.contains(&experiment.point()) {
                return Some(format!(
                    "experiment {}: {} has no point {}",
                    experiment.name,
                    experiment.workload.name(),
                    experiment.at
                ));
            }
        }
        let names: Vec<_> = self.experiment.iter().map(|e| &e.name).collect();
        let twice = (1..names.len()).find(|&at| names[..at].contains(&names[at]))?;
        Some(format!("experiment {} is there twice", names[twice]))
    }

    /// Where the study measures, in the order of tables.
    pub fn points(&self) -> Vec<Point> {
        let mut points = Vec::new();
        let mut add = |workload, quantities: &[u32], rate| {
            points.extend(quantities.iter().map(|&at| Point { workload, at, rate }));
        };
        if let Some(sweep) = &self.large_send {
            add(Workload::LargeSend, &sweep.bodies, None);
        }
        if let Some(sweep) = &self.idle_latency {
            add(Workload::IdleLatency, &sweep.bodies, None);
        }
        if let Some(sweep) = &self.connections {
            add(Workload::Connections, &sweep.closed, None);
            add(Workload::Connections, &sweep.open, Some(sweep.rate));
        }
        if let Some(sweep) = &self.multicore {
            add(Workload::Multicore, &sweep.threads, None);
        }
        points
    }

    /// How long a run measures.
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

impl Experiment {
    /// Where it is measured.
    pub fn point(&self) -> Point {
        Point {
            workload: self.workload,
            at: self.at,
            rate: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plans that come with the program are plans; the reduced one is the built-in one.
    #[test]
    fn ours_are_plans() {
        let full = Plan::parse("full", include_str!("../../plans/full.toml")).unwrap();
        let reduced = Plan::reduced().unwrap();
        assert!(full.points().len() > reduced.points().len());
        assert_eq!(full.record, Recording::Every);
        for plan in [&full, &reduced] {
            assert_eq!(plan.stacks.len(), Stack::ALL.len());
            let mut workloads: Vec<_> = plan.points().iter().map(|p| p.workload).collect();
            workloads.dedup();
            assert_eq!(workloads.len(), 4);
        }
    }

    /// What has no end is no plan.
    #[test]
    fn no_file() {
        let wrong = Plan::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(wrong.contains("not a regular file"), "{wrong}");
    }

    /// What is wrong is told by its key, with what would be right.
    #[test]
    fn mistakes_are_named() {
        let head = "stacks = [\"linux\"]\nseconds = 1\nwarmup = 0\nrepetitions = 1\n";
        let idle = "[idle-latency]\nbodies = [64]\n";
        let with = |text: &str| Plan::parse("p", &format!("{head}{text}"));
        assert!(with(idle).is_ok());
        let experiment = "[[experiment]]\nname = \"x\"\narguments = []\nquestion = \"\"\n";
        for (text, says) in [
            (String::new(), "nothing to do"),
            ("[idle-latency]\nbodies = [0]\n".to_string(), "from 1 to"),
            ("[idle-latency]\nbodies = [64, 64]\n".to_string(), "twice"),
            ("[idle-latency]\nsizes = [64]\n".to_string(), "sizes"),
            ("[connections]\nopen = [8]\n".to_string(), "rate"),
            (
                format!("{idle}{experiment}stack = \"ix\"\nworkload = \"idle-latency\"\nat = 64\n"),
                "not in stacks",
            ),
            (
                format!(
                    "{idle}{experiment}stack = \"linux\"\nworkload = \"idle-latency\"\nat = 65\n"
                ),
                "no point 65",
            ),
        ] {
            let error = with(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
