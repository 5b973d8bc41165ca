//! `bypassprof stat FILE`: the counters that a recording holds.
//!
//! In: a recording; out: a document to print. It refuses to count anything itself.

use super::{Args, print};
use crate::analyse::Packs;
use crate::analyse::counts::{Counts, Raw, Run};
use crate::cmd::filter::Meaningless;
use crate::cmd::{Failure, load};
use crate::present::stat as present;
use std::path::Path;
use std::process::ExitCode;

/// What counters are not told apart by.
const WITHOUT: &[Meaningless] = &[
    (
        "--thread",
        "the counters of a recording are of all that was recorded",
        "`ledger --thread`, or `stat --per-thread` of what runs",
    ),
    (
        "--cpu",
        "the counters of a recording are of all that was recorded",
        "`ledger --cpu`, or `stat -C CPUS` of what runs",
    ),
    (
        "--flow",
        "counters count all requests",
        "`ledger --flow`, which has counters by phase where samples carry them",
    ),
    (
        "--slowest",
        "counters count all requests",
        "`ledger --slowest`, which has counters by phase where samples carry them",
    ),
];

/// Tells them.
pub fn tell(args: &Args) -> Result<ExitCode, Failure> {
    let live_only = [
        (args.repeat.is_some(), "-r"),
        (args.interval.is_some(), "-I"),
        (args.per_thread, "--per-thread"),
        (!args.events.is_empty(), "-e"),
    ];
    if let Some((_, option)) = live_only.iter().find(|o| o.0) {
        return Err(
            Failure::wrong_use(format!("{option} needs something to count"))
                .hint("`bypassprof stat [OPTIONS] -- COMMAND`, -p PID or -a"),
        );
    }
    let file = args
        .file
        .as_deref()
        .unwrap_or(Path::new(load::DEFAULT_FILE));
    let filter = args.filter.only(WITHOUT)?.filter;
    let (profile, counters) = load::with_counters(file, Packs::built_in(), &filter)?;
    let of = |at: usize| counters.as_ref()?.values.get(at)?.as_ref();
    let raw = profile
        .session
        .events
        .iter()
        .enumerate()
        .map(|(at, source)| {
            let name = source.name.split(':').next().unwrap_or_default();
            let is_clock = ["task-clock", "cpu-clock"].contains(&name);
            Raw {
                name: source.name.clone(),
                value: of(at)
                    .copied()
                    .ok_or_else(|| "it was sampled, not counted".to_owned()),
                scale: 1.0,
                unit: if is_clock { "ns" } else { "" }.to_owned(),
            }
        });
    let has_probes = profile.threads.iter().any(|t| t.probes);
    let run = Run {
        raw: raw.collect(),
        elapsed_ns: profile.wall_ns,
        work: has_probes.then_some(profile.totals),
    };
    let counts = Counts::of(&[run]);
    let document = present::Document {
        what: crate::present::table::command(&profile),
        counts: &counts,
        apart: None,
        notices: profile
            .notices
            .iter()
            .map(|n| (n.id.as_str(), n.text.as_str()))
            .collect(),
        trust: &profile.trust,
        live: false,
    };
    print(&document, args.json)?;
    Ok(ExitCode::SUCCESS)
}
