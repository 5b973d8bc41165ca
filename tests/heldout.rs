//! Folded stacks of other workloads and other versions of the stacks, from which no pack was written at first
//! (`tests/data/heldout/README.md`): each gets the phase that its names mean, and the stack's own pack comes first.

use crate::support::{Place, Run};
use serde_json::Value;
use std::path::Path;

/// Stacks with the row of the ledger that each belongs to.
fn stacks(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut phase = String::new();
    let mut stacks = Vec::new();
    for line in text.lines().skip(1) {
        match line.strip_prefix("# ") {
            Some(name) => name.clone_into(&mut phase),
            None => stacks.push((phase.clone(), line.to_owned())),
        }
    }
    stacks
}

#[test]
fn other_workloads_and_versions() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/heldout");
    let mut wrong = Vec::new();
    for pack in ["mtcp", "fstack", "ix", "tas", "demikernel", "lwip", "linux"] {
        let stacks = stacks(&data.join(format!("{pack}.folded")));
        assert!(stacks.len() > 30, "{pack}");
        // Each a thread of its own, whose number tells it in the ledger.
        let lines = (1..).zip(&stacks).map(|(number, (_, stack))| {
            let (comm, frames) = stack.split_once(';').unwrap();
            format!("{comm}-?/{number};{frames} 100\n")
        });
        let place = Place::new();
        std::fs::write(place.path("a.folded"), lines.collect::<String>()).unwrap();
        let ok = |args: &[&str]| {
            let run = Run::of(&mut place.bypassprof(args));
            assert_eq!(run.code, Some(0), "{pack}: {}", run.err);
            run.out
        };
        ok(&["import", "--folded", "a.folded", "--period", "1"]);
        let ledger: Value = serde_json::from_str(&ok(&["ledger", "--json"])).unwrap();
        assert_eq!(ledger["packs"][0], pack, "{pack}");
        let rows = ledger["rows"].as_array().unwrap();
        for (number, (phase, stack)) in (1..).zip(&stacks) {
            let end = format!(" {number}/{number}");
            let of_thread = |r: &&Value| {
                r["level"] == "thread" && r["thread"].as_str().is_some_and(|t| t.ends_with(&end))
            };
            let found: Vec<_> = rows.iter().filter(of_thread).map(|r| &r["phase"]).collect();
            if found != [phase] {
                wrong.push(format!("{pack}: {phase}, not {found:?}: {stack}"));
            }
        }
        let coverage = ok(&["packs", "bypassprof.mcap"]);
        let numbers = coverage.lines().nth(1).unwrap().split(' ');
        let leaf: f64 = numbers.filter_map(|w| w.parse().ok()).next().unwrap();
        if leaf < 95.0 {
            wrong.push(format!(
                "{pack}: {leaf} % by the innermost function:\n{coverage}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
