//! Findings as text, and as JSON (`bypassprof.explain/1`, documented in `docs/reference/explain.md`).

pub mod across;

use crate::analyse::explain::Finding;
use crate::analyse::{Profile, Trust};
use crate::present::style::{Style, percent, printable};
use crate::present::table::headline;
use serde::Serialize;
use std::fmt::Write as _;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const EXPLAIN_SCHEMA: &str = "bypassprof.explain/1";

/// Findings, the largest first, and what the recording lacks for more.
pub fn text(profile: &Profile, findings: &[Finding], lacks: &[String], style: Style) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", style.bold(&style.fit(&headline(profile))));
    for finding in findings {
        let evidence = &finding.evidence;
        let mut size = format!("{} % {}", percent(Some(evidence.share)), evidence.of.name());
        if let Some(ns) = evidence.ns_per_request {
            let _ = write!(size, ", {ns:.0} ns/request");
        }
        let title = format!(
            "{}: {} ({size}; {})",
            finding.id,
            finding.title,
            evidence.confidence.name()
        );
        let _ = writeln!(text, "\n{}", style.bold(&title));
        for line in &evidence.lines {
            let _ = writeln!(text, "  {}", printable(line));
        }
        let _ = writeln!(text, "  try: {}", finding.advice);
    }
    if findings.is_empty() {
        let _ = writeln!(
            text,
            "\nno rule speaks about this recording; `ledger` has its parts"
        );
    }
    for lack in lacks {
        let _ = writeln!(text, "\n{lack}");
    }
    let _ = writeln!(text, "\n{}", style.dim(&style.fit(&packs(profile))));
    let _ = writeln!(text, "{}", style.dim(&profile.trust.line()));
    text
}

/// The packs, and whose rules are asked where that is not the first.
fn packs(profile: &Profile) -> String {
    let mut line = format!("packs: {}", profile.packs.join(", "));
    if profile.packs.first() != Some(&profile.architecture) && !profile.architecture.is_empty() {
        line += &format!("; works like {}", profile.architecture);
    }
    line
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    packs: &'a [String],
    architecture: &'a str,
    findings: Vec<Item<'a>>,
    lacks: &'a [String],
    trust: &'a Trust,
}

/// A finding.
#[derive(Serialize)]
pub struct Item<'a> {
    id: &'static str,
    title: &'static str,
    size_share: f64,
    size_of: &'static str,
    size_ns_per_request: Option<f64>,
    confidence: &'static str,
    evidence: &'a [String],
    #[serde(rename = "try")]
    advice: &'static str,
}

impl Item<'_> {
    /// As it was found.
    pub fn of(finding: &Finding) -> Item<'_> {
        Item {
            id: finding.id,
            title: finding.title,
            size_share: finding.evidence.share,
            size_of: finding.evidence.of.name(),
            size_ns_per_request: finding.evidence.ns_per_request,
            confidence: finding.evidence.confidence.name(),
            evidence: &finding.evidence.lines,
            advice: finding.advice,
        }
    }
}

/// The same as JSON.
pub fn json(
    profile: &Profile,
    findings: &[Finding],
    lacks: &[String],
) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Document {
        schema: EXPLAIN_SCHEMA,
        packs: &profile.packs,
        architecture: &profile.architecture,
        findings: findings.iter().map(Item::of).collect(),
        lacks,
        trust: &profile.trust,
    })
}
