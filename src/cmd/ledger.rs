//! `bypassprof ledger`: where all of the time went, adding up to 100 %.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, load};
use crate::analyse::Ledger;
use crate::analyse::estimate::Idle;
use crate::analyse::ledger::Level;
use crate::present::ledger as present;
use crate::present::style::Style;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `ledger`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read
    #[arg(default_value = load::DEFAULT_FILE)]
    file: PathBuf,
    /// Only these accounts [default: the program and its roles; with --json: all]
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Recording of the same program with nothing to do: it tells how much of each function is empty polling
    #[arg(long, value_name = "FILE")]
    idle: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Draw bars into this file too
    #[arg(long, value_name = "OUT.svg")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// Whose accounts.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    /// All threads together
    Program,
    /// Threads of each role
    Role,
    /// Each thread
    Thread,
}

/// Prints the ledger.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let packs = args.packs.load()?;
    let idle = match &args.idle {
        None => None,
        Some(file) => {
            let idle = Idle::of(&load::profile(file, packs.clone())?);
            if idle.roles.is_empty() {
                return Err(Failure::failed(format!(
                    "{}: no thread was sampled in a poll symbol of any pack: it cannot tell what idling looks like",
                    file.display()
                ))
                .hint("record the program while no one asks it anything, or --pack with its poll symbols"));
            }
            Some(idle)
        }
    };
    let profile = load::chosen(&args.file, packs, &args.filter.asked())?;
    let ledger = Ledger::of(&profile, idle.as_ref());
    if let Some(svg) = &args.svg {
        fs::write(svg, present::picture::svg(&ledger))
            .map_err(|e| Failure::failed(format!("cannot write {}: {e}", svg.display())))?;
        eprintln!("{}", svg.display());
    }
    let level = args.by.map(|by| match by {
        By::Program => Level::Program,
        By::Role => Level::Role,
        By::Thread => Level::Thread,
    });
    let text = if args.json {
        present::json::ledger(&ledger, level).map_err(Failure::failed)? + "\n"
    } else {
        present::table::ledger(&ledger, level, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
