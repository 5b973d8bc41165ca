//! `bypassprof stat`: counts events of a command, of what runs, or of a recording.
//!
//! Joins `collect` (the counts), `analyse` (what they say together) and `present`. The command's exit status becomes ours.

mod intervals;
mod recording;
mod session;
mod totals;

use super::Failure;
use super::affinity::AffinityArgs;
use super::child;
use super::events::EventArgs;
use super::filter::{FilterArgs, Meaningless};
use super::whom::WhomArgs;
use crate::analyse::counts::Counts;
use crate::collect::events::Machine;
use crate::collect::{Outcome, limits};
use crate::present::stat as present;
use crate::present::style::Style;
use session::{Done, Session};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `stat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read, if nothing is to be run or followed [default: bypassprof.mcap]
    file: Option<PathBuf>,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    whom: WhomArgs,
    #[command(flatten)]
    affinity: AffinityArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Run the command so many times; counts are means, with their deviation
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: Option<u32>,
    /// Tell the counts of every so many milliseconds too
    #[arg(short = 'I', long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    interval: Option<u64>,
    /// Count each thread by itself too, those that are made later as well; with -r those of the last run
    #[arg(long, conflicts_with_all = ["all", "cpus", "cgroup"])]
    per_thread: bool,
    /// Leave the probes of programs alone
    #[arg(long)]
    no_probes: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Command to run and count
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What is counted if nothing else is asked for: one at a time, so that each is had where the others are not.
const USUAL: &str = "task-clock,context-switches,cpu-migrations,page-faults,cycles,instructions,branches,branch-misses,\
     LLC-load-misses,dTLB-load-misses";

/// Filters are of what was recorded.
const LIVE: &[Meaningless] = &[
    (
        "--window",
        "it is a part of a recording, and this counts what runs",
        "--delay and --duration",
    ),
    (
        "--thread",
        "it is of a recording, and this counts what runs",
        "--per-thread",
    ),
    (
        "--cpu",
        "it is of a recording, and this counts what runs",
        "-C CPUS",
    ),
    (
        "--flow",
        "counters count all requests",
        "`record`, then `ledger --flow`",
    ),
    (
        "--slowest",
        "counters count all requests",
        "`record`, then `ledger --slowest`",
    ),
];

/// Counts.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let target = args.whom.target()?;
    let live = !args.command.is_empty() || target.is_some();
    if !live {
        return recording::tell(&args);
    }
    if let Some(file) = &args.file {
        return Err(Failure::wrong_use(format!(
            "{} is neither an option nor behind `--`",
            file.display()
        ))
        .hint("`bypassprof stat [OPTIONS] -- COMMAND`, or a recording alone"));
    }
    args.filter.only(LIVE)?;
    if args.repeat.is_some() && args.command.is_empty() {
        return Err(Failure::wrong_use("-r runs a command again; there is none"));
    }
    let command_cpus = args.affinity.apply()?;
    limits::raise_open_files();
    let machine = Machine::here();
    let groups = if args.events.is_empty() {
        machine.encode(USUAL).map_err(Failure::failed)?
    } else {
        args.events.groups(&machine)?
    };
    let interrupted = child::interrupts()?;
    let mut session = Session {
        command_cpus,
        args: &args,
        machine,
        groups,
        interrupted,
        target,
        stops: false,
        outcome: Outcome::default(),
    };
    let mut runs = Vec::new();
    let mut last = Done::default();
    for _ in 0..args.repeat.unwrap_or(1) {
        last = session.once()?;
        runs.push(last.run.clone());
        if session.stops {
            break;
        }
    }
    let counts = Counts::of(&runs);
    let nothing = !args.events.is_empty() && counts.counts.iter().all(|c| c.value.is_none());
    let document = present::Document {
        what: session.what(),
        counts: &counts,
        apart: last.threads.as_ref(),
        notices: last
            .notices
            .iter()
            .map(|(id, text)| (*id, text.as_str()))
            .collect(),
        trust: &last.trust,
        live: true,
    };
    print(&document, args.json)?;
    if nothing {
        return Err(Failure::failed("none of these events could be counted")
            .hint("`bypassprof list` for what this machine has, `bypassprof doctor` for why"));
    }
    Ok(ExitCode::from(child::exit_code(session.outcome)))
}

fn print(document: &present::Document, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        present::json(document).map_err(Failure::failed)? + "\n"
    } else {
        present::table(document, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)
}
