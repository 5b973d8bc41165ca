//! The study's pages: what machines write of them, put between the marks that people's text stands around.
//!
//! In: a plan and the journal; out: in a folder the pictures, the results, and of each page its setting, verdict, figures
//! and explanation. Every number there is found again by the command beside it.

use super::explained::{key, said};
use super::figures::{self, Figure};
use super::journal::{Journal, Said};
use super::plan::Plan;
use super::plots::Plot;
use super::points::{Point, Workload};
use super::verdicts::{self, STATEMENTS};
use super::{gallery, tables};
use crate::Failure;
use crate::markdown::thousands;
use crate::parts;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What stands in the marks.
const BY: &str = "study --pages";

/// How a figure is found again.
const FOUND_AGAIN: &str =
    "All of them, and the verdicts, as JSON: `stackbench study --out docs/study --json`.";

/// Writes all pages.
pub fn write(
    plan: &Plan,
    journal: &Journal,
    plots: &[Plot],
    [out, folder]: [&Path; 2],
) -> Result<(), Failure> {
    let pictures = folder.join("img");
    let failed = |path: &Path, source| Failure::Write {
        path: path.display().to_string(),
        source,
    };
    fs::create_dir_all(&pictures).map_err(|e| failed(&pictures, e))?;
    for plot in plots {
        plot.write(&pictures)?;
    }
    let (from, to) = (out.join("study.jsonl"), folder.join("study.jsonl"));
    if fs::canonicalize(&from).ok() != fs::canonicalize(&to).ok() {
        fs::copy(&from, &to).map_err(|e| failed(&to, e))?;
    }
    let summary = vec![
        ("setting", tables::setting(plan, journal)),
        ("summary", verdicts::summary(plan, journal)),
    ];
    parts::write(&folder.join("README.md"), BY, &summary)?;
    for (workload, tables) in tables::parts(plan, journal) {
        let mut page = Vec::new();
        if let Some(statement) = STATEMENTS.iter().find(|s| s.workload == workload) {
            page.push(("verdict", verdicts::table(plan, journal, statement)));
        }
        let own = plots.iter().filter(|plot| plot.workload == workload);
        page.push((
            "pictures",
            own.map(picture).collect::<Vec<_>>().join("\n\n"),
        ));
        page.push(("explanation", explanation(plan, journal, workload)));
        page.push(("figures", format!("{FOUND_AGAIN}\n\n{tables}")));
        parts::write(&folder.join(format!("{}.md", workload.name())), BY, &page)?;
    }
    Ok(())
}

fn picture(plot: &Plot) -> String {
    format!("![{}](img/{})", plot.title, plot.file)
}

/// Each row against the best one, then each by itself.
fn explanation(plan: &Plan, journal: &Journal, workload: Workload) -> String {
    let Some(point) = key(plan, workload) else {
        return "Not part of the plan.".to_string();
    };
    let figure = Figure::that_counts(workload);
    let ranked = figures::ranked(journal, point, &plan.stacks, figure);
    let Some((best, spread)) = ranked.first() else {
        return format!("At {} no row has a figure.", point.quantity());
    };
    let mut text = format!(
        "At {} `{}` is best: {} ({}). Recordings of further runs, each row against it:\n",
        point.quantity(),
        best.name(),
        thousands(spread.median, 1),
        figure.title()
    );
    for (stack, spread) in &ranked {
        // Writing to a string cannot fail, here and below.
        let _ = write!(
            text,
            "\n- **`{}`**, {}: ",
            stack.name(),
            thousands(spread.median, 1)
        );
        if let Some(against) = said(journal, point, *stack, Some(*best)) {
            let _ = write!(text, "{} ", against_best(against));
        }
        match said(journal, point, *stack, None) {
            Some(alone) => {
                let _ = writeln!(
                    text,
                    "by itself: {} `{}`",
                    gallery::sentences(alone),
                    alone.command
                );
            }
            None => text.push_str("nothing was recorded.\n"),
        }
    }
    text.push_str(&without(plan, journal, point));
    text
}

