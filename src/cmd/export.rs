//! `bypassprof export`: a recording for other programs.
//!
//! Formats of the call tree are written from one pass over the recording, formats with time from a second one.

use super::filter::FilterArgs;
use super::packs::PackArgs;
use super::part::Part;
use super::{Failure, load, moments};
use crate::analyse::Profile;
use crate::present::export::firefox::Firefox;
use crate::present::export::parquet::Parquet;
use crate::present::export::perf_script::PerfScript;
use crate::present::export::perfetto::Perfetto;
use crate::present::export::{Moments, folded, pprof, speedscope};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read
    #[arg(default_value = load::DEFAULT_FILE)]
    file: PathBuf,
    /// What to write
    #[arg(short, long, value_enum)]
    format: Format,
    /// File to write, - for standard output; of parquet a folder, to which recordings of other names add
    /// [default: FILE with the format's ending]
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Begin folded stacks with what the thread was doing: useful work, empty polling
    #[arg(long)]
    states: bool,
    /// Leave out what was sampled while polling for nothing; not of formats with time
    #[arg(long)]
    busy: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    packs: PackArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Stacks with weights, a line each
    Folded,
    /// The text of `perf script`
    PerfScript,
    /// pprof's profile.proto, gzip-compressed
    Pprof,
    /// The Firefox Profiler's processed profile, gzip-compressed
    Firefox,
    /// Perfetto's trace: threads, states, samples, bursts, counters, requests
    Perfetto,
    /// speedscope's file
    Speedscope,
    /// A folder of tables: samples, events, spans, counters
    Parquet,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Format::Folded => "folded",
            Format::PerfScript => "perf.txt",
            Format::Pprof => "pb.gz",
            Format::Firefox => "firefox.json.gz",
            Format::Perfetto => "perfetto-trace",
            Format::Speedscope => "speedscope.json",
            Format::Parquet => "parquet",
        }
    }

    /// Whether every sample is written with its time.
    fn has_time(self) -> bool {
        !matches!(self, Format::Folded | Format::Pprof | Format::Speedscope)
    }
}

/// Exports.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if args.states && args.format != Format::Folded {
        return Err(Failure::wrong_use("--states is about folded stacks")
            .hint("pprof has them as labels, speedscope as profiles, perfetto as tracks"));
    }
    if args.busy && args.format.has_time() {
        return Err(Failure::wrong_use(
            "--busy leaves out states, which samples of this format are not joined with",
        )
        .hint("folded, pprof or speedscope with --busy; perfetto shows states beside samples"));
    }
    let ending = args.format.ending();
    let output = args.output.clone();
    let output = output.unwrap_or_else(|| args.file.with_extension(ending));
    let to_stdout = output.as_os_str() == "-";
    let packs = args.packs.load()?;
    let part = Part::of(&args.file, &packs, &args.filter.asked())?;
    let mut profile = load::of_part(&args.file, packs.clone(), &part)?;
    if args.busy {
        profile.only_busy();
    }
    let trust = profile.trust.line();
    if args.format == Format::Parquet {
        if to_stdout {
            return Err(Failure::wrong_use(
                "parquet is a folder of files: it cannot go to standard output",
            ));
        }
        let name = args.file.file_stem().unwrap_or_default().to_string_lossy();
        let tables = |profile: &Profile, series: &[_]| -> io::Result<Box<dyn Moments>> {
            Ok(Box::new(Parquet::new(&output, &name, profile, series)?))
        };
        moments::hand_on(&args.file, &packs, part, profile, tables)?;
    } else if to_stdout {
        let out = BufWriter::new(io::stdout().lock());
        write(&args, part, profile, out)?;
    } else {
        check(&output, &args.file)?;
        // Half a file is none: it takes its name when it is whole.
        let mut unfinished = output.clone().into_os_string();
        unfinished.push(".part");
        let unfinished = PathBuf::from(unfinished);
        let cannot =
            |e: io::Error| Failure::failed(format!("cannot write {}: {e}", output.display()));
        let file = File::create(&unfinished).map_err(cannot)?;
        let written = write(&args, part, profile, BufWriter::new(file));
        let written = written.and_then(|()| fs::rename(&unfinished, &output).map_err(cannot));
        if let Err(failure) = written {
            // What is wrong was said; that the rest cannot be removed either adds nothing.
            let _ = fs::remove_file(&unfinished);
            return Err(failure);
        }
    }
    eprintln!("{}", output.display());
    eprintln!("{trust}");
    Ok(ExitCode::SUCCESS)
}

/// Writes any format but parquet.
fn write(args: &Args, part: Part, profile: Profile, mut out: impl Write) -> Result<(), Failure> {
    let failed = |written: io::Result<()>| written.map_err(Failure::output);
    let gz = |out| GzEncoder::new(out, Compression::fast());
    let done = match args.format {
        Format::Folded => folded::write(&profile, args.states, &mut out),
        Format::Speedscope => speedscope::write(&profile, &mut out),
        Format::Pprof => {
            let mut gz = gz(&mut out);
            pprof::write(&profile, &mut gz).and_then(|()| gz.finish().map(drop))
        }
        Format::PerfScript | Format::Firefox | Format::Perfetto | Format::Parquet => {
            return timed(args, part, profile, out);
        }
    };
    failed(done.and_then(|()| out.flush()))
}

fn timed(args: &Args, part: Part, profile: Profile, out: impl Write) -> Result<(), Failure> {
    let packs = args.packs.load()?;
    moments::hand_on(&args.file, &packs, part, profile, |profile, series| {
        Ok(match args.format {
            Format::Firefox => {
                let gz = GzEncoder::new(out, Compression::fast());
                Box::new(Firefox::new(gz, profile)) as Box<dyn Moments + '_>
            }
            Format::Perfetto => Box::new(Perfetto::new(out, profile, series)?),
            _ => Box::new(PerfScript::new(out, profile)?),
        })
    })
}

/// Nothing that is there is overwritten but files of the same ending.
fn check(output: &Path, recording: &Path) -> Result<(), Failure> {
    let same = |a: &Path, b: &Path| match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    };
    if same(output, recording) {
        return Err(Failure::wrong_use(format!(
            "{} is the recording; the export needs a file of its own",
            output.display()
        ))
        .hint("-o with another name"));
    }
    Ok(())
}
