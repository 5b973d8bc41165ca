//! Which part of the page shows what a finding or a cause is about: the first stage, else the first phase, else
//! the first thing counted that its words name.
//!
//! In: words; out: a kind of place and a name. It refuses to know the rules.

use crate::analyse::explain::Finding;
use crate::analyse::phases::PHASES;
use crate::analyse::spans::STAGES;

/// Words that tell that lines over time show it.
const COUNTED: [&str; 4] = ["burst", "misses", "instructions", "dropped"];

/// The kind of place that a finding is about, and what in it.
pub fn of(finding: &Finding) -> (&'static str, &'static str) {
    let lines = finding.evidence.lines.iter().map(String::as_str);
    named(lines.chain([finding.title]))
}

/// The kind of place that some texts name, and what in it.
pub fn named<'a>(texts: impl Iterator<Item = &'a str>) -> (&'static str, &'static str) {
    let texts: Vec<&str> = texts.collect();
    // A stage's own name is rarer than a phase's, and a phase's than words such as `burst`.
    let stages = STAGES.iter().map(|s| s.name);
    let stages = stages.filter(|n| n.contains('_') || *n == "total");
    if let Some(stage) = first(&texts, stages) {
        return ("stage", stage);
    }
    if let Some(phase) = first(&texts, PHASES.iter().map(|p| p.0)) {
        return ("phase", phase);
    }
    for word in COUNTED {
        if texts.iter().any(|text| text.contains(word)) {
            return ("time", word);
        }
    }
    ("ledger", "")
}

/// Which of the names the texts say first.
fn first<'n>(texts: &[&str], names: impl Iterator<Item = &'n str> + Clone) -> Option<&'n str> {
    texts.iter().find_map(|text| {
        let said = names
            .clone()
            .filter_map(|name| Some((word(text, name)?, name)));
        said.min().map(|(_, name)| name)
    })
}

/// Where a text has a word by itself.
fn word(text: &str, word: &str) -> Option<usize> {
    let mut found = text.match_indices(word).map(|(at, _)| at);
    found.find(|&at| {
        let part = |c: char| c.is_alphanumeric() || "_.".contains(c);
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(|c| part(c) && c != '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::explain::{Confidence, Evidence, Whole};

    fn place(line: &str) -> (&'static str, &'static str) {
        of(&Finding {
            id: "X",
            title: "",
            advice: "",
            evidence: Evidence {
                share: 0.1,
                of: Whole::Threads,
                ns_per_request: None,
                confidence: Confidence::Sampled,
                lines: vec![line.to_owned()],
            },
        })
    }

    /// Whole words only, stages before phases, what is said first.
    #[test]
    fn words() {
        assert_eq!(
            place("copy takes 12 %, wait_app 3 us"),
            ("stage", "wait_app")
        );
        assert_eq!(place("copy takes 12 %"), ("phase", "copy"));
        assert_eq!(place("driver_tx 55 %, copy 9 %"), ("phase", "driver_tx"));
        assert_eq!(
            place("copying takes 12 %; 3 packets a burst"),
            ("time", "burst")
        );
        assert_eq!(place("nothing of that"), ("ledger", ""));
    }
}
