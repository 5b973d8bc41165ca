//! Counts as a table, as lines for each interval, and as JSON: `bypassprof.stat/1`, documented in
//! `docs/reference/stat.md`.

use super::style::{Style, duration, percent, printable};
use super::table::lines;
use crate::analyse::Trust;
use crate::analyse::apart::Apart;
use crate::analyse::counts::{Count, Counts, Ratio};
use crate::analyse::profile::Work;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const STAT_SCHEMA: &str = "bypassprof.stat/1";

/// Everything that is told.
pub struct Document<'a> {
    /// What was counted.
    pub what: String,
    /// The counts.
    pub counts: &'a Counts,
    /// The same of each thread, where that was asked for.
    pub apart: Option<&'a Apart>,
    /// What the user should know.
    pub notices: Vec<(&'a str, &'a str)>,
    /// How far to trust it.
    pub trust: &'a Trust,
    /// Whether it was counted now, not read from a recording.
    pub live: bool,
}

/// For a terminal.
pub fn table(document: &Document, style: Style) -> String {
    let counts = document.counts;
    let mut text = String::new();
    let mut headline = format!(
        "{}: {}",
        printable(&document.what),
        duration(counts.elapsed_ns)
    );
    if let Some(deviation) = counts.elapsed_deviation_ns {
        let share = deviation / counts.elapsed_ns.max(1) as f64;
        let _ = write!(
            headline,
            " +-{} %, {} runs",
            percent(Some(share)),
            counts.runs
        );
    }
    let _ = writeln!(text, "{}", style.bold(&style.fit(&headline)));
    for (_, notice) in &document.notices {
        let _ = writeln!(
            text,
            "{}",
            style.fit(&format!("note: {}", printable(notice)))
        );
    }
    text.push('\n');
    events(counts, style, &mut text);
    if let Some(apart) = document.apart {
        threads(apart, style, &mut text);
    }
    if let Some(work) = &counts.work {
        let share = (work.rounds > 0).then(|| work.empty_rounds as f64 / work.rounds as f64);
        let _ = writeln!(
            text,
            "\nprobes: {} frames received, {} sent, {} requests, {} polls, {} % of them empty",
            work.rx_packets,
            work.tx_packets,
            work.requests,
            work.rounds,
            percent(share)
        );
    }
    let _ = writeln!(text, "\n{}", style.dim(&trust(document)));
    text
}

/// Threads in the table; JSON has all.
const MOST_THREADS: usize = 20;

fn threads(apart: &Apart, style: Style, text: &mut String) {
    for thread in apart.threads.iter().take(MOST_THREADS) {
        let title = format!("thread {} {}", thread.tid, printable(&thread.name));
        let _ = writeln!(text, "\n{}", style.bold(title.trim_end()));
        let counted = Counts {
            // Why there is no count is told once, of all.
            counts: those(&thread.counts.counts, |_| true),
            ..thread.counts.clone()
        };
        events(&counted, style, text);
    }
    let more = apart.threads.len().saturating_sub(MOST_THREADS);
    if more > 0 {
        let _ = writeln!(text, "\n{more} more threads: --json has them");
    }
    let rest = Counts {
        counts: those(&apart.rest, |value| value > 0.0),
        ..Counts::default()
    };
    if !rest.counts.is_empty() {
        let title = "no thread by itself: what was done before a thread was seen, or by threads that ended sooner";
        let _ = writeln!(text, "\n{}", style.bold(&style.fit(title)));
        events(&rest, style, text);
    }
}

/// What was counted and is wanted.
fn those(counts: &[Count], wanted: impl Fn(f64) -> bool) -> Vec<Count> {
    let some = |c: &&Count| c.value.is_some_and(&wanted);
    counts.iter().filter(some).cloned().collect()
}

/// Of a recording its own line; of what was only counted what can be wrong with counts.
fn trust(document: &Document) -> String {
    if !document.live {
        return document.trust.line();
    }
    let counts = &document.counts.counts;
    let there = counts.iter().filter(|c| c.value.is_some()).count();
    let scaled = counts.iter().filter(|c| c.scaled_from.is_some()).count();
    format!(
        "trust: {there} of {} events counted, {scaled} of them scaled; {} events of probes, {} dropped; recorder {} % of a CPU",
        counts.len(),
        document.trust.events,
        document.trust.events_dropped,
        percent(document.trust.observer_share)
    )
}

