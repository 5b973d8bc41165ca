//! Parts of a recording: what `--window`, `--thread`, `--cpu` and `--flow` leave, and what they say when that is nothing.

use crate::support::{Place, Run};
use crate::traffic::{self, PID, THREADS, Traffic};
use serde_json::Value;
use std::sync::OnceLock;

/// Made once: a moment of four threads, one on each CPU.
fn recording() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new();
        let traffic = Traffic {
            events: 100_000,
            samples: 1_000,
            flows: 300,
            ..Traffic::default()
        };
        traffic::write(&place.path("bypassprof.mcap"), traffic).unwrap();
        place
    })
}

fn json(args: &[&str]) -> Value {
    let run = run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

fn run(args: &[&str]) -> Run {
    let (command, rest) = args.split_first().unwrap();
    recording().run(&[&[*command, "--json"], rest].concat())
}

fn cycles(ledger: &Value) -> f64 {
    ledger["accounts"][0]["cycles"].as_f64().unwrap()
}

/// Windows that make up the whole recording hold all of its requests and cycles, each once.
#[test]
fn windows_add_up() {
    let parts = ["..2ms", "0.002..0.005", "5ms.."];
    let whole = json(&["spans"]);
    let requests = |v: &Value| v["requests"].as_u64().unwrap();
    let of_parts = parts.map(|w| json(&["spans", "--window", w]));
    assert!(of_parts.iter().all(|p| requests(p) > 0));
    assert_eq!(of_parts.iter().map(requests).sum::<u64>(), requests(&whole));
    let bursts = |v: &Value| v["bursts"][0]["count"].as_u64().unwrap();
    assert_eq!(of_parts.iter().map(bursts).sum::<u64>(), bursts(&whole));

    let whole = json(&["ledger"]);
    let of_parts = parts.map(|w| json(&["ledger", "--window", w]));
    let sum: f64 = of_parts.iter().map(cycles).sum();
    assert!((sum - cycles(&whole)).abs() < 8.0, "{sum} of {whole}");
    let counted: u64 = of_parts.iter().map(requests).sum();
    assert!(
        counted.abs_diff(requests(&whole)) <= 8,
        "{counted} of {}",
        requests(&whole)
    );
    let line = "only window 0.002s..0.005s";
    assert_eq!(of_parts[1]["trust"]["filtered"], line);
}

/// A thread by name, number or pattern, and the CPU that it has to itself, leave the same.
#[test]
fn threads_and_cpus() {
    let name = THREADS[1];
    let by_name = json(&["report", "--thread", name]);
    assert_eq!(by_name["threads"].as_array().unwrap().len(), 1);
    assert_eq!(by_name["threads"][0]["name"], name);
    let total: f64 = by_name["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["self_share"].as_f64().unwrap())
        .sum();
    assert!(
        (total - 1.0).abs() < 1e-6,
        "shares are of what is left: {total}"
    );
    let number = (PID + 1).to_string();
    for args in [["--thread", &number], ["--thread", "rtc*1"]] {
        let same = json(&[&["report"], &args[..]].concat());
        assert_eq!(same["functions"], by_name["functions"], "{args:?}");
    }
    let of_cpu = json(&["report", "--cpu", "1"]);
    assert_eq!(of_cpu["functions"], by_name["functions"]);
    assert_eq!(of_cpu["threads"].as_array().unwrap().len(), 1);
    assert_eq!(
        of_cpu["threads"][0]["off_cpu_share"], 0.0,
        "what is blocked is on no CPU"
    );
    assert!(by_name["threads"][0]["off_cpu_share"].as_f64().unwrap() > 0.0);

    let all = json(&["spans"])["requests"].as_u64().unwrap();
    let sum: u64 = ["0", "1", "3"]
        .iter()
        .map(|cpu| json(&["spans", "--cpu", cpu])["requests"].as_u64().unwrap())
        .sum();
    assert!(
        sum <= all && all - sum < all / 20,
        "{sum} of {all}: all but those before a thread was seen on its CPU"
    );
    let two = json(&["spans", "--thread", "rtc-*"])["requests"]
        .as_u64()
        .unwrap();
    let one = json(&["spans", "--thread", "app"])["requests"]
        .as_u64()
        .unwrap();
    assert_eq!(two + one, all);
}

/// The requests of one flow, by the label that timelines print.
#[test]
fn flows() {
    let slowest = json(&["spans", "--show", "1"]);
    let flow = slowest["slowest"][0]["flow"].as_str().unwrap().to_owned();
    let of_flow = json(&["spans", "--flow", &flow, "--show", "1000"]);
    let list = of_flow["slowest"].as_array().unwrap();
    assert_eq!(list.len() as u64, of_flow["requests"].as_u64().unwrap());
    assert!(list.iter().all(|r| r["flow"] == flow.as_str()));
    assert_eq!(list[0], slowest["slowest"][0]);
}

/// What threads did for one flow's requests: its requests and no others, and no more time than those took.
#[test]
fn time_of_flows() {
    let shown = json(&["spans", "--show", "1"]);
    let flow = shown["slowest"][0]["flow"].as_str().unwrap();
    let of_flow = json(&["spans", "--flow", flow, "--show", "1000"]);
    let list = of_flow["slowest"].as_array().unwrap();
    let total: f64 = list.iter().map(|r| r["total_ns"].as_f64().unwrap()).sum();
    let one = json(&["ledger", "--flow", flow]);
    assert_eq!(one["requests"], of_flow["requests"]);
    // Two of its requests in one burst share a part of their time.
    let time = cycles(&one) * one["ns_per_cycle"].as_f64().unwrap();
    assert!(
        (0.5..1.001).contains(&(time / total)),
        "{time} of {total} ns"
    );
    let line = format!(
        "only what threads did for {} requests of flow {flow}",
        one["requests"]
    );
    for command in ["ledger", "report", "explain"] {
        let told = json(&[command, "--flow", flow]);
        assert_eq!(told["trust"]["filtered"], line.as_str(), "{command}");
    }
    let run = recording().run(&[
        "compare",
        "bypassprof.mcap",
        "bypassprof.mcap",
        "--flow",
        flow,
    ]);
    assert_eq!(run.code, Some(2), "{run:?}");
}

/// What cannot be meant or leaves nothing is told with what there is; nothing is printed as an answer.
#[test]
fn refusals() {
    for (args, code, words) in [
        (
            &["report", "--window", "5s..2s"][..],
            2,
            &["--window", "ends before"][..],
        ),
        (&["ledger", "--window", "soon"], 2, &["--window", "2s..5s"]),
        (&["spans", "--flow", "10.0.0.1:80"], 2, &["--flow", "both"]),
        (&["report", "--flow", "1234"], 1, &["only flow 00001234"]),
        (&["report", "--cpu", "x"], 2, &["--cpu"]),
        (
            &["report", "--thread", "nobody"],
            1,
            &["no thread", "rtc-0 100", "app 103"],
        ),
        (&["explain", "--window", "1h.."], 2, &["--window"]),
        (
            &["explain", "--window", "100.."],
            1,
            &["after the end", "0s..0."],
        ),
        (&["report", "--cpu", "99"], 1, &["only cpu 99", "4 CPUs"]),
        (&["spans", "--flow", "12345"], 1, &["only flow 00012345"]),
    ] {
        let run = run(args);
        assert_eq!(run.code, Some(code), "{args:?}: {run:?}");
        assert_eq!(run.out, "", "{args:?}");
        for word in words {
            assert!(run.err.contains(word), "{args:?}: {word}: {}", run.err);
        }
    }
}
