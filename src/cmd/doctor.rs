//! `bypassprof doctor`: what this machine, kernel and user may do.

use super::Failure;
use crate::collect::doctor::{Root, Tried, checks};
use crate::present::doctor as present;
use crate::present::style::Style;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Looks at everything; changes nothing.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let checks = checks(&Root::at(Path::new("/")), &Tried::here());
    let lines: Vec<_> = checks
        .iter()
        .map(|c| present::Line {
            id: c.id,
            state: c.state.name(),
            found: &c.found,
            prevents: &c.prevents,
            fix: &c.fix,
        })
        .collect();
    let text = if args.json {
        present::json(&lines).map_err(Failure::failed)? + "\n"
    } else {
        present::table(&lines, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
