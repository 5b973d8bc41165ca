//! Load from `loadgen`, and what it measured.

use crate::Failure;
use crate::programs::Programs;
use crate::site::{SERVER, Site};
use crate::stop::Stop;
use serde::Deserialize;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It did not start.
    #[error("cannot start loadgen: {0}")]
    Start(std::io::Error),
    /// It failed.
    #[error("loadgen failed; its own message is above")]
    Failed,
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
    /// Requests per second of an open loop; `None`: a closed one.
    pub rate: Option<u32>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Figures {
    /// Replies.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Replies per second.
    pub requests_per_second: f64,
    /// Time to the reply.
    pub latency_ns: Latency,
}

/// Percentiles in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Latency {
    /// Half of the replies came within it.
    pub p50: u64,
    /// All but one in a hundred.
    pub p99: u64,
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
        command.arg(format!("http://{SERVER}/"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(LoadError::Start)?;
        let status = loop {
            if let Err(interrupted) = stop.check() {
                // The lab would end it as well.
                let _ = child.kill();
                let _ = child.wait();
                return Err(interrupted);
            }
            match child.try_wait().map_err(LoadError::Start)? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut text = String::new();
        if let Some(mut out) = child.stdout.take() {
            // Its output is a few hundred bytes, which the pipe holds.
            out.read_to_string(&mut text).map_err(LoadError::Start)?;
        }
        if !status.success() {
            Err(LoadError::Failed)?;
        }
        Ok(serde_json::from_str(&text).map_err(|e| LoadError::Figures(e.to_string()))?)
    }
}
