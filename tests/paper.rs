//! The profiles of the paper's servers, through the packs: every sample has a phase, nearly all by their innermost
//! function alone, and the share of busy cycles is the one that was found by hand. The profiles are data of others and
//! lie beside the project, where they are at all.

use crate::support::Place;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `None`, and a word on it, where the profiles are not there.
fn profiles() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/paper");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("left out: the paper's profiles are not beside the project");
    None
}

/// The four windows in which the load ran; the one before them is cut, in those after them the servers idle.
const LOAD: &[&str] = &["2_4", "4_6", "6_8"];
const IDLE: &[&str] = &["10_12"];

fn import(place: &Place, dir: &Path, cpu: u32, windows: &[&str], out: &str) {
    let files: Vec<_> = windows
        .iter()
        .map(|w| dir.join(format!("cpu{cpu}.{w}.folded")))
        .collect();
    let mut command = place.bypassprof(&["import", "--folded", "--event", "cycles", "-o", out]);
    let run = crate::support::Run::of(command.args(&files));
    assert_eq!(run.code, Some(0), "{}", run.err);
}

fn json(place: &Place, args: &[&str]) -> Value {
    let run = place.run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

/// Per cent of samples with a phase: by their innermost function, by the nearest caller, without.
fn coverage(place: &Place, recording: &str) -> [f64; 3] {
    let run = place.run(&["packs", recording]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let line = run.out.lines().nth(1).unwrap();
    let numbers = line.split(' ').filter_map(|w| w.parse().ok());
    numbers.collect::<Vec<f64>>().try_into().unwrap()
}

/// Server and workload, CPU, what runs there, busy per cent found by hand, whether all of libc has names.
const RUNS: &[(&str, u32, &str, f64, bool)] = &[
    ("host_bulkthroughput", 0, "linux", 78.0, false),
    ("host_latency", 0, "linux", 22.0, true),
    ("mtcp_bulkthroughput", 0, "mtcp", 50.0, true),
    ("mtcp_latency", 0, "mtcp", 8.0, true),
    ("fstack_bulkthroughput", 0, "fstack", 81.0, true),
    ("fstack_latency", 0, "fstack", 3.0, true),
    ("reflex_bulkthroughput", 0, "ix", 35.0, true),
    ("reflex_latency", 0, "ix", 8.0, true),
    ("tas_bulkthroughput", 0, "tas", 0.0, true),
    ("tas_bulkthroughput", 1, "tas", 28.0, true),
    ("tas_bulkthroughput", 2, "tas", 31.0, false),
    ("tas_latency", 0, "tas", 0.0, true),
    ("tas_latency", 1, "tas", 2.0, true),
    ("tas_latency", 2, "tas", 11.0, true),
    ("demikernel_bulkthroughput", 0, "demikernel", 0.0, true),
    ("demikernel_latency", 0, "demikernel", 11.0, true),
];

/// Each profile: the right pack first, every sample a phase, the busy share within two points.
#[test]
fn phases_and_busy_shares() {
    let Some(profiles) = profiles() else { return };
    let place = Place::new();
    for &(name, cpu, pack, busy, named) in RUNS {
        let what = format!("{name} on CPU {cpu}");
        let dir = profiles.join(name);
        import(&place, &dir, cpu, LOAD, "load.mcap");
        import(&place, &dir, cpu, IDLE, "idle.mcap");
        let [leaf, _, without] = coverage(&place, "load.mcap");
        assert!(without < 0.05, "{what}: {without} % have no phase");
        assert!(
            leaf >= 95.0 || !named,
            "{what}: {leaf} % by the innermost function"
        );
        let alone = ["ledger", "--json", "load.mcap"];
        let mut ledger = json(&place, &alone);
        assert_eq!(ledger["packs"][0], pack, "{what}");
        // Where the idle server sleeps there is no empty polling to compare with.
        let compared = place.run(&[&alone[..], &["--idle", "idle.mcap"]].concat());
        if compared.code == Some(0) {
            ledger = serde_json::from_str(&compared.out).unwrap();
        } else {
            assert!(
                compared.err.contains("poll symbol"),
                "{what}: {}",
                compared.err
            );
        }
        let program = &ledger["accounts"][0];
        let found = 100.0 * program["busy_share"].as_f64().unwrap();
        assert!(
            (found - busy).abs() <= 2.0,
            "{what}: {found:.1} % busy, by hand {busy}"
        );
        let polls = pack != "linux";
        assert_eq!(
            !program["estimated"].is_null(),
            polls,
            "{what}: {program:#}"
        );
    }
}

/// Windows in which anything went on: nothing is without a phase there either.
#[test]
fn every_window_is_covered() {
    let Some(profiles) = profiles() else { return };
    let place = Place::new();
    let all = ["0_2", "2_4", "4_6", "6_8", "8_10", "10_12", "12_"];
    for &(name, cpu, ..) in RUNS {
        import(&place, &profiles.join(name), cpu, &all, "all.mcap");
        let [_, _, without] = coverage(&place, "all.mcap");
        assert!(
            without < 0.05,
            "{name} on CPU {cpu}: {without} % have no phase"
        );
    }
}

/// Server and workload, the CPUs that make one recording, and the causes (design/stacks.md section 10) that its profile
/// shows.
const CAUSES: &[(&str, &[u32], &[&str])] = &[
    ("host_bulkthroughput", &[0], &["L1", "L2"]),
    ("host_latency", &[0], &["L3"]),
    ("mtcp_latency", &[0], &["M1"]),
    ("mtcp_bulkthroughput", &[0], &["M2"]),
    ("fstack_latency", &[0], &["F1", "F2"]),
    ("fstack_bulkthroughput", &[0], &["F3"]),
    ("reflex_bulkthroughput", &[0], &["IX1"]),
    ("reflex_latency", &[0], &["IX2"]),
    ("tas_latency", &[0, 1, 2], &["T1", "T5"]),
    ("tas_bulkthroughput", &[0, 1, 2], &["T2"]),
    ("demikernel_latency", &[0], &["D1"]),
    ("demikernel_bulkthroughput", &[0], &["D2"]),
];

/// `explain` names the causes in the profiles they show in, and none of them where the other workload ran.
#[test]
fn causes_are_named() {
    let Some(profiles) = profiles() else { return };
    let place = Place::new();
    for &(name, cpus, causes) in CAUSES {
        let windows: Vec<_> = (cpus.iter())
            .flat_map(|cpu| LOAD.iter().map(move |w| format!("cpu{cpu}.{w}.folded")))
            .map(|file| profiles.join(name).join(file))
            .collect();
        let mut import = place.bypassprof(&["import", "--folded", "--event", "cycles"]);
        let run = crate::support::Run::of(import.args(&windows));
        assert_eq!(run.code, Some(0), "{}", run.err);
        let explained = json(&place, &["explain", "--json"]);
        let findings = explained["findings"].as_array().unwrap();
        let found: Vec<_> = findings.iter().map(|f| f["id"].as_str().unwrap()).collect();
        for cause in causes {
            assert!(found.contains(cause), "{name}: {cause} is not in {found:?}");
        }
        let (stack, _) = name.split_once('_').unwrap();
        let elsewhere = CAUSES
            .iter()
            .filter(|c| c.0.starts_with(stack) && c.0 != name);
        for cause in elsewhere.flat_map(|c| c.2) {
            let both = ["T5", "F2", "IX2"];
            assert!(
                both.contains(cause) || !found.contains(cause),
                "{name}: {cause} is in {found:?}"
            );
        }
        assert!(
            findings.iter().all(|f| f["confidence"] != "measured"),
            "{name}: {findings:#?}"
        );
    }
}
