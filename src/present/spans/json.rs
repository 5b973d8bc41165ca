//! Requests as JSON: `bypassprof.spans/1`, documented in `docs/reference/spans.md`. The page of a recording carries the
//! same document, so that what it shows is what the command prints.

use crate::analyse::latency::moment::Moment;
use crate::analyse::spans::{BEHIND, Kind, OUTSIDE, PARTS, STAGES, Spans, Timeline};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const SPANS_SCHEMA: &str = "bypassprof.spans/1";

/// The first bin of lengths ends here, in ns; each of the others is so many times as long.
const FIRST_BIN: u64 = 100;
/// See [`FIRST_BIN`].
const BIN: f64 = 1.09;

/// The document.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    requests: u64,
    pipelined: u64,
    split: u64,
    torn: u64,
    unfinished: u64,
    headless: u64,
    late_events: u64,
    data_segments: u64,
    ack_segments: u64,
    retransmissions: u64,
    slow_path: u64,
    stalls: u64,
    crossed: u64,
    tx_triggers: [u64; 4],
    threshold_ns: Option<u64>,
    stages: Vec<Stage>,
    behind: Vec<Stage>,
    outside: Stage,
    histogram: Vec<(u64, u64)>,
    bursts: Vec<Burst>,
    slowest: Vec<Request<'a>>,
    trust: Trust<'a>,
}

#[derive(Serialize)]
struct Stage {
    name: &'static str,
    kind: &'static str,
    what: &'static str,
    count: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Serialize)]
struct Burst {
    direction: &'static str,
    count: u64,
    mean: f64,
    p50: u64,
    max: u64,
}

#[derive(Serialize)]
struct Request<'a> {
    flow: String,
    began_ns: u64,
    total_ns: u64,
    stages: Vec<(&'static str, u64)>,
    behind: Vec<(&'static str, u64)>,
    moments: Vec<StageMoment<'a>>,
    threads: &'a [String],
    data_segments: u32,
    ack_segments: u32,
}

#[derive(Serialize)]
struct StageMoment<'a> {
    stage: &'static str,
    thread: &'a str,
    off_cpu_ns: u64,
    sampled: &'a [(String, u64)],
}

#[derive(Serialize)]
struct Trust<'a> {
    rings: usize,
    events: u64,
    events_dropped: u64,
    rings_unreached: u64,
    clock_error_ns: Option<u64>,
    observer_share: Option<f64>,
    damage: Option<&'a str>,
    filtered: Option<&'a str>,
}

/// The document as text.
pub fn spans(
    spans: &Spans,
    moments: &[[Moment; PARTS]],
    threshold_ns: Option<u64>,
) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&document(spans, moments, threshold_ns))
}

/// The whole answer; `threshold_ns` is the least length of the requests in it, if only the slowest are.
pub fn document<'a>(
    spans: &'a Spans,
    moments: &'a [[Moment; PARTS]],
    threshold_ns: Option<u64>,
) -> Document<'a> {
    let counts = &spans.counts;
    Document {
        schema: SPANS_SCHEMA,
        requests: counts.complete,
        pipelined: counts.pipelined,
        split: counts.split,
        torn: counts.torn,
        unfinished: counts.unfinished,
        headless: counts.headless,
        late_events: counts.late,
        data_segments: counts.segments,
        ack_segments: counts.acks,
        retransmissions: counts.retransmissions,
        slow_path: counts.detours,
        stalls: counts.stalls,
        crossed: counts.crossed,
        tx_triggers: counts.triggers,
        threshold_ns,
        stages: STAGES
            .iter()
            .zip(&spans.stages)
            .map(|(s, h)| stage(s, h))
            .collect(),
        behind: BEHIND
            .iter()
            .zip(&spans.behind)
            .map(|(s, h)| stage(s, h))
            .collect(),
        outside: stage(&OUTSIDE, &spans.outside),
        histogram: histogram(spans),
        bursts: ["receive", "transmit"]
            .into_iter()
            .zip(&spans.bursts)
            .map(burst)
            .collect(),
        slowest: (spans.slowest.iter().enumerate())
            .map(|(at, timeline)| request(timeline, moments.get(at)))
            .collect(),
        trust: Trust {
            rings: spans.trust.rings,
            events: spans.trust.events,
            events_dropped: spans.trust.dropped,
            rings_unreached: spans.trust.unreached,
            clock_error_ns: spans.trust.clock_error_ns,
            observer_share: spans.trust.observer_share,
            damage: spans.trust.damage.as_deref(),
            filtered: spans.trust.filtered.as_deref(),
        },
    }
}

fn stage(stage: &crate::analyse::spans::Stage, histogram: &Histogram<u64>) -> Stage {
    let at = |q: f64| histogram.value_at_quantile(q);
    let kind = if stage.kind == Kind::Work {
        "work"
    } else {
        "wait"
    };
    Stage {
        name: stage.name,
        kind: if stage.name == "total" { "total" } else { kind },
        what: stage.what,
        count: histogram.len(),
        mean: histogram.mean(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max(),
    }
}

/// How many requests were how long: ends of bins, and counts.
fn histogram(spans: &Spans) -> Vec<(u64, u64)> {
    let bins = spans.stages.iter().rev().take(1).flat_map(|total| {
        let bins = total.iter_log(FIRST_BIN, BIN);
        bins.map(|bin| (bin.value_iterated_to(), bin.count_since_last_iteration()))
    });
    bins.filter(|bin| bin.1 > 0).collect()
}

fn burst((direction, histogram): (&'static str, &Histogram<u64>)) -> Burst {
    Burst {
        direction,
        count: histogram.len(),
        mean: histogram.mean(),
        p50: histogram.value_at_quantile(0.5),
        max: histogram.max(),
    }
}

fn request<'a>(timeline: &'a Timeline, moments: Option<&'a [Moment; PARTS]>) -> Request<'a> {
    let told = STAGES.iter().zip(moments.into_iter().flatten());
    let stages = STAGES.iter().zip(timeline.stages);
    Request {
        flow: format!("{:08x}", timeline.flow),
        began_ns: timeline.began.ns(),
        total_ns: timeline.total,
        stages: stages.filter_map(|(s, l)| Some((s.name, l?))).collect(),
        behind: BEHIND
            .iter()
            .zip(timeline.behind)
            .filter(|(_, ns)| *ns > 0)
            .map(|(b, ns)| (b.name, ns))
            .collect(),
        moments: told
            .filter(|(_, moment)| !moment.thread.is_empty())
            .map(|(stage, moment)| StageMoment {
                stage: stage.name,
                thread: &moment.thread,
                off_cpu_ns: moment.off_cpu,
                sampled: &moment.functions,
            })
            .collect(),
        threads: &timeline.threads,
        data_segments: timeline.segments.0,
        ack_segments: timeline.segments.1,
    }
}
