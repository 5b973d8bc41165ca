//! Packs as text: the list, the remarks about one, and how well they fit a recording.

use super::style::{Style, percent, printable};
use super::table::lines;
use crate::analyse::Profile;
use crate::analyse::coverage::Coverage;
use crate::analyse::packs::{Pack, lint::Remark};
use std::fmt::Write as _;

/// Functions that no rule names, at most so many.
const MISSED: usize = 10;

/// All packs with what they describe.
pub fn list(packs: &[Pack], style: Style) -> String {
    let mut rows = vec![
        ["rules", "pack", "what it describes"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(packs.iter().map(|pack| {
        let rules: usize = pack.rules.iter().map(|r| r.symbols.len()).sum();
        let always = if pack.base { " (always in effect)" } else { "" };
        vec![
            (rules + pack.callers.len()).to_string(),
            pack.name.clone(),
            format!("{}{always}", printable(&pack.about)),
        ]
    }));
    let mut text = String::new();
    lines(&rows, style, &mut text);
    text
}

/// What was found in a pack.
pub fn checked(pack: &Pack, remarks: &[Remark], style: Style) -> String {
    let mut text = String::new();
    let rules: usize = pack.rules.iter().map(|r| r.symbols.len()).sum();
    let line = format!(
        "{}: pack {}: {rules} patterns, {} callers, {} roles, {} points",
        pack.file,
        pack.name,
        pack.callers.len(),
        pack.roles.len(),
        pack.points.len()
    );
    let _ = writeln!(text, "{}", style.bold(&printable(&line)));
    for remark in remarks {
        let _ = writeln!(
            text,
            "{}:{}: {}",
            printable(&pack.file),
            remark.line,
            printable(&remark.what)
        );
    }
    if remarks.is_empty() {
        let _ = writeln!(text, "no remarks");
    }
    text
}

/// Which packs were chosen, and what their rules cover.
pub fn fits(profile: &Profile, coverage: &Coverage, style: Style) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}",
        style.bold(&format!("packs: {}", profile.packs.join(", ")))
    );
    let _ = writeln!(
        text,
        "% of {} samples with a phase: {} by the innermost function or a rule on callers, {} by the nearest caller, {} without",
        printable(&profile.event),
        percent(Some(coverage.leaf)),
        percent(Some(coverage.caller)),
        percent(Some(coverage.nothing)),
    );
    let mut rows = vec![
        ["self", "functions that no rule names"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let missed = coverage.missed.iter().take(MISSED);
    rows.extend(missed.map(|(name, share)| vec![percent(Some(*share)), printable(name)]));
    if rows.len() > 1 {
        text.push('\n');
        lines(&rows, style, &mut text);
    }
    let _ = writeln!(text, "\n{}", style.dim(&profile.trust.line()));
    text
}
