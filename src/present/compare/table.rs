//! A comparison as tables for a terminal.

use super::Pairs;
use crate::analyse::compare::interval::PRINTED;
use crate::analyse::compare::tally::Counted;
use crate::analyse::compare::workload::Remark;
use crate::analyse::compare::{Change, Comparison, Gap, Key, Side, Unit};
use crate::present::style::{Style, duration, printable};
use crate::present::table::{headline, lines};
use std::fmt::Write as _;

/// Rows of a gap that are smaller than this share of its whole are put together at a terminal.
const SMALL: f64 = 0.002;

/// All pairs, one after the other.
pub fn compare(pairs: &Pairs, style: Style) -> String {
    let mut text = String::new();
    for (at, (comparison, other, remarks)) in pairs.others.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        one(&pairs.first, comparison, other, remarks, style, &mut text);
    }
    for side in std::iter::once(&pairs.first).chain(pairs.others.iter().map(|o| &o.1)) {
        let line = format!("{}: {}", side.name, side.profile.trust.line());
        let _ = writeln!(text, "{}", style.dim(&printable(&line)));
    }
    text
}

fn one(
    first: &Side,
    comparison: &Comparison,
    other: &Side,
    remarks: &[Remark],
    style: Style,
    text: &mut String,
) {
    for (letter, side) in [("A", first), ("B", other)] {
        let what = format!("{letter}  {}: {}", side.name, headline(&side.profile));
        let _ = writeln!(text, "{}", style.bold(&style.fit(&printable(&what))));
        let _ = writeln!(text, "{}", style.fit(&format!("   {}", load(side))));
    }
    for remark in remarks {
        let _ = writeln!(text, "note: {}", printable(&remark.text));
    }
    if comparison.is_noise() {
        let _ = writeln!(text, "\n{}", style.bold("no significant difference"));
    } else if let Some(wall) = &comparison.wall {
        let rate = |wall: f64| 1e9 / wall.max(f64::MIN_POSITIVE);
        let title = format!(
            "requests a second: {:.0} -> {:.0} ({:+.1} %{})",
            rate(wall.a),
            rate(wall.b),
            (wall.a / wall.b.max(f64::MIN_POSITIVE) - 1.0) * 100.0,
            if wall.believed {
                ""
            } else {
                ", not significant"
            }
        );
        let _ = writeln!(text, "\n{}", style.bold(&title));
    }
    let (work, unit) = match comparison.unit {
        Unit::PerRequest => ("work on CPUs, ns for each request", ""),
        Unit::Share => (
            "work on CPUs, % of all threads' time or samples (estimated)",
            "%",
        ),
    };
    gap(&comparison.work, work, comparison.unit, unit, style, text);
    if let Some(latency) = &comparison.latency {
        gap(
            latency,
            "latency in the server, ns for each request",
            Unit::PerRequest,
            "",
            style,
            text,
        );
    }
    no_work(comparison, style, text);
    counts(comparison, style, text);
    let _ = writeln!(text);
}

/// How a side was loaded.
fn load(side: &Side) -> String {
    let mut line = String::new();
    let wall = side.value(Key::Wall);
    if wall.value > 0.0 {
        let rate = 1e9 / wall.value;
        let half = rate * wall.half(PRINTED) / wall.value;
        let _ = write!(
            line,
            "{rate:.0} +-{half:.0} requests/s on {} connections, {:.0} bytes each",
            side.tally.connections(),
            side.value(Key::Count(Counted::ReplyBytes)).value,
        );
        if let Some((p50, p99)) = side.percentiles {
            let _ = write!(
                line,
                "; in the server p50 {}, p99 {}",
                duration(p50),
                duration(p99)
            );
        }
    } else {
        line.push_str("no requests");
    }
    if let Some((from, to)) = side.loaded {
        let _ = write!(
            line,
            "; loaded from {:.1} to {:.1} s, {} windows",
            from as f64 / 1e9,
            to as f64 / 1e9,
            side.windows
        );
    }
    line
}

