//! The options that leave parts of a recording out, the same for every command that analyses.
//!
//! In: words of the command line; out: a [`Filter`]. A word that cannot be meant is told with how to say it.

use super::Failure;
use crate::analyse::{Filter, Who};
use crate::trace::record::{Meta, Tid};
use crate::units::Nanos;
use bypassprof_wire::Flow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Options of every command that analyses.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only this part of the recording, from its start: 2s..5s, 500ms.., ..1.5, or 2s for the first two seconds
    #[arg(long, value_name = "FROM..TO", value_parser = window)]
    window: Option<(Nanos, Nanos)>,
    /// Only this thread: its number or its name, in which * stands for anything (may be repeated)
    #[arg(long = "thread", value_name = "NAME|TID", value_parser = who)]
    threads: Vec<Who>,
    /// Only what ran on this CPU (may be repeated)
    #[arg(long = "cpu", value_name = "N")]
    cpus: Vec<u32>,
    /// Only requests of this flow, and what threads did for them: as timelines print it, or both ends as ADDR:PORT-ADDR:PORT (may be repeated)
    #[arg(long = "flow", value_name = "HEX|ENDS", value_parser = flow)]
    flows: Vec<u32>,
}

impl FilterArgs {
    /// What passes.
    pub fn filter(&self) -> Filter {
        Filter {
            window: self.window,
            threads: self.threads.clone(),
            cpus: self.cpus.clone(),
            flows: self.flows.clone(),
            at_least: None,
        }
    }

    /// What passes of samples, which are not told apart by flow where nobody joins requests.
    pub fn of_samples(&self) -> Result<Filter, Failure> {
        if self.flows.is_empty() {
            return Ok(self.filter());
        }
        Err(
            Failure::wrong_use("--flow is about requests; what is exported are samples, of all requests")
                .hint("`report --flow` or `flamegraph --flow` for what threads did for the flow, or --thread with the thread that handles it"),
        )
    }

    /// What passes of each of several recordings, in which one connection has other labels.
    pub fn of_several(&self) -> Result<Filter, Failure> {
        if self.flows.is_empty() {
            return Ok(self.filter());
        }
        Err(
            Failure::wrong_use("--flow names a connection of one recording; another one has others")
                .hint("`bypassprof ledger --flow` or `explain FILE --flow` for each, or --thread with the thread that handles it"),
        )
    }
}

/// A share of requests as the user writes it: `1%`.
pub fn share(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim();
    let share: f64 = number.parse().map_err(|_| "should be like 1%".to_owned())?;
    if share > 0.0 && share <= 100.0 {
        Ok(share / 100.0)
    } else {
        Err("must be more than 0% and at most 100%".to_owned())
    }
}

/// What there is in a recording for filters to pick from.
pub struct There {
    file: String,
    threads: BTreeMap<Tid, String>,
    length: Option<Nanos>,
    cpus: u32,
}

impl There {
    /// From the records of low rate.
    pub fn of(path: &Path, metas: &[Meta]) -> There {
        let mut there = There {
            file: path.display().to_string(),
            threads: BTreeMap::new(),
            length: None,
            cpus: 0,
        };
        let mut started = Nanos::default();
        let mut named = Vec::new();
        for meta in metas {
            match meta {
                Meta::Session(session) => (started, there.cpus) = (session.started, session.cpus),
                Meta::Thread(t) => {
                    there.threads.entry(t.tid).or_default();
                    named.push((t.time, t.tid, t.name.as_str()));
                }
                Meta::Ring(r) => named.push((Nanos::from_ns(u64::MAX), r.tid, r.name.as_str())),
                Meta::End(end) => there.length = Some(end.time.since(started)),
                _ => {}
            }
        }
        named.sort_by_key(|n| n.0);
        for (_, tid, name) in named.into_iter().filter(|n| !n.2.is_empty()) {
            there.threads.insert(tid, name.to_owned());
        }
        there
    }

    /// Refuses what cannot leave anything.
    pub fn check(&self, filter: &Filter) -> Result<(), Failure> {
        if let (Some((from, _)), Some(length)) = (filter.window, self.length)
            && from >= length
        {
            return Err(self.nothing("--window begins after the end"));
        }
        let known = |(&tid, name): (&Tid, &String)| filter.has_thread(tid, name);
        if !self.threads.is_empty() && !self.threads.iter().any(known) {
            return Err(self.nothing("no thread has that number or name"));
        }
        Ok(())
    }

    /// Refuses an answer of which the filter left nothing.
    pub fn check_left(&self, filter: &Filter, something: bool) -> Result<(), Failure> {
        match filter.line() {
            Some(line) if !something => Err(self.nothing(&format!("nothing is left by {line}"))),
            _ => Ok(()),
        }
    }