/// Rows that have no figure.
fn without(plan: &Plan, journal: &Journal, point: Point) -> String {
    let mut text = String::new();
    for &stack in &plan.stacks {
        let word = figures::why_none(journal, point, (stack, None));
        let has = figures::spread(journal, point, (stack, None), Figure::Requests).is_some();
        if !has {
            let _ = writeln!(text, "- **`{}`**: {word}.", stack.name());
        }
    }
    text
}

/// The gaps, and the largest causes of each.
fn against_best(said: &Said) -> String {
    if let Some(error) = &said.error {
        return format!("the recordings were not compared: {error}.");
    }
    let answer = &said.answer;
    let empty = Vec::new();
    let list = |key: &str| answer[key].as_array().unwrap_or(&empty);
    let mut parts = Vec::new();
    for gap in list("gaps") {
        let unit = if gap["gap"] == "latency" {
            "ns_per_request"
        } else {
            answer["unit"].as_str().unwrap_or("")
        };
        let name = match gap["gap"].as_str() {
            Some("work") => "work for a request",
            _ => "latency in the server",
        };
        let causes = list("findings").iter().filter(|f| f["gap"] == gap["gap"]);
        let causes: Vec<_> = causes.map(cause).collect();
        let causes = match causes.is_empty() {
            true => String::new(),
            false => format!(", of which {}", causes.join("; ")),
        };
        parts.push(format!(
            "{name} {} ({} to {}){causes}",
            size(&gap["change"], unit),
            size(&gap["low"], unit),
            size(&gap["high"], unit)
        ));
    }
    if parts.is_empty() {
        parts.push("no gap could be taken apart".to_string());
    }
    format!("{}. `{}`", parts.join(". "), said.command)
}

fn cause(finding: &Value) -> String {
    let (value, unit) = match finding["size_ns_per_request"].is_null() {
        true => (&finding["size_share"], "share"),
        false => (&finding["size_ns_per_request"], "ns_per_request"),
    };
    // Of the two, A is the best row and B this one.
    let who = match finding["slower"].as_str() {
        Some("A") => "the best row",
        _ => "this row",
    };
    format!(
        "{} because {who} {} ({}, {})",
        size(value, unit),
        finding["title"].as_str().unwrap_or("?"),
        finding["id"].as_str().unwrap_or("?"),
        finding["confidence"].as_str().unwrap_or("?")
    )
}

fn size(value: &Value, unit: &str) -> String {
    let Some(number) = value.as_f64() else {
        return "?".to_string();
    };
    let sign = if number > 0.0 { "+" } else { "" };
    match unit {
        "ns_per_request" => format!("{sign}{} ns", thousands(number, 0)),
        _ => format!("{sign}{:.1} %", 100.0 * number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Stack;
    use serde_json::json;

    /// A gap is told with its causes and the command that says all of it.
    #[test]
    fn gaps_and_causes() {
        let said = Said {
            stack: Stack::Mtcp,
            against: Some(Stack::Ix),
            point: Point {
                workload: Workload::IdleLatency,
                at: 64,
                rate: None,
            },
            command: "bypassprof explain --json a b".to_string(),
            answer: json!({
                "unit": "ns_per_request",
                "gaps": [{"gap": "latency", "change": 1234.4, "low": 1000.0, "high": 1500.0}],
                "findings": [{"id": "M1", "title": "sleeps", "gap": "latency", "slower": "B",
                    "size_ns_per_request": 1100.0, "size_share": null, "confidence": "measured"}],
            }),
            error: None,
        };
        assert_eq!(
            against_best(&said),
            "latency in the server +1,234 ns (+1,000 ns to +1,500 ns), of which +1,100 ns because this row sleeps \
             (M1, measured). `bypassprof explain --json a b`"
        );
    }
}
