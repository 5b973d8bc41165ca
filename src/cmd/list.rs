//! `bypassprof list`: the events of this machine.

use super::Failure;
use crate::collect::events::Machine;
use crate::collect::events::available::{self, Listed};
use crate::present::list as present;
use crate::present::style::Style;
use std::io::{self, Write};
use std::process::ExitCode;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only events whose name or kind has this in it; without it, tracepoints are only counted by system
    part: Option<String>,
    /// Print as JSON: all of them
    #[arg(long)]
    json: bool,
}

/// Lists.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let machine = Machine::here();
    let mut listed = available::list(&machine);
    if let Some(part) = &args.part {
        let has = |l: &Listed| l.name.contains(part.as_str()) || l.kind == *part;
        listed.retain(has);
        if listed.is_empty() {
            return Err(
                Failure::failed(format!("no event here has {part} in its name"))
                    .hint("`bypassprof list` for all of them"),
            );
        }
    }
    let entries: Vec<_> = listed
        .iter()
        .map(|l| present::Entry {
            kind: &l.kind,
            name: &l.name,
            about: &l.about,
            why: l.why.as_deref(),
        })
        .collect();
    let mut text = if args.json {
        present::json(&entries).map_err(Failure::failed)? + "\n"
    } else {
        present::table(&entries, args.part.is_some(), Style::of_stdout())
    };
    if !args.json && args.part.is_none() && machine.tracefs().is_none() {
        text.push_str("\ntracepoints: none are seen: tracefs is not mounted, or not for this user; `bypassprof doctor` has the fix\n");
    }
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
