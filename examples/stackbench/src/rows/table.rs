//! A study as tables: the same text for a terminal and for a page.
//!
//! In: a study; out: named parts in Markdown. Figures are medians with the smallest and the largest in brackets; what has
//! no figure has a word and a note.

use super::Study;
use super::case::{BESIDE, Case, IDLE};
use super::probes::Cost;
use super::wrk;
use crate::markdown::{grid, shown, thousands};
use crate::measure::{Measured, Outcome};
use crate::site::Stack;
use crate::spread::Spread;
use std::collections::BTreeMap;

/// All parts, in the order of a page; a part of which nothing was measured is left out, so that a page may be made in
/// several runs, of which each part names its own.
pub fn parts(study: &Study) -> Vec<(&'static str, String)> {
    let when = format!(
        "{}, {:.1} at the end.",
        study.facts.words(),
        study.load_after
    );
    let mut parts = Vec::new();
    if !study.runs.is_empty() {
        parts.push(("setting", format!("{when} {}", setting(study))));
        parts.push(("cases", cases(study)));
    }
    if !study.properties.is_empty() {
        parts.push(("properties", format!("{when}\n\n{}", properties(study))));
    }
    if !study.probes.is_empty() {
        parts.push(("probes", format!("{when}\n\n{}", probes(&study.probes))));
    }
    if !study.wrk.is_empty() {
        parts.push(("wrk", format!("{when}\n\n{}", by_wrk(study))));
    }
    parts
}

fn setting(study: &Study) -> String {
    format!(
        "Median of {} measurement{} of {} s (smallest to largest). Every server: client in a namespace of \
         its own across a veth pair, MTU {}, all offloads off at every end, AF_PACKET on the server's side (`linux`: the \
         kernel's own end of the same pair), one thread. The client has the last CPU, servers may use all.",
        study.repetitions,
        if study.repetitions == 1 { "" } else { "s" },
        study.time.as_secs_f64(),
        study.mtu
    )
}

/// The spread of a figure over a case's measurements.
pub fn spread(
    study: &Study,
    case: Case,
    stack: Stack,
    figure: impl Fn(&Measured) -> Option<f64>,
) -> Option<Spread> {
    let runs = study.runs.get(&(case, stack))?;
    let measured = runs.iter().filter_map(|run| match run {
        Outcome::Measured(measured) => figure(measured),
        _ => None,
    });
    Spread::of(measured)
}

/// The sum of a count over a case's measurements.
fn sum(study: &Study, case: Case, stack: Stack, count: impl Fn(&Measured) -> u64) -> u64 {
    let runs = study.runs.get(&(case, stack)).into_iter().flatten();
    let counts = runs.map(|run| match run {
        Outcome::Measured(measured) => count(measured),
        _ => 0,
    });
    counts.sum()
}

fn measured(study: &Study, case: Case, stack: Stack) -> bool {
    spread(study, case, stack, |_| Some(0.0)).is_some()
}

/// A figure's cell, or the word for why there is none.
fn cell(
    study: &Study,
    case: Case,
    stack: Stack,
    digits: usize,
    figure: impl Fn(&Measured) -> Option<f64>,
) -> String {
    if let Some(spread) = spread(study, case, stack, figure) {
        let failed = study.runs[&(case, stack)]
            .iter()
            .any(|run| matches!(run, Outcome::Failed { .. }));
        let word = if failed { " (failed once or more)" } else { "" };
        return format!("{}{word}", shown(spread, digits));
    }
    let runs = study.runs.get(&(case, stack));
    match runs.and_then(|runs| runs.last()) {
        Some(Outcome::Refused { .. }) => "refused",
        Some(Outcome::Failed { .. }) => "failed",
        Some(Outcome::Absent { .. }) => "absent",
        _ => "-",
    }
    .to_string()
}

fn rate(m: &Measured) -> Option<f64> {
    Some(m.figures.requests_per_second)
}

