//! One interval as text, for a script or a pipe.

use super::super::style::{Style, duration, percent, printable};
use super::super::table::lines;
use super::Shown;
use super::cells::{COLUMNS, row, short};
use std::fmt::Write as _;

/// Functions that are shown.
const FUNCTIONS: usize = 20;

/// All threads and the first functions.
pub fn text(shown: &Shown, style: Style) -> String {
    let view = &shown.view;
    let mut text = String::new();
    let headline = format!(
        "{}: {} of it",
        printable(&shown.what),
        duration(view.interval_ns)
    );
    let _ = writeln!(text, "{}", style.bold(&style.fit(&headline)));
    for (_, notice) in &shown.notices {
        let _ = writeln!(
            text,
            "{}",
            style.fit(&format!("note: {}", printable(notice)))
        );
    }
    let _ = writeln!(text, "{}", style.fit(&rates(shown)));
    for port in view.ports.iter().filter(|p| p.drops > 0) {
        let name = printable(&port.name);
        let _ = writeln!(
            text,
            "port {} ({name}) of process {} dropped {} frames",
            port.port, port.pid, port.drops
        );
    }
    text.push('\n');
    let head = ["useful %", "empty %", "unknown %", "off-cpu %", "cpu"].map(str::to_owned);
    let columns = COLUMNS.map(|c| c.0.to_owned());
    let ends = ["tid", "thread"].map(str::to_owned);
    let mut rows = vec![[head.to_vec(), columns.to_vec(), ends.to_vec()].concat()];
    for thread in &view.threads {
        let times = &thread.times;
        let shares = [times.useful, times.empty_poll, times.unknown, times.off_cpu].map(percent);
        let cpu = thread.cpu.map_or_else(|| "-".to_owned(), |c| c.to_string());
        let name = match thread.probes {
            true => printable(&thread.name),
            false => printable(&thread.name) + " (no probes)",
        };
        rows.push(
            [
                shares.to_vec(),
                vec![cpu],
                row(thread).to_vec(),
                vec![thread.tid.to_string(), name],
            ]
            .concat(),
        );
    }
    lines(&rows, style, &mut text);
    text.push('\n');
    let head = ["self %", "useful %", "empty %", "total %", "function"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for function in shown.functions.rows.iter().take(FUNCTIONS) {
        let shares = [
            function.self_share,
            function.useful_share,
            function.empty_poll_share,
            function.total_share,
        ];
        let shares = shares.map(|s| percent(Some(s)));
        let name = format!("{} [{}]", function.name, function.module);
        rows.push([shares.to_vec(), vec![printable(&name)]].concat());
    }
    lines(&rows, style, &mut text);
    let _ = writeln!(text, "\n{}", style.dim(&view.trust.line()));
    text
}

/// What all threads did in a second.
pub fn rates(shown: &Shown) -> String {
    let rates = &shown.view.rates;
    let dropped: u64 = shown.view.threads.iter().map(|t| t.drops + t.fulls).sum();
    let dropped = dropped + shown.view.ports.iter().map(|p| p.drops).sum::<u64>();
    format!(
        "{} req/s  {} rx/s  {} tx/s  burst {}/{}  {} cyc/pkt  {} cyc/req  {} drops",
        short(rates.requests),
        short(rates.rx_packets),
        short(rates.tx_packets),
        short(rates.rx_burst),
        short(rates.tx_burst),
        short(rates.cycles_per_packet),
        short(rates.cycles_per_request),
        short(Some(dropped as f64)),
    )
}
