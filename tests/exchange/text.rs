//! Folded stacks and the text of perf script, read by inferno; speedscope's JSON against speedscope's own schema.

use super::{TRAFFIC, export, heaviest, place};
use crate::support::{Place, Run};
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use std::collections::BTreeMap;

/// What inferno's library makes of the text of perf script: weight by stack.
fn collapsed(text: &str) -> BTreeMap<String, u64> {
    let mut folded = Vec::new();
    Folder::default()
        .collapse(text.as_bytes(), &mut folded)
        .unwrap();
    weights(&String::from_utf8(folded).unwrap())
}

fn weights(folded: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in folded.lines() {
        let (stack, weight) = line.rsplit_once(' ').unwrap();
        *sums.entry(stack.to_owned()).or_default() += weight.parse::<u64>().unwrap();
    }
    sums
}

/// inferno collapses our text of perf script into the stacks that our folded stacks have, sample for sample, and draws
/// both.
#[test]
fn inferno_reads_both() {
    let place = place();
    let text = export(&place, "perf-script", &["-o", "-"]).out;
    let folded = export(&place, "folded", &["-o", "-"]).out;
    let samples = collapsed(&text);
    assert_eq!(samples.values().sum::<u64>(), TRAFFIC.samples * 1_003_009);
    // inferno leaves thread numbers out.
    let mut ours = BTreeMap::new();
    for (stack, weight) in weights(&folded) {
        let (thread, frames) = stack.split_once(';').unwrap();
        let name = thread.rsplit_once('-').unwrap().0;
        *ours.entry(format!("{name};{frames}")).or_default() += weight;
    }
    assert_eq!(samples, ours);
    let mut svg = Vec::new();
    let mut options = inferno::flamegraph::Options::default();
    inferno::flamegraph::from_lines(&mut options, folded.lines(), &mut svg).unwrap();
    assert!(String::from_utf8(svg).unwrap().contains("function_"));
}

/// With states, what a thread was doing comes first, and the weights stay.
#[test]
fn states_come_first() {
    let place = place();
    let plain = weights(&export(&place, "folded", &["-o", "-"]).out);
    let states = weights(&export(&place, "folded", &["--states", "-o", "-"]).out);
    assert_eq!(plain.values().sum::<u64>(), states.values().sum::<u64>());
    assert!(
        states
            .keys()
            .all(|s| s.starts_with("useful;") || s.starts_with("empty polling;"))
    );
}

/// What we export we import: the heaviest functions and their shares stay, by either text.
#[test]
fn there_and_back() {
    let place = place();
    let before = heaviest(&place.report(), 20);
    for format in ["perf-script", "folded"] {
        export(&place, format, &["-o", "out"]);
        let back = Place::new();
        let run = back.run(&["import", place.path("out").to_str().unwrap()]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let after: BTreeMap<_, _> = heaviest(&back.report(), 1000).into_iter().collect();
        for (name, share) in &before {
            assert!(
                (after[name] - share).abs() < 1e-9,
                "{format}: {name} {share} {after:?}"
            );
        }
    }
}

/// Wrong uses are told, and a failed export leaves nothing behind.
#[test]
fn refusals() {
    let place = place();
    let code = |args: &[&str]| place.run(args).code;
    assert_eq!(code(&["export", "--format", "pprof", "--states"]), Some(2));
    assert_eq!(code(&["export", "--format", "firefox", "--busy"]), Some(2));
    assert_eq!(code(&["export", "--format", "parquet", "-o", "-"]), Some(2));
    assert_eq!(
        code(&["export", "--format", "folded", "-o", "bypassprof.mcap"]),
        Some(2)
    );
    let run: Run = place.run(&["export", "--format", "folded", "-o", "no/such/folder/out"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(place.names(), ["bypassprof.mcap"]);
}
