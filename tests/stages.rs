//! The known pipeline of [`crate::pipeline`], recorded: the ledger must find its parts to 2 points in 100, the spans the
//! lengths of its stages to 5 %, on one thread, on several, and in two processes.

use crate::in_peace;
use crate::pipeline::{Shape, recorded, told};
use crate::support::Place;
use serde_json::Value;

fn json(place: &Place, args: &[&str]) -> Value {
    let run = place.run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

/// The ledger's parts are those that the program knows of itself; gives its number of requests. What else the program
/// does (making numbers, reading its clock, handing over between threads) it does not know, and is left out of both.
fn parts_agree(place: &Place, out: &str) -> f64 {
    let ledger = json(
        place,
        &[
            "ledger",
            "--json",
            "--by",
            "role",
            "--pack",
            "pipeline.toml",
        ],
    );
    let rows: Vec<_> = ledger["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["thread"] == "pipeline")
        .collect();
    let cycles = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let parts = told(out, "part");
    assert_eq!(parts.len(), 6, "{out}");
    let known = |phase: &Value| parts.iter().any(|(known, _)| phase == known);
    let compared = rows.iter().filter(|r| known(&r["phase"]));
    let all: f64 = compared.map(|r| cycles(r, "cycles")).sum();
    for &(phase, truth) in &parts {
        let row = rows.iter().find(|r| r["phase"] == phase);
        let row = row.unwrap_or_else(|| panic!("no {phase} in {ledger:#}"));
        let share = cycles(row, "cycles") / all;
        assert!(
            (share - truth).abs() < 0.02,
            "{phase}: {share}, true {truth}: {ledger:#}"
        );
        let inside = cycles(row, "low") <= cycles(row, "cycles")
            && cycles(row, "cycles") <= cycles(row, "high");
        assert!(inside, "{row:#}");
    }
    let requests = told(out, "requests")[0].1;
    assert_eq!(ledger["requests"].as_f64(), Some(requests));
    requests
}

/// The stages of all requests are those that the program knows of itself.
fn stages_agree(place: &Place, out: &str, requests: f64) {
    let spans = json(place, &["spans", "--json", "--show", "5"]);
    let counted = spans["requests"].as_f64().unwrap();
    assert_eq!(counted, requests, "{spans:#}");
    for key in [
        "torn",
        "unfinished",
        "headless",
        "late_events",
        "pipelined",
        "split",
    ] {
        assert_eq!(spans[key], 0, "{spans:#}");
    }
    let row = |stage: &str| {
        let stages = spans["stages"].as_array().unwrap().iter();
        stages.into_iter().find(|s| s["name"] == stage).unwrap()
    };
    for (stage, truth) in told(out, "mean") {
        let found = row(stage)["mean"].as_f64().unwrap_or(0.0);
        // Between the program's own clock and its stamp lies up to so much.
        let close = (found - truth).abs() < f64::max(0.05 * truth, 1_000.0);
        assert!(close, "{stage}: {found} ns, true {truth}: {spans:#}");
    }
    for (stage, truth) in told(out, "count") {
        let count = row(stage)["count"].as_f64().unwrap();
        let few = ["wait_wakeup", "wait_handoff"].contains(&stage);
        // A thread that wakes up just then has, or has not.
        let close = (count - truth).abs() <= if few { 0.02 * requests } else { 0.0 };
        assert!(close, "{stage}: {count}, true {truth}: {spans:#}");
    }
}

/// One thread: phases and stages, and what can be asked of the requests.
#[test]
fn known_pipeline() {
    in_peace(|| {
        let (place, out) = recorded(Shape::One);
        let requests = parts_agree(&place, &out);
        stages_agree(&place, &out, requests);
        // The slowest 1 %: one in a hundred, none faster than the threshold, five of them as timelines that add up.
        let slow = json(
            &place,
            &["spans", "--json", "--slowest", "1%", "--show", "5"],
        );
        let few = slow["requests"].as_f64().unwrap() / requests;
        assert!((0.005..0.02).contains(&few), "{few}");
        let shown = slow["slowest"].as_array().unwrap();
        assert_eq!(shown.len(), 5);
        for request in shown {
            let total = request["total_ns"].as_u64().unwrap();
            assert!(Some(total) >= slow["threshold_ns"].as_u64());
            let stages = request["stages"].as_array().unwrap().iter();
            let sum: u64 = stages.map(|s| s[1].as_u64().unwrap()).sum();
            assert!(sum.abs_diff(total) <= 8, "{request:#}");
        }
        let text = place.run(&["spans", "--slowest", "1%", "--show", "2"]).out;
        assert!(
            text.contains("the slowest 1 % of") && text.contains("wait_drain"),
            "{text}"
        );
        let one = json(&place, &["spans", "--json", "--flow", "7"]);
        assert_eq!(one["requests"].as_f64(), Some(requests / 2.0));
        let later = json(&place, &["spans", "--json", "--window", "1s.."]);
        let some = later["requests"].as_f64().unwrap();
        assert!(0.0 < some && some <= requests, "{some} of {requests}");
    });
}

/// The application on a thread of its own: the same, and the time until it wakes up is told apart.
#[test]
fn known_pipeline_of_two_threads() {
    in_peace(|| {
        let (place, out) = recorded(Shape::Two);
        let requests = parts_agree(&place, &out);
        stages_agree(&place, &out, requests);
    });
}

/// Driver, TCP and application on a thread each: the time in the queue to TCP's thread is told apart, and the frames of
/// one thread are those that another one's bursts take.
#[test]
fn known_pipeline_of_three_threads() {
    in_peace(|| {
        let (place, out) = recorded(Shape::Three);
        let requests = parts_agree(&place, &out);
        stages_agree(&place, &out, requests);
        let spans = json(&place, &["spans", "--json", "--show", "1"]);
        let threads = spans["slowest"][0]["threads"].as_array().unwrap();
        assert_eq!(threads[0], "stack");
        assert_eq!(threads[1], "application");
    });
}

/// The application in a process of its own, recorded by the same recorder: requests are joined across both.
#[test]
fn known_pipeline_of_two_processes() {
    in_peace(|| {
        let (place, out) = recorded(Shape::Processes);
        let requests = parts_agree(&place, &out);
        stages_agree(&place, &out, requests);
        let report = place.report();
        let threads = report["threads"].as_array().unwrap().iter();
        let probed = threads.filter(|t| t["probes"] == true);
        let pids: std::collections::BTreeSet<_> =
            probed.map(|t| t["pid"].as_u64().unwrap()).collect();
        assert_eq!(pids.len(), 2, "{report:#}");
    });
}