    fn nothing(&self, why: &str) -> Failure {
        let mut threads: Vec<String> = (self.threads.iter())
            .map(|(tid, name)| format!("{name} {tid}"))
            .collect();
        if threads.len() > LISTED {
            let more = threads.len() - LISTED;
            threads.truncate(LISTED);
            threads.push(format!("and {more} more"));
        }
        let mut there = Vec::new();
        if let Some(length) = self.length {
            there.push(format!("times 0s..{}s", length.ns() as f64 / 1e9));
        }
        if self.cpus > 0 {
            there.push(format!("{} CPUs", self.cpus));
        }
        if !threads.is_empty() {
            there.push(format!("threads {}", threads.join(", ")));
        }
        Failure::failed(format!("{}: {why}", self.file))
            .hint(format!("something of what is there: {}", there.join("; ")))
    }
}

/// Threads that a refusal names.
const LISTED: usize = 12;

const TIMES: &str =
    "should be like 2s..5s, 500ms..1.5s, 2s.. or 2s (ns, us, ms, s; without a unit seconds)";

fn window(text: &str) -> Result<(Nanos, Nanos), String> {
    let (from, to) = text.split_once("..").unwrap_or(("", text));
    let time = |text: &str, open: u64| match text.trim() {
        "" => Ok(Nanos::from_ns(open)),
        text => length(text),
    };
    if from.trim().is_empty() && to.trim().is_empty() {
        return Err(TIMES.to_owned());
    }
    let (from, to) = (time(from, 0)?, time(to, u64::MAX)?);
    if from < to {
        Ok((from, to))
    } else {
        Err("ends before it begins".to_owned())
    }
}

fn length(text: &str) -> Result<Nanos, String> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("", 1e9)];
    let split = units
        .iter()
        .find_map(|&(unit, ns)| Some((text.strip_suffix(unit)?, ns)));
    let parsed = split.and_then(|(number, ns)| Some(number.trim().parse::<f64>().ok()? * ns));
    match parsed {
        Some(ns) if (0.0..1e18).contains(&ns) => Ok(Nanos::from_ns(ns.round() as u64)),
        _ => Err(TIMES.to_owned()),
    }
}

fn who(text: &str) -> Result<Who, String> {
    match text {
        "" => Err(
            "should be a thread's name or number; `bypassprof report --by thread` lists them"
                .to_owned(),
        ),
        text => Ok(Who::new(text)),
    }
}

fn flow(text: &str) -> Result<u32, String> {
    if let Some((a, b)) = text.split_once('-') {
        return ends(a, b);
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Err(
            "names one end; events carry a hash of both: ADDR:PORT-ADDR:PORT, in any order"
                .to_owned(),
        );
    }
    let digits = text.trim_start_matches("0x");
    u32::from_str_radix(digits, 16)
        .map_err(|_| "should be up to 8 hexadecimal digits, or ADDR:PORT-ADDR:PORT".to_owned())
}

fn ends(a: &str, b: &str) -> Result<u32, String> {
    let end = |text: &str| {
        let wrong = |_| format!("{text:?} should be like 10.0.0.1:8080 or [fe80::1]:8080");
        text.trim().parse::<SocketAddr>().map_err(wrong)
    };
    let (a, b) = (end(a)?, end(b)?);
    match (a.ip(), b.ip()) {
        (IpAddr::V4(x), IpAddr::V4(y)) => {
            Ok(Flow::ipv4(x.to_bits(), a.port(), y.to_bits(), b.port()).raw())
        }
        (IpAddr::V6(x), IpAddr::V6(y)) => {
            Ok(Flow::ipv6(x.to_bits(), a.port(), y.to_bits(), b.port()).raw())
        }
        _ => Err("one end is IPv4 and the other IPv6".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(from: u64, to: u64) -> Result<(Nanos, Nanos), String> {
        Ok((Nanos::from_ns(from), Nanos::from_ns(to)))
    }

    /// Times with and without units, open ends, and what is none.
    #[test]
    fn windows() {
        const S: u64 = 1_000_000_000;
        assert_eq!(window("2s..5s"), ns(2 * S, 5 * S));
        assert_eq!(window("0.5..2"), ns(S / 2, 2 * S));
        assert_eq!(window("500ms..1500000us"), ns(S / 2, 3 * S / 2));
        assert_eq!(window("3.."), ns(3 * S, u64::MAX));
        assert_eq!(window("..3s"), ns(0, 3 * S));
        assert_eq!(window("2s"), ns(0, 2 * S));
        for wrong in [
            "", "..", "x..2", "-1..2", "1..nan", "5s..2s", "1..1", "1m..2m",
        ] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }

    /// A flow by its hash, or by both of its ends in any order.
    #[test]
    fn flows() {
        assert_eq!(flow("0xbeef"), Ok(0xbeef));
        let hash = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000).raw();
        assert_eq!(flow("10.123.0.1:40000-10.123.0.2:8080"), Ok(hash));
        assert_eq!(flow("10.123.0.2:8080-10.123.0.1:40000"), Ok(hash));
        assert!(flow("[::1]:80-[::2]:4000").is_ok());
        assert!(flow("10.123.0.2:8080").unwrap_err().contains("both"));
        for wrong in [
            "",
            "xyz",
            "123456789",
            "10.0.0.1-10.0.0.2",
            "[::1]:1-1.1.1.1:1",
        ] {
            assert!(flow(wrong).is_err(), "{wrong}");
        }
    }
}
