//! A study's figures as Markdown tables.
//!
//! In: a plan and the journal; out: for each workload a table of each figure, rows against the swept quantity, what could
//! not be measured in words, and what experiments changed.

use super::figures::{self, Figure, Ratio, Row};
use super::journal::{Journal, Session};
use super::plan::Plan;
use super::points::{Point, Workload};
use crate::markdown::{grid, shown};
use crate::measure::Outcome;
use std::collections::BTreeMap;

/// The machine and how it was measured.
pub fn setting(plan: &Plan, journal: &Journal) -> String {
    let Some(Session { machine, mtu, .. }) = journal.sessions.last() else {
        return "Nothing was measured.".to_string();
    };
    let s = if plan.repetitions == 1 { "" } else { "s" };
    let sessions = match journal.sessions.len() {
        1 => String::new(),
        n => format!(" The study was done in {n} sessions, of which this is the last."),
    };
    format!(
        "{}.{sessions} Median of {} run{s} of {} s after {} s of load that is not counted (smallest to largest); rows \
         interleaved, every run with a server and a network of its own. Client in a namespace of its own across a veth pair, \
         MTU {mtu}, all offloads off at every end, AF_PACKET on the server's side (`linux`: the kernel's own end of the same \
         pair). The server has the first CPU, the client the others; `tas` may use all, because it has three threads that \
         spin. Figures are of runs without a recorder; recordings are of further runs.",
        machine.words(),
        plan.repetitions,
        plan.seconds,
        plan.warmup,
    )
}

/// All tables, by workload.
pub fn parts(plan: &Plan, journal: &Journal) -> Vec<(Workload, String)> {
    let workloads = Workload::ALL.into_iter();
    workloads
        .filter_map(|workload| Some((workload, of(plan, journal, workload)?)))
        .collect()
}

/// A workload's points, closed and open loops apart.
pub fn sweeps(plan: &Plan, workload: Workload) -> Vec<Vec<Point>> {
    let mut sweeps: Vec<Vec<Point>> = Vec::new();
    for point in plan.points().into_iter().filter(|p| p.workload == workload) {
        match sweeps.last_mut().filter(|s| s[0].rate == point.rate) {
            Some(sweep) => sweep.push(point),
            None => sweeps.push(vec![point]),
        }
    }
    sweeps
}

/// The figures of a sweep that say something.
pub fn told(workload: Workload, open: bool) -> &'static [Figure] {
    match (workload, open) {
        (Workload::LargeSend, _) => &[Figure::Megabytes, Figure::P50, Figure::P99],
        (Workload::IdleLatency, _) => &[Figure::P50, Figure::P99, Figure::Requests, Figure::Work],
        (_, true) => &[Figure::P50, Figure::P99, Figure::Requests],
        (_, false) => &[Figure::Requests, Figure::P50, Figure::P99, Figure::Work],
    }
}

/// How many digits behind the point a figure has.
fn digits(figure: Figure) -> usize {
    match figure {
        Figure::Requests => 0,
        _ => 1,
    }
}

/// `closed loop, 4 connections`, or the rate of an open one.
fn load(plan: &Plan, workload: Workload, rate: Option<u32>) -> String {
    let connections = match workload {
        Workload::LargeSend => plan.large_send.as_ref().map(|s| s.connections),
        Workload::IdleLatency => plan.idle_latency.as_ref().map(|s| s.connections),
        Workload::Multicore => plan.multicore.as_ref().map(|s| s.connections),
        Workload::Connections => None,
    };
    let kind = match rate {
        None => "closed loop".to_string(),
        Some(rate) => format!("open loop, {rate} requests/s"),
    };
    match connections {
        None => format!("{kind}, 64 B"),
        Some(1) => format!("{kind}, 1 connection"),
        Some(n) => format!("{kind}, {n} connections"),
    }
}

fn of(plan: &Plan, journal: &Journal, workload: Workload) -> Option<String> {
    let sweeps = sweeps(plan, workload);
    sweeps.first()?;
    let mut out = Vec::new();
    for sweep in &sweeps {
        let load = load(plan, workload, sweep[0].rate);
        for &figure in told(workload, sweep[0].rate.is_some()) {
            out.push(format!(
                "**{}: {}; {load}**",
                workload.title(),
                figure.title()
            ));
            out.push(table(plan, journal, sweep, figure));
        }
    }
    out.extend(notes(journal, workload));
    out.extend(experiments(plan, journal, workload));
    Some(out.join("\n\n"))
}

fn table(plan: &Plan, journal: &Journal, sweep: &[Point], figure: Figure) -> String {
    let mut lines = vec![vec!["row".to_string()]];
    lines[0].extend(sweep.iter().map(|point| point.quantity()));
    for &stack in &plan.stacks {
        let mut line = vec![format!("`{}`", stack.name())];
        let row = (stack, None);
        line.extend(sweep.iter().map(|&point| {
            let spread = figures::spread(journal, point, row, figure);
            spread.map_or_else(
                || figures::why_none(journal, point, row).to_string(),
                |spread| shown(spread, digits(figure)),
            )
        }));
        lines.push(line);
    }
    grid(&lines)
}

/// Everything that was not as it should be, each thing said once, with where.
fn notes(journal: &Journal, workload: Workload) -> Option<String> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for run in journal.runs.iter().filter(|r| r.point.workload == workload) {
        let who = run.experiment.as_deref().unwrap_or(run.stack.name());
        let text = match &run.run {
            Outcome::Absent { words } => format!("`{who}` absent: {words}"),
            Outcome::Refused { words } => format!("`{who}` refused: {words}"),
            Outcome::Failed { words } => format!("`{who}` failed: {words}"),
            Outcome::Measured(m) => {
                let f = &m.figures;
                if f.errors + f.timeouts == 0 {
                    continue;
                }
                format!(
                    "`{who}`: connections broke or replies were given up ({} and {} of {})",
                    f.errors, f.timeouts, f.requests
                )
            }
        };
        let places = said.entry(text).or_default();
        let place = run.point.quantity();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let lines: Vec<_> = said
        .into_iter()
        .map(|(text, places)| format!("- {text} ({})", places.join(", ")))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What changing one thing changed.
fn experiments(plan: &Plan, journal: &Journal, workload: Workload) -> Option<String> {
    let mut lines = vec![
        [
            "experiment",
            "question",
            "changed",
            "figure",
            "as it is",
            "changed",
            "changed / as it is",
        ]
        .map(String::from)
        .to_vec(),
    ];
    let figure = Figure::that_counts(workload);
    for experiment in plan.experiment.iter().filter(|e| e.workload == workload) {
        let (as_is, changed): (Row, Row) = (
            (experiment.stack, None),
            (experiment.stack, Some(&experiment.name)),
        );
        let cell = |row| {
            let spread = figures::spread(journal, experiment.point(), row, figure);
            spread.map_or_else(
                || figures::why_none(journal, experiment.point(), row).to_string(),
                |spread| shown(spread, digits(figure)),
            )
        };
        let ratio = Ratio::between(journal, experiment.point(), [changed, as_is], figure);
        lines.push(vec![
            experiment.name.clone(),
            experiment.question.clone(),
            format!("`{}`", experiment.arguments.join(" ")),
            format!("{} at {}", figure.title(), experiment.point().quantity()),
            cell(as_is),
            cell(changed),
            ratio.map_or_else(|| "-".to_string(), |ratio| ratio.words()),
        ]);
    }
    (lines.len() > 1).then(|| format!("**Experiments: one thing changed**\n\n{}", grid(&lines)))
}
