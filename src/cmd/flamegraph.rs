//! `bypassprof flamegraph`: a recording as a picture.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, load};
use crate::present::{flame, latency};
use flamegraphs::DrawError;
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
    /// Draw where requests spend their time, stage by stage, in ns a request
    #[arg(long, conflicts_with = "busy")]
    latency: bool,
    /// Only the slowest part of the requests, for example 1%
    #[arg(long, value_name = "SHARE", value_parser = super::filter::share)]
    slowest: Option<f64>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// Draws.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.file.with_extension("svg"));
    if is_same(&output, &args.file) {
        return Err(Failure::wrong_use(format!(
            "{} is the recording; the picture needs a file of its own",
            output.display()
        ))
        .hint("-o with another name"));
    }
    let mut svg = Vec::new();
    let trust = if args.latency {
        draw_latency(&args, &mut svg)?
    } else {
        let packs = args.packs.load()?;
        let mut profile = load::chosen(&args.file, packs, &args.filter, args.slowest)?;
        if args.busy {
            profile.only_busy();
        }
        flame::draw(&profile, &mut svg).map_err(|e| nothing(&args.file, &e))?;
        profile.trust.line()
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

/// Draws where requests spend their time; gives the line of trust.
fn draw_latency(args: &Args, svg: &mut Vec<u8>) -> Result<String, Failure> {
    let packs = args.packs.load()?;
    let requests = load::requests(&args.file, packs, &args.filter.filter(), args.slowest)?;
    latency::draw(
        (&requests.latency, &requests.sampled, &requests.profile),
        args.slowest.map(|_| &requests.rest),
        svg,
    )
    .map_err(|e| nothing(&args.file, &e))
}

fn nothing(file: &Path, error: &DrawError) -> Failure {
    Failure::failed(format!("{}: {error}", file.display()))
}

fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
