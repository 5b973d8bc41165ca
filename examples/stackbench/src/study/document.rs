//! A study's figures, verdicts and experiments as one JSON document.
//!
//! In: a plan and the journal; out: `bypassprof.stackbench-figures/1`, described in docs/reference/study.md: what the
//! pages' tables hold, for scripts.

use super::figures::{self, Figure, Ratio, Row};
use super::journal::Journal;
use super::plan::Plan;
use super::points::{Point, Workload};
use super::tables::{sweeps, told};
use super::verdicts::{STATEMENTS, overall};
use serde_json::{Value, json};

/// Name and version of the document.
const SCHEMA: &str = "bypassprof.stackbench-figures/1";

/// Everything.
pub fn all(plan: &Plan, journal: &Journal) -> Value {
    let rows: Vec<Row> = plan.stacks.iter().map(|&stack| (stack, None)).collect();
    let mut values = Vec::new();
    for workload in Workload::ALL {
        for point in sweeps(plan, workload).into_iter().flatten() {
            let changed = plan.experiment.iter().filter(|e| e.point() == point);
            let changed = changed.map(|e| (e.stack, Some(e.name.as_str())));
            for row in rows.iter().copied().chain(changed) {
                for &figure in told(workload, point.rate.is_some()) {
                    values.push(value(journal, point, row, figure));
                }
            }
        }
    }
    json!({
        "schema": SCHEMA,
        "machine": journal.sessions.last().map(|session| &session.machine),
        "figures": values,
        "verdicts": verdicts(plan, journal),
        "experiments": experiments(plan, journal),
    })
}

fn value(journal: &Journal, point: Point, row: Row, figure: Figure) -> Value {
    let spread = figures::spread(journal, point, row, figure);
    let none = spread
        .is_none()
        .then(|| figures::why_none(journal, point, row));
    json!({
        "workload": point.workload,
        "at": point.at,
        "rate": point.rate,
        "stack": row.0,
        "experiment": row.1,
        "figure": figure.title(),
        "spread": spread,
        "runs": figures::runs(journal, point, row).len(),
        "none": none,
    })
}

fn ratio(ratio: Option<Ratio>) -> Value {
    // JSON has no infinity: of a single run there is no interval.
    let end = |value: f64| value.is_finite().then_some(value);
    ratio.map_or(
        Value::Null,
        |r| json!({"of": r.of, "low": end(r.low), "high": end(r.high)}),
    )
}

fn verdicts(plan: &Plan, journal: &Journal) -> Vec<Value> {
    let of = |statement: &super::verdicts::Statement| {
        let all = statement.at(plan, journal);
        let points: Vec<_> = all
            .iter()
            .map(|at| {
                json!({
                    "at": at.point.at,
                    "rival": at.against.map(|(stack, _)| stack),
                    "times_better": ratio(at.against.map(|(_, ratio)| ratio)),
                    "verdict": at.verdict.words(),
                })
            })
            .collect();
        json!({
            "workload": statement.workload,
            "published_best": statement.best,
            "verdict": overall(&all),
            "points": points,
        })
    };
    STATEMENTS.iter().map(of).collect()
}

fn experiments(plan: &Plan, journal: &Journal) -> Vec<Value> {
    let of = |e: &super::plan::Experiment| {
        let figure = Figure::that_counts(e.workload);
        let rows = [(e.stack, Some(e.name.as_str())), (e.stack, None)];
        json!({
            "name": e.name,
            "question": e.question,
            "stack": e.stack,
            "arguments": e.arguments,
            "workload": e.workload,
            "at": e.at,
            "figure": figure.title(),
            "changed_to_as_it_is": ratio(Ratio::between(journal, e.point(), rows, figure)),
        })
    };
    plan.experiment.iter().map(of).collect()
}
