//! A ledger as bars: one for each account, its phases side by side in the colours they have everywhere.

use crate::analyse::ledger::{Account, Basis, Ledger, Level, meaning};
use crate::present::style::{percent, printable};
use std::fmt::Write as _;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 220.0;
const BAR: f64 = 26.0;
const STEP: f64 = 38.0;
const TOP: f64 = 56.0;
/// Space at the right edge.
const MARGIN: f64 = 20.0;
/// Width of a legend's entry and its height.
const LEGEND: (f64, f64) = (160.0, 18.0);
/// A part narrower than this has no room for its name.
const ROOM: f64 = 7.0;

/// Draws all accounts. The same ledger gives the same bytes.
pub fn svg(ledger: &Ledger) -> String {
    let accounts = &ledger.accounts;
    let mut phases: Vec<&'static str> = Vec::new();
    for entry in accounts.iter().flat_map(|a| &a.entries) {
        if !phases.contains(&entry.phase) {
            phases.push(entry.phase);
        }
    }
    let columns = ((WIDTH - 2.0 * MARGIN) / LEGEND.0) as usize;
    let legend_top = TOP + accounts.len() as f64 * STEP + 14.0;
    let legend_rows = phases.len().div_ceil(columns.max(1));
    let height = legend_top + legend_rows as f64 * LEGEND.1 + 40.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"Verdana, sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let of = if ledger.timed { "time" } else { "samples" };
    text(
        &mut out,
        (MARGIN, 24.0),
        16.0,
        &format!("Where the {of} went, % of each account"),
    );
    text(
        &mut out,
        (MARGIN, 42.0),
        11.0,
        &format!("packs: {}", ledger.packs.join(", ")),
    );
    for (at, account) in accounts.iter().enumerate() {
        bar(&mut out, account, TOP + at as f64 * STEP);
    }
    for (at, phase) in phases.iter().enumerate() {
        let x = MARGIN + (at % columns.max(1)) as f64 * LEGEND.0;
        let y = legend_top + (at / columns.max(1)) as f64 * LEGEND.1;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{}\"/>",
            colour(phase)
        );
        text(&mut out, (x + 17.0, y + 10.0), 11.0, phase);
    }
    text(
        &mut out,
        (MARGIN, height - 12.0),
        10.0,
        &ledger.trust.line(),
    );
    out.push_str("</svg>\n");
    out
}

fn bar(out: &mut String, account: &Account, y: f64) {
    let name = match account.level {
        Level::Program => "program".to_owned(),
        Level::Role => format!("{} ({})", account.name, account.threads),
        Level::Thread => account.name.clone(),
    };
    let most = 30;
    let short: String = name.chars().take(most).collect();
    text(out, (MARGIN, y + 17.0), 11.0, &short);
    let full = WIDTH - LEFT - MARGIN;
    let mut x = LEFT;
    for entry in &account.entries {
        let share = account.share(entry);
        let width = full * share.value;
        let basis = entry.basis.name();
        let _ = writeln!(
            out,
            "<g><title>{}: {} % ({basis}, {} to {}): {}</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{BAR}\" \
             fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"0.5\"{}/></g>",
            entry.phase,
            percent(Some(share.value)),
            percent(Some(share.low)),
            percent(Some(share.high)),
            meaning(entry.phase),
            colour(entry.phase),
            if entry.basis == Basis::Estimated {
                " stroke-dasharray=\"3 2\" opacity=\"0.75\""
            } else {
                ""
            },
        );
        if width > entry.phase.len() as f64 * ROOM + 4.0 {
            text(out, (x + 3.0, y + 17.0), 10.0, entry.phase);
        }
        x += width;
    }
}

/// The colour of a ledger's phase.
pub fn colour(phase: &str) -> String {
    let (r, g, b) = match phase {
        "off_cpu" => (245, 245, 245),
        "empty_poll" => flamegraphs::colour_of("poll"),
        // The loop's own turns in rounds of work are not what is grey elsewhere.
        "poll" => (140, 160, 180),
        phase => flamegraphs::colour_of(phase),
    };
    format!("rgb({r},{g},{b})")
}

fn text(out: &mut String, (x, y): (f64, f64), size: f64, words: &str) {
    let safe = printable(words)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\">{safe}</text>"
    );
}
