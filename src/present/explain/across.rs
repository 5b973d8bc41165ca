//! Causes of the gap between recordings as text, and as JSON (`bypassprof.explain/1` with `gaps`).

use super::EXPLAIN_SCHEMA;
use crate::analyse::Ledger;
use crate::analyse::compare::{Change, Side, Unit};
use crate::analyse::explain::across::{Cause, Causes, Of, between};
use crate::analyse::explain::{Facts, Finding, explain};
use crate::present::compare::Pairs;
use crate::present::compare::document::Row;
use crate::present::style::{Style, printable};
use crate::present::table::headline;
use serde::Serialize;
use std::fmt::Write as _;

/// What limits a side by itself, as far as samples tell.
fn alone(side: &Side) -> Vec<Finding> {
    let ledger = Ledger::of(&side.profile, None);
    explain(&Facts::of(&side.profile, &ledger, None))
}

/// Why each of the others is slower than the first, or faster.
pub fn text(pairs: &Pairs, style: Style) -> String {
    let mut text = String::new();
    let first = &pairs.first;
    for (comparison, other, remarks) in &pairs.others {
        for (letter, side) in [("A", first), ("B", other)] {
            let what = format!("{letter}  {}: {}", side.name, headline(&side.profile));
            let _ = writeln!(text, "{}", style.bold(&style.fit(&printable(&what))));
        }
        for remark in remarks {
            let _ = writeln!(text, "note: {}", printable(&remark.text));
        }
        if comparison.is_noise() {
            let _ = writeln!(text, "\n{}", style.bold("no significant difference"));
        }
        for causes in between(comparison, first, other) {
            gap(&causes, comparison.unit, style, &mut text);
        }
        by_itself(first, other, &mut text);
        let trust = first.profile.trust.with(&other.profile.trust);
        let _ = writeln!(text, "\n{}", style.dim(&trust.line()));
    }
    text
}

fn gap(causes: &Causes, unit: Unit, style: Style, text: &mut String) {
    let unit = if causes.of == Of::Latency {
        Unit::PerRequest
    } else {
        unit
    };
    let what = match causes.of {
        Of::Work => "work on CPUs",
        Of::Latency => "latency in the server",
    };
    let change = &causes.gap;
    let title = format!(
        "{what}: {} -> {}, {} ({} to {})",
        size(change.a, unit, false),
        size(change.b, unit, false),
        size(change.by, unit, true),
        size(change.low, unit, true),
        size(change.high, unit, true)
    );
    let _ = writeln!(text, "\n{}", style.bold(&title));
    for cause in &causes.causes {
        let share = part(cause, change);
        let line = format!(
            "{}  {}: {} {} ({}{})",
            size(cause.size, unit, true),
            cause.id,
            who(cause),
            cause.title,
            cause.confidence.name(),
            share.map_or_else(String::new, |s| format!("; {:.0} % of the gap", 100.0 * s))
        );
        let _ = writeln!(text, "{}", style.bold(&line));
        for line in &cause.evidence {
            let _ = writeln!(text, "    {}", printable(line));
        }
        let _ = writeln!(text, "    try: {}", cause.advice);
    }
    let rest = size(causes.noise, unit, true);
    let _ = writeln!(text, "{rest}  in parts that do not differ significantly");
}

fn who(cause: &Cause) -> &'static str {
    if cause.size > 0.0 { "B" } else { "A" }
}

/// Which part of the gap a cause is, where there is a gap to be a part of.
fn part(cause: &Cause, gap: &Change) -> Option<f64> {
    gap.believed.then(|| cause.size / gap.by)
}

fn size(value: f64, unit: Unit, signed: bool) -> String {
    match (unit, signed) {
        (Unit::PerRequest, true) if value.abs() < 0.5 => "0 ns".to_owned(),
        (Unit::PerRequest, true) => format!("{value:+.0} ns"),
        (Unit::PerRequest, false) => format!("{value:.0} ns"),
        (Unit::Share, true) => format!("{:+.1} %", 100.0 * value),
        (Unit::Share, false) => format!("{:.1} %", 100.0 * value),
    }
}

/// Findings about one side that do not hold for the other: they go with the gap, but no part of it is theirs.
fn by_itself(first: &Side, other: &Side, text: &mut String) {
    let (a, b) = (alone(first), alone(other));
    let mut head = "\nfound in one recording alone (`explain FILE` has the evidence; no part of the gap is claimed)\n";
    for (letter, own, others) in [("A", &a, &b), ("B", &b, &a)] {
        for finding in own.iter().filter(|f| others.iter().all(|o| o.id != f.id)) {
            text.push_str(std::mem::take(&mut head));
            let _ = writeln!(
                text,
                "    {letter}  {}: {} ({})",
                finding.id,
                finding.title,
                finding.evidence.confidence.name()
            );
        }
    }
}

#[derive(Serialize)]
struct Compared<'a> {
    a: &'a str,
    b: &'a str,
    unit: &'static str,
    significant: bool,
    remarks: Vec<&'a str>,
    findings: Vec<Item>,
    gaps: Vec<GapItem>,
    in_a_alone: Vec<&'static str>,
    in_b_alone: Vec<&'static str>,
}

#[derive(Serialize)]
struct GapItem {
    gap: &'static str,
    #[serde(flatten)]
    row: Row,
    explained: f64,
    not_significant: f64,
}

/// A cause of a gap.
#[derive(Serialize)]
pub struct Item {
    id: &'static str,
    title: String,
    gap: &'static str,
    slower: &'static str,
    size_ns_per_request: Option<f64>,
    size_share: Option<f64>,
    confidence: &'static str,
    evidence: Vec<String>,
    #[serde(rename = "try")]
    advice: &'static str,
}

/// The same as JSON.
pub fn json(pairs: &Pairs) -> serde_json::Result<String> {
    let first = &pairs.first;
    pairs.json(EXPLAIN_SCHEMA, |comparison, other, remarks| {
        let all = between(comparison, first, other);
        let (a, b) = (alone(first), alone(other));
        let only = |own: &[Finding], others: &[Finding]| {
            let own = own.iter().map(|f| f.id);
            own.filter(|id| others.iter().all(|o| o.id != *id))
                .collect()
        };
        Compared {
            a: &first.name,
            b: &other.name,
            unit: comparison.unit.name(),
            significant: !comparison.is_noise(),
            remarks: remarks.iter().map(|r| r.text.as_str()).collect(),
            in_a_alone: only(&a, &b),
            in_b_alone: only(&b, &a),
            gaps: all.iter().map(gap_item).collect(),
            findings: (all.iter().flat_map(|c| &c.causes))
                .map(|cause| Item::of(cause, comparison.unit))
                .collect(),
        }
    })
}

fn gap_item(causes: &Causes) -> GapItem {
    let change = &causes.gap;
    GapItem {
        gap: causes.of.name(),
        row: Row::of(change),
        explained: change.by - causes.noise,
        not_significant: causes.noise,
    }
}

impl Item {
    /// As it was found, in a comparison of this unit.
    pub fn of(cause: &Cause, unit: Unit) -> Item {
        let per_request = cause.of == Of::Latency || unit == Unit::PerRequest;
        Item {
            id: cause.id,
            title: cause.title.clone(),
            gap: cause.of.name(),
            slower: who(cause),
            size_ns_per_request: per_request.then_some(cause.size),
            size_share: (!per_request).then_some(cause.size),
            confidence: cause.confidence.name(),
            evidence: cause.evidence.clone(),
            advice: cause.advice,
        }
    }
}
