//! Which part of the page shows what a finding or a cause is about: the first stage, phase or thing counted that its
//! words name.
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
    let stages = STAGES
        .iter()
        .map(|s| s.name)
        .filter(|n| n.contains('_') || *n == "total");
    for stage in stages {
        if texts.iter().any(|text| has_word(text, stage)) {
            return ("stage", stage);
        }
    }
    for &(phase, _) in PHASES {
        if texts.iter().any(|text| has_word(text, phase)) {
            return ("phase", phase);
        }
    }
    for word in COUNTED {
        if texts.iter().any(|text| text.contains(word)) {
            return ("time", word);
        }
    }
    ("ledger", "")
}

/// Whether a text has a word by itself.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let part = |c: char| c.is_alphanumeric() || "_.".contains(c);
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(|c| part(c) && c != '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::explain::{Confidence, Evidence};

    fn place(line: &str) -> (&'static str, &'static str) {
        of(&Finding {
            id: "X",
            title: "",
            advice: "",
            evidence: Evidence {
                share: 0.1,
                ns_per_request: None,
                confidence: Confidence::Sampled,
                lines: vec![line.to_owned()],
            },
        })
    }

    /// Whole words only, stages before phases.
    #[test]
    fn words() {
        assert_eq!(
            place("copy takes 12 %, wait_app 3 us"),
            ("stage", "wait_app")
        );
        assert_eq!(place("copy takes 12 %"), ("phase", "copy"));
        assert_eq!(
            place("copying takes 12 %; 3 packets a burst"),
            ("time", "burst")
        );
        assert_eq!(place("nothing of that"), ("ledger", ""));
    }
}
