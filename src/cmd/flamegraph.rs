//! `bypassprof flamegraph`: a recording as a picture.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::{Failure, load};
use crate::analyse::compare::Unit;
use crate::analyse::compare::workload::remarks;
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
    /// With --busy: as wide as the work for one request takes, in ns, instead of all that was sampled
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        requires = "busy",
        conflicts_with = "diff"
    )]
    per: Option<Per>,
    /// Draw where requests spend their time, stage by stage, in ns a request
    #[arg(long, conflicts_with = "busy")]
    latency: bool,
    /// Draw the work for a request beside that of this recording of the same workload: what is more, what is less;
    /// with --latency --slowest and no name: the slowest beside the rest
    #[arg(long, value_name = "OTHER", num_args = 0..=1, conflicts_with = "busy")]
    diff: Option<Option<PathBuf>>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

/// What weights are divided by.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Per {
    /// Requests that were answered
    Request,
}

/// Draws.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.file.with_extension("svg"));
    let other = other(&args)?;
    for recording in [Some(&args.file), other].into_iter().flatten() {
        if is_same(&output, recording) {
            return Err(Failure::wrong_use(format!(
                "{} is the recording; the picture needs a file of its own",
                output.display()
            ))
            .hint("-o with another name"));
        }
    }
    let mut svg = Vec::new();
    let trust = if args.latency {
        draw_latency(&args, &mut svg)?
    } else if let Some(other) = other {
        draw_difference(&args, other, &mut svg)?
    } else if args.per.is_some() {
        draw_per_request(&args, &mut svg)?
    } else {
        let packs = args.packs.load()?;
        let mut profile = load::chosen(&args.file, packs, &args.filter.asked())?;
        if args.busy {
            profile.only_busy();
        }
        flame::draw(&profile, &mut svg).map_err(|e| nothing(&args.file, &e))?;
        let line = profile.trust.line();
        // The program ends here: to take its stacks down takes as long as to draw them.
        std::mem::forget(profile);
        line
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

/// The recording that this one is drawn beside, if any.
fn other(args: &Args) -> Result<Option<&PathBuf>, Failure> {
    let slowest = args.filter.asked().slowest.is_some();
    match &args.diff {
        None => Ok(None),
        Some(None) if args.latency && slowest => Ok(None),
        Some(Some(other)) if !args.latency => Ok(Some(other)),
        Some(None) => Err(Failure::wrong_use("--diff needs another recording").hint(
            "--diff OTHER, or --latency --slowest 1% --diff for the slowest requests beside the rest",
        )),
        Some(Some(_)) => Err(Failure::wrong_use(
            "--diff OTHER compares work on CPUs: --latency does not go with it",
        )
        .hint("FILE --latency --slowest 1% --diff, in this order, for the slowest requests beside the rest; `compare` for both latencies")),
    }
}

/// Draws where requests spend their time; gives the line of trust.
fn draw_latency(args: &Args, svg: &mut Vec<u8>) -> Result<String, Failure> {
    let packs = args.packs.load()?;
    let requests = load::requests(&args.file, packs, &args.filter.asked())?;
    let (of, rest) = (
        (&requests.latency, &requests.sampled, &requests.profile),
        args.filter.asked().slowest.map(|_| &requests.rest),
    );
    match (rest, &args.diff) {
        (Some(rest), Some(_)) => latency::draw_difference(of, rest, svg),
        _ => latency::draw(of, rest, svg),
    }
    .map_err(|e| nothing(&args.file, &e))
}

/// Draws the work for a request; gives the line of trust.
fn draw_per_request(args: &Args, svg: &mut Vec<u8>) -> Result<String, Failure> {
    let packs = args.packs.load()?;
    let side = load::side(&args.file, &packs, &args.filter.asked())?;
    if side.unit != Unit::PerRequest {
        let why = format!("{} counted no requests", args.file.display());
        return Err(Failure::failed(why).hint("leave out --per, or record a program with probes"));
    }
    flame::draw_per_request(&side, svg).map_err(|e| nothing(&args.file, &e))?;
    Ok(side.profile.trust.line())
}

/// Draws the work for a request beside that of another recording; gives the line of trust of both.
fn draw_difference(args: &Args, other: &Path, svg: &mut Vec<u8>) -> Result<String, Failure> {
    let packs = args.packs.load()?;
    let side = |file| load::side(file, &packs, &args.filter.asked());
    let (before, after) = (side(other)?, side(&args.file)?);
    for remark in remarks(&before, &after) {
        eprintln!("note: {}", remark.text);
    }
    flame::draw_difference(&before, &after, svg).map_err(|e| nothing(&args.file, &e))?;
    Ok(after.profile.trust.with(&before.profile.trust).line())
}

fn nothing(file: &Path, error: &DrawError) -> Failure {
    Failure::failed(format!("{}: {error}", file.display()))
}

/// Whether both name the same file. What is no file is no recording either, and whoever reads it says so.
fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b && a.is_file(),
        _ => false,
    }
}