fn gap(gap: &Gap, title: &str, unit: Unit, sign: &str, style: Style, text: &mut String) {
    let change = &gap.change;
    let verdict = if change.believed {
        String::new()
    } else {
        ": no significant difference of the whole".to_owned()
    };
    let title = format!(
        "{title}: {}{sign} -> {}{sign}{verdict}",
        number(change.a, unit),
        number(change.b, unit)
    );
    let _ = writeln!(text, "\n{}", style.bold(&style.fit(&title)));
    let mut rows = vec![head(&[
        "change",
        "95 % interval",
        "A",
        "B",
        "",
        "known by",
        "part",
    ])];
    let least = SMALL * change.a.max(change.b);
    let (mut small, mut count) = (0.0, 0);
    for part in &gap.contributions {
        let c = &part.change;
        if !c.believed && c.by.abs() < least && c.a.max(c.b) < least {
            small += c.by;
            count += 1;
            continue;
        }
        let mut cells = cells(c, unit);
        cells.push(part.basis.name().to_owned());
        let split = part.split.filter(|_| c.believed).map(|s| {
            format!(
                " ({} of it by {:.2} -> {:.2} {} a request)",
                signed(s.by_count, unit),
                s.times[0],
                s.times[1],
                s.counted.name()
            )
        });
        cells.push(format!("{}{}", part.cause, split.unwrap_or_default()));
        rows.push(cells);
    }
    if count > 0 {
        let mut row = vec![signed(small, unit)];
        row.resize(6, String::new());
        row.push(format!("{count} small ones"));
        rows.push(row);
    }
    let mut all = cells(change, unit);
    all.extend([gap.basis.name().to_owned(), "all".to_owned()]);
    rows.push(all);
    lines(&rows, style, text);
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// Change, interval, both sides, and a mark on what is believed.
fn cells(change: &Change, unit: Unit) -> Vec<String> {
    vec![
        signed(change.by, unit),
        format!(
            "{} to {}",
            signed(change.low, unit),
            signed(change.high, unit)
        ),
        number(change.a, unit),
        number(change.b, unit),
        if change.believed { "*" } else { "" }.to_owned(),
    ]
}

fn no_work(comparison: &Comparison, style: Style, text: &mut String) {
    if comparison.no_work.is_empty() {
        return;
    }
    let title = match comparison.unit {
        Unit::PerRequest => "no work: threads' time in ns for each request",
        Unit::Share => "no work, % of all threads' time or samples",
    };
    let _ = writeln!(text, "\n{}", style.bold(title));
    let mut rows = vec![head(&["change", "95 % interval", "A", "B", "", "row"])];
    for (row, change) in &comparison.no_work {
        let mut cells = cells(change, comparison.unit);
        cells.push((*row).to_owned());
        rows.push(cells);
    }
    lines(&rows, style, text);
}

fn counts(comparison: &Comparison, style: Style, text: &mut String) {
    if comparison.counts.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", style.bold("done for each request"));
    let mut rows = vec![head(&["change", "95 % interval", "A", "B", "", "what"])];
    for (what, c) in &comparison.counts {
        let sure = if c.believed { "*" } else { "" };
        // As many digits as the larger side needs.
        let digits = if c.a.max(c.b) >= 1000.0 { 0 } else { 3 };
        if !c.believed && format!("{:.digits$}", c.by.abs()) == format!("{:.digits$}", 0.0) {
            let (a, what) = (format!("{:.digits$}", c.a), what.name().to_owned());
            let same = [
                "0".to_owned(),
                String::new(),
                a.clone(),
                a,
                String::new(),
                what,
            ];
            rows.push(same.into());
            continue;
        }
        rows.push(vec![
            format!("{:+.digits$}", c.by),
            format!("{:+.digits$} to {:+.digits$}", c.low, c.high),
            format!("{:.digits$}", c.a),
            format!("{:.digits$}", c.b),
            sure.to_owned(),
            what.name().to_owned(),
        ]);
    }
    lines(&rows, style, text);
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerRequest => format!("{value:.0}"),
        Unit::Share => format!("{:.1}", 100.0 * value),
    }
}

fn signed(value: f64, unit: Unit) -> String {
    match unit {
        // No minus before nothing.
        Unit::PerRequest if value.abs() < 0.5 => "0".to_owned(),
        Unit::PerRequest => format!("{value:+.0}"),
        Unit::Share => format!("{:+.1}", 100.0 * value),
    }
}
