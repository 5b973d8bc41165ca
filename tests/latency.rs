//! Where requests spend their time: the picture's stages add up to the mean request, and what `--slowest` leaves is of the
//! slowest requests alone.

use crate::support::Place;
use crate::traffic::{self, Traffic};
use serde_json::Value;
use std::sync::OnceLock;

/// Made once: a moment of four threads, two of which share their work.
fn recording() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new();
        let traffic = Traffic {
            events: 60_000,
            samples: 600,
            flows: 100,
            ..Traffic::default()
        };
        traffic::write(&place.path("bypassprof.mcap"), traffic).unwrap();
        place
    })
}

fn json(args: &[&str]) -> Value {
    let run = recording().run(&[args, &["--json"]].concat());
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

/// Frames of a picture by name, in ns a request, and the width of the whole.
fn frames(args: &[&str]) -> (Vec<(String, f64)>, f64) {
    let place = recording();
    let out = args.join("").replace(['-', '%'], "") + ".svg";
    let run = place.run(&[&["flamegraph", "--latency", "-o", &out], args].concat());
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    assert!(run.err.contains("samples in stages of work"), "{}", run.err);
    let svg = std::fs::read_to_string(place.path(&out)).unwrap();
    let titles = svg.split("<title>").skip(1).filter_map(|t| {
        let title = t.split("</title>").next()?;
        let (name, rest) = title.rsplit_once(" (")?;
        let number = rest.split(' ').next()?.replace(',', "");
        Some((name.to_owned(), number.parse::<f64>().ok()?))
    });
    let titles: Vec<_> = titles.collect();
    let all = titles.iter().find(|t| t.0 == "all").expect("a root").1;
    (titles, all)
}

fn mean(spans: &Value, stage: &str) -> f64 {
    let stages = spans["stages"].as_array().unwrap();
    let row = stages.iter().find(|s| s["name"] == stage).unwrap();
    let requests = spans["requests"].as_f64().unwrap();
    row["mean"].as_f64().unwrap() * row["count"].as_f64().unwrap() / requests
}

/// The picture is as wide as a request is long on average, and so is each stage: as `spans` has it, whose histograms keep
/// three digits. The same of the slowest alone.
#[test]
fn picture_of_the_mean_request() {
    for args in [&[][..], &["--slowest", "5%"]] {
        let spans = json(&[&["spans"], args].concat());
        let (frames, all) = frames(args);
        let near = |a: f64, b: f64| (a - b).abs() <= 0.002 * b.max(a) + 1.0;
        assert!(near(all, mean(&spans, "total")), "{all} of {spans}");
        for stage in ["tcp_in", "wait_app", "app"] {
            // A thread or a function may have a stage's name; it is inside.
            let named = frames.iter().filter(|f| f.0 == stage);
            let frame = named.map(|f| f.1).fold(0.0, f64::max);
            let told = mean(&spans, stage);
            assert!(near(frame, told), "{args:?} {stage}: {frame}, {told}");
        }
        assert!(frames.iter().any(|f| f.0.starts_with("waiting for ")));
        assert!(frames.iter().any(|f| f.0.starts_with("function_")));
    }
}

/// The slowest beside the rest: what the slowest have is all of them, and nothing is scaled.
#[test]
fn slowest_beside_the_rest() {
    let spans = json(&["spans", "--slowest", "5%"]);
    let (frames, whole) = frames(&["--slowest", "5%", "--diff"]);
    let of = |root: &str| frames.iter().find(|f| f.0 == root).map_or(0.0, |f| f.1);
    let (slow, told) = (of("in both") + of("more"), mean(&spans, "total"));
    assert!(
        (slow - told).abs() <= 0.002 * told + 1.0,
        "{slow} of {told}"
    );
    assert!(of("more") > of("less"));
    // Stage by stage, too: what is common and what is more is the slowest requests', with what is less the others'.
    let all = json(&["spans"]);
    let number =
        |spans: &Value, stage: &str| mean(spans, stage) * spans["requests"].as_f64().unwrap();
    let requests = |spans: &Value| spans["requests"].as_f64().unwrap();
    for stage in ["wait_app", "app", "wait_send", "wait_drain"] {
        let width = |mark: &str| {
            let named = frames.iter().filter(|f| f.0 == format!("{mark}{stage}"));
            named.map(|f| f.1).fold(0.0, f64::max)
        };
        let slowest = mean(&spans, stage);
        let others =
            (number(&all, stage) - number(&spans, stage)) / (requests(&all) - requests(&spans));
        for (mark, told) in [("+ ", slowest), ("- ", others)] {
            let drawn = width("") + width(mark);
            // What is too narrow to be seen is not drawn.
            let near = (drawn - told).abs() <= 0.01 * told + 0.001 * whole;
            assert!(near, "{mark}{stage}: {drawn}, {told}");
        }
    }
    for args in [
        &["--diff"][..],
        &["--latency", "--diff"],
        &["--latency", "--slowest", "1%", "--diff", "x"],
    ] {
        let run = recording().run(&[&["flamegraph"], args].concat());
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.err);
        assert!(
            run.err.contains("--latency --slowest 1% --diff"),
            "{}",
            run.err
        );
    }
}

/// Requests that are behind others say so, in no more time than their stage has.
#[test]
fn behind_others() {
    let spans = json(&["spans", "--show", "20"]);
    let behind = spans["behind"].as_array().unwrap();
    let names: Vec<_> = behind.iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["burst", "flow", "thread"]);
    for request in spans["slowest"].as_array().unwrap() {
        let sum = |of: &Value| -> u64 {
            let pairs = of.as_array().unwrap().iter();
            pairs.map(|p| p[1].as_u64().unwrap()).sum()
        };
        assert!(sum(&request["behind"]) <= sum(&request["stages"]));
    }
}

/// `--slowest` leaves only samples and times of the slowest requests' threads, and the line of trust says so.
#[test]
fn slowest_as_a_filter() {
    let all = json(&["ledger"]);
    let slow = json(&["ledger", "--slowest", "1%"]);
    let requests = json(&["spans", "--slowest", "1%"])["requests"].clone();
    assert_eq!(slow["requests"], requests);
    let cycles = |ledger: &Value| ledger["accounts"][0]["cycles"].as_f64().unwrap();
    assert!(cycles(&slow) > 0.0 && cycles(&slow) < 0.5 * cycles(&all));
    let shares: f64 = slow["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["level"] == "program")
        .map(|r| r["share"].as_f64().unwrap())
        .sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    for command in ["report", "ledger", "explain"] {
        let answer = json(&[command, "--slowest", "1%"]);
        let line = answer["trust"]["filtered"].as_str().unwrap();
        assert!(
            line.starts_with("only what threads did for the slowest 1 % of "),
            "{line}"
        );
    }
    let (of_all, of_slow) = (json(&["report"]), json(&["report", "--slowest", "1%"]));
    let samples = |report: &Value| report["trust"]["samples"].as_u64().unwrap();
    assert!(samples(&of_slow) > 0 && samples(&of_slow) <= samples(&of_all));
    let run = recording().run(&["flamegraph", "--slowest", "10%", "-o", "slowest.svg"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("only what threads did"), "{}", run.err);
    let run = recording().run(&["ledger", "--slowest", "0%"]);
    assert_eq!(run.code, Some(2), "{}", run.out);
}
