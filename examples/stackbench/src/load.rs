//! Load from `loadgen`, and what it measured.

use crate::Failure;
use crate::programs::Programs;
use crate::site::{SERVER, Site};
use crate::stop::Stop;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Connecting and ending may take so long; what takes longer stands still, and no study waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It did not start.
    #[error("cannot start loadgen: {0}")]
    Start(std::io::Error),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// Its output is not what was expected.
    #[error("loadgen's figures cannot be read: {0}")]
    Figures(String),
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections.
    pub connections: u32,
    /// For how long.
    pub time: Duration,
    /// Load before that, which is not measured.
    pub warmup: Duration,
    /// Requests per second of an open loop; `None`: a closed one.
    pub rate: Option<u32>,
    /// Every body must have this length.
    pub body: Option<usize>,
    /// The digest of so many letters `a` is compared, which costs the client time.
    pub digest: bool,
    /// Threads of the client.
    pub threads: usize,
    /// One request a connection.
    pub close: bool,
    /// A reply that takes longer is given up.
    pub timeout: Duration,
    /// Connections beside these: idle, reading slowly, half-closed.
    pub beside: [u32; 3],
}

impl Load {
    /// A closed loop of small requests.
    pub fn closed(connections: u32, time: Duration) -> Load {
        Load {
            connections,
            time,
            warmup: Duration::ZERO,
            rate: None,
            body: None,
            digest: false,
            threads: 1,
            close: false,
            timeout: Duration::from_secs(2),
            beside: [0; 3],
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Figures {
    /// Replies.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Of these, replies that were wrong.
    pub wrong: u64,
    /// Replies that did not come in time.
    pub timeouts: u64,
    /// Open loop: requests that no connection was free to send.
    #[serde(default)]
    pub unsent: u64,
    /// Replies per second.
    pub requests_per_second: f64,
    /// Bytes received per second.
    pub bytes_per_second: f64,
    /// Time to the reply.
    pub latency_ns: Latency,
    /// How connections beside the load fared.
    pub company: Option<Company>,
}

/// Connections beside a load; `loadgen`'s documentation says what each kind does.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Company {
    /// Idle ones that were served once.
    pub idle: u64,
    /// Of these, served once more at the end.
    pub idle_served_again: u64,
    /// Slow readers.
    pub slow: u64,
    /// Of these, given bytes to the end.
    pub slow_served: u64,
    /// Bytes that they read.
    pub slow_bytes: u64,
    /// Half-closed ones that got all.
    pub half_closed_served: u64,
    /// Half-closed ones that did not.
    pub half_closed_failed: u64,
    /// What the first that failed met.
    pub first_failure: Option<String>,
}

/// Percentiles in nanoseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Latency {
    /// Half of the replies came within it.
    pub p50: u64,
    /// All but one in a hundred.
    pub p99: u64,
    /// All but one in a thousand.
    #[serde(default)]
    pub p999: u64,
    /// Of how large a part of the replies none took longer than how many nanoseconds.
    #[serde(default)]
    pub distribution: Vec<(f64, u64)>,
}

impl Load {
    /// Puts the load on the site's server.
    pub fn run(&self, programs: &Programs, site: &Site, stop: &Stop) -> Result<Figures, Failure> {
        let mut command = site.client.command(&programs.loadgen);
        command.args(["--json", "--connections", &self.connections.to_string()]);
        command.args(["--duration", &self.time.as_secs_f64().to_string()]);
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(body) = self.body {
            command.args(["--body", &body.to_string()]);
            if self.digest {
                let digest = Sha256::digest(vec![b'a'; body]);
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                command.args(["--digest", &digest]);
            }
        }
        command.args(["--threads", &self.threads.to_string()]);
        if self.close {
            command.arg("--close");
        }
        for (option, number) in ["--idle", "--slow", "--half-closed"]
            .iter()
            .zip(self.beside)
        {
            command.args([option, number.to_string().as_str()]);
        }
        for (option, time) in [("--timeout", self.timeout), ("--warmup", self.warmup)] {
            command.args([option, time.as_secs_f64().to_string().as_str()]);
        }
        command.arg(format!("http://{SERVER}/"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(LoadError::Start)?;
        let patience = self.warmup + self.time + PATIENCE;
        let end = Instant::now() + patience;
        let status = loop {
            let late = (Instant::now() > end).then(|| {
                let s = patience.as_secs();
                LoadError::Failed(format!("loadgen did not connect and measure within {s} s"))
            });
            if let Some(failure) = stop.check().err().or(late.map(Failure::from)) {
                // The lab would end it as well.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failure);
            }
            match child.try_wait().map_err(LoadError::Start)? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        // Its output is a few hundred bytes, which the pipes hold.
        let (mut text, mut words) = (String::new(), String::new());
        if let Some(mut out) = child.stdout.take() {
            out.read_to_string(&mut text).map_err(LoadError::Start)?;
        }
        if let Some(mut err) = child.stderr.take() {
            err.read_to_string(&mut words).map_err(LoadError::Start)?;
        }
        // A load of which nothing succeeded has figures all the same.
        if text.is_empty() {
            let words = words.trim();
            Err(LoadError::Failed(match words.is_empty() {
                true => format!("loadgen ended with {status}"),
                false => words.to_string(),
            }))?;
        }
        Ok(serde_json::from_str(&text).map_err(|e| LoadError::Figures(e.to_string()))?)
    }
}
