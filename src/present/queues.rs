//! Device queues as tables, and as JSON: `bypassprof.queues/1`.

use super::style::{Style, percent, printable};
use super::table::{headline, lines};
use crate::analyse::Profile;
use crate::analyse::flows::Flows;
use crate::analyse::queues::{CLASSES, Lane, Port, Queues, Row};
use serde::Serialize;
use std::fmt::Write as _;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const SCHEMA: &str = "bypassprof.queues/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    queues: &'a Queues,
}

/// Everything, for machines.
pub fn json(queues: &Queues) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Document {
        schema: SCHEMA,
        queues,
    })
}

/// Tables by thread, queue, burst size and port.
pub fn text(profile: &Profile, queues: &Queues, style: Style) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", style.bold(&style.fit(&headline(profile))));
    table(
        "lcores and other threads",
        LANE,
        queues.lanes.iter().map(lane),
        style,
        &mut text,
    );
    table(
        "queues, by thread",
        ROW,
        queues.rows.iter().map(row),
        style,
        &mut text,
    );
    let head: Vec<_> = CLASSES
        .iter()
        .enumerate()
        .map(|(at, _)| class(at))
        .collect();
    let mut head: Vec<&str> = head.iter().map(String::as_str).collect();
    head.push("queue");
    let sizes = queues.rows.iter().map(sizes);
    table("burst sizes, % of calls", &head, sizes, style, &mut text);
    table(
        "ports",
        PORT,
        queues.ports.iter().map(port),
        style,
        &mut text,
    );
    if !queues.pools.is_empty() {
        let pools = queues.pools.iter().map(|pool| {
            let last = &pool.last;
            vec![
                last.size.to_string(),
                count(last.free),
                count(pool.fewest_free),
                printable(&last.name),
            ]
        });
        table(
            "memory pools",
            &["objects", "free", "fewest free", "pool"],
            pools,
            style,
            &mut text,
        );
    }
    flows(&queues.flows, style, &mut text);
    let _ = writeln!(text, "\n{}", style.dim(&profile.trust.line()));
    text
}

/// Rows of flows that are printed.
const FLOWS: usize = 20;

fn flows(flows: &Flows, style: Style, text: &mut String) {
    if flows.rows.is_empty() {
        return;
    }
    let rows = flows.rows.iter().take(FLOWS).map(|flow| {
        let queues: Vec<_> = flow.queues.iter().map(String::as_str).collect();
        vec![
            flow.frames_in.to_string(),
            flow.frames_out.to_string(),
            flow.bytes.to_string(),
            flow.syn.to_string(),
            flow.fin.to_string(),
            flow.rst.to_string(),
            number(flow.mean_age_ns.map(|ns| ns / 1e3), 1),
            queues.join(" "),
            flow.flow.clone().unwrap_or_else(|| "none".to_owned()),
        ]
    });
    let head = [
        "received", "sent", "bytes", "SYN", "FIN", "RST", "age us", "queues", "flow",
    ];
    table(
        "flows, of frames that were looked at",
        &head,
        rows,
        style,
        text,
    );
    let more = flows.rows.len().saturating_sub(FLOWS);
    if more > 0 || flows.further_frames > 0 {
        let _ = writeln!(
            text,
            "and {more} flows more (--json has them), {} frames of flows beyond those that are told apart",
            flows.further_frames
        );
    }
}

fn table(
    title: &str,
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    style: Style,
    text: &mut String,
) {
    let _ = writeln!(text, "\n{}", style.bold(title));
    let mut all = vec![head.iter().map(|&cell| cell.to_owned()).collect()];
    all.extend(rows);
    lines(&all, style, text);
}

const LANE: &[&str] = &[
    "busy %",
    "polls",
    "empty %",
    "received",
    "sent",
    "ns/frame",
    "ticks/frame",
    "at most M/s",
    "thread",
];

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
}

fn count(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn part(some: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| some as f64 / all as f64)
}

fn lane(lane: &Lane) -> Vec<String> {
    vec![
        percent(lane.busy_share),
        lane.polls.to_string(),
        percent(part(lane.empty_polls, lane.polls)),
        lane.rx_frames.to_string(),
        lane.tx_frames.to_string(),
        number(lane.ns_per_frame, 1),
        number(lane.ticks_per_frame, 1),
        number(lane.frames_per_second_at_most.map(|f| f / 1e6), 2),
        format!("{} ({}/{})", printable(&lane.name), lane.pid, lane.tid),
    ]
}

const ROW: &[&str] = &[
    "calls",
    "empty %",
    "frames",
    "per burst",
    "refused",
    "one event in",
    "looked at",
    "bytes",
    "queue",
];

fn row(row: &Row) -> Vec<String> {
    vec![
        row.calls.to_string(),
        percent(part(row.empty, row.calls)),
        row.frames.to_string(),
        number(row.mean_burst, 1),
        count(row.refused),
        row.sampled.to_string(),
        row.looked_at.to_string(),
        number(row.mean_bytes, 0),
        format!("{}  {}", name(row), printable(&row.thread)),
    ]
}

fn name(row: &Row) -> String {
    let direction = if row.receives { "rx" } else { "tx" };
    let queue = row.queue.map_or_else(|| "?".to_owned(), |q| q.to_string());
    format!(
        "{}:{direction}{queue} {}",
        row.port,
        printable(&row.port_name)
    )
}

fn class(at: usize) -> String {
    let from = CLASSES[at];
    match CLASSES.get(at + 1) {
        Some(&next) if next == from + 1 => from.to_string(),
        Some(&next) => format!("{from}-{}", next - 1),
        None => format!("{from}+"),
    }
}

fn sizes(row: &Row) -> Vec<String> {
    let mut cells: Vec<_> = row
        .classes
        .iter()
        .map(|&share| percent(Some(share)))
        .collect();
    cells.push(name(row));
    cells
}

const PORT: &[&str] = &[
    "queues",
    "frames",
    "imbalance",
    "link Mbit/s",
    "missed",
    "no buffer",
    "port",
];

fn port(port: &Port) -> Vec<String> {
    let counter = |name: &str| {
        let device = port.device.as_ref().filter(|_| port.receives)?;
        device.counters.iter().find(|c| c.0 == name).map(|c| c.1)
    };
    let link = port.device.as_ref().and_then(|d| d.link_mbps);
    let direction = if port.receives { "rx" } else { "tx" };
    vec![
        port.queues.to_string(),
        port.frames.to_string(),
        number(port.imbalance, 2),
        count(link.map(u64::from)),
        count(counter("imissed")),
        count(counter("rx_nombuf")),
        format!("{} {direction} {}", port.port, printable(&port.name)),
    ]
}
