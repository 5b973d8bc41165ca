//! `bypassprof report`: who used the time, as tables or JSON.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, html, load};
use crate::analyse::Grouping;
use crate::present::{json, style::Style, table};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read; with --html there may be several
    #[arg(default_value = load::DEFAULT_FILE, value_name = "FILE")]
    recordings: Vec<PathBuf>,
    /// Write one page with everything there is to say: ledger, flame graphs, requests, findings
    #[arg(long, value_name = "OUT.html", conflicts_with_all = ["by", "limit", "busy", "json"])]
    html: Option<PathBuf>,
    /// Only this table
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Rows of each table [default: 20; with --json: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Leave out what was sampled while polling for nothing
    #[arg(long)]
    busy: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
    /// Print all tables as JSON
    #[arg(long)]
    json: bool,
}

/// What rows are.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    /// Threads and their states
    Thread,
    /// Parts of the data path
    Phase,
    /// Programs, libraries, the kernel
    Module,
    /// Functions
    Symbol,
}

const ROWS: u32 = 20;

/// Reports.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if let Some(output) = &args.html {
        let asked = args.filter.asked();
        html::write(&args.recordings, output, &args.packs.load()?, &asked)?;
        return Ok(ExitCode::SUCCESS);
    }
    let [file] = args.recordings.as_slice() else {
        return Err(Failure::wrong_use("a report is of one recording")
            .hint("--html OUT.html with several, or `bypassprof compare`"));
    };
    let mut profile = load::chosen(file, args.packs.load()?, &args.filter.asked())?;
    if args.busy {
        profile.only_busy();
    }
    let text = if args.json {
        let limit = args.limit.map_or(usize::MAX, |l| l as usize);
        json::report(&profile, limit).map_err(Failure::failed)? + "\n"
    } else {
        let by = args.by.map(|by| match by {
            By::Thread => Grouping::Thread,
            By::Phase => Grouping::Phase,
            By::Module => Grouping::Module,
            By::Symbol => Grouping::Symbol,
        });
        let limit = args.limit.unwrap_or(ROWS) as usize;
        table::report(&profile, by, limit, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
