//! What was measured, as numbers, JSON and text.

use crate::Load;
use crate::company::CompanyReport;
use crate::worker::Measured;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;

/// Name and version of the JSON answer.
pub const SCHEMA: &str = "bypassprof.loadgen/1";

/// Where the distribution is told: the middle evenly, its upper end nine by nine.
const QUANTILES: [f64; 20] = [
    0.0, 0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99,
    0.995, 0.999, 0.9999,
];

/// Latency of whole and correct replies.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LatencyNs {
    /// Shortest.
    pub min: u64,
    /// Mean.
    pub mean: u64,
    /// Half of the replies took no longer.
    pub p50: u64,
    /// 90 % of the replies took no longer.
    pub p90: u64,
    /// 99 % of the replies took no longer.
    pub p99: u64,
    /// 99.9 % of the replies took no longer.
    pub p999: u64,
    /// Longest.
    pub max: u64,
    /// The whole distribution: of how large a part of the replies none took longer than how many nanoseconds.
    pub distribution: Vec<(f64, u64)>,
}

/// What a load came to; warm-up left out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// `closed` or `open`.
    pub mode: &'static str,
    /// Connections.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// Whole and correct replies.
    pub requests: u64,
    /// Replies that were wrong, connections that broke or could not be made.
    pub errors: u64,
    /// Of the errors, replies that were wrong: another length or digest, not HTTP, unasked.
    pub wrong: u64,
    /// Replies that did not come in time.
    pub timeouts: u64,
    /// Open loop: requests whose time came and that no connection was free to send.
    pub unsent: u64,
    /// How long was measured.
    pub seconds: f64,
    /// Whole and correct replies per second.
    pub requests_per_second: f64,
    /// Bytes received per second, headers included.
    pub bytes_per_second: f64,
    /// Latency, in the open loop from the intended send time.
    pub latency_ns: LatencyNs,
    /// Connections beside the load's, where there were any.
    pub company: Option<CompanyReport>,
}

impl Report {
    pub(crate) fn new(
        load: &Load,
        measured: Vec<Measured>,
        company: Option<CompanyReport>,
    ) -> Report {
        let mut latency: Option<Histogram<u64>> = None;
        let (mut errors, mut wrong, mut timeouts, mut unsent, mut bytes) = (0, 0, 0, 0, 0u64);
        let mut seconds = 0.0f64;
        for part in measured {
            errors += part.errors;
            wrong += part.wrong;
            timeouts += part.timeouts;
            unsent += part.unsent;
            bytes += part.bytes;
            seconds = seconds.max(part.seconds);
            match &mut latency {
                // All threads' histograms have the same bounds, so that adding them cannot fail.
                Some(sum) => drop(sum.add(&part.latency)),
                None => latency = Some(part.latency),
            }
        }
        let latency_ns = |l: &Histogram<u64>| LatencyNs {
            min: l.min(),
            mean: l.mean().round() as u64,
            p50: l.value_at_quantile(0.5),
            p90: l.value_at_quantile(0.9),
            p99: l.value_at_quantile(0.99),
            p999: l.value_at_quantile(0.999),
            max: l.max(),
            distribution: QUANTILES
                .iter()
                .map(|&q| (q, l.value_at_quantile(q)))
                .collect(),
        };
        let requests = latency.as_ref().map_or(0, Histogram::len);
        let per_second = |n: u64| {
            if seconds > 0.0 {
                n as f64 / seconds
            } else {
                0.0
            }
        };
        Report {
            schema: SCHEMA,
            mode: if load.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            connections: load.connections,
            threads: load.threads,
            requests,
            errors,
            wrong,
            timeouts,
            unsent,
            seconds,
            requests_per_second: per_second(requests),
            bytes_per_second: per_second(bytes),
            latency_ns: latency.as_ref().map(latency_ns).unwrap_or_default(),
            company,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| ns as f64 / 1e3;
        let l = &self.latency_ns;
        writeln!(
            f,
            "{} loop, {} connections, {} threads, {:.2} s",
            self.mode, self.connections, self.threads, self.seconds
        )?;
        writeln!(
            f,
            "requests  {} ({:.0}/s), {:.1} MB/s",
            self.requests,
            self.requests_per_second,
            self.bytes_per_second / 1e6
        )?;
        writeln!(
            f,
            "failed    {} errors ({} wrong replies), {} timeouts, {} unsent",
            self.errors, self.wrong, self.timeouts, self.unsent
        )?;
        if let Some(c) = &self.company {
            writeln!(
                f,
                "beside    idle {} of {} served again, slow {} of {} served, half-closed {} served, {} failed",
                c.idle_served_again,
                c.idle,
                c.slow_served,
                c.slow,
                c.half_closed_served,
                c.half_closed_failed
            )?;
            if let Some(failure) = &c.first_failure {
                writeln!(f, "          first failure: {failure}")?;
            }
        }
        write!(
            f,
            "latency   p50 {:.1} us, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
            us(l.p50),
            us(l.p90),
            us(l.p99),
            us(l.p999),
            us(l.max)
        )
    }
}