fn events(counts: &Counts, style: Style, text: &mut String) {
    let several = counts.runs > 1;
    let of_work = counts.work.is_some();
    let mut titles = vec!["count"];
    if several {
        titles.push("+-%");
    }
    titles.push("% of time");
    if of_work {
        titles.extend(["a packet", "a request"]);
    }
    titles.push("event");
    let mut rows = vec![titles.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    let counted = counts.counts.iter().filter(|c| c.value.is_some());
    for count in counted {
        let value = count.value.unwrap_or(0.0);
        let tilde = if count.scaled_from.is_some() { "~" } else { "" };
        let mut row = vec![format!("{tilde}{}", number(value, &count.unit))];
        if several {
            row.push(percent(
                count
                    .deviation
                    .map(|d| if value > 0.0 { d / value } else { 0.0 }),
            ));
        }
        row.push(percent(count.running_share));
        if of_work {
            let part =
                |value: Option<f64>| value.map_or("-".to_owned(), |v| number(v, &count.unit));
            row.extend([part(count.per_packet), part(count.per_request)]);
        }
        row.push(beside(count, &counts.ratios));
        rows.push(row);
    }
    if rows.len() > 1 {
        lines(&rows, style, text);
    }
    // The same reason is told once.
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for count in counts.counts.iter().filter(|c| c.value.is_none()) {
        let why = count.why.as_deref().unwrap_or("not known");
        match reasons.iter_mut().find(|r| r.0 == why) {
            Some((_, names)) => names.push(&count.name),
            None => reasons.push((why, vec![&count.name])),
        }
    }
    for (why, names) in reasons {
        let line = format!("not counted: {}: {why}", printable(&names.join(", ")));
        let _ = writeln!(text, "{}", style.fit(&line));
    }
}

/// An event's name and what is told beside it.
fn beside(count: &Count, ratios: &[Ratio]) -> String {
    let mut text = printable(&count.name);
    let mut rest = Vec::new();
    for ratio in ratios.iter().filter(|r| r.beside == count.name) {
        rest.push(if ratio.share {
            format!("{} % {}", percent(Some(ratio.value)), ratio.what)
        } else {
            format!("{:.3} {}", ratio.value, ratio.what)
        });
    }
    if rest.is_empty() && count.unit != "ns" {
        rest.extend(
            count
                .per_second
                .map(|r| format!("{}/s", number(r, &count.unit))),
        );
    }
    if !rest.is_empty() {
        let _ = write!(text, "  {}", rest.join(", "));
    }
    text
}

/// A count in its unit; whole numbers with their thousands apart.
fn number(value: f64, unit: &str) -> String {
    match unit {
        "ns" => duration(value as u64),
        "" if value < 100.0 && value.fract() != 0.0 => format!("{value:.2}"),
        "" => {
            let digits = format!("{:.0}", value);
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        unit => format!("{value:.3} {unit}"),
    }
}

/// One interval: a line for each event, or one line of JSON.
pub fn interval(counts: &Counts, now: Duration, as_json: bool) -> String {
    if as_json {
        let interval = Interval {
            interval_end_ns: now.as_nanos() as u64,
            interval_ns: counts.elapsed_ns,
            counters: counts.counts.iter().map(counter).collect(),
        };
        // Numbers and strings always encode.
        return serde_json::to_string(&interval).unwrap_or_default() + "\n";
    }
    let mut text = String::new();
    for count in &counts.counts {
        let value = count
            .value
            .map_or("-".to_owned(), |v| number(v, &count.unit));
        let share = match count.running_share {
            Some(share) if share < 0.9995 => format!("  ({} % of time)", percent(Some(share))),
            _ => String::new(),
        };
        let beside = beside(count, &counts.ratios);
        let _ = writeln!(
            text,
            "{:>10.3}  {value:>18}  {beside}{share}",
            now.as_secs_f64()
        );
    }
    text
}

#[derive(Serialize)]
struct Interval<'a> {
    interval_end_ns: u64,
    interval_ns: u64,
    counters: Vec<Counter<'a>>,
}

#[derive(Serialize)]
struct Stat<'a> {
    schema: &'static str,
    command: &'a str,
    runs: usize,
    elapsed_ns: u64,
    elapsed_deviation_ns: Option<f64>,
    counters: Vec<Counter<'a>>,
    ratios: Vec<RatioJson<'a>>,
    packets: Option<Packets>,
    polls: Option<u64>,
    empty_polls: Option<u64>,
    requests: Option<u64>,
    threads: Vec<Thread<'a>>,
    rest: Option<Vec<Counter<'a>>>,
    notices: Vec<NoticeText<'a>>,
    trust: &'a Trust,
}

