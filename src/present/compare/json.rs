//! A comparison as JSON: `bypassprof.compare/1`, documented in `docs/reference/compare.md`.

use super::Pairs;
use super::document::Row;
use crate::analyse::Trust;
use crate::analyse::compare::interval::PRINTED;
use crate::analyse::compare::workload::Remark;
use crate::analyse::compare::{Change, Comparison, Contribution, Gap, Key, Side, Sort, Unit};
use serde::Serialize;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const COMPARE_SCHEMA: &str = "bypassprof.compare/1";

#[derive(Serialize)]
struct Pair<'a> {
    unit: &'static str,
    a: Recording<'a>,
    b: Recording<'a>,
    remarks: Vec<Said<'a>>,
    significant: bool,
    gap_ns_per_request: Option<f64>,
    #[serde(flatten)]
    work: Parts,
    latency: Option<LatencyGap>,
    wall_ns_per_request: Option<Row>,
    rate_ratio: Option<[f64; 3]>,
    no_work: Vec<Named>,
    per_request: Vec<Named>,
}

#[derive(Serialize)]
struct LatencyGap {
    gap_ns_per_request: f64,
    ratio: [f64; 3],
    #[serde(flatten)]
    parts: Parts,
}

#[derive(Serialize)]
struct Parts {
    gap: Row,
    contributions: Vec<Part>,
}

#[derive(Serialize)]
struct Recording<'a> {
    file: &'a str,
    command: &'a [String],
    packs: &'a [String],
    requests: f64,
    told_requests: f64,
    windows: usize,
    loaded_ns: Option<(u64, u64)>,
    requests_per_second: Option<f64>,
    requests_per_second_half_interval: Option<f64>,
    connections: usize,
    latency_p50_ns: Option<u64>,
    latency_p99_ns: Option<u64>,
    work_known_by: &'static str,
    trust: &'a Trust,
}

#[derive(Serialize)]
struct Said<'a> {
    id: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
    #[serde(flatten)]
    row: Row,
}

#[derive(Serialize)]
struct Part {
    cause: &'static str,
    kind: &'static str,
    basis: &'static str,
    ns_per_request: Option<f64>,
    share: Option<f64>,
    low: f64,
    high: f64,
    a: f64,
    b: f64,
    significant: bool,
    split: Option<Divided>,
}

#[derive(Serialize)]
struct Divided {
    counted: &'static str,
    times_a: f64,
    times_b: f64,
    by_count: f64,
    by_price: f64,
}

/// The whole answer.
pub fn compare(pairs: &Pairs) -> serde_json::Result<String> {
    pairs.json(COMPARE_SCHEMA, |comparison, other, remarks| {
        pair(&pairs.first, comparison, other, remarks)
    })
}

fn pair<'a>(
    first: &'a Side,
    comparison: &Comparison,
    other: &'a Side,
    remarks: &'a [Remark],
) -> Pair<'a> {
    let unit = comparison.unit;
    let per_request = unit == Unit::PerRequest;
    Pair {
        unit: unit.name(),
        a: recording(first),
        b: recording(other),
        remarks: remarks
            .iter()
            .map(|r| Said {
                id: r.id,
                text: &r.text,
            })
            .collect(),
        significant: !comparison.is_noise(),
        gap_ns_per_request: per_request.then_some(comparison.work.change.by),
        work: parts(&comparison.work, unit),
        latency: comparison.latency.as_ref().map(|gap| LatencyGap {
            gap_ns_per_request: gap.change.by,
            ratio: gap.change.times(),
            parts: parts(gap, Unit::PerRequest),
        }),
        wall_ns_per_request: comparison.wall.as_ref().map(Row::of),
        rate_ratio: comparison.wall.as_ref().map(Change::rate),
        no_work: comparison
            .no_work
            .iter()
            .map(|(name, c)| Named {
                name,
                row: Row::of(c),
            })
            .collect(),
        per_request: comparison
            .counts
            .iter()
            .map(|(what, c)| Named {
                name: what.name(),
                row: Row::of(c),
            })
            .collect(),
    }
}

fn recording(side: &Side) -> Recording<'_> {
    let wall = side.value(Key::Wall);
    let rate = (wall.value > 0.0).then(|| 1e9 / wall.value);
    Recording {
        file: &side.name,
        command: &side.profile.session.command,
        packs: &side.profile.packs,
        requests: side.requests,
        told_requests: side.told,
        windows: side.windows,
        loaded_ns: side.loaded,
        requests_per_second: rate,
        requests_per_second_half_interval: rate.map(|r| r * wall.half(PRINTED) / wall.value),
        connections: side.tally.connections(),
        latency_p50_ns: side.percentiles.map(|p| p.0),
        latency_p99_ns: side.percentiles.map(|p| p.1),
        work_known_by: side.basis.name(),
        trust: &side.profile.trust,
    }
}

fn parts(gap: &Gap, unit: Unit) -> Parts {
    Parts {
        gap: Row::of(&gap.change),
        contributions: gap.contributions.iter().map(|c| part(c, unit)).collect(),
    }
}

fn part(contribution: &Contribution, unit: Unit) -> Part {
    let change = &contribution.change;
    Part {
        cause: contribution.cause,
        kind: match contribution.sort {
            Sort::Work => "work",
            Sort::Wait => "wait",
            Sort::Unaccounted => "unaccounted",
        },
        basis: contribution.basis.name(),
        ns_per_request: (unit == Unit::PerRequest).then_some(change.by),
        share: (unit == Unit::Share).then_some(change.by),
        low: change.low,
        high: change.high,
        a: change.a,
        b: change.b,
        significant: change.believed,
        split: contribution.split.map(|s| Divided {
            counted: s.counted.name(),
            times_a: s.times[0],
            times_b: s.times[1],
            by_count: s.by_count,
            by_price: s.by_price,
        }),
    }
}
