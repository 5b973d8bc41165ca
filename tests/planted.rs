//! Slowdowns planted into the known pipeline: `compare` finds each in the pair of recordings without it and with it,
//! puts it first, and tells its size: within 10 % where probes bound it, within its own interval where it rests on
//! samples. Two recordings of the same thing give no finding.

use crate::in_peace;
use crate::pipeline::{Shape, record, told, turns_per_us};
use crate::support::Place;
use serde_json::Value;

/// What comes over any code that runs: in these phases it is no part of the pipeline.
const OTHERS: &[&str] = &["sync", "irq", "unaccounted"];

/// A pair of recordings: what was planted took so much of a request (CPU time, wall time, CPU time of a thread beside) in
/// either; and the comparison.
struct Pair {
    place: Place,
    took: [[f64; 3]; 2],
    outs: [String; 2],
    compared: Value,
}

fn pair(before: &str, after: &str) -> Pair {
    let place = Place::new();
    // One length of a turn for both, whatever else the machine does in between.
    let turns = turns_per_us();
    let outs = [(before, "a.mcap"), (after, "b.mcap")]
        .map(|(planted, file)| record(&place, Shape::One, planted, turns, file));
    let took = [0, 1].map(|at| {
        let planted = told(&outs[at], "planted");
        [0, 1, 2].map(|n: usize| planted[n].1)
    });
    let run = place.run(&[
        "compare",
        "a.mcap",
        "b.mcap",
        "--json",
        "--pack",
        "pipeline.toml",
    ]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let compared = serde_json::from_str(&run.out).unwrap();
    Pair {
        place,
        took,
        outs,
        compared,
    }
}

/// The first contribution is this one, and believed: its size and interval.
fn first(gap: &Value, cause: &str) -> [f64; 3] {
    let first = &gap["contributions"][0];
    assert_eq!(first["cause"], cause, "{gap:#}");
    assert_eq!(first["significant"], true, "{gap:#}");
    ["ns_per_request", "low", "high"].map(|key| first[key].as_f64().unwrap())
}

/// A size that rests on samples: inside the interval, and within 10 % where it is a twentieth of all or more. It `took`
/// from so much to so much CPU time, interrupts and preemptions that hit it included, which have rows of their own.
fn sampled([size, low, high]: [f64; 3], took: [f64; 2], pair: &Pair, own_rows: &[&str]) {
    let of = |rows: &str, key: &str, names: &[&str]| {
        let rows = pair.compared[rows].as_array().unwrap().iter();
        let named = rows.filter(|r| names.iter().any(|name| r[key] == *name));
        named.map(|r| r["b"].as_f64().unwrap()).sum::<f64>()
    };
    let rows = pair.compared["contributions"].as_array().unwrap().iter();
    let work: f64 = rows.map(|r| r["b"].as_f64().unwrap()).sum();
    let recorder = of("no_work", "name", &["recorder"]);
    let others = of("contributions", "cause", own_rows) + recorder;
    let [least, most] = took.map(|took| took * (1.0 - others / (work + recorder)));
    let inside = low <= most && least <= high;
    let close = 0.9 * least <= size && size <= 1.1 * most;
    assert!(
        inside && (close || least < 0.05 * work),
        "{size} ({low} to {high}), true {least} to {most} of {work}, of which {others} in other rows"
    );
}

/// A size that probes bound.
fn bounded([size, low, high]: [f64; 3], truth: f64) {
    let close = (size - truth).abs() <= 0.1 * truth;
    assert!(close, "{size} ({low} to {high}), true {truth}");
}

/// What was counted for a request, in both.
fn counted(pair: &Pair, what: &str) -> [f64; 2] {
    let rows = pair.compared["per_request"].as_array().unwrap();
    let row = rows.iter().find(|r| r["name"] == what);
    let row = row.unwrap_or_else(|| panic!("no {what} in {rows:#?}"));
    assert_eq!(row["significant"], true, "{row:#}");
    ["a", "b"].map(|side| row[side].as_f64().unwrap())
}

/// Once for each request, but for those cut off at both ends, and not before.
fn once([before, after]: [f64; 2]) {
    assert!(before == 0.0 && (after - 1.0).abs() < 0.01, "{after}");
}

/// By how much a stage became longer on average, by the program's own clock.
fn longer(pair: &Pair, stage: &str) -> f64 {
    let [a, b] = [0, 1].map(|at| {
        let means = told(&pair.outs[at], "mean");
        means.iter().find(|(s, _)| *s == stage).unwrap().1
    });
    b - a
}

/// One more copy of each reply.
#[test]
fn extra_copy() {
    in_peace(|| {
        let pair = pair("nothing", "copy");
        let [took, ..] = pair.took[1];
        sampled(first(&pair.compared, "copy"), [took; 2], &pair, OTHERS);
    });
}

/// A lock that another thread holds.
#[test]
fn lock() {
    in_peace(|| {
        let pair = pair("nothing", "lock");
        // The thread that holds it wakes up and sleeps, which is the same phase.
        let [took, wall, beside] = pair.took[1];
        let found = first(&pair.compared, "sync");
        sampled(found, [took, took + beside], &pair, &OTHERS[1..]);
        let [_, waited] = counted(&pair, "lock_ns");
        bounded([waited; 3], wall);
    });
}

/// Replies that wait for a timer of 100 us.
#[test]
fn drain_timer() {
    in_peace(|| {
        let pair = pair("nothing", "drain");
        let truth = longer(&pair, "wait_drain");
        assert!(truth > 100_000.0);
        bounded(first(&pair.compared["latency"], "wait_drain"), truth);
    });
}

/// Bursts of two instead of eight: what a burst costs is paid four times as often.
#[test]
fn smaller_batch() {
    in_peace(|| {
        let pair = pair("batch8", "batch2");
        let truth = pair.took[1][0] - pair.took[0][0];
        let [size, ..] = first(&pair.compared, "driver_rx");
        // The driver's own part of a burst comes four times as often too.
        let own = 30.0 / 250.0;
        bounded([size; 3], truth * (1.0 + own));
        let split = &pair.compared["contributions"][0]["split"];
        assert_eq!(split["counted"], "rx_bursts");
        assert!(split["by_count"].as_f64() > Some(0.9 * size), "{split:#}");
    });
}

/// Frames that another core receives and hands over.
#[test]
fn misdirected_flow() {
    in_peace(|| {
        let pair = pair("nothing", "misdirected");
        let truth = longer(&pair, "wait_handoff");
        bounded(first(&pair.compared["latency"], "wait_handoff"), truth);
        once(counted(&pair, "handoffs"));
    });
}

/// One more ACK for each request.
#[test]
fn extra_ack() {
    in_peace(|| {
        let pair = pair("nothing", "ack");
        let found = first(&pair.compared, "ack_only");
        let [took, ..] = pair.took[1];
        sampled(found, [took; 2], &pair, OTHERS);
        once(counted(&pair, "ack_segments"));
    });
}

/// The same twice: nothing is found, whatever the machine does besides.
#[test]
fn nothing_planted() {
    in_peace(|| {
        let pair = pair("nothing", "nothing");
        assert_eq!(pair.compared["significant"], false, "{:#}", pair.compared);
        let text = pair
            .place
            .run(&["compare", "a.mcap", "b.mcap", "--pack", "pipeline.toml"]);
        assert_eq!(text.code, Some(0), "{}", text.err);
    });
}
