//! `bypassprof explain`: what limits a recording, or why one is slower than another, from tables of rules.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, compare, load};
use crate::analyse::estimate::Idle;
use crate::analyse::explain::{Facts, explain, lacks};
use crate::analyse::{Ledger, Packs};
use crate::present::explain as present;
use crate::present::style::Style;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read; with more than one: why each of the others is slower than the first
    #[arg(default_value = load::DEFAULT_FILE, value_name = "FILE")]
    recordings: Vec<PathBuf>,
    /// Compare although the workloads differ
    #[arg(long)]
    anyway: bool,
    /// Recording of the same program with nothing to do, as for `ledger`
    #[arg(long, value_name = "FILE")]
    idle: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// Explains.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let packs = args.packs.load()?;
    let text = match args.recordings.as_slice() {
        [file] => one(&args, file, packs)?,
        _ if args.idle.is_some() => {
            let why = "--idle is for one recording";
            return Err(Failure::wrong_use(why).hint("`explain FILE --idle IDLE` for each"));
        }
        files => several(files, &packs, &args)?,
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// Why each of the others is slower than the first.
fn several(files: &[PathBuf], packs: &Packs, args: &Args) -> Result<String, Failure> {
    let pairs = compare::pairs(files, packs, &args.filter.asked(), args.anyway)?;
    if args.json {
        let text = present::across::json(&pairs).map_err(Failure::failed)?;
        Ok(text + "\n")
    } else {
        Ok(present::across::text(&pairs, Style::of_stdout()))
    }
}

/// What limits one recording.
fn one(args: &Args, file: &Path, packs: Packs) -> Result<String, Failure> {
    let idle = match &args.idle {
        Some(file) => Some(Idle::of(&load::profile(file, packs.clone())?)),
        None => None,
    };
    let (profile, spans) = load::chosen_both(file, packs, &args.filter.asked())?;
    let ledger = Ledger::of(&profile, idle.as_ref());
    let facts = Facts::of(&profile, &ledger, Some(&spans));
    let (findings, lacks) = (explain(&facts), lacks(&facts));
    if args.json {
        let text = present::json(&profile, &findings, &lacks).map_err(Failure::failed)?;
        return Ok(text + "\n");
    }
    Ok(present::text(
        &profile,
        &findings,
        &lacks,
        Style::of_stdout(),
    ))
}
