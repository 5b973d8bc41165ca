//! `bypassprof flamegraph`: a recording as a picture.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, load};
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
    let mut profile = load::profile(&args.file, args.packs.load()?, &args.filter.of_samples()?)?;
    if is_same(&output, &args.file) {
        return Err(Failure::wrong_use(format!(
            "{} is the recording; the picture needs a file of its own",
            output.display()
        ))
        .hint("-o with another name"));
    }
    if args.busy {
        profile.only_busy();
    }
    let mut svg = Vec::new();
    flame::draw(&profile, &mut svg)
        .map_err(|e| Failure::failed(format!("{}: {e}", args.file.display())))?;
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
    eprintln!("{}", profile.trust.line());
    Ok(ExitCode::SUCCESS)
}

fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
