//! The cases: what every server is asked to do.
//!
//! In: a case; out: how long replies are, which load, over which link. Limits that a stack's authors published or that
//! its row has are said where a case goes beyond them.

use crate::load::Load;
use crate::measure::Job;
use crate::site::Stack;
use serde::Serialize;
use stack_netio::{Chance, Faults};
use std::time::Duration;

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// 1 connection, 64 B
    One,
    /// 64 connections, 64 B
    Many,
    /// 1000 connections, 64 B
    Thousand,
    /// 4 connections, 128 KiB, every body's digest compared
    Body128k,
    /// 4 connections, 1 MiB, every body's digest compared
    Body1m,
    /// 64 connections beside 10,000 idle ones
    Idle,
    /// 16 connections of one request each, again and again
    Churn,
    /// 16 connections, 64 KiB, beside 16 readers of 1 KiB/s and 16 half-closed ones
    Slow,
    /// 64 connections, 64 B, over a bad link
    Bad,
    /// 4 connections, 1 MiB, over a bad link
    BadBody1m,
}

/// Idle connections.
pub const IDLE: u32 = 10_000;
/// Slow readers, and half-closed connections.
pub const BESIDE: u32 = 16;

impl Case {
    /// All, in the order of tables.
    pub const ALL: [Case; 10] = [
        Case::One,
        Case::Many,
        Case::Thousand,
        Case::Body128k,
        Case::Body1m,
        Case::Idle,
        Case::Churn,
        Case::Slow,
        Case::Bad,
        Case::BadBody1m,
    ];

    /// What the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Case::One => "one",
            Case::Many => "many",
            Case::Thousand => "thousand",
            Case::Body128k => "body128k",
            Case::Body1m => "body1m",
            Case::Idle => "idle",
            Case::Churn => "churn",
            Case::Slow => "slow",
            Case::Bad => "bad",
            Case::BadBody1m => "bad-body1m",
        }
    }

    /// Bytes of every reply's body.
    pub fn body(self) -> usize {
        match self {
            Case::Body128k => 128 << 10,
            Case::Body1m | Case::BadBody1m => 1 << 20,
            Case::Slow => 64 << 10,
            _ => 64,
        }
    }

    /// Whether throughput is told in bytes.
    pub fn in_bytes(self) -> bool {
        matches!(self, Case::Body128k | Case::Body1m | Case::BadBody1m)
    }

    /// The load, for a measurement of so long.
    pub fn load(self, time: Duration) -> Load {
        let connections = match self {
            Case::One => 1,
            Case::Many | Case::Idle | Case::Bad => 64,
            Case::Thousand => 1000,
            Case::Body128k | Case::Body1m | Case::BadBody1m => 4,
            Case::Churn | Case::Slow => 16,
        };
        let plain = Load {
            body: Some(self.body()),
            digest: true,
            warmup: time / 4,
            ..Load::closed(connections, time)
        };
        match self {
            Case::Idle => Load {
                beside: [IDLE, 0, 0],
                timeout: PATIENCE,
                ..plain
            },
            Case::Churn => Load {
                close: true,
                ..plain
            },
            Case::Slow => Load {
                beside: [0, BESIDE, BESIDE],
                timeout: PATIENCE,
                ..plain
            },
            Case::Bad => Load {
                timeout: PATIENCE,
                ..plain
            },
            // A timer that has run twice is half of a short measurement.
            Case::BadBody1m => Load {
                timeout: PATIENCE,
                time: time * 3,
                ..plain
            },
            _ => plain,
        }
    }

    /// All of it as a job for this stack.
    pub fn job(self, stack: Stack, time: Duration, seed: u64) -> Job {
        let mut arguments = vec!["--body".to_string(), self.body().to_string()];
        arguments.extend(self.options(stack).iter().map(|word| (*word).to_string()));
        Job {
            name: self.name().to_string(),
            arguments,
            load: self.load(time),
            faults: self.faults(seed),
            in_bytes: self.in_bytes(),
            beyond: self.beyond(stack),
            recording: None,
        }
    }

    /// What is done to frames on the way, in both directions; the same chances for every stack.
    pub fn faults(self, seed: u64) -> Option<Faults> {
        let faults = Faults {
            loss: Chance::per_million(10_000),
            reorder: Chance::per_million(10_000),
            corrupt: Chance::per_million(1_000),
            seed,
            ..Faults::default()
        };
        matches!(self, Case::Bad | Case::BadBody1m).then_some(faults)
    }

    /// Options of a stack without which it would not do it, and which its authors provide for.
    pub fn options(self, stack: Stack) -> &'static [&'static str] {
        match (self, stack) {
            // 10,000 streams are mTCP's default, idle ones included.
            (Case::Idle, Stack::Mtcp) => &["--mtcp-max-streams", "12000"],
            _ => &[],
        }
    }

    /// Why this stack cannot be expected to do it, if it cannot.
    pub fn beyond(self, stack: Stack) -> Option<&'static str> {
        let connections =
            self.load(Duration::ZERO).connections + self.load(Duration::ZERO).beside[0];
        (stack == Stack::Demikernel && connections > 256).then_some(
            "Demikernel's published servers scan all tokens in every round; the row has `--demikernel-connections 256`: \
             \"most connections; the next one is reset\"",
        )
    }
}

/// A reply over a bad link, or from a busy server, may take several timeouts.
const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    /// Cases have the names that the command line knows, and only Demikernel has cases beyond it.
    #[test]
    fn names_and_limits() {
        for case in Case::ALL {
            let named = case.to_possible_value().unwrap();
            assert_eq!(named.get_name(), case.name());
            for stack in Stack::ALL {
                let beyond =
                    stack == Stack::Demikernel && matches!(case, Case::Thousand | Case::Idle);
                assert_eq!(case.beyond(stack).is_some(), beyond, "{case:?} {stack:?}");
            }
        }
    }

    /// Every row meets the same chances on a bad link, other ones in each repetition.
    #[test]
    fn only_bad_links_have_faults() {
        for case in Case::ALL {
            let bad = matches!(case, Case::Bad | Case::BadBody1m);
            assert_eq!(case.faults(1).is_some(), bad);
        }
        assert_ne!(Case::Bad.faults(1), Case::Bad.faults(2));
        let text = "packet:x,loss=1%,reorder=1%,corrupt=0.1%,seed=3".parse();
        let spec: stack_netio::DeviceSpec = text.unwrap();
        assert_eq!(Case::Bad.faults(3), Some(spec.faults));
    }
}
