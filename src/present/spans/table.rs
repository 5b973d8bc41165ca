//! Stages of requests as a table, and single requests as timelines.

use crate::analyse::latency::moment::Moment;
use crate::analyse::latency::stage_behind;
use crate::analyse::spans::{
    BEHIND, Counts, EventTrust, Kind, OUTSIDE, PARTS, STAGES, Spans, Timeline,
};
use crate::present::latency::waiting_for;
use crate::present::style::{Style, duration, percent, printable};
use crate::present::table::lines;
use std::fmt::Write as _;

/// Columns of a timeline's bar.
const BAR: usize = 40;

/// The table of stages, what is left out of it, and the slowest requests with what threads did in their stages. `what`
/// names the requests in it.
pub fn spans(spans: &Spans, moments: &[[Moment; PARTS]], what: &str, style: Style) -> String {
    let mut text = String::new();
    let counts = &spans.counts;
    let _ = writeln!(
        text,
        "{}",
        style.bold(&format!("{} {what}", counts.complete))
    );
    if counts.complete > 0 {
        stages(spans, style, &mut text);
        with_them(spans, style, &mut text);
    }
    text.push_str(&left_out(counts));
    for (at, timeline) in spans.slowest.iter().enumerate() {
        text.push('\n');
        one(timeline, moments.get(at), style, &mut text);
    }
    let _ = writeln!(text, "\n{}", style.dim(&printable(&trust(&spans.trust))));
    text
}

/// The line of trust of an answer that rests on events alone.
fn trust(trust: &EventTrust) -> String {
    let mut line = format!(
        "trust: {} events of {} rings, {} slots dropped; clock +-{}; recorder {}",
        trust.events,
        trust.rings,
        trust.dropped,
        trust
            .clock_error_ns
            .map_or("unknown".into(), |ns| format!("{ns} ns")),
        trust.observer_share.map_or("unknown".into(), |s| format!(
            "{} % of a CPU",
            percent(Some(s))
        )),
    );
    if trust.unreached > 0 {
        let _ = write!(line, "; {} rings not reached", trust.unreached);
    }
    if let Some(damage) = &trust.damage {
        let _ = write!(line, "; file damaged: {damage}");
    }
    if let Some(part) = &trust.filtered {
        let _ = write!(line, "; {part}");
    }
    line
}

fn stages(spans: &Spans, style: Style, text: &mut String) {
    let head = [
        "share", "mean", "p50", "p90", "p99", "p99.9", "max", "requests", "kind", "stage",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let Some(total) = spans.stages.last() else {
        return;
    };
    let sum = |h: &hdrhistogram::Histogram<u64>| h.mean() * h.len() as f64;
    for (stage, histogram) in STAGES.iter().zip(&spans.stages) {
        if histogram.is_empty() {
            continue;
        }
        let at = |q: f64| duration(histogram.value_at_quantile(q));
        rows.push(vec![
            percent(Some(sum(histogram) / sum(total).max(1.0))),
            duration(histogram.mean() as u64),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            duration(histogram.max()),
            histogram.len().to_string(),
            kind(stage.name, stage.kind).to_owned(),
            stage.name.to_owned(),
        ]);
    }
    lines(&rows, style, text);
    behind(spans, style, text);
    outside(spans, style, text);
}

/// What lies between requests: what no stage of them can shorten.
fn outside(spans: &Spans, style: Style, text: &mut String) {
    let Some(share) = spans.outside_share() else {
        return;
    };
    let line = format!(
        "outside: {} % of connections' time, {} on average: {}",
        percent(Some(share)),
        duration(spans.outside.mean() as u64),
        OUTSIDE.what
    );
    let _ = writeln!(text, "{}", style.fit(&line));
}

/// Of the stages above, the time in which others were handled first.
fn behind(spans: &Spans, style: Style, text: &mut String) {
    let Some(total) = spans.stages.last() else {
        return;
    };
    for (whom, histogram) in BEHIND.iter().zip(&spans.behind) {
        let share = histogram.mean() * histogram.len() as f64 / total.mean().max(1.0);
        let share = share / total.len().max(1) as f64;
        if share < 0.0005 {
            continue;
        }
        let line = format!(
            "behind others: {} % of their time, {} of {} requests for {} on average: {}",
            percent(Some(share)),
            histogram.len(),
            total.len(),
            duration(histogram.mean() as u64),
            whom.what
        );
        let _ = writeln!(text, "{}", style.fit(&line));
    }
}

fn kind(name: &str, kind: Kind) -> &'static str {
    match (name, kind) {
        ("total", _) => "",
        (_, Kind::Work) => "work",
        (_, Kind::Wait) => "wait",
    }
}

