//! What the tool says of the study's recordings: each one by itself, and why each row is slower than the best.
//!
//! In: recordings at one point of each workload; out: lines in the journal with the tool's answers, less what is long, and
//! the command that gives all of it. What was said once is not asked again.

use super::figures::{self, Figure};
use super::journal::{Journal, Run, Said};
use super::plan::Plan;
use super::points::{Point, Workload};
use crate::Failure;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::site::Stack;
use crate::stop::Stop;
use bypassprof::analyse::compare::side::NO_WORK;
use bypassprof::analyse::ledger::UNACCOUNTED;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Findings and phases that are kept of an answer.
const KEPT: usize = 4;
/// A server has started by then.
const STARTED_MS: f64 = 200.0;
/// One answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Which part of a recording is looked at: what a server does before its load is there is not for any request.
pub fn window(plan: &Plan) -> String {
    format!("{:.0}ms..", 1e3 * plan.warmup + STARTED_MS)
}

/// The point of a workload at which recordings are explained and drawn.
pub fn key(plan: &Plan, workload: Workload) -> Option<Point> {
    let wanted: u32 = match workload {
        Workload::LargeSend => 1 << 20,
        Workload::IdleLatency => 64,
        Workload::Connections => 1_000,
        Workload::Multicore => u32::MAX,
    };
    let points = plan.points().into_iter();
    let own = points.filter(|p| p.workload == workload && p.rate.is_none());
    own.min_by_key(|point| point.at.abs_diff(wanted))
}

/// The recorded run of a row at a point.
pub fn recorded(journal: &Journal, point: Point, stack: Stack) -> Option<&Run> {
    let own = |run: &&Run| {
        let row = run.stack == stack && run.experiment.is_none() && run.point == point;
        row && run.recording.is_some() && run.measured().is_some()
    };
    journal.runs.iter().rfind(own)
}

/// What was said of a row, by itself or against another.
pub fn said(
    journal: &Journal,
    point: Point,
    stack: Stack,
    against: Option<Stack>,
) -> Option<&Said> {
    let own = |s: &&Said| s.point == point && s.stack == stack && s.against == against;
    journal.said.iter().rfind(own)
}

/// Asks what was not asked yet and can be: recordings that are gone are silent.
pub fn ask(
    plan: &Plan,
    journal: &mut Journal,
    programs: &Programs,
    out: &Path,
    stop: &Stop,
) -> Result<(), Failure> {
    let mut questions = Vec::new();
    for workload in Workload::ALL {
        let Some(point) = key(plan, workload) else {
            continue;
        };
        let file = |stack: Stack| {
            let name = recorded(journal, point, stack)?.recording.clone()?;
            out.join(&name).is_file().then_some(name)
        };
        let ranked = figures::ranked(journal, point, &plan.stacks, Figure::that_counts(workload));
        let best = ranked
            .iter()
            .find_map(|(stack, _)| Some((*stack, file(*stack)?)));
        for &(stack, _) in &ranked {
            let Some(own) = file(stack) else { continue };
            if said(journal, point, stack, None).is_none() {
                questions.push((point, stack, None, own.clone()));
            }
            let Some((best, first)) = &best else { continue };
            if *best != stack && said(journal, point, stack, Some(*best)).is_none() {
                questions.push((point, stack, Some((*best, first.clone())), own));
            }
        }
    }
    let mut progress = Progress::new(ANSWER * questions.len() as u32);
    for (point, stack, against, own) in questions {
        progress.step(&format!("explaining {}: {}", point.words(), stack.name()));
        let tool = |words: &[&str]| answer(programs, out, words, stop);
        let part = ["--window", &window(plan)];
        let (command, told) = match &against {
            Some((_, first)) => {
                let words = [
                    "explain", "--json", part[0], part[1], "--anyway", first, &own,
                ];
                (words.join(" "), tool(&words)?.map(|told| gap(&told)))
            }
            None => {
                let ledger = tool(&["ledger", "--json", part[0], part[1], &own])?;
                let words = ["explain", "--json", part[0], part[1], &own];
                let found = tool(&words)?;
                let told = ledger.and_then(|ledger| Ok(alone(&ledger, &found?)));
                (words.join(" "), told)
            }
        };
        let command = format!("bypassprof {command}");
        let (answer, error) = match told {
            Ok(answer) => (answer, None),
            Err(words) => (Value::Null, Some(words)),
        };
        journal.said(Said {
            stack,
            against: against.map(|(best, _)| best),
            point,
            command,
            answer,
            error,
        })?;
        progress.passed(ANSWER);
    }
    progress.done();
    Ok(())
}

/// The tool's answer, or its words.
fn answer(
    programs: &Programs,
    out: &Path,
    words: &[&str],
    stop: &Stop,
) -> Result<Result<Value, String>, Failure> {
    stop.check()?;
    let mut command = Command::new(&programs.bypassprof);
    command.current_dir(out).args(words).stdin(Stdio::null());
    let done = command.output();
    let done = done.map_err(|e| Failure::Wrong(format!("cannot run bypassprof: {e}")))?;
    stop.check()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        return Ok(Err(last.unwrap_or("it said nothing").trim().to_string()));
    }
    Ok(serde_json::from_slice(&done.stdout).map_err(|e| e.to_string()))
}

fn first(list: &Value) -> Value {
    let items = list.as_array().cloned().unwrap_or_default();
    items.into_iter().take(KEPT).collect()
}

/// What is kept of a comparison.
fn gap(told: &Value) -> Value {
    json!({
        "unit": told["unit"],
        "significant": told["significant"],
        "remarks": told["remarks"],
        "gaps": told["gaps"],
        "findings": first(&told["findings"]),
        "in_a_alone": told["in_a_alone"],
        "in_b_alone": told["in_b_alone"],
    })
}

/// Whether a phase is work for requests: not waiting, not polling for nothing, not the recorder's.
fn is_work(row: &Value) -> bool {
    let phase = row["phase"].as_str().unwrap_or_default();
    !NO_WORK.contains(&phase) && phase != UNACCOUNTED
}

/// What is kept of one recording: its largest findings, and the phases of all its work.
fn alone(ledger: &Value, found: &Value) -> Value {
    let rows = ledger["rows"].as_array().cloned().unwrap_or_default();
    let mut phases: Vec<_> = rows
        .iter()
        .filter(|row| row["level"] == "program" && is_work(row))
        .cloned()
        .collect();
    let cycles = |row: &Value| row["cycles"].as_f64().unwrap_or(0.0);
    phases.sort_by(|a, b| cycles(b).total_cmp(&cycles(a)));
    json!({
        "architecture": found["architecture"],
        "findings": first(&found["findings"]),
        "requests": ledger["requests"],
        "ns_per_cycle": ledger["ns_per_cycle"],
        "phases": phases
            .iter()
            .map(|row| json!({
                "phase": row["phase"],
                "share": row["share"],
                "cycles_per_request": row["per_request"],
            }))
            .collect::<Vec<_>>(),
        "trust": ledger["trust"],
    })
}