#[derive(Serialize)]
struct Counter<'a> {
    name: &'a str,
    value: Option<f64>,
    scaled_from: Option<u64>,
    running_share: Option<f64>,
    unit: &'a str,
    deviation: Option<f64>,
    per_second: Option<f64>,
    per_packet: Option<f64>,
    per_request: Option<f64>,
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct RatioJson<'a> {
    id: &'a str,
    event: &'a str,
    value: f64,
    what: &'a str,
}

#[derive(Serialize)]
struct NoticeText<'a> {
    id: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Packets {
    rx: u64,
    tx: u64,
}

#[derive(Serialize)]
struct Thread<'a> {
    tid: u32,
    name: &'a str,
    counters: Vec<Counter<'a>>,
    ratios: Vec<RatioJson<'a>>,
}

fn counter(count: &Count) -> Counter<'_> {
    Counter {
        name: &count.name,
        value: count.value,
        scaled_from: count.scaled_from,
        running_share: count.running_share,
        unit: &count.unit,
        deviation: count.deviation,
        per_second: count.per_second,
        per_packet: count.per_packet,
        per_request: count.per_request,
        why: count.why.as_deref(),
    }
}

fn ratio(ratio: &Ratio) -> RatioJson<'_> {
    RatioJson {
        id: &ratio.id,
        event: &ratio.beside,
        value: ratio.value,
        what: &ratio.what,
    }
}

/// For machines.
pub fn json(document: &Document) -> serde_json::Result<String> {
    let counts = document.counts;
    let of_work = |of: fn(&Work) -> u64| counts.work.as_ref().map(of);
    let threads = document.apart.into_iter().flat_map(|apart| &apart.threads);
    let threads = threads.map(|thread| Thread {
        tid: thread.tid,
        name: &thread.name,
        counters: thread.counts.counts.iter().map(counter).collect(),
        ratios: thread.counts.ratios.iter().map(ratio).collect(),
    });
    serde_json::to_string_pretty(&Stat {
        schema: STAT_SCHEMA,
        command: &document.what,
        runs: counts.runs,
        elapsed_ns: counts.elapsed_ns,
        elapsed_deviation_ns: counts.elapsed_deviation_ns,
        counters: counts.counts.iter().map(counter).collect(),
        ratios: counts.ratios.iter().map(ratio).collect(),
        packets: counts.work.as_ref().map(|w| Packets {
            rx: w.rx_packets,
            tx: w.tx_packets,
        }),
        polls: of_work(|w| w.rounds),
        empty_polls: of_work(|w| w.empty_rounds),
        requests: of_work(|w| w.requests),
        threads: threads.collect(),
        rest: document
            .apart
            .map(|apart| apart.rest.iter().map(counter).collect()),
        notices: document
            .notices
            .iter()
            .map(|&(id, text)| NoticeText { id, text })
            .collect(),
        trust: document.trust,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts as people read them.
    #[test]
    fn numbers() {
        assert_eq!(number(1_234_567.0, ""), "1,234,567");
        assert_eq!(number(999.0, ""), "999");
        assert_eq!(number(2.5, ""), "2.50");
        assert_eq!(number(1_500_000.0, "ns"), "1.5 ms");
        assert_eq!(number(2.0, "Joules"), "2.000 Joules");
    }
}