fn megabytes(m: &Measured) -> Option<f64> {
    Some(m.figures.bytes_per_second / 1e6)
}

fn cases(study: &Study) -> String {
    let has = |case: Case| study.runs.keys().any(|(c, _)| *c == case);
    let mut out = Vec::new();
    let rates: Vec<_> = [
        (Case::One, "1 connection"),
        (Case::Many, "64"),
        (Case::Thousand, "1000"),
        (Case::Idle, "64 beside 10,000 idle"),
        (Case::Churn, "one request a connection, 16 at once"),
    ]
    .into_iter()
    .filter(|(case, _)| has(*case))
    .collect();
    if !rates.is_empty() {
        out.push("**Requests per second, 64 B, closed loop**".to_string());
        out.push(rows(study, &rates, |case, stack| {
            cell(study, case, stack, 0, rate)
        }));
        out.push("**Latency in us, of the same runs: median, 99 % in brackets (medians of the repetitions)**".to_string());
        out.push(rows(study, &rates, |case, stack| {
            latency(study, case, stack)
        }));
        let work: Vec<_> = rates
            .iter()
            .copied()
            .filter(|(c, _)| *c != Case::Churn)
            .collect();
        out.push(
            "**The server's work for a request in us: rounds that did something, by its own account; `linux` and `mtcp`: \
             CPU time**"
                .to_string(),
        );
        out.push(rows(study, &work, |case, stack| {
            cell(study, case, stack, 1, |m| m.work_ns.map(|ns| ns / 1e3))
        }));
    }
    let bodies: Vec<_> = [
        (Case::Body128k, "128 KiB, 4 connections"),
        (Case::Body1m, "1 MiB, 4 connections"),
    ]
    .into_iter()
    .filter(|(case, _)| has(*case))
    .collect();
    if !bodies.is_empty() {
        out.push("**Large bodies, MB/s; every body's digest was compared**".to_string());
        out.push(rows(study, &bodies, |case, stack| {
            cell(study, case, stack, 0, megabytes) + &compared(study, case, stack)
        }));
    }
    if has(Case::Idle) || has(Case::Slow) {
        out.push(format!(
            "**Connections beside the load: {} idle ones, each asked before and after (`mtcp` with `--mtcp-max-streams 12000`: \
             its default of 10,000 counts them); {BESIDE} readers of 1 KiB/s and {BESIDE} half-closed ones beside 16 active \
             ones with 64 KiB bodies**",
            thousands(f64::from(IDLE), 0)
        ));
        out.push(company(study));
    }
    let bad: Vec<_> = [
        (Case::Bad, "64 B, 64 connections: requests/s"),
        (Case::BadBody1m, "1 MiB, 4 connections: MB/s"),
    ]
    .into_iter()
    .filter(|(case, _)| has(*case))
    .collect();
    if !bad.is_empty() {
        out.push(
            "**The same load over a link that loses 1 %, reorders 1 % and falsifies 0.1 % of the frames of both directions; \
             ratio to `linux` on the same link; every body was compared**"
                .to_string(),
        );
        out.push(rows(study, &bad, |case, stack| {
            on_bad_link(study, case, stack)
        }));
    }
    let errors = errors(study);
    if !errors.is_empty() {
        out.push(errors.join("\n"));
    }
    out.join("\n\n")
}

/// A table with a line for each row and a column for each case.
fn rows(study: &Study, cases: &[(Case, &str)], cell: impl Fn(Case, Stack) -> String) -> String {
    let mut lines = vec![vec!["row".to_string()]];
    lines[0].extend(cases.iter().map(|(_, name)| (*name).to_string()));
    for &stack in &study.stacks {
        let mut line = vec![format!("`{}`", stack.name())];
        line.extend(cases.iter().map(|(case, _)| cell(*case, stack)));
        lines.push(line);
    }
    grid(&lines)
}

