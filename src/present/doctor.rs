//! What a machine allows, line by line, and as JSON: `bypassprof.doctor/1`.

use super::style::{Style, printable};
use serde::Serialize;
use std::fmt::Write as _;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// Short stable name.
    pub id: &'a str,
    /// `ok`, `limits`, `no` or `unknown`.
    pub state: &'a str,
    /// What was found.
    pub found: &'a str,
    /// What that prevents; empty if nothing.
    pub prevents: &'a str,
    /// The command that changes it; empty if none.
    pub fix: &'a str,
}

/// A line each; below it what is prevented and what fixes it, which are never cut: they are to be copied.
pub fn table(checks: &[Line], style: Style) -> String {
    let width = checks.iter().map(|c| c.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let line = format!(
            "{:<7}  {:<width$}  {}",
            check.state,
            check.id,
            printable(check.found)
        );
        let bad = !check.prevents.is_empty();
        let _ = writeln!(text, "{}", if bad { style.bold(&line) } else { line });
        if bad {
            let _ = writeln!(text, "{:9}prevents: {}", "", printable(check.prevents));
        }
        if !check.fix.is_empty() {
            let _ = writeln!(text, "{:9}fix:      {}", "", printable(check.fix));
        }
    }
    let bad = checks.iter().filter(|c| !c.prevents.is_empty()).count();
    let _ = writeln!(
        text,
        "\n{} looked at, {bad} in the way of something",
        checks.len()
    );
    text
}

#[derive(Serialize)]
struct Doctor<'a> {
    schema: &'static str,
    checks: &'a [Line<'a>],
}

/// For machines.
pub fn json(checks: &[Line]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Doctor {
        schema: "bypassprof.doctor/1",
        checks,
    })
}
