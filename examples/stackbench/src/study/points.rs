//! The four workloads and what a server is asked at a point of one.
//!
//! In: a plan and a point of it; out: the server's arguments and the client's load, the same for every row. What a row
//! cannot do by its making is said here, so that it is not tried.

use super::plan::{Experiment, Plan};
use crate::load::Load;
use crate::measure::Job;
use crate::site::Stack;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One of the published study's workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Few connections, replies of growing length.
    LargeSend,
    /// One connection, small replies.
    IdleLatency,
    /// More and more connections.
    Connections,
    /// More and more threads of the server.
    Multicore,
}

impl Workload {
    /// All, in the order of tables.
    pub const ALL: [Workload; 4] = [
        Workload::LargeSend,
        Workload::IdleLatency,
        Workload::Connections,
        Workload::Multicore,
    ];

    /// What plans and files call it.
    pub fn name(self) -> &'static str {
        match self {
            Workload::LargeSend => "large-send",
            Workload::IdleLatency => "idle-latency",
            Workload::Connections => "connections",
            Workload::Multicore => "multicore",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Workload::LargeSend => "Large send",
            Workload::IdleLatency => "Idle latency",
            Workload::Connections => "Connection scalability",
            Workload::Multicore => "Multicore",
        }
    }
}

/// Length of replies where it is not what is swept.
const SMALL: u32 = 64;
/// What the demikernel row takes at most.
const DEMIKERNEL: u32 = 4_096;
/// A reply of 8 MiB from a slow row, or one of ten thousand, takes its time.
const PATIENCE: Duration = Duration::from_secs(15);

/// One workload at one value of what it sweeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Point {
    /// Which workload.
    pub workload: Workload,
    /// Bytes of the reply's body, connections, or the server's threads.
    pub at: u32,
    /// Requests per second of an open loop; `None`: a closed one.
    pub rate: Option<u32>,
}

impl Point {
    /// `large-send at 1 MiB`.
    pub fn words(self) -> String {
        let rate = self
            .rate
            .map_or(String::new(), |rate| format!(", {rate}/s"));
        format!("{} at {}{rate}", self.workload.name(), self.quantity())
    }

    /// The swept quantity for people.
    pub fn quantity(self) -> String {
        match self.workload {
            Workload::LargeSend | Workload::IdleLatency => bytes(self.at),
            Workload::Connections => format!("{} connections", self.at),
            Workload::Multicore if self.at == 1 => "1 thread".to_string(),
            Workload::Multicore => format!("{} threads", self.at),
        }
    }

    /// Part of a file's name.
    pub fn file(self) -> String {
        let open = if self.rate.is_some() { "-open" } else { "" };
        format!("{}{open}-{}", self.workload.name(), self.at)
    }

    /// What this row is asked here, apart from a recording.
    pub fn job(self, plan: &Plan, stack: Stack, experiment: Option<&Experiment>) -> Job {
        let connections = |bodies: &Option<super::plan::Bodies>| {
            bodies.as_ref().map_or(1, |bodies| bodies.connections)
        };
        let (body, connections) = match self.workload {
            Workload::LargeSend => (self.at, connections(&plan.large_send)),
            Workload::IdleLatency => (self.at, connections(&plan.idle_latency)),
            Workload::Connections => (SMALL, self.at),
            Workload::Multicore => {
                let sweep = plan.multicore.as_ref();
                (SMALL, sweep.map_or(1, |sweep| sweep.connections))
            }
        };
        let mut arguments = vec!["--body".to_string(), body.to_string()];
        if self.workload == Workload::Multicore {
            arguments.extend(["--threads".to_string(), self.at.to_string()]);
        }
        arguments.extend(room(stack, connections));
        let mut name = self.file();
        if let Some(experiment) = experiment {
            arguments.extend(experiment.arguments.iter().cloned());
            name.push('-');
            name.push_str(&experiment.name);
        }
        Job {
            name,
            arguments,
            load: Load {
                rate: self.rate,
                body: Some(body as usize),
                warmup: Duration::from_secs_f64(plan.warmup),
                timeout: PATIENCE,
                ..Load::closed(connections, plan.time())
            },
            faults: None,
            in_bytes: self.workload == Workload::LargeSend,
            beyond: None,
            recording: None,
        }
    }

    /// Why this row cannot do it and is not asked.
    pub fn impossible(self, stack: Stack) -> Option<&'static str> {
        let one_thread = matches!(stack, Stack::Demikernel | Stack::Smoltcp | Stack::Lwip);
        match self.workload {
            Workload::Multicore if self.at > 1 && one_thread => {
                Some("the stack runs in one thread")
            }
            Workload::Connections if stack == Stack::Demikernel && self.at > DEMIKERNEL => Some(
                "--demikernel-connections is at most 4096: all tokens are scanned in every round",
            ),
            _ => None,
        }
    }

    /// How many CPUs the server's threads want. mTCP's two threads share one, as published; TAS has a thread for setting
    /// connections up, one for the fast path and one for the application, for each further core two more.
    pub fn cpus(self, stack: Stack) -> usize {
        let threads = match self.workload {
            Workload::Multicore => self.at as usize,
            _ => 1,
        };
        match stack {
            Stack::Tas => 1 + 2 * threads,
            _ => threads,
        }
    }
}

/// Options without which a row would not take so many connections, and which its authors provide for.
fn room(stack: Stack, connections: u32) -> Vec<String> {
    let with = |option: &str, room: u32| vec![option.to_string(), room.to_string()];
    match stack {
        // 10,000 streams are mTCP's default.
        Stack::Mtcp if connections > 9_000 => with("--mtcp-max-streams", connections + 2_000),
        Stack::Demikernel if connections > 240 => {
            with("--demikernel-connections", DEMIKERNEL.min(connections + 16))
        }
        _ => Vec::new(),
    }
}

/// `64 B`, `128 KiB`.
pub fn bytes(count: u32) -> String {
    match count {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row is asked the same at a point, in its own words where it needs room.
    #[test]
    fn same_load_for_all() {
        let plan = Plan::reduced().unwrap();
        for point in plan.points() {
            for stack in Stack::ALL {
                let (own, linux) = (
                    point.job(&plan, stack, None),
                    point.job(&plan, Stack::Linux, None),
                );
                assert!(own.arguments.starts_with(&linux.arguments), "{own:?}");
                assert_eq!(own.load.connections, linux.load.connections);
                assert_eq!(own.load.body, linux.load.body);
                assert_eq!(own.name, linux.name);
            }
        }
    }

    /// Only rows of one thread are left out, and only where more are asked for.
    #[test]
    fn rows_of_one_thread() {
        let point = |at| Point {
            workload: Workload::Multicore,
            at,
            rate: None,
        };
        let out = |at| {
            Stack::ALL
                .iter()
                .filter(|s| point(at).impossible(**s).is_some())
                .count()
        };
        assert_eq!((out(1), out(2)), (0, 3));
        assert_eq!(bytes(1536), "1536 B");
        assert_eq!(bytes(8 << 20), "8 MiB");
    }
}
