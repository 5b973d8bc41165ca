//! The page of `report --html`, opened in a real browser: it draws itself from nothing but its own file, its numbers are
//! those of the commands on it, and mouse and keys do what they say.

use crate::compare::run::{LOAD, Load, write};
use crate::python::python;
use crate::support::{Place, Run};
use crate::traffic::{self, Traffic};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

mod hostile;

/// What a browser saw that uses a page as a person would; `None` if there is none here.
fn drive(page: &Path, search: &str) -> Option<Value> {
    let (none, search) = (OsStr::new(""), OsStr::new(search));
    in_browser("drive.py", &[page.as_os_str(), none, search])
}

/// What a script of `tests/page` saw in a browser.
fn in_browser(script: &str, words: &[&OsStr]) -> Option<Value> {
    let python = python()
        .map_err(|why| eprintln!("left out: there is no Python with packages from PyPI: {why}"))
        .ok()?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let run = Run::of(Command::new(python).arg(scripts.join(script)).args(words));
    if run.err.contains("no Chromium is installed") {
        eprintln!("left out: no Chromium is installed");
        return None;
    }
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    Some(serde_json::from_str(&run.out).unwrap())
}

fn json(place: &Place, args: &[&str]) -> Value {
    let run = place.run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

fn near(values: &Value, each: f64) -> bool {
    let mut values = values
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap());
    values.len() > 0 && values.all(|v| (v - each).abs() < 0.01)
}

fn sum(values: &Value) -> f64 {
    values
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .sum()
}

