//! One measurement: a server in a network of its own, one case, figures or the reason why there are none.
//!
//! In: a stack and a case; out: an [`Outcome`]. A server that does not start, refuses, or ends is an outcome, told in its
//! own words; only Ctrl-C and a failure of our own end the study.

use super::case::Case;
use crate::Failure;
use crate::badlink;
use crate::cpus::Cpus;
use crate::load::{Figures, Load};
use crate::programs::Programs;
use crate::server::{Server, Totals};
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// What a study needs to run servers.
pub struct Bench<'a> {
    /// The right to make networks.
    pub lab: &'a Lab,
    /// What is run.
    pub programs: &'a Programs,
    /// Ctrl-C.
    pub stop: &'a Stop,
    /// Where things run.
    pub cpus: Cpus,
    /// Where logs and recordings go.
    pub out: &'a Path,
}

/// What came of a measurement.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// Figures.
    Measured(Measured),
    /// The row is not there.
    Absent {
        /// In its own words.
        words: String,
    },
    /// The server did not take the case on.
    Refused {
        /// In its own words, and the client's.
        words: String,
    },
    /// It should have and did not.
    Failed {
        /// What was seen.
        words: String,
    },
}

/// Figures of one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The client's.
    pub figures: Figures,
    /// Time of rounds that did something for each request, in ns, by the server's own account; for the kernel's stack and
    /// mTCP, whose threads sleep, CPU time of the process.
    pub work_ns: Option<f64>,
    /// Frames that a bad link lost, kept back, falsified, and could not take because it was full.
    pub link: Option<[u64; 4]>,
}

impl Bench<'_> {
    /// The command of a server at a site, its words into a log.
    pub fn command(
        &self,
        site: &Site,
        httpd: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Result<std::process::Command, Failure> {
        let mut command = site.server.command(httpd);
        command.args(site.httpd_arguments()).args(arguments);
        command.stderr(Stdio::from(create(log)?));
        Ok(command)
    }

    /// Runs a case once.
    pub fn run(
        &self,
        stack: Stack,
        case: Case,
        time: Duration,
        seed: u64,
    ) -> Result<Outcome, Failure> {
        let site = match case.faults(seed) {
            Some(faults) => Site::behind(self.lab, stack, faults)?,
            None => Site::new(self.lab, stack)?,
        };
        let log = self.log(stack, case.name());
        let mut arguments = vec!["--body".to_string(), case.body().to_string()];
        arguments.extend(case.options(stack).iter().map(|word| (*word).to_string()));
        let command = self.command(&site, &self.programs.httpd, &arguments, &log)?;
        let server = match Server::start(stack.name(), command, self.stop) {
            Ok(server) => server,
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => {
                let words = last_words(&log).unwrap_or_else(|| failure.to_string());
                return Ok(Outcome::Absent { words });
            }
        };
        let load = case.load(time);
        let seen = self.load(&server, &site, load);
        let ended = server.end();
        let link = site.end();
        self.stop.check()?;
        let (figures, work_ns) = match seen {
            Ok(seen) => seen,
            Err(failure) => return Ok(refusal(stack, case, &failure, &log)),
        };
        if let Err(failure) = ended {
            let said = last_words(&log).unwrap_or_default();
            let words = format!("{failure}; {said}");
            return Ok(Outcome::Failed { words });
        }
        // Of large bodies the first may be under way to the end.
        let under_way = case.in_bytes() && figures.bytes_per_second > 0.0;
        if figures.requests == 0 && !under_way {
            let words = format!(
                "not one reply: {} errors, {} timeouts",
                figures.errors, figures.timeouts
            );
            return Ok(match case.beyond(stack) {
                Some(limit) => Outcome::Refused {
                    words: format!("{limit}; the client had {words}"),
                },
                None => Outcome::Failed { words },
            });
        }
        let link = link.map(|counts: badlink::Counts| {
            let both = [counts.to_server, counts.to_client];
            let sum = |f: fn(&stack_netio::FaultCounts) -> u64| both.iter().map(f).sum();
            [
                sum(|c| c.lost),
                sum(|c| c.reordered),
                sum(|c| c.corrupted),
                counts.overrun,
            ]
        });
        Ok(Outcome::Measured(Measured {
            figures,
            work_ns,
            link,
        }))
    }

    /// Puts a load on a server; the figures, and the server's work for each request.
    pub fn load(
        &self,
        server: &Server,
        site: &Site,
        load: Load,
    ) -> Result<(Figures, Option<f64>), Failure> {
        let before = server.totals(self.stop)?;
        let run = || load.run(self.programs, site, self.stop);
        let figures = self.cpus.on_last(run)?;
        let after = server.totals(self.stop)?;
        Ok((figures, work(before, after)))
    }

    fn log(&self, stack: Stack, what: &str) -> PathBuf {
        self.out.join(format!("{}-{what}.log", stack.name()))
    }
}

fn work(before: Totals, after: Totals) -> Option<f64> {
    let requests = after.requests.checked_sub(before.requests)?;
    let ns = after.working_ns.checked_sub(before.working_ns)?;
    (requests > 0).then(|| ns as f64 / requests as f64)
}

fn refusal(stack: Stack, case: Case, failure: &Failure, log: &Path) -> Outcome {
    let said = last_words(log).map_or(String::new(), |said| format!("; the server said: {said}"));
    match case.beyond(stack) {
        Some(limit) => Outcome::Refused {
            words: format!("{limit}; {failure}{said}"),
        },
        None => Outcome::Failed {
            words: format!("{failure}{said}"),
        },
    }
}

/// Makes a file for a server's words.
pub fn create(path: &Path) -> Result<fs::File, Failure> {
    fs::File::create(path).map_err(|source| Failure::Write {
        path: path.display().to_string(),
        source,
    })
}

/// The last line of a log that says something.
pub fn last_words(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().to_string())
}
