//! Recordings of one workload side by side, as the page's data: the best first, and of each of the others what makes it
//! worse.
//!
//! In: groups of `analyse::explain::ranking` and the sides they are of; out: rows of numbers and sentences. Whatever a
//! row says, `compare` and `explain` of the same files print.

use super::place;
use crate::analyse::compare::interval::PRINTED;
use crate::analyse::compare::tally::Counted;
use crate::analyse::compare::workload::Refusal;
use crate::analyse::compare::{Key, Side, Unit};
use crate::analyse::explain::across::{Cause, Causes};
use crate::analyse::explain::ranking::{Against, By, Group, Place, groups, is_ranked};
use crate::present::explain::across::Item;
use serde::Serialize;

/// What makes up less of a gap than this is not worth a sentence.
const LEAST: f64 = 0.05;
/// Causes of a gap that are told.
const MOST: usize = 3;

#[derive(Serialize)]
pub struct Ranking {
    groups: Vec<GroupRows>,
    /// Places of the recordings that hold no requests.
    unranked: Vec<usize>,
}

#[derive(Serialize)]
struct GroupRows {
    by: &'static str,
    reply_bytes: f64,
    connections: usize,
    /// Whether commands have to be told to compare them all the same.
    anyway: bool,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// Place in the page's recordings.
    recording: usize,
    rate: f64,
    rate_half: f64,
    work_ns: f64,
    latency_ns: Option<f64>,
    p50: Option<u64>,
    p99: Option<u64>,
    against: Option<Worse>,
}

#[derive(Serialize)]
struct Worse {
    /// Whether what decides differs significantly.
    decided: bool,
    /// The rate or the latency as a share of the best one's, and its 95 % interval.
    ratio: [f64; 3],
    remarks: Vec<Said>,
    gaps: Vec<GapText>,
}

#[derive(Serialize)]
struct Said {
    id: &'static str,
    text: String,
    refuses: bool,
}

#[derive(Serialize)]
struct GapText {
    of: &'static str,
    a: f64,
    b: f64,
    by: f64,
    decided: bool,
    causes: Vec<CauseText>,
}

/// What `explain` says of a cause, which part of the gap it is, and where it is seen.
#[derive(Serialize)]
struct CauseText {
    #[serde(flatten)]
    cause: Item,
    share: f64,
    place: (&'static str, &'static str),
}

/// The page's data; `None` of a single recording.
pub fn ranking(sides: &[Side]) -> Option<Ranking> {
    if sides.len() < 2 {
        return None;
    }
    let unranked = sides.iter().enumerate().filter(|s| !is_ranked(s.1));
    Some(Ranking {
        groups: groups(sides).iter().map(|g| group(sides, g)).collect(),
        unranked: unranked.map(|s| s.0).collect(),
    })
}

fn group(sides: &[Side], group: &Group) -> GroupRows {
    let best = &sides[group.places[0].side];
    let others = || group.places.iter().filter_map(|p| p.against.as_ref());
    GroupRows {
        by: group.by.name(),
        reply_bytes: best.value(Key::Count(Counted::ReplyBytes)).value,
        connections: best.tally.connections(),
        anyway: others().any(|a| a.remarks.iter().any(|r| r.refuses != Refusal::No)),
        rows: (group.places.iter())
            .map(|place| row(place, &sides[place.side], group.by))
            .collect(),
    }
}

fn row(place: &Place, side: &Side, by: By) -> Row {
    let wall = side.value(Key::Wall);
    let latency = side.value(Key::Latency).value;
    Row {
        recording: place.side,
        rate: 1e9 / wall.value,
        rate_half: 1e9 / wall.value * wall.half(PRINTED) / wall.value,
        work_ns: side.value(Key::Work).value,
        latency_ns: (side.told > 0.0).then_some(latency),
        p50: side.percentiles.map(|p| p.0),
        p99: side.percentiles.map(|p| p.1),
        against: place.against.as_ref().map(|against| worse(against, by)),
    }
}

fn worse(against: &Against, by: By) -> Worse {
    let comparison = &against.comparison;
    let whole = match by {
        By::Rate => comparison.wall,
        By::Latency => comparison.latency.as_ref().map(|l| l.change),
    };
    Worse {
        decided: whole.is_some_and(|w| w.believed),
        ratio: whole.map_or([1.0; 3], |whole| match by {
            By::Rate => whole.rate(),
            By::Latency => whole.times(),
        }),
        remarks: (against.remarks.iter())
            .map(|remark| Said {
                id: remark.id,
                text: remark.text.clone(),
                refuses: remark.refuses != Refusal::No,
            })
            .collect(),
        gaps: (against.causes.iter())
            // Shares of different wholes are no sizes.
            .filter(|_| comparison.unit == Unit::PerRequest)
            .map(gap)
            .collect(),
    }
}

fn gap(causes: &Causes) -> GapText {
    let whole = &causes.gap;
    let share = |cause: &Cause| cause.size / whole.by.abs().max(f64::MIN_POSITIVE);
    let worse = causes.causes.iter().filter(|c| share(c) >= LEAST);
    GapText {
        of: causes.of.name(),
        a: whole.a,
        b: whole.b,
        by: whole.by,
        decided: whole.believed,
        causes: worse.take(MOST).map(|c| cause(c, share(c))).collect(),
    }
}

fn cause(cause: &Cause, share: f64) -> CauseText {
    let words = cause.evidence.iter().map(String::as_str);
    CauseText {
        cause: Item::of(cause, Unit::PerRequest),
        share,
        place: place::named(words.chain([cause.title.as_str()])),
    }
}
