//! `bypassprof queues`: polls, bursts and frames of a DPDK program, by lcore, port and queue.

use super::filter::{FilterArgs, Meaningless};
use super::packs::PackArgs;
use super::{Failure, load};
use crate::analyse::queues::Queues;
use crate::present::queues as present;
use crate::present::style::Style;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `queues`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read
    #[arg(default_value = load::DEFAULT_FILE)]
    file: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// What bursts cannot be told apart by.
const WITHOUT: &[Meaningless] = &[
    (
        "--cpu",
        "bursts are counted by thread, wherever it runs",
        "--thread with the lcore's name or number",
    ),
    (
        "--flow",
        "a burst holds frames of all flows",
        "the table of flows of a recording made with --per-packet, or `spans --flow`",
    ),
    (
        "--slowest",
        "a burst is not of one request",
        "`spans --slowest` or `ledger --slowest`, with burst sizes in `spans`",
    ),
];

/// Reports. A recording without counts of queues is a failure.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let filter = args.filter.only(WITHOUT)?.filter;
    let (profile, counted) = load::queues(&args.file, args.packs.load()?, &filter)?;
    let queues = Queues::of(&profile, &counted.queues, &counted.devices, counted.flows);
    if queues.rows.is_empty() && filter.is_open() {
        return Err(Failure::failed(format!(
            "{} holds no counts of device queues",
            args.file.display()
        ))
        .hint("`bypassprof record --dpdk -- PROGRAM` makes a recording that does"));
    }
    let text = if args.json {
        present::json(&queues).map_err(Failure::failed)? + "\n"
    } else {
        present::text(&profile, &queues, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
