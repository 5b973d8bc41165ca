//! `bypassprof spans`: requests on their way, stage by stage.

use super::filter::{Asked, FilterArgs};
use super::packs::PackArgs;
use super::{Failure, load};
use crate::present::spans as present;
use crate::present::style::{Style, duration};
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
    let Asked { filter, slowest } = args.filter.asked();
    let show = usize::from(args.show);
    let load::Told {
        spans,
        moments,
        threshold,
    } = load::told(&args.file, packs, &filter, slowest, show)?;
    if spans.trust.rings == 0 {
        return Err(Failure::failed(format!(
            "{} holds no events: requests are told from probes",
            args.file.display()
        ))
        .hint(
            "record a program that is linked with probes (docs/guide/probes-rust.md, probes-c.md)",
        ));
    }
    let what = match (slowest, threshold) {
        (Some(share), Some(threshold)) => format!(
            "requests, the slowest {} % of {}: {} or more",
            share * 100.0,
            threshold.of,
            duration(threshold.least.ns())
        ),
        _ => "requests".to_owned(),
    };
    let text = if args.json {
        let threshold = threshold.map(|threshold| threshold.least.ns());
        present::json::spans(&spans, &moments, threshold).map_err(Failure::failed)? + "\n"
    } else {
        present::table::spans(&spans, &moments, &what, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
