//! A server process, alone or under the recorder: started, waited for, asked for its totals, ended.
//!
//! In: a command in a namespace; out: a server that serves. Ended with SIGINT, so that a recorder around it closes its
//! recording; killed only if that does not help.

use crate::Failure;
use crate::stop::Stop;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program did not start.
    #[error("cannot start {what}: {source}")]
    Start {
        /// Which.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended or said nothing.
    #[error("{what} did not get ready: {why}")]
    NotReady {
        /// Which.
        what: String,
        /// How.
        why: String,
    },
    /// It ended badly.
    #[error("{what} ended with {status}")]
    Ended {
        /// Which.
        what: String,
        /// How.
        status: ExitStatus,
    },
    /// It gave no totals.
    #[error("the server gave no totals: {0}")]
    NoTotals(String),
}

/// What a server did since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Time in rounds that did something; CPU time for a server that sleeps.
    pub working_ns: u64,
    /// CPU time of the process.
    pub cpu_ns: u64,
}

impl Totals {
    /// ns of work for each request since earlier totals, if there was one.
    pub fn work_since(self, before: Totals) -> Option<f64> {
        let requests = self.requests.checked_sub(before.requests)?;
        let ns = self.working_ns.checked_sub(before.working_ns)?;
        (requests > 0).then(|| ns as f64 / requests as f64)
    }
}

/// A server that serves.
pub struct Server {
    what: String,
    child: Child,
    lines: Receiver<String>,
}

const READY_WITHIN: Duration = Duration::from_secs(20);
const ENDS_WITHIN: Duration = Duration::from_secs(20);

impl Server {
    /// Starts `command` and waits for its `ready` line.
    pub fn start(what: &str, mut command: Command, stop: &Stop) -> Result<Server, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|source| ServerError::Start {
            what: what.to_string(),
            source,
        })?;
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(out).lines().map_while(Result::ok);
                // Once nobody listens any more, what the server says is read and forgotten.
                lines.for_each(|line| drop(sender.send(line)));
            });
        }
        let server = Server {
            what: what.to_string(),
            child,
            lines,
        };
        server.line("ready ", READY_WITHIN, stop)?;
        Ok(server)
    }

    /// The process that was started: the server or the recorder around it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins with `start`; what follows it.
    fn line(&self, start: &str, within: Duration, stop: &Stop) -> Result<String, Failure> {
        let not_ready = |why: &str| ServerError::NotReady {
            what: self.what.clone(),
            why: why.to_string(),
        };
        let end = Instant::now() + within;
        loop {
            stop.check()?;
            match self.lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(start) {
                        return Ok(rest.to_string());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    Err(not_ready("it ended; its own message is above"))?
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > end => {
                    Err(not_ready("it said nothing in time"))?
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Asks the server itself (not a recorder around it) for its totals.
    pub fn totals(&self, stop: &Stop) -> Result<Totals, Failure> {
        signal(&self.child, Signal::USR1);
        let line = self.line("totals ", Duration::from_secs(5), stop)?;
        let totals = serde_json::from_str(&line);
        Ok(totals.map_err(|e| ServerError::NoTotals(format!("{e} in {line}")))?)
    }

    /// Asks it to end and waits until it has.
    pub fn end(mut self) -> Result<(), Failure> {
        let status = self.interrupt();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(ServerError::Ended {
                what: self.what.clone(),
                status,
            })?,
            None => Err(Failure::Wrong(format!(
                "{} did not end when asked",
                self.what
            ))),
        }
    }

    fn interrupt(&mut self) -> Option<ExitStatus> {
        signal(&self.child, Signal::INT);
        let end = Instant::now() + ENDS_WITHIN;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && self.interrupt().is_none()
        {
            // Nothing else is left to try.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal to a child that has not been waited for, so that its number is still its own.
pub fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}
