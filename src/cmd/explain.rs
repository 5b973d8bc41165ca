//! `bypassprof explain`: what limits a recording, from a table of rules.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, load};
use crate::analyse::estimate::Idle;
use crate::analyse::explain::{Facts, explain};
use crate::analyse::{Filter, Ledger};
use crate::present::explain as present;
use crate::present::style::Style;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read
    #[arg(default_value = load::DEFAULT_FILE)]
    file: PathBuf,
    /// Recording of the same program with nothing to do, as for `ledger`
    #[arg(long, value_name = "FILE")]
    idle: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Only what threads did for the slowest part of the requests, for example 1%
    #[arg(long, value_name = "SHARE", value_parser = super::filter::share)]
    slowest: Option<f64>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// Explains.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let packs = args.packs.load()?;
    let idle = match &args.idle {
        Some(file) => Some(Idle::of(&load::profile(
            file,
            packs.clone(),
            &Filter::default(),
        )?)),
        None => None,
    };
    let (profile, spans) = match args.slowest {
        Some(share) => load::of_slowest(&args.file, packs, &args.filter.filter(), share)?,
        None => load::both(&args.file, packs, &args.filter.of_samples()?)?,
    };
    let ledger = Ledger::of(&profile, idle.as_ref());
    let findings = explain(&Facts::of(&profile, &ledger, Some(&spans)));
    let text = if args.json {
        present::json(&profile, &findings).map_err(Failure::failed)? + "\n"
    } else {
        present::text(
            &profile,
            &findings,
            spans.trust.rings > 0,
            Style::of_stdout(),
        )
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