/// Two recordings on one page.
#[test]
fn in_a_browser() {
    let place = Place::new();
    let traffic = Traffic {
        events: 60_000,
        samples: 5_000,
        flows: 60,
        ..Traffic::default()
    };
    traffic::write(&place.path("a.mcap"), traffic).unwrap();
    place.hot();
    place.record(&["./hot"]);
    let run = place.run(&["report", "a.mcap", "bypassprof.mcap", "--html", "page.html"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let Some(seen) = drive(&place.path("page.html"), "function_1") else {
        return;
    };
    assert_eq!(seen["errors"], serde_json::json!([]), "{seen:#}");
    // Nothing but the file itself.
    assert_eq!(seen["fetched"].as_array().unwrap().len(), 1, "{seen:#}");
    let sections = [
        "ranking", "summary", "findings", "ledger", "flame", "latency", "time",
    ];
    assert_eq!(seen["sections"], serde_json::json!(sections));
    let said = seen["text"].as_str().unwrap();
    assert!(
        said.contains("Not ranked: bypassprof. No requests"),
        "{said}"
    );
    let lines = seen["lines"].as_array().unwrap();
    let line = |name: &str| lines.iter().any(|l| l.as_str().unwrap().starts_with(name));
    assert!(
        line("depth of queues filled") && line("greatest depth of queues filled"),
        "{lines:?}"
    );

    let report = json(&place, &["report", "--json", "a.mcap"]);
    let useful = report["useful_share"].as_f64().unwrap() * 100.0;
    let tiles = seen["tiles"].as_array().unwrap();
    let has = |text: &str| {
        tiles
            .iter()
            .any(|t| t.as_str().unwrap().replace('\u{202f}', "").contains(text))
    };
    assert!(has(&format!("{useful:.1}")), "{tiles:?}");
    let ledger = json(&place, &["ledger", "--json", "a.mcap"]);
    assert!(
        has(&format!("{} requests", ledger["requests"])),
        "{tiles:?}"
    );
    let explain = json(&place, &["explain", "--json", "a.mcap"]);
    assert_eq!(
        seen["findings"].as_u64().unwrap(),
        explain["findings"].as_array().unwrap().len() as u64
    );
    // Every command on the page is one that works.
    for command in seen["commands"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
    {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        assert_eq!(place.run(&words).code, Some(0), "{command}");
    }

    // Bars are whole; parts of the samples add up to all of them.
    assert!(
        near(&seen["bars"], 100.0) && near(&seen["work_bars"], 100.0),
        "{seen:#}"
    );
    assert_eq!(seen["all"], 5_000.0);
    for parts in ["by_thread", "by_cpu", "by_window"] {
        let whole = sum(&seen[parts]);
        assert!(
            seen[parts].as_array().unwrap().is_empty() || whole == 5_000.0,
            "{parts}: {seen:#}"
        );
    }
    assert_eq!(
        seen["roots"],
        serde_json::json!(["useful", "empty polling"])
    );
    assert_eq!(seen["busy_roots"], serde_json::json!(["useful"]));
    assert_eq!(seen["weights"]["Samples"], 5_000.0);
    let time = seen["weights"]["Time"].as_f64().unwrap();
    let per_request = seen["weights"]["Per request"].as_f64().unwrap();
    let requests = ledger["requests"].as_f64().unwrap();
    assert!(
        (time / requests - per_request).abs() < 1e-3 * per_request,
        "{seen:#}"
    );
    assert_eq!(seen["weight_by_key"], "Samples");
    assert!(seen["found"].as_str().unwrap().ends_with("match"));
    assert_eq!(seen["found_after"], "");
    assert_eq!(seen["zoomed"].as_array().unwrap().len(), 3, "{seen:#}");
    assert!(seen["tip"].as_str().unwrap().contains("samples"));
    assert_eq!(seen["unzoomed"], serde_json::json!([]));

    let slowest = json(&place, &["spans", "--json", "--show", "1", "a.mcap"]);
    let flow = slowest["slowest"][0]["flow"]
        .as_str()
        .unwrap()
        .trim_start_matches("0x")
        .to_owned();
    assert!(
        seen["request"].as_str().unwrap().contains(&flow),
        "{seen:#}"
    );
    assert!(
        seen["followed"].is_string() || seen["findings"] == 0,
        "{seen:#}"
    );
    assert!(seen["beside"].as_f64().unwrap() > 0.0);
    assert!(seen["other_title"].as_str().unwrap().contains("hot"));
    assert_eq!(
        (seen["theme"].as_str(), &seen["printed_header"]),
        (Some("dark"), &Value::Bool(false))
    );
    assert!(seen["keys"].as_u64().unwrap() >= 8);
    let printed = (&seen["printed_theme"], &seen["theme_after"]);
    assert_eq!(printed, (&"light".into(), &"dark".into()));
}

/// Of two recordings of one workload the page says in words which is best, what makes the other worse, and leads there;
/// its commands say the same.
#[test]
fn which_is_best() {
    let place = Place::new();
    let slow = Load {
        drain: 101_000,
        ..LOAD
    };
    write(&place.path("slow.mcap"), &slow);
    write(&place.path("fast.mcap"), &Load { seed: 2, ..LOAD });
    let files = ["slow.mcap", "fast.mcap"];
    let run = place.run(&[&["report", "--html", "page.html"][..], &files].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let Some(seen) = drive(&place.path("page.html"), "tcp") else {
        return;
    };
    assert_eq!(seen["errors"], serde_json::json!([]), "{seen:#}");
    let verdict = seen["verdicts"][0].as_str().unwrap();
    assert!(verdict.starts_with("fast answers most"), "{verdict}");
    assert!(seen["verdicts"].as_array().unwrap().len() == 1, "{seen:#}");
    let [best, worse] = [0, 1].map(|at| seen["ranks"][at].as_str().unwrap());
    assert!(best.starts_with("fast") && worse.starts_with("slow"));
    let title = "lets replies wait for the timer that drains the transmit queue";
    assert!(worse.contains(title), "{worse}");
    // A sentence for what limits it, another for what makes it worse.
    assert!(best.contains("What limits it: ") && !best.contains("Beside "));
    let beside = worse.split_once("What limits it: ").unwrap().1;
    assert!(beside.contains("Beside fast: "), "{worse}");
    let led = seen["led_to"].as_array().unwrap();
    assert_eq!(led[1], "latency", "{led:?}");

    let commands = seen["commands"].as_array().unwrap();
    let commands = commands.iter().filter_map(Value::as_str);
    let compare = commands.clone().find(|c| c.contains(" compare ")).unwrap();
    let words: Vec<&str> = compare.split(' ').skip(1).collect();
    let compared = json(&place, &words);
    assert_eq!(compared["a"]["file"], "fast.mcap");
    let rate = compared["b"]["requests_per_second"].as_f64().unwrap();
    let shown = worse.replace('\u{202f}', "");
    assert!(shown.contains(&format!("{rate:.0}/s")), "{rate} {worse}");
    let ratio = compared["rate_ratio"].as_array().unwrap().iter();
    let [of, low, high] = ratio
        .map(|r| format!("{:.1}%", 100.0 * r.as_f64().unwrap()))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let ratio = format!("{of} of the best (95%: {low} to {high})");
    assert!(shown.contains(&ratio), "{ratio} {worse}");
    let mut explain = commands.filter(|c| c.contains(" explain --json fast.mcap slow"));
    let words: Vec<&str> = explain.next().unwrap().split(' ').skip(1).collect();
    let explained = json(&place, &words);
    assert_eq!(explained["findings"][0]["id"], "F1", "{explained:#}");
}

/// Of a page there may be several recordings, of a table one; the page never takes a recording's place.
#[test]
fn wrong_use() {
    let place = Place::new();
    place.hot();
    place.record(&["./hot"]);
    let code = |args: &[&str]| place.run(args).code;
    assert_eq!(
        code(&["report", "bypassprof.mcap", "bypassprof.mcap"]),
        Some(2)
    );
    assert_eq!(code(&["report", "--html", "bypassprof.mcap"]), Some(2));
    assert_eq!(code(&["report", "--html", "x.html", "--json"]), Some(2));
    assert_eq!(code(&["report", "none.mcap", "--html", "x.html"]), Some(1));
}

/// What docs/reference/html.md says of large recordings; the time is told, not judged.
#[test]
#[ignore = "writes a recording of a million samples: a minute"]
fn a_million_samples() {
    let place = Place::new();
    let traffic = Traffic {
        events: 1_000_000,
        samples: 1_000_000,
        ..Traffic::default()
    };
    traffic::write(&place.path("bypassprof.mcap"), traffic).unwrap();
    let run = place.run(&["report", "--html", "page.html"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let bytes = std::fs::metadata(place.path("page.html")).unwrap().len();
    assert!(bytes < 10_000_000, "{bytes} bytes");
    let Some(seen) = drive(&place.path("page.html"), "function_1") else {
        return;
    };
    assert_eq!(seen["all"], 1_000_000.0);
    eprintln!("{bytes} bytes, drawn after {} ms", seen["ready_ms"]);
}
