//! One interval as JSON: `bypassprof.top/1`, documented in `docs/reference/top.md`.

use super::Shown;
use crate::analyse::Trust;
use crate::analyse::live::view::{Rates, ThreadView};
use crate::analyse::profile::Work;
use serde::Serialize;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const TOP_SCHEMA: &str = "bypassprof.top/1";

#[derive(Serialize)]
struct Top<'a> {
    schema: &'static str,
    what: &'a str,
    event: &'a str,
    frequency_hz: u64,
    interval_ns: u64,
    time_ns: u64,
    rates: RatesText,
    counted: WorkText,
    since_start: WorkText,
    threads: Vec<Thread<'a>>,
    functions: Vec<Function<'a>>,
    ports: Vec<Port<'a>>,
    notices: Vec<Notice<'a>>,
    trust: &'a Trust,
}

#[derive(Serialize)]
struct RatesText {
    requests_per_second: Option<f64>,
    rx_packets_per_second: Option<f64>,
    tx_packets_per_second: Option<f64>,
    rx_burst: Option<f64>,
    tx_burst: Option<f64>,
    cycles_per_packet: Option<f64>,
    cycles_per_request: Option<f64>,
}

impl From<&Rates> for RatesText {
    fn from(rates: &Rates) -> RatesText {
        RatesText {
            requests_per_second: rates.requests,
            rx_packets_per_second: rates.rx_packets,
            tx_packets_per_second: rates.tx_packets,
            rx_burst: rates.rx_burst,
            tx_burst: rates.tx_burst,
            cycles_per_packet: rates.cycles_per_packet,
            cycles_per_request: rates.cycles_per_request,
        }
    }
}

#[derive(Serialize)]
struct WorkText {
    requests: u64,
    rx_packets: u64,
    rx_bytes: u64,
    rx_bursts: u64,
    tx_packets: u64,
    tx_bytes: u64,
    tx_bursts: u64,
    polls: u64,
    empty_polls: u64,
}

impl From<&Work> for WorkText {
    fn from(work: &Work) -> WorkText {
        WorkText {
            requests: work.requests,
            rx_packets: work.rx_packets,
            rx_bytes: work.rx_bytes,
            rx_bursts: work.rx_bursts,
            tx_packets: work.tx_packets,
            tx_bytes: work.tx_bytes,
            tx_bursts: work.tx_bursts,
            polls: work.rounds,
            empty_polls: work.empty_rounds,
        }
    }
}

#[derive(Serialize)]
struct Thread<'a> {
    pid: u32,
    tid: u32,
    name: &'a str,
    cpu: Option<u32>,
    probes: bool,
    ended: bool,
    on_cpu_share: Option<f64>,
    useful_share: Option<f64>,
    empty_poll_share: Option<f64>,
    unknown_share: Option<f64>,
    off_cpu_share: Option<f64>,
    rates: RatesText,
    counted: WorkText,
    drops: u64,
    queues_full: u64,
    queue_depth_mean: Option<f64>,
    queue_depth_max: Option<u32>,
    events_dropped: u64,
}

impl<'a> From<&'a ThreadView> for Thread<'a> {
    fn from(thread: &'a ThreadView) -> Thread<'a> {
        let times = &thread.times;
        Thread {
            pid: thread.pid,
            tid: thread.tid,
            name: &thread.name,
            cpu: thread.cpu,
            probes: thread.probes,
            ended: thread.ended,
            on_cpu_share: times.on_cpu,
            useful_share: times.useful,
            empty_poll_share: times.empty_poll,
            unknown_share: times.unknown,
            off_cpu_share: times.off_cpu,
            rates: RatesText::from(&thread.rates),
            counted: WorkText::from(&thread.work),
            drops: thread.drops,
            queues_full: thread.fulls,
            queue_depth_mean: thread.depth.map(|d| d.mean),
            queue_depth_max: thread.depth.map(|d| d.max),
            events_dropped: thread.events_lost,
        }
    }
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    module: &'a str,
    self_share: f64,
    total_share: f64,
    useful_share: f64,
    empty_poll_share: f64,
}

#[derive(Serialize)]
struct Port<'a> {
    pid: u32,
    port: u16,
    name: &'a str,
    drops: u64,
}

#[derive(Serialize)]
struct Notice<'a> {
    id: &'a str,
    text: &'a str,
}

/// All of it.
pub fn json(shown: &Shown) -> Result<String, serde_json::Error> {
    let view = &shown.view;
    let functions = shown.functions.rows.iter().map(|f| Function {
        name: &f.name,
        module: &f.module,
        self_share: f.self_share,
        total_share: f.total_share,
        useful_share: f.useful_share,
        empty_poll_share: f.empty_poll_share,
    });
    let ports = view.ports.iter().map(|p| Port {
        pid: p.pid,
        port: p.port,
        name: &p.name,
        drops: p.drops,
    });
    let notices = shown.notices.iter().map(|(id, text)| Notice { id, text });
    serde_json::to_string_pretty(&Top {
        schema: TOP_SCHEMA,
        what: &shown.what,
        event: &shown.sampled.0,
        frequency_hz: shown.sampled.1,
        interval_ns: view.interval_ns,
        time_ns: view.time_ns,
        rates: RatesText::from(&view.rates),
        counted: WorkText::from(&view.work),
        since_start: WorkText::from(&view.since_start),
        threads: view.threads.iter().map(Thread::from).collect(),
        functions: functions.collect(),
        ports: ports.collect(),
        notices: notices.collect(),
        trust: &view.trust,
    })
}
