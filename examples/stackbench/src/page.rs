//! The demo's outcome as a table for a terminal and as a page with the pictures.
//!
//! In: runs; out: text and one HTML file beside the pictures, which it refers to by name.

use crate::demo::Run;
use crate::site::Stack;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

/// A run's figures as they are shown.
struct Row {
    stack: &'static str,
    connections: u32,
    rate: String,
    p50: String,
    p99: String,
    shares: [String; 3],
    samples: String,
    lost: u64,
    errors: u64,
    note: &'static str,
}

/// The server's thread: of those with probes the one with most samples.
fn server_thread(report: &Value) -> Option<&Value> {
    let threads = report["threads"].as_array()?;
    let probed = threads.iter().filter(|t| t["probes"] == true);
    probed.max_by_key(|t| t["samples"].as_u64())
}

fn row(run: &Run, kernel_seen: bool) -> Row {
    let thread = server_thread(&run.report);
    let share = |key: &str| {
        let share = thread.and_then(|t| t[key].as_f64());
        share.map_or("-".to_string(), |s| format!("{:.1}", s * 100.0))
    };
    let count = |key: &str| run.report["trust"][key].as_u64().unwrap_or(0);
    let us = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
    Row {
        stack: run.stack.name(),
        connections: run.connections,
        rate: format!("{:.0}", run.figures.requests_per_second),
        p50: us(run.figures.latency_ns.p50),
        p99: us(run.figures.latency_ns.p99),
        shares: [
            share("useful_share"),
            share("empty_poll_share"),
            share("off_cpu_share"),
        ],
        samples: run.report["trust"]["samples"].to_string(),
        lost: count("samples_lost") + count("events_dropped"),
        errors: run.figures.errors,
        note: match run.stack {
            Stack::Linux if !kernel_seen => "kernel not seen",
            _ => "",
        },
    }
}

/// The table on the terminal.
pub fn table(runs: &[Run], kernel_seen: bool) -> String {
    let mut text = String::from(
        "server      connections  requests/s  p50 us  p99 us  errors  useful %  empty poll %  off CPU %  samples  lost\n",
    );
    for run in runs {
        let row = row(run, kernel_seen);
        let line = format!(
            "{:<10}  {:>11}  {:>10}  {:>6}  {:>6}  {:>6}  {:>8}  {:>12}  {:>9}  {:>7}  {:>4}  {}",
            row.stack,
            row.connections,
            row.rate,
            row.p50,
            row.p99,
            row.errors,
            row.shares[0],
            row.shares[1],
            row.shares[2],
            row.samples,
            row.lost,
            row.note
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("shares are of the server thread's time; lost: samples and events\n");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #8884}\
td:first-child,th:first-child{text-align:left}object{width:100%;border:1px solid #8884;background:#fff}\
.note{opacity:.8}@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}a{color:#8cf}}";

/// Writes `index.html`.
pub fn write(out: &Path, runs: &[Run], kernel_seen: bool) -> io::Result<()> {
    let mut servers: Vec<_> = runs.iter().map(|run| run.stack).collect();
    servers.dedup();
    let servers = servers.len();
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>bypassprof demo</title><style>{STYLE}</style>\
         <h1>{servers} servers, two loads</h1>\n<p>64-byte replies over a veth pair. In each picture the lowest row splits the time: \
         <b>useful</b> rounds did something, <b>empty polling</b> found nothing to do.</p>\n"
    );
    if !kernel_seen {
        html.push_str("<p class=note>Without root: kernel code is not seen in any of these, and the linux row is not comparable.</p>\n");
    }
    html.push_str("<table><tr><th>server<th>connections<th>requests/s<th>p50 us<th>p99 us<th>errors<th>useful %<th>empty poll %<th>off CPU %<th>samples<th>lost<th></tr>\n");
    for run in runs {
        let r = row(run, kernel_seen);
        let _ = writeln!(
            html,
            "<tr><td><a href='#{}'>{}</a><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            run.stem,
            r.stack,
            r.connections,
            r.rate,
            r.p50,
            r.p99,
            r.errors,
            r.shares[0],
            r.shares[1],
            r.shares[2],
            r.samples,
            r.lost,
            r.note
        );
    }
    html.push_str("</table>\n<p class=note>Shares are of the server thread's time; lost counts samples and events.</p>\n");
    for run in runs {
        section(&mut html, run, out);
    }
    fs::write(out.join("index.html"), html)
}

fn section(html: &mut String, run: &Run, out: &Path) {
    let stem = &run.stem;
    let s = if run.connections == 1 { "" } else { "s" };
    let _ = write!(
        html,
        "<h2 id='{stem}'>{}, {} connection{s}</h2>\n<object type='image/svg+xml' data='{stem}.svg'></object>\n<p>",
        run.stack.name(),
        run.connections
    );
    let mut links = vec![(format!("{stem}.svg"), "picture")];
    if out.join(format!("{stem}-busy.svg")).exists() {
        links.push((format!("{stem}-busy.svg"), "useful work only"));
    }
    links.push((format!("{stem}.mcap"), "recording"));
    for (file, text) in links {
        let _ = write!(html, "<a href='{file}'>{text}</a> &middot; ");
    }
    let _ = writeln!(html, "<span class=note>{}</span></p>", trust(&run.report));
}

/// The report's notices and how far it can be trusted.
fn trust(report: &Value) -> String {
    let trust = &report["trust"];
    let percent = |key: &str| trust[key].as_f64().unwrap_or(0.0) * 100.0;
    let mut text = format!(
        "{} samples, {} lost; stacks {:.1} % truncated, {:.1} % unknown; {} events, {} dropped; clock +-{} ns",
        trust["samples"],
        trust["samples_lost"],
        percent("stacks_truncated_share"),
        percent("stacks_unknown_share"),
        trust["events"],
        trust["events_dropped"],
        trust["clock_error_ns"]
    );
    for notice in report["notices"].as_array().into_iter().flatten() {
        text.push_str("; ");
        text.push_str(notice["text"].as_str().unwrap_or_default());
    }
    escape(&text)
}
