//! Imports: perf.data and its text against perf's own report, and bytes that are neither.

use super::heaviest;
use crate::support::{Place, Run};
use bypassprof::trace::perfdata;
use bypassprof::trace::record::{Meta, Sample, Symbols};
use bypassprof::trace::{Symbolizer, Writer};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::process::Command;

fn perf(place: &Place, args: &[&str]) -> Option<Run> {
    let mut command = Command::new("perf");
    command.args(args).current_dir(place.path(""));
    Some(Run::from(command.output().ok()?))
}

/// Shares of samples by function as `perf report` prints them; names cut at the offset.
fn perf_shares(place: &Place) -> BTreeMap<String, f64> {
    let args = [
        "report",
        "-i",
        "perf.data",
        "--stdio",
        "--no-children",
        "-g",
        "none",
        "--sort",
        "sym",
        "-F",
        "overhead,sym",
    ];
    let run = perf(place, &args).unwrap();
    let mut shares = BTreeMap::new();
    for line in run
        .out
        .lines()
        .map(str::trim)
        .filter(|l| !l.starts_with('#'))
    {
        let Some((share, symbol)) = line.split_once('%') else {
            continue;
        };
        let name = symbol
            .trim()
            .trim_start_matches("[.]")
            .trim_start_matches("[k]")
            .trim();
        *shares.entry(name.to_owned()).or_default() += share.trim().parse::<f64>().unwrap() / 100.0;
    }
    shares
}

/// perf's own recording of a program whose time is known, by both ways: the functions that perf's report has on top
/// have the same shares in ours. Inlined functions are told by perf only for a chain, so that `mix` counts as `hot`.
#[test]
fn as_perf_reports_it() {
    let place = Place::new();
    place.hot();
    let args = [
        "record",
        "-q",
        "-F",
        "1999",
        "-g",
        "-o",
        "perf.data",
        "--",
        "./hot",
        "0.6",
    ];
    match perf(&place, &args) {
        Some(run) if run.code == Some(0) => {}
        other => {
            eprintln!("left out: perf does not record here: {other:?}");
            return;
        }
    }
    let theirs = perf_shares(&place);
    assert!(theirs["hot"] > 0.5, "{theirs:?}");
    let script = perf(
        &place,
        &[
            "script",
            "-i",
            "perf.data",
            "--no-inline",
            "-F",
            "comm,pid,tid,cpu,time,period,event,ip,sym,dso",
        ],
    );
    let script = script
        .filter(|s| s.code == Some(0))
        .or_else(|| perf(&place, &["script", "-i", "perf.data"]));
    std::fs::write(place.path("perf.txt"), script.unwrap().out).unwrap();
    for file in ["perf.data", "perf.txt"] {
        let run = place.run(&["import", file, "-o", "bypassprof.mcap"]);
        assert_eq!(run.code, Some(0), "{file}: {}", run.err);
        let report = place.report();
        let mut ours: BTreeMap<String, f64> = heaviest(&report, 1000).into_iter().collect();
        let mixed = ours.remove("mix").unwrap_or_default();
        *ours.entry("hot".into()).or_default() += mixed;
        for name in ["hot", "cold"] {
            let share = ours.get(name).copied().unwrap_or_default();
            assert!(
                (share - theirs[name]).abs() < 0.002,
                "{file}: {name}: ours {share}, perf's {}",
                theirs[name]
            );
        }
        let thread = &report["threads"][0];
        assert_eq!(thread["name"], "hot", "{report:#}");
        // Nothing tells when it was on a CPU.
        assert!(thread["on_cpu_share"].is_null(), "{thread:#}");
    }
}

/// A group that perf read with every sample, and what it lost, as perf asks from 6.1 on: stacks lie behind it.
#[test]
fn groups_of_perf() {
    let place = Place::new();
    place.hot();
    let args = "record -q -g -F 999 -e {cpu-clock,page-faults}:S -o perf.data -- ./hot 0.2";
    let args: Vec<_> = args.split(' ').collect();
    match perf(&place, &args) {
        Some(run) if run.code == Some(0) => {}
        other => {
            eprintln!("left out: perf reads no group here: {other:?}");
            return;
        }
    }
    let run = place.run(&["import", "perf.data"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let folded = place.run(&["export", "--format", "folded", "-o", "-"]);
    // Its thread, who called it, itself and what is inlined into it.
    let whole = |l: &str| l.contains(";hot;mix ") && l.split(';').count() >= 4;
    assert!(
        folded.out.lines().any(whole),
        "{}{}",
        folded.out,
        folded.err
    );
}

struct Nothing;

impl Symbolizer for Nothing {
    fn meta(&mut self, _: &Meta) {}
    fn sample(&mut self, _: &Sample) {}
    fn finish(&mut self) -> Vec<Symbols> {
        Vec::new()
    }
}

fn import(bytes: &[u8]) -> Result<u64, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&dir.path().join("a.mcap")).unwrap();
    let tally = perfdata::write("a", Cursor::new(bytes), None, &mut writer, &mut Nothing);
    tally.map(|t| t.samples).map_err(|e| e.to_string())
}

/// A small perf.data of a shell that ends at once.
const SMALL: &[u8] = include_bytes!("../data/small.perf.data");

/// What perf wrote is whole.
#[test]
fn small_file() {
    assert_eq!(import(SMALL), Ok(6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bytes changed and cut anywhere are read or refused.
    #[test]
    fn damaged(changes in proptest::collection::vec((0..SMALL.len(), any::<u8>()), 0..20), cut in 0..SMALL.len()) {
        let mut bytes = SMALL.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let _outcome = import(&bytes);
        bytes.truncate(cut);
        let _outcome = import(&bytes);
    }
}

/// What is nothing of all that is told, and leaves no recording.
#[test]
fn neither() {
    let place = Place::new();
    for (text, expected) in [
        ("", "there is no sample"),
        ("hello\n", "no sample of `perf script`"),
        ("PERFILE2 and no more", "cannot be read as perf.data"),
        ("a;b 1\nc;d\n", "no folded stack"),
    ] {
        std::fs::write(place.path("in"), text).unwrap();
        let run = place.run(&["import", "in"]);
        assert_eq!(run.code, Some(1), "{text}: {}", run.err);
        assert!(run.err.contains(expected), "{text}: {}", run.err);
    }
    assert_eq!(place.names(), ["in"]);
    let run = place.run(&["import", "none"]);
    assert_eq!(run.code, Some(1));
}
