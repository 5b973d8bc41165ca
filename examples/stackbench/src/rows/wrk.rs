//! `wrk` against every row, as the published study used it.
//!
//! In: a stack and a number of connections; out: `wrk`'s own figures, read from its report, or its own words.

use crate::Failure;
use crate::measure::Bench;
use crate::server::Server;
use crate::site::{SERVER, Site, Stack};
use serde::Serialize;
use std::process::{Command, Stdio};

/// Connections of its runs.
pub const CONNECTIONS: [u32; 3] = [1, 64, 1000];

/// What wrk saw.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Which row.
    pub stack: Stack,
    /// Connections.
    pub connections: u32,
    /// Requests per second.
    pub rate: Option<f64>,
    /// The middle latency, as wrk prints it.
    pub p50: Option<String>,
    /// Its line of socket errors, if it printed one, or why there is nothing.
    pub errors: Option<String>,
}

/// Whether it is installed.
pub fn installed() -> bool {
    let mut command = Command::new("wrk");
    command.arg("--version").stdout(Stdio::null());
    command.stderr(Stdio::null()).status().is_ok()
}

/// Runs it once: two threads, or one where there is one connection only, which is all that wrk takes then.
pub fn run(bench: &Bench, stack: Stack, connections: u32, seconds: u64) -> Result<Seen, Failure> {
    let site = Site::new(bench.lab, stack)?;
    let log = bench.out.join(format!("{}-wrk.log", stack.name()));
    let mut seen = Seen {
        stack,
        connections,
        rate: None,
        p50: None,
        errors: None,
    };
    let command = bench.command(&site, &bench.programs.httpd, &[], &log)?;
    let server = match Server::start(stack.name(), command, bench.stop) {
        Ok(server) => server,
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => {
            seen.errors = Some(crate::measure::last_words(&log).unwrap_or(failure.to_string()));
            return Ok(seen);
        }
    };
    let mut command = site.client.command("wrk");
    command.arg(format!("-t{}", connections.min(2)));
    command.arg(format!("-c{connections}"));
    command.arg(format!("-d{seconds}"));
    command.arg("--latency").arg(format!("http://{SERVER}/"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = bench.cpus.for_client(|| command.spawn());
    let child = child.map_err(|e| Failure::Wrong(format!("cannot start wrk: {e}")))?;
    let output = bench.stop.output(child)?;
    server.end()?;
    read(&String::from_utf8_lossy(&output), &mut seen);
    Ok(seen)
}

/// Takes the figures out of a report.
fn read(report: &str, seen: &mut Seen) {
    for line in report.lines().map(str::trim) {
        if let Some(rate) = line.strip_prefix("Requests/sec:") {
            seen.rate = rate.trim().parse().ok();
        } else if let Some(p50) = line.strip_prefix("50%") {
            seen.p50 = Some(p50.trim().to_string());
        } else if line.starts_with("Socket errors:") || line.starts_with("Non-2xx") {
            seen.errors = Some(line.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of a report as wrk prints it.
    #[test]
    fn reports_are_read() {
        let report = "Running 10s test @ http://10.123.0.2:8080/\n  Latency Distribution\n     50%    1.21ms\n     \
                      75%    1.30ms\n  10 requests in 10.00s, 1.00KB read\n  Socket errors: connect 0, read 3, write 0, \
                      timeout 1\nRequests/sec:  52345.67\nTransfer/sec:      7.49MB\n";
        let mut seen = Seen {
            stack: Stack::Linux,
            connections: 64,
            rate: None,
            p50: None,
            errors: None,
        };
        read(report, &mut seen);
        assert_eq!(seen.rate, Some(52_345.67));
        assert_eq!(seen.p50.as_deref(), Some("1.21ms"));
        assert!(seen.errors.unwrap().contains("timeout 1"));
    }
}
