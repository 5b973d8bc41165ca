//! `bypassprof compare`: the gap between recordings of one workload, taken apart.

use super::filter::{Asked, FilterArgs};
use super::packs::PackArgs;
use super::{Failure, load};
use crate::analyse::Packs;
use crate::analyse::compare::workload::{Refusal, Remark, remarks};
use crate::analyse::compare::{Comparison, Side};
use crate::present::compare as present;
use crate::present::style::Style;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recordings: each of the others is compared with the first
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    recordings: Vec<PathBuf>,
    /// Compare although the workloads differ
    #[arg(long)]
    anyway: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// Compares.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let packs = args.packs.load()?;
    let asked = args.filter.asked();
    let pairs = pairs(&args.recordings, &packs, &asked, args.anyway)?;
    let text = if args.json {
        present::json::compare(&pairs).map_err(Failure::failed)? + "\n"
    } else {
        present::table::compare(&pairs, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// The first recording with each of the others. What forbids a comparison is a failure, the rest goes with the answer.
pub(super) fn pairs(
    files: &[PathBuf],
    packs: &Packs,
    asked: &Asked,
    anyway: bool,
) -> Result<present::Pairs, Failure> {
    let mut sides = files.iter().map(|file| load::side(file, packs, asked));
    let first = sides
        .next()
        .ok_or_else(|| Failure::wrong_use("a recording is missing"))??;
    let mut others = Vec::new();
    for side in sides {
        let side = side?;
        let remarks = remarks(&first, &side);
        refuse(&first, &remarks, anyway)?;
        others.push((Comparison::of(&first, &side), side, remarks));
    }
    Ok(present::Pairs { first, others })
}

fn refuse(first: &Side, remarks: &[Remark], anyway: bool) -> Result<(), Failure> {
    let allowed = if anyway {
        Refusal::UnlessAsked
    } else {
        Refusal::No
    };
    let Some(gravest) = remarks.iter().find(|r| r.refuses > allowed) else {
        return Ok(());
    };
    let failure = Failure::failed(format!(
        "cannot compare with {}: {}",
        first.name, gravest.text
    ));
    Err(failure.hint(match (gravest.refuses, gravest.id) {
        (Refusal::UnlessAsked, _) => "--anyway, if that is what you want to know",
        (_, "kernel-not-seen") => {
            "record as root outside of a user namespace (docs/guide/permissions.md)"
        }
        _ => "record both under the same load",
    }))
}
