//! What the analysis says of a made-up recording is what it said when each number was checked: files in
//! `tests/data/traffic`. Ways to be faster or to need less memory change none of them.
//!
//! After a change that is meant: `BLESS=1 cargo test --test main golden`, and read the difference.

use crate::support::{Place, Run};
use crate::traffic::{self, Traffic};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Short connections, a ring with gaps, requests across threads.
const TRAFFIC: Traffic = Traffic {
    events: 100_000,
    samples: 2_000,
    flows: 60,
    requests_each: 40,
    gaps: 3,
};

const COMMANDS: [(&str, &[&str]); 4] = [
    ("ledger", &["ledger", "--json"]),
    ("report", &["report", "--json", "--limit", "8"]),
    (
        "spans",
        &["spans", "--json", "--slowest", "1%", "--show", "3"],
    ),
    ("explain", &["explain", "--json"]),
];

/// Everything in `expected` is in `found`, numbers to nine digits; keys may have been added.
fn same(at: &str, expected: &Value, found: &Value) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let at = format!("{at}.{key}");
                same(&at, value, found.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (place, (expected, found)) in expected.iter().zip(found).enumerate() {
                same(&format!("{at}[{place}]"), expected, found);
            }
        }
        (Value::Number(expected), Value::Number(found)) => {
            let (a, b) = (expected.as_f64().unwrap(), found.as_f64().unwrap());
            let near = (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
            assert!(near, "{at}: {found} instead of {expected}");
        }
        _ => assert_eq!(expected, found, "{at}"),
    }
}

/// Numbers of a recording with everything in it.
#[test]
fn traffic_as_it_was() {
    let place = Place::new();
    traffic::write(&place.path("bypassprof.mcap"), TRAFFIC).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traffic");
    // Blessed with this build, or with another build of the tool to compare this one with.
    let bless = std::env::var("BLESS").ok();
    for (name, args) in COMMANDS {
        let file = data.join(format!("{name}.json"));
        let run = match bless.as_deref() {
            Some(program) if program != "1" => Run::of(
                Command::new(program)
                    .args(args)
                    .arg(place.path("bypassprof.mcap")),
            ),
            _ => place.run(args),
        };
        assert_eq!(run.code, Some(0), "{name}: {}", run.err);
        if bless.is_some() {
            fs::create_dir_all(&data).unwrap();
            fs::write(&file, &run.out).unwrap();
        }
        let expected: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        same(name, &expected, &serde_json::from_str(&run.out).unwrap());
    }
}
