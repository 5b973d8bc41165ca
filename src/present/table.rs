//! A profile as tables for a terminal.

use super::style::{Style, duration, percent, printable};
use crate::analyse::estimate::Share;
use crate::analyse::{Grouping, Profile, Row, ThreadRow};
use std::fmt::Write as _;

/// The report: one table if `by` names it, else threads, phases and functions; at most `limit` rows each.
pub fn report(profile: &Profile, by: Option<Grouping>, limit: usize, style: Style) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", style.bold(&style.fit(&headline(profile))));
    for notice in &profile.notices {
        let line = format!("note: {}", printable(&notice.text));
        let _ = writeln!(text, "{}", style.fit(&line));
    }
    match by {
        None => {
            threads(profile, limit, style, &mut text);
            samples(profile, Grouping::Phase, limit, style, &mut text);
            samples(profile, Grouping::Symbol, limit, style, &mut text);
        }
        Some(Grouping::Thread) => threads(profile, limit, style, &mut text),
        Some(by) => samples(profile, by, limit, style, &mut text),
    }
    if profile.threads.iter().any(|t| t.estimate.is_some()) {
        let _ = writeln!(
            text,
            "\n~ estimated: no probes; a sample in a poll symbol of a pack counts as empty polling (`ledger` has the error)"
        );
    }
    let packs = format!("packs: {}", profile.packs.join(", "));
    let _ = writeln!(text, "\n{}", style.dim(&style.fit(&packs)));
    let _ = writeln!(text, "{}", style.dim(&profile.trust.line()));
    text
}

/// Columns of a headline that a command may take.
const COMMAND_COLUMNS: usize = 56;

/// What was recorded: the command, or the processes.
pub fn command(profile: &Profile) -> String {
    let session = &profile.session;
    let what = if session.command.is_empty() {
        let pids: Vec<_> = session.pids.iter().map(u32::to_string).collect();
        format!("process {}", pids.join(", "))
    } else {
        let program = session.command[0].rsplit('/').next().unwrap_or_default();
        let words = session.command[1..].iter().map(String::as_str);
        let command: Vec<_> = std::iter::once(program).chain(words).collect();
        // The whole command is in the recording; a title has to leave room for what was found out.
        let most = Style {
            width: Some(COMMAND_COLUMNS),
            colour: false,
        };
        most.fit(&command.join(" "))
    };
    printable(&what)
}

/// What was recorded, for how long, and how much of it was useful.
pub fn headline(profile: &Profile) -> String {
    let mut line = command(profile);
    if profile.wall_ns > 0 {
        let _ = write!(line, ": {}", duration(profile.wall_ns));
    }
    match profile.useful_share() {
        Some(share) => {
            let _ = write!(
                line,
                ", {} % of probed threads' CPU time useful",
                percent(Some(share))
            );
        }
        None => match profile.useful_estimate() {
            Some(share) => {
                let _ = write!(
                    line,
                    ", no probes: ~{} % of pollers' samples useful (estimated from poll symbols)",
                    percent(Some(share))
                );
            }
            None => {
                line.push_str(", no probes: useful work and empty polling cannot be told apart")
            }
        },
    }
    line
}

/// Columns to the right of their widest cell, the last one to the left.
pub(super) fn lines(rows: &[Vec<String>], style: Style, text: &mut String) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    for (at, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths).take(columns.saturating_sub(1)) {
            let _ = write!(line, "{cell:>width$}  ");
        }
        line.push_str(row.last().map_or("", String::as_str));
        let line = style.fit(line.trim_end());
        let _ = writeln!(text, "{}", if at == 0 { style.dim(&line) } else { line });
    }
}

fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn threads(profile: &Profile, limit: usize, style: Style, text: &mut String) {
    let _ = writeln!(text, "\n{}", style.bold("threads, % of each one's time"));
    let mut sorted: Vec<_> = profile.threads.iter().collect();
    sorted.sort_by(|a, b| b.on_cpu().total_cmp(&a.on_cpu()));
    let mut rows = vec![cells([
        "on cpu",
        "useful",
        "empty poll",
        "unknown",
        "off cpu",
        "samples",
        "pid/tid",
        "thread",
    ])];
    for thread in sorted.iter().take(limit) {
        let name = printable(&thread.name);
        rows.push(vec![
            percent(thread.timed(thread.on_cpu())),
            estimated(
                thread.useful(),
                thread.estimate.map(|e| e.empty.rest()),
                thread,
            ),
            estimated(
                thread.empty_poll(),
                thread.estimate.map(|e| e.empty),
                thread,
            ),
            percent(thread.timed(thread.unknown())),
            percent(thread.timed(thread.off_cpu())),
            thread.samples.to_string(),
            format!("{}/{}", thread.pid, thread.tid),
            if thread.probes {
                name
            } else {
                format!("{name} (no probes)")
            },
        ]);
    }
    lines(&rows, style, text);
    more(sorted.len(), limit, text);
}

/// A measured share, or one of samples with a tilde before it.
fn estimated(measured: Option<f64>, estimate: Option<Share>, thread: &ThreadRow) -> String {
    match (measured, estimate) {
        (None, Some(share)) => {
            let of_time = thread.timed(thread.on_cpu()).unwrap_or(1.0);
            format!("~{}", percent(Some(share.value * of_time)))
        }
        (measured, _) => percent(measured),
    }
}

fn samples(profile: &Profile, by: Grouping, limit: usize, style: Style, text: &mut String) {
    let what = match by {
        Grouping::Symbol => "functions",
        Grouping::Module => "modules",
        Grouping::Phase => "phases",
        Grouping::Thread => "threads",
    };
    let title = format!("{what}, % of {} samples", profile.event);
    let _ = writeln!(text, "\n{}", style.bold(title.trim_end()));
    let rows = profile.rows(by);
    if rows.is_empty() {
        let _ = writeln!(text, "no samples");
        return;
    }
    let mut table = vec![cells(["self", "total", "useful", "empty poll", what])];
    table.extend(rows.iter().take(limit).map(|row| {
        let tilde = if row.estimated > 0.0 { "~" } else { "" };
        vec![
            percent(Some(row.own)),
            percent(Some(row.total)),
            format!("{tilde}{}", percent(Some(row.useful))),
            format!("{tilde}{}", percent(Some(row.empty_poll))),
            label(row),
        ]
    }));
    lines(&table, style, text);
    more(rows.len(), limit, text);
}

fn label(row: &Row) -> String {
    let mut label = printable(&row.name);
    if let Some(why) = &row.why {
        let _ = write!(label, " ({})", printable(why));
    } else if !row.module.is_empty() {
        let _ = write!(label, "  {}", printable(&row.module));
    }
    if !row.source.is_empty() {
        let _ = write!(label, "  {}", printable(&row.source));
    }
    label
}

fn more(rows: usize, limit: usize, text: &mut String) {
    if rows > limit {
        let _ = writeln!(text, "and {} more: --limit shows them", rows - limit);
    }
}