/// What came with the requests: segments, ACKs, bursts.
fn with_them(spans: &Spans, style: Style, text: &mut String) {
    let counts = &spans.counts;
    let mut parts = Vec::new();
    if counts.segments > 0 {
        let of = counts.complete as f64;
        parts.push(format!(
            "{:.2} data segments a reply",
            counts.segments as f64 / of
        ));
    }
    if counts.segments > 0 || counts.acks > 0 {
        parts.push(format!(
            "{} segments with only an ACK in the recording",
            counts.acks
        ));
    }
    if counts.retransmissions > 0 {
        parts.push(format!("{} segments sent again", counts.retransmissions));
    }
    for (count, what) in [
        (counts.detours, "packets left the fast path"),
        (
            counts.stalls,
            "times a flow had to send and did not for long",
        ),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    for (histogram, name) in spans.bursts.iter().zip(["receive", "transmit"]) {
        if !histogram.is_empty() {
            parts.push(format!(
                "{:.1} frames a {name} burst (most {})",
                histogram.mean(),
                histogram.max()
            ));
        }
    }
    if !parts.is_empty() {
        let _ = writeln!(text, "{}", style.fit(&parts.join("; ")));
    }
}

fn left_out(counts: &Counts) -> String {
    let mut text = format!(
        "in the table: {} pipelined, {} split\n",
        counts.pipelined, counts.split
    );
    let _ = writeln!(
        text,
        "left out: {} torn (events lost), {} not ended, {} without a beginning, {} late events",
        counts.torn, counts.unfinished, counts.headless, counts.late
    );
    text
}

/// One request: each stage a line with its part of the way, its thread, and what that did or waited for.
fn one(timeline: &Timeline, moments: Option<&[Moment; PARTS]>, style: Style, text: &mut String) {
    let [input, app, output] = &timeline.threads;
    let mut threads: Vec<&str> = Vec::new();
    for name in [input, app, output] {
        if !name.is_empty() && !threads.contains(&name.as_str()) {
            threads.push(name);
        }
    }
    let title = format!(
        "{} at {:.6} s, flow {:08x}, {} data segments, {} only ACK, by {}",
        duration(timeline.total),
        timeline.began.ns() as f64 / 1e9,
        timeline.flow,
        timeline.segments.0,
        timeline.segments.1,
        printable(&threads.join(", "))
    );
    let _ = writeln!(text, "{}", style.bold(&style.fit(&title)));
    let total = timeline.total.max(1);
    let mut at = 0u64;
    for (place, length) in timeline.stages.iter().enumerate() {
        let (stage, Some(length)) = (STAGES[place], *length) else {
            continue;
        };
        let column = |ns: u64| (u128::from(ns) * BAR as u128 / u128::from(total)) as usize;
        let (from, to) = (column(at), column(at + length).max(column(at)));
        let mark = if stage.kind == Kind::Work { '#' } else { '.' };
        let mut bar: String = " ".repeat(from);
        bar.extend(std::iter::repeat_n(mark, to - from));
        at += length;
        let mut line = format!(
            "  {:>11}  {:>10}  |{bar:<BAR$}|",
            stage.name,
            duration(length)
        );
        let told = told(timeline, place, length, moments.map(|m| &m[place]));
        if !told.is_empty() {
            let _ = write!(line, "  {told}");
        }
        let _ = writeln!(text, "{}", style.fit(line.trim_end()));
    }
}

/// What is known of a stage: its thread, what it waited for, and what the thread was sampled in.
fn told(timeline: &Timeline, place: usize, length: u64, moment: Option<&Moment>) -> String {
    let mut parts = Vec::new();
    if let Some(moment) = moment.filter(|m| !m.thread.is_empty() && length > 0) {
        parts.push(printable(&moment.thread));
    }
    if STAGES[place].kind == Kind::Wait && length > 0 {
        parts.push(waiting_for(place).to_owned());
    }
    for (whom, &ns) in timeline.behind.iter().enumerate() {
        if ns > 0 && stage_behind(whom) == place {
            parts.push(format!("{} behind {}", duration(ns), BEHIND[whom].name));
        }
    }
    if let Some(moment) = moment {
        if moment.off_cpu > 0 {
            parts.push(format!("off CPU {}", duration(moment.off_cpu)));
        }
        let functions = moment.functions.iter();
        let functions: Vec<_> = functions
            .map(|(name, count)| format!("{} {count}", printable(name)))
            .collect();
        if !functions.is_empty() {
            parts.push(format!("sampled in {}", functions.join(", ")));
        }
    }
    parts.join("; ")
}
