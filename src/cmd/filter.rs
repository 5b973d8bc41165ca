//! The options that leave parts of a recording out, the same for every command that analyses.
//!
//! In: words of the command line; out: a [`Filter`]. A word that cannot be meant is told with how to say it.

use super::{Failure, ends};
use crate::analyse::filter::Flows;
use crate::analyse::{Filter, Who};
use crate::trace::record::{Meta, Tid};
use crate::units::Nanos;
use std::collections::BTreeMap;
use std::path::Path;

/// What of a recording is asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What passes.
    pub filter: Filter,
    /// Of the requests that pass, only this share of them: those that took longest.
    pub slowest: Option<f64>,
}

impl Asked {
    /// Whether only some requests count.
    pub fn is_about_requests(&self) -> bool {
        self.filter.is_about_requests() || self.slowest.is_some()
    }
}

/// A filter that an answer cannot have: its name, why, and what to try.
pub type Meaningless = (&'static str, &'static str, &'static str);

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
    #[arg(long = "cpu", id = "only_cpus", value_name = "N")]
    cpus: Vec<u32>,
    /// Only requests of this flow, and what threads did for them: as timelines print it, or both ends as ADDR:PORT-ADDR:PORT, of which one port may be * (may be repeated)
    #[arg(long = "flow", value_name = "HEX|ENDS", value_parser = ends::flows)]
    flows: Vec<Flows>,
    /// Only the slowest part of the requests, and what threads did for them, for example 1%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    slowest: Option<f64>,
}

impl FilterArgs {
    /// What is asked for.
    pub fn asked(&self) -> Asked {
        let filter = Filter {
            window: self.window,
            threads: self.threads.clone(),
            cpus: self.cpus.clone(),
            flows: self.flows.clone(),
            at_least: None,
        };
        Asked {
            filter,
            slowest: self.slowest,
        }
    }

    /// What is asked for, of an answer that has only some of the filters: the others' names, why they have no meaning
    /// there, and what to try.
    pub fn only(&self, without: &[Meaningless]) -> Result<Asked, Failure> {
        let is_given = |option: &str| match option {
            "--window" => self.window.is_some(),
            "--thread" => !self.threads.is_empty(),
            "--cpu" => !self.cpus.is_empty(),
            "--flow" => !self.flows.is_empty(),
            _ => self.slowest.is_some(),
        };
        match without.iter().find(|(option, ..)| is_given(option)) {
            Some((option, why, hint)) => {
                Err(Failure::wrong_use(format!("{option} has no meaning here: {why}")).hint(hint))
            }
            None => Ok(self.asked()),
        }
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
            return Err(self.nothing("--window begins after the end", false));
        }
        let known = |(&tid, name): (&Tid, &String)| filter.has_thread(tid, name);
        if !self.threads.is_empty() && !self.threads.iter().any(known) {
            return Err(self.nothing("no thread has that number or name", false));
        }
        Ok(())
    }

    /// Refuses an answer of which the filter left nothing.
    pub fn check_left(&self, filter: &Filter, something: bool) -> Result<(), Failure> {
        match filter.line() {
            Some(line) if !something => {
                let why = format!("nothing is left by {line}");
                Err(self.nothing(&why, !filter.flows.is_empty()))
            }
            _ => Ok(()),
        }
    }

    fn nothing(&self, why: &str, is_by_flow: bool) -> Failure {
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
        if is_by_flow {
            there.push(
                "flows as `spans --show` prints them, or ADDR:*-ADDR:PORT for all between two ends"
                    .to_owned(),
            );
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
}
