//! The gallery: each row's flame graph for each workload, useful work only, in ns of work for a request, with two
//! sentences of what it shows.
//!
//! In: recordings and what the tool said of them; out: SVGs and the index of them in a folder. A picture whose recording is
//! gone stays as it is.

use super::explained::{key, recorded, said, window};
use super::journal::{Journal, Said};
use super::plan::Plan;
use super::points::{Point, Workload};
use crate::Failure;
use crate::markdown::thousands;
use crate::parts;
use crate::programs::Programs;
use crate::site::Stack;
use crate::stop::Stop;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Workloads that have pictures.
const DRAWN: [Workload; 3] = [
    Workload::LargeSend,
    Workload::IdleLatency,
    Workload::Connections,
];
/// Phases that a sentence names.
const NAMED: usize = 3;

/// Draws what can be drawn and writes the index.
pub fn write(
    plan: &Plan,
    journal: &Journal,
    programs: &Programs,
    [out, folder]: [&Path; 2],
    stop: &Stop,
) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|source| Failure::Write {
        path: folder.display().to_string(),
        source,
    })?;
    let mut sections = Vec::new();
    for workload in DRAWN {
        let Some(point) = key(plan, workload) else {
            continue;
        };
        for &stack in &plan.stacks {
            let file = format!("{}-{}.svg", workload.name(), stack.name());
            let picture = folder.join(&file);
            let run = recorded(journal, point, stack);
            let recording = run.and_then(|run| run.recording.as_ref());
            if let Some(recording) = recording.map(|name| out.join(name))
                && recording.is_file()
            {
                draw(programs, &window(plan), [&recording, &picture], stop)?;
            }
        }
        sections.push((workload.name(), section(plan, journal, point, folder)));
    }
    parts::write(&folder.join("README.md"), "study --gallery", &sections)
}

/// A recording that holds no request has no picture; the index says why.
fn draw(
    programs: &Programs,
    window: &str,
    [recording, picture]: [&Path; 2],
    stop: &Stop,
) -> Result<(), Failure> {
    stop.check()?;
    let mut command = Command::new(&programs.bypassprof);
    command.arg("flamegraph").arg(recording);
    command.args(["--window", window]);
    command
        .args(["--busy", "--per", "request", "-o"])
        .arg(picture);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.map_err(|e| Failure::Wrong(format!("cannot run bypassprof: {e}")))?;
    stop.check()
}

fn section(plan: &Plan, journal: &Journal, point: Point, folder: &Path) -> String {
    let mut text = format!("## {}: {}\n", point.workload.title(), point.quantity());
    for &stack in &plan.stacks {
        let file = format!("{}-{}.svg", point.workload.name(), stack.name());
        let about = said(journal, point, stack, None);
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "\n### `{}`\n\n", stack.name());
        if folder.join(&file).is_file() {
            let _ = write!(text, "![{}, {}]({file})\n\n", stack.name(), point.words());
        }
        let words = about.map_or_else(
            || format!("No picture: {}.", why_none(journal, point, stack)),
            sentences,
        );
        let _ = writeln!(text, "{words}");
    }
    text
}

fn why_none(journal: &Journal, point: Point, stack: Stack) -> &'static str {
    match super::figures::why_none(journal, point, (stack, None)) {
        "refused" => "the row does not take so much",
        "absent" => "the row is not there",
        "failed" => "the run failed",
        _ => "nothing was recorded",
    }
}

/// Where the work is, and what the tool puts first.
pub fn sentences(said: &Said) -> String {
    let answer = &said.answer;
    if let Some(error) = &said.error {
        return format!("Nothing is said of it: {error}.");
    }
    format!("{} {}", work(answer), finding(answer))
}

fn work(answer: &Value) -> String {
    let phases = answer["phases"].as_array().cloned().unwrap_or_default();
    let cycles = |row: &Value| row["cycles_per_request"].as_f64().unwrap_or(0.0);
    let all: f64 = phases.iter().map(cycles).sum();
    let scale = answer["ns_per_cycle"].as_f64().unwrap_or(f64::NAN);
    if all.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return "No work was sampled.".to_string();
    }
    let named = phases.iter().take(NAMED).map(|row| {
        let phase = row["phase"].as_str().unwrap_or("?");
        format!("`{phase}` {:.0} %", 100.0 * cycles(row) / all)
    });
    format!(
        "{} ns of work for a request, most of it in {}.",
        thousands(all * scale, 0),
        named.collect::<Vec<_>>().join(", ")
    )
}

fn finding(answer: &Value) -> String {
    let first = &answer["findings"][0];
    let Some(title) = first["title"].as_str() else {
        return "`explain` has no rule that speaks about it.".to_string();
    };
    let share = first["size_share"].as_f64().unwrap_or(0.0) * 100.0;
    let per_request = first["size_ns_per_request"].as_f64();
    let per_request = per_request.map_or(String::new(), |ns| {
        format!(", {} ns for a request", thousands(ns, 0))
    });
    // Answers that were kept from before do not say what their shares are of.
    let of = first["size_of"]
        .as_str()
        .map_or(String::new(), |of| format!(" {of}"));
    format!(
        "`explain` puts {} first: {title} ({share:.0} %{of}{per_request}; {}).",
        first["id"].as_str().unwrap_or("?"),
        first["confidence"].as_str().unwrap_or("?")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The sentences have the tool's numbers and its first finding.
    #[test]
    fn two_sentences() {
        let answer = json!({
            "ns_per_cycle": 0.5,
            "phases": [
                {"phase": "copy", "cycles_per_request": 3000.0},
                {"phase": "app", "cycles_per_request": 1000.0},
            ],
            "findings": [{"id": "C5", "title": "copies", "size_share": 0.25,
                "size_of": "of all threads' time", "size_ns_per_request": 1500.0, "confidence": "sampled"}],
        });
        assert_eq!(
            format!("{} {}", work(&answer), finding(&answer)),
            "2,000 ns of work for a request, most of it in `copy` 75 %, `app` 25 %. `explain` puts C5 first: copies \
             (25 % of all threads' time, 1,500 ns for a request; sampled)."
        );
        assert_eq!(work(&json!({})), "No work was sampled.");
        assert!(finding(&json!({"findings": []})).contains("no rule"));
    }
}
