//! Events as a list, and as JSON: `bypassprof.list/1`.

use super::style::{Style, printable};
use super::table::lines;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// An event.
#[derive(Clone, Debug, Serialize)]
pub struct Entry<'a> {
    /// What kind it is of.
    pub kind: &'a str,
    /// As it is asked for.
    pub name: &'a str,
    /// What it stands for.
    pub about: &'a str,
    /// Why it cannot be had.
    pub why: Option<&'a str>,
}

/// A list, kind by kind. Unless `all` are wanted, tracepoints are only counted by system.
pub fn table(entries: &[Entry], all: bool, style: Style) -> String {
    let mut text = String::new();
    let mut kinds: Vec<&str> = Vec::new();
    for entry in entries {
        if !kinds.contains(&entry.kind) {
            kinds.push(entry.kind);
        }
    }
    for kind in kinds {
        let of_kind: Vec<_> = entries.iter().filter(|e| e.kind == kind).collect();
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{}", style.bold(&printable(kind)));
        if kind == "tracepoint" && !all {
            systems(&of_kind, style, &mut text);
            continue;
        }
        // A reason that all share is told once.
        let first = of_kind.first().and_then(|e| e.why);
        let shared = first.filter(|why| of_kind.iter().all(|e| e.why.is_none_or(|w| w == *why)));
        if let Some(why) = shared {
            let _ = writeln!(
                text,
                "{}",
                style.fit(&format!("those marked no: {}", printable(why)))
            );
        }
        let mut rows = vec![["", "event", ""].map(str::to_owned).to_vec()];
        rows.extend(of_kind.iter().map(|e| {
            let why = e.why.filter(|_| shared.is_none()).unwrap_or("");
            let about = if why.is_empty() { e.about } else { why };
            vec![
                if e.why.is_some() { "no" } else { "yes" }.to_owned(),
                printable(e.name),
                printable(about),
            ]
        }));
        lines(&rows, style, &mut text);
    }
    text
}

fn systems(entries: &[&Entry], style: Style, text: &mut String) {
    let mut systems: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        let system = entry.name.split(':').next().unwrap_or_default();
        *systems.entry(system).or_default() += 1;
    }
    if let Some(why) = entries.first().and_then(|e| e.why) {
        let _ = writeln!(text, "{}", style.fit(&format!("no: {}", printable(why))));
    }
    let names: Vec<_> = systems
        .iter()
        .map(|(s, n)| format!("{s}:* ({n})"))
        .collect();
    let mut line = String::new();
    for name in names {
        if line.len() + name.len() > style.width.unwrap_or(120) {
            let _ = writeln!(text, "{}", line.trim_end());
            line.clear();
        }
        line.push_str(&name);
        line.push(' ');
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

#[derive(Serialize)]
struct List<'a> {
    schema: &'static str,
    events: &'a [Entry<'a>],
}

/// For machines.
pub fn json(entries: &[Entry]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&List {
        schema: "bypassprof.list/1",
        events: entries,
    })
}
