//! One measurement: a server in a network of its own, one load, figures or the reason why there are none.
//!
//! In: a stack and a job; out: an [`Outcome`]. A server that does not start, refuses, or ends is an outcome, told in its
//! own words; only Ctrl-C and a failure of our own end the study.

use crate::Failure;
use crate::badlink;
use crate::cpus::Cpus;
use crate::load::{Figures, Load};
use crate::programs::Programs;
use crate::server::Server;
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use serde::{Deserialize, Serialize};
use stack_netio::Faults;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

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

/// What is asked of a server.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of its files, after the stack's.
    pub name: String,
    /// Arguments of the server.
    pub arguments: Vec<String>,
    /// What the client does.
    pub load: Load,
    /// What a bad link does to frames.
    pub faults: Option<Faults>,
    /// Of large bodies the first may be under way to the end.
    pub in_bytes: bool,
    /// Why this stack cannot be expected to do it, if it cannot.
    pub beyond: Option<&'static str>,
    /// The server runs under the recorder, which writes this.
    pub recording: Option<PathBuf>,
}

/// What came of a measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// Figures.
    Measured(Box<Measured>),
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
#[derive(Clone, Debug, Deserialize, Serialize)]
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

    /// Does a job once.
    pub fn run(&self, stack: Stack, job: &Job) -> Result<Outcome, Failure> {
        let site = match job.faults {
            Some(faults) => Site::behind(self.lab, stack, faults)?,
            None => Site::new(self.lab, stack)?,
        };
        let log = self.log(stack, &job.name);
        let command = match &job.recording {
            Some(file) => self.recorded(&site, &job.arguments, file, &log)?,
            None => self.command(&site, &self.programs.httpd, &job.arguments, &log)?,
        };
        let started = self
            .cpus
            .for_servers(|| Server::start(stack.name(), command, self.stop));
        let server = match started {
            Ok(server) => server,
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => {
                let words = last_words(&log).unwrap_or_else(|| failure.to_string());
                return Ok(Outcome::Absent { words });
            }
        };
        let seen = match job.recording {
            Some(_) => self.figures(&site, job.load).map(|figures| (figures, None)),
            None => self.load(&server, &site, job.load),
        };
        let ended = server.end();
        let link = site.end();
        self.stop.check()?;
        let (figures, work_ns) = match seen {
            Ok(seen) => seen,
            Err(failure) => return Ok(refusal(job, &failure, &log)),
        };
        if let Err(failure) = ended {
            let said = last_words(&log).unwrap_or_default();
            let words = format!("{failure}; {said}");
            return Ok(Outcome::Failed { words });
        }
        // Of large bodies the first may be under way to the end.
        let under_way = job.in_bytes && figures.bytes_per_second > 0.0;
        if figures.requests == 0 && !under_way {
            let words = format!(
                "not one reply: {} errors, {} timeouts",
                figures.errors, figures.timeouts
            );
            return Ok(match job.beyond {
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
        Ok(Outcome::Measured(Box::new(Measured {
            figures,
            work_ns,
            link,
        })))
    }

    /// Puts a load on a server; the figures, and the server's work for each request.
    pub fn load(
        &self,
        server: &Server,
        site: &Site,
        load: Load,
    ) -> Result<(Figures, Option<f64>), Failure> {
        let before = server.totals(self.stop)?;
        let figures = self.figures(site, load)?;
        let after = server.totals(self.stop)?;
        Ok((figures, after.work_since(before)))
    }

    fn figures(&self, site: &Site, load: Load) -> Result<Figures, Failure> {
        let run = || load.run(self.programs, site, self.stop);
        self.cpus.for_client(run)
    }

    /// The command of a server under the recorder, which has the client's CPUs.
    fn recorded(
        &self,
        site: &Site,
        arguments: &[String],
        file: &Path,
        log: &Path,
    ) -> Result<std::process::Command, Failure> {
        let mut command = site.server.command(&self.programs.bypassprof);
        command.args(["record", "--housekeeping-cpus", &self.cpus.client_list()]);
        command.arg("-o").arg(file).arg("--");
        command.arg(&self.programs.httpd);
        command.args(site.httpd_arguments()).args(arguments);
        command.stderr(Stdio::from(create(log)?));
        Ok(command)
    }

    fn log(&self, stack: Stack, what: &str) -> PathBuf {
        self.out.join(format!("{}-{what}.log", stack.name()))
    }
}

fn refusal(job: &Job, failure: &Failure, log: &Path) -> Outcome {
    let said = last_words(log).map_or(String::new(), |said| format!("; the server said: {said}"));
    match job.beyond {
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
