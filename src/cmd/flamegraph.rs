//! `bypassprof flamegraph`: a recording as a picture.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, load};
use crate::analyse::compare::workload::remarks;
use crate::present::flame;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `flamegraph`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read
    #[arg(default_value = load::DEFAULT_FILE)]
    file: PathBuf,
    /// Picture to write [default: FILE with the ending .svg]
    #[arg(short, long, value_name = "OUT.svg")]
    output: Option<PathBuf>,
    /// Leave out what was sampled while polling for nothing
    #[arg(long)]
    busy: bool,
    /// Draw the work for a request beside that of this recording of the same workload: what is more, what is less
    #[arg(long, value_name = "OTHER", conflicts_with = "busy")]
    diff: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// Draws.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let output = args
        .output
        .unwrap_or_else(|| args.file.with_extension("svg"));
    let packs = args.packs.load()?;
    for recording in [Some(&args.file), args.diff.as_ref()].into_iter().flatten() {
        if is_same(&output, recording) {
            return Err(Failure::wrong_use(format!(
                "{} is the recording; the picture needs a file of its own",
                output.display()
            ))
            .hint("-o with another name"));
        }
    }
    let mut svg = Vec::new();
    let nothing = |e| Failure::failed(format!("{}: {e}", args.file.display()));
    let trust = match &args.diff {
        Some(_) if !args.filter.filter().is_open() => {
            let why =
                "--diff compares the loaded parts of whole recordings: no filter goes with it";
            return Err(Failure::wrong_use(why));
        }
        Some(other) => {
            let (before, after) = (load::side(other, &packs)?, load::side(&args.file, &packs)?);
            for remark in remarks(&before, &after) {
                eprintln!("note: {}", remark.text);
            }
            flame::draw_difference(&before, &after, &mut svg).map_err(nothing)?;
            after.profile.trust.with(&before.profile.trust).line()
        }
        None => {
            let mut profile = load::profile(&args.file, packs, &args.filter.of_samples()?)?;
            if args.busy {
                profile.only_busy();
            }
            flame::draw(&profile, &mut svg).map_err(nothing)?;
            profile.trust.line()
        }
    };
    let existed = output.exists();
    if let Err(e) = fs::write(&output, svg) {
        if !existed {
            // Half a picture is none.
            let _ = fs::remove_file(&output);
        }
        return Err(Failure::failed(format!(
            "cannot write {}: {e}",
            output.display()
        )));
    }
    eprintln!("{}", output.display());
    eprintln!("{trust}");
    Ok(ExitCode::SUCCESS)
}

fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
