//! `bypassprof spans`: requests on their way, stage by stage.

use super::filter::{Asked, FilterArgs};
use super::packs::PackArgs;
use super::{Failure, load};
use crate::present::spans as present;
use crate::present::style::{Style, duration};
use crate::units::Nanos;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `spans`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read
    #[arg(default_value = load::DEFAULT_FILE)]
    file: PathBuf,
    /// Print so many of the slowest requests as timelines
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    show: u16,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// Prints the stages.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let packs = args.packs.load()?;
    let Asked {
        mut filter,
        slowest,
    } = args.filter.asked();
    let show = usize::from(args.show);
    let mut spans = load::spans(&args.file, &packs, &filter, show)?;
    if spans.trust.rings == 0 {
        return Err(Failure::failed(format!(
            "{} holds no events: requests are told from probes",
            args.file.display()
        ))
        .hint(
            "record a program that is linked with probes (docs/guide/probes-rust.md, probes-c.md)",
        ));
    }
    let mut what = "requests".to_owned();
    if let Some(share) = slowest
        && let Some(least) = spans.slowest_from(share)
    {
        // A second pass keeps what is in memory independent of how many requests there are.
        filter.at_least = Some(least);
        what = format!(
            "requests, the slowest {} % of {}: {} or more",
            share * 100.0,
            spans.counts.complete,
            duration(least.ns())
        );
        spans = load::spans(&args.file, &packs, &filter, show)?;
    }
    let moments = match spans.slowest.is_empty() {
        true => Vec::new(),
        false => load::moments(&args.file, packs, &spans.slowest)?,
    };
    let text = if args.json {
        let threshold = filter.at_least.map(Nanos::ns);
        present::json::spans(&spans, &moments, threshold).map_err(Failure::failed)? + "\n"
    } else {
        present::table::spans(&spans, &moments, &what, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
