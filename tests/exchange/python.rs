//! Exports read by programs from PyPI: pprof's by protobuf, Perfetto's by Perfetto's own protocol, speedscope's by its
//! own schema from npm, Parquet by DuckDB. Firefox's tables are followed as its front end follows them.

use super::{TRAFFIC, export, heaviest, on_host, place};
use crate::python::python;
use crate::support::{Place, Run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Runs a script of this folder's on files; its answer is JSON. `None` if there is no Python for it.
fn ask(script: &str, args: &[&Path]) -> Option<Value> {
    let python = python()
        .map_err(|why| eprintln!("left out: there is no Python with packages from PyPI: {why}"))
        .ok()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/exchange")
        .join(script);
    let run = Run::of(Command::new(python).arg(script).args(args));
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    Some(serde_json::from_str(&run.out).unwrap())
}

/// Every sample is there, and the functions that are on top of the report are on top there, with their shares.
fn same_functions(place: &Place, read: &Value) {
    assert_eq!(read["samples"], TRAFFIC.samples, "{read:#}");
    let total = read["total"].as_f64().unwrap();
    for (name, share) in heaviest(&place.report(), 20) {
        let theirs = read["functions"][&name].as_f64().unwrap_or_default() / total;
        assert!(
            (theirs - share).abs() < 0.002,
            "{name}: {theirs} instead of {share}"
        );
    }
}

/// Strings, functions, locations and labels of pprof's format.
#[test]
fn pprof() {
    let place = place();
    export(&place, "pprof", &["-o", "out"]);
    let Some(read) = ask("pprof.py", &[&place.path("out")]) else {
        return;
    };
    same_functions(&place, &read);
    assert_eq!(
        read["types"],
        serde_json::json!([["samples", "count"], ["cpu", "nanoseconds"]])
    );
    let states = read["states"].as_object().unwrap();
    assert!(
        states["useful"].as_u64().unwrap() > 0 && states["empty_polling"].as_u64().unwrap() > 0
    );
    assert_eq!(
        read["threads"],
        serde_json::json!(["app", "rtc-0", "rtc-1", "stack"])
    );
}

/// Threads, samples with whole stacks, states in pairs, bursts, counters and requests of Perfetto's format.
#[test]
fn perfetto() {
    let place = place();
    export(&place, "perfetto", &["-o", "out"]);
    let Some(read) = ask("perfetto_trace.py", &[&place.path("out")]) else {
        return;
    };
    same_functions(&place, &read);
    let tracks = read["tracks"].as_object().unwrap();
    for (name, least) in [
        ("polling state", 100),
        ("on CPU", 10),
        ("receive burst", 100),
    ] {
        assert!(
            tracks.get(name).and_then(Value::as_u64).unwrap_or(0) >= least,
            "{name}: {tracks:?}"
        );
    }
    let spans = place.run(&["spans", "--json"]);
    let spans: Value = serde_json::from_str(&spans.out).unwrap();
    assert_eq!(read["slices"]["request"], spans["requests"]);
    let app = spans["stages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "app")
        .unwrap();
    assert_eq!(read["slices"]["app"], app["count"]);
    assert_eq!(read["unbalanced"], 0);
}

/// The tables of the processed profile are as long as they say, and lead from each sample to its functions.
#[test]
fn firefox() {
    let place = place();
    export(&place, "firefox", &["-o", "out"]);
    let Some(read) = ask("firefox.py", &[&place.path("out")]) else {
        return;
    };
    same_functions(&place, &read);
    assert!(
        read["categories"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c == "tcp_rx")
    );
    assert_eq!(
        read["threads"],
        serde_json::json!(["app", "rtc-0", "rtc-1", "stack"])
    );
}

/// speedscope's file fits the schema that speedscope ships.
#[test]
fn speedscope() {
    let place = place();
    export(&place, "speedscope", &["-o", "out"]);
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "speedscope@1.25.0"])
        .current_dir(place.path(""));
    let fetched = npm.output().is_ok_and(|o| o.status.success());
    if !fetched {
        eprintln!("left out: npm does not fetch speedscope's schema here");
        return;
    }
    let schema = place.path("speedscope-1.25.0.tgz");
    if let Some(read) = ask("speedscope.py", &[&place.path("out"), &schema]) {
        same_functions(&place, &read);
    }
}

/// DuckDB answers "p99 by stage by host" over three recordings as `spans` does for each of them, and its other tables
/// hold what the recordings do.
#[test]
fn duckdb() {
    let place = place();
    let hosts = ["alpha", "beta", "gamma"];
    for host in hosts {
        let file = place.path(&format!("{host}.mcap"));
        on_host(&place.path("bypassprof.mcap"), &file, host);
        export(&place, "parquet", &[file.to_str().unwrap(), "-o", "lake"]);
    }
    // One with counters, which take longer to come by.
    place.hot();
    place.record(&["./hot"]);
    export(&place, "parquet", &["-o", "lake"]);
    // Exported again, a recording replaces itself.
    export(&place, "parquet", &["beta.mcap", "-o", "lake"]);
    let Some(read) = ask("lake.py", &[&place.path("lake")]) else {
        return;
    };
    for host in hosts {
        let spans = place.run(&["spans", "--json", &format!("{host}.mcap")]);
        let spans: Value = serde_json::from_str(&spans.out).unwrap();
        for stage in spans["stages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["count"].as_u64() > Some(0))
        {
            let key = format!("{host} {}", stage["name"].as_str().unwrap());
            let [count, p99] = [0, 1].map(|at| read["p99"][&key][at].as_f64().unwrap_or(-1.0));
            assert_eq!(Some(count), stage["count"].as_f64(), "{key}");
            // Histograms keep three digits.
            let ours = stage["p99"].as_f64().unwrap();
            assert!(
                (p99 - ours).abs() <= ours * 0.003 + 2.0,
                "{key}: {p99} instead of {ours}"
            );
        }
        assert_eq!(read["samples"][host], TRAFFIC.samples, "{read:#}");
        assert_eq!(read["events"][host], spans["trust"]["events"], "{read:#}");
    }
    assert_eq!(read["threads"], 5);
    assert!(read["counters"].as_u64().unwrap() > 0);
}