fn latency(study: &Study, case: Case, stack: Stack) -> String {
    let us = |ns: u64| Some(ns as f64 / 1e3);
    let p50 = spread(study, case, stack, |m| us(m.figures.latency_ns.p50));
    let p99 = spread(study, case, stack, |m| us(m.figures.latency_ns.p99));
    match (p50, p99) {
        (Some(p50), Some(p99)) => format!(
            "{} ({})",
            thousands(p50.median, 0),
            thousands(p99.median, 0)
        ),
        _ => cell(study, case, stack, 0, rate),
    }
}

fn compared(study: &Study, case: Case, stack: Stack) -> String {
    if !measured(study, case, stack) {
        return String::new();
    }
    let bodies = sum(study, case, stack, |m| m.figures.requests);
    let wrong = sum(study, case, stack, |m| m.figures.wrong);
    format!("; {} whole, {wrong} wrong", thousands(bodies as f64, 0))
}

fn company(study: &Study) -> String {
    let head = [
        "row",
        "idle served again",
        "slow readers served",
        "half-closed: whole / not",
        "active beside slow ones, requests/s",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    for &stack in &study.stacks {
        let of = |case, f: fn(&crate::load::Company) -> u64| {
            sum(study, case, stack, |m| {
                m.figures.company.as_ref().map_or(0, f)
            })
        };
        let idle = match measured(study, Case::Idle, stack) {
            true => format!(
                "{} of {}",
                thousands(of(Case::Idle, |c| c.idle_served_again) as f64, 0),
                thousands(of(Case::Idle, |c| c.idle.max(u64::from(IDLE))) as f64, 0)
            ),
            false => cell(study, Case::Idle, stack, 0, rate),
        };
        let (slow, half) = match measured(study, Case::Slow, stack) {
            true => (
                format!(
                    "{} of {}",
                    of(Case::Slow, |c| c.slow_served),
                    of(Case::Slow, |c| c.slow.max(u64::from(BESIDE)))
                ),
                format!(
                    "{} / {}",
                    of(Case::Slow, |c| c.half_closed_served),
                    of(Case::Slow, |c| c.half_closed_failed)
                ),
            ),
            false => (cell(study, Case::Slow, stack, 0, rate), "-".to_string()),
        };
        lines.push(vec![
            format!("`{}`", stack.name()),
            idle,
            slow,
            half,
            cell(study, Case::Slow, stack, 0, rate),
        ]);
    }
    grid(&lines)
}

fn on_bad_link(study: &Study, case: Case, stack: Stack) -> String {
    let (figure, digits): (fn(&Measured) -> Option<f64>, _) = match case.in_bytes() {
        true => (megabytes, 1),
        false => (rate, 0),
    };
    let text = cell(study, case, stack, digits, figure);
    let own = spread(study, case, stack, figure);
    let linux = spread(study, case, Stack::Linux, figure);
    let ratio = match (own, linux) {
        (Some(own), Some(linux)) => format!("; x {:.2}", own.median / linux.median),
        _ => String::new(),
    };
    text + &ratio + &compared(study, case, stack)
}

/// Everything that was not as it should be, each thing said once.
fn errors(study: &Study) -> Vec<String> {
    let mut said: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut notes = Vec::new();
    for ((case, stack), runs) in &study.runs {
        for run in runs {
            let (word, words) = match run {
                Outcome::Absent { words } => ("absent", words),
                Outcome::Refused { words } => ("refused", words),
                Outcome::Failed { words } => ("failed", words),
                Outcome::Measured(_) => continue,
            };
            let text = format!("- `{}` {word}: {words}", stack.name());
            let cases = said.entry(text).or_default();
            if !cases.contains(&case.name()) {
                cases.push(case.name());
            }
        }
        let broken = sum(study, *case, *stack, |m| m.figures.errors - m.figures.wrong);
        let late = sum(study, *case, *stack, |m| m.figures.timeouts);
        let requests = sum(study, *case, *stack, |m| m.figures.requests);
        let first = runs.iter().find_map(|run| match run {
            Outcome::Measured(m) => m.figures.company.as_ref()?.first_failure.clone(),
            _ => None,
        });
        if broken + late > 0 || first.is_some() {
            let first = first.map_or(String::new(), |first| format!("; beside the load: {first}"));
            notes.push(format!(
                "- `{}`, {}: {broken} connections broke and {late} replies were given up, of {}{first}",
                stack.name(),
                case.name(),
                thousands(requests as f64, 0)
            ));
        }
    }
    let said = said.into_iter();
    let mut lines: Vec<_> = said
        .map(|(text, cases)| format!("{text} ({})", cases.join(", ")))
        .collect();
    lines.extend(notes);
    lines
}

/// A paragraph for each: tables of sentences are read by nobody.
fn properties(study: &Study) -> String {
    let mut out = Vec::new();
    for property in &study.properties {
        let recordings: Vec<_> = property
            .recordings
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        out.push(format!(
            "**{}: {}**\n- published: {}\n- ours: {}\n- so: {}\n- from: {}",
            property.id,
            property.verdict.words(),
            property.published,
            property.seen,
            property.why,
            recordings.join(", ")
        ));
    }
    out.join("\n\n")
}

fn probes(costs: &[Cost]) -> String {
    let head = [
        "row",
        "off: us of work a request",
        "off again (noise)",
        "recorded",
        "without probes in the program",
        "events a request",
        "computed: off points of a request",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    let percent = |spread: &Option<Spread>| {
        spread.map_or("-".to_string(), |s| {
            let of = |share: f64| format!("{:+.1}", share * 100.0);
            format!("{} % ({} to {})", of(s.median), of(s.least), of(s.most))
        })
    };
    for cost in costs {
        let off = cost.off_ns.map(|s| Spread {
            median: s.median / 1e3,
            least: s.least / 1e3,
            most: s.most / 1e3,
        });
        let computed = match (cost.events, cost.off_ns) {
            (Some(events), Some(off)) => {
                let ns = events * cost.off_point_ns;
                format!(
                    "{events:.0} x {:.2} ns = {ns:.0} ns, {:.2} %",
                    cost.off_point_ns,
                    100.0 * ns / off.median
                )
            }
            _ => "-".to_string(),
        };
        lines.push(vec![
            format!("`{}`", cost.stack.name()),
            off.map_or("-".to_string(), |off| shown(off, 1)),
            percent(&cost.noise),
            percent(&cost.recorded),
            percent(&cost.compiled_out),
            cost.events.map_or("-".to_string(), |e| format!("{e:.1}")),
            computed,
        ]);
    }
    let mut out = grid(&lines);
    for cost in costs {
        if let Some(missing) = &cost.missing {
            out.push_str(&format!("\n\n- `{}`: {missing}", cost.stack.name()));
        }
    }
    out
}

fn by_wrk(study: &Study) -> String {
    let mut lines = vec![vec!["row".to_string()]];
    lines[0].extend(wrk::CONNECTIONS.map(|n| format!("-c{n}: requests/s, p50, errors")));
    for &stack in &study.stacks {
        let mut line = vec![format!("`{}`", stack.name())];
        for connections in wrk::CONNECTIONS {
            let mut seen = study.wrk.iter();
            let seen = seen.find(|s| s.stack == stack && s.connections == connections);
            line.push(seen.map_or("-".to_string(), |seen| {
                let rate = seen.rate.map_or("-".to_string(), |rate| thousands(rate, 0));
                let p50 = seen.p50.as_deref().unwrap_or("-");
                let errors = seen.errors.as_deref().unwrap_or("none");
                format!("{rate}, {p50}, {errors}")
            }));
        }
        lines.push(line);
    }
    grid(&lines)
}
