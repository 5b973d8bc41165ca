//! `bypassprof import`: what other tools recorded as a recording of ours.
//!
//! In: perf.data, the text of `perf script`, folded stacks; out: a recording. Functions in perf.data are named from the
//! files of this machine, if those are the ones that ran; the two texts bring their names along.

use super::Failure;
use super::naming::FolderArgs;
use super::output::{self, Output};
use crate::resolve::{LocalSymbols, SampledAddresses};
use crate::trace::file::open_regular;
use crate::trace::folded::Folded;
use crate::trace::perfdata::{self, PerfDataError};
use crate::trace::perfscript::Script;
use crate::trace::record::{End, Meta, Sample, Symbols};
use crate::trace::{Symbolizer, Writer};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files to read; texts may be several, and all of them become one recording
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What they are [default: told from how they begin]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The same as --format folded
    #[arg(long, conflicts_with = "format")]
    folded: bool,
    /// File to write
    #[arg(short, long, default_value = super::load::DEFAULT_FILE)]
    output: PathBuf,
    /// Which event's samples to take [default: the first]; of folded stacks, what their weights count
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// Weight of one sample of folded stacks [default: taken from the weights]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    period: Option<u64>,
    #[command(flatten)]
    folders: FolderArgs,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// What `perf record` writes
    PerfData,
    /// What `perf script` prints
    PerfScript,
    /// A line for each stack: `comm;frame;frame WEIGHT`
    Folded,
}

/// Imports.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let format = match (args.format, args.folded) {
        (Some(format), _) => format,
        (None, true) => Format::Folded,
        (None, false) => guess(&args.files[0])?,
    };
    if format == Format::PerfData && args.files.len() > 1 {
        return Err(Failure::wrong_use(
            "one perf.data becomes one recording: their clocks are not each other's",
        )
        .hint("`bypassprof import` for each, with -o"));
    }
    args.folders.check()?;
    let input = Input::open(format, &args.files)?;
    output::check(&args.output)?;
    let (_, file) = Output::create(&args.output).map_err(Failure::failed)?;
    let said = write(&args, input, file).inspect_err(|_| {
        // Half a recording is none; if it is gone already, so much the better.
        let _ = fs::remove_file(&args.output);
    })?;
    eprintln!("bypassprof: {said} in {}", args.output.display());
    Ok(ExitCode::SUCCESS)
}

/// What is read, opened before an earlier recording is overwritten.
enum Input {
    Folded(Folded),
    Script(Vec<(String, File)>),
    PerfData(String, File),
}

impl Input {
    fn open(format: Format, files: &[PathBuf]) -> Result<Input, Failure> {
        let named = |path: &PathBuf| Ok((path.display().to_string(), open(path)?));
        Ok(match format {
            Format::Folded => Input::Folded(read_folded(files)?),
            Format::PerfScript => {
                Input::Script(files.iter().map(named).collect::<Result<_, Failure>>()?)
            }
            Format::PerfData => {
                let (name, file) = named(&files[0])?;
                Input::PerfData(name, file)
            }
        })
    }
}

fn write(args: &Args, input: Input, file: File) -> Result<String, Failure> {
    let mut writer = Writer::to_file(&args.output, file).map_err(Failure::failed)?;
    let event = args.event.as_deref();
    let said = match input {
        Input::PerfData(name, file) => perf_data(args, (&name, file), event, &mut writer)?,
        Input::Folded(folded) => {
            let period = args.period.unwrap_or_else(|| folded.period());
            let event = event.unwrap_or("folded");
            let samples = folded.write(&mut writer, event, period);
            let samples = samples.map_err(Failure::failed)?;
            format!("{samples} samples of {period} {event} each")
        }
        Input::Script(files) => {
            let mut script = Script::new(&mut writer, event);
            for (name, file) in files {
                let read = script.read(&name, BufReader::new(file));
                read.map_err(Failure::failed)?;
            }
            match script.finish().map_err(Failure::failed)? {
                (0, _) => return Err(Failure::failed("there is no sample in the files")),
                (samples, event) => format!("{samples} samples of {event}"),
            }
        }
    };
    writer.finish().map_err(Failure::failed)?;
    Ok(said)
}

/// Opens what has an end: how it begins is looked at first, and a pipe or a device may never end.
fn open(path: &Path) -> Result<File, Failure> {
    open_regular(path).map_err(|error| {
        let failure = unreadable(path, &error);
        match error.kind() {
            io::ErrorKind::Other => failure.hint("the same in a file: `... > FILE`"),
            _ => failure,
        }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", path.display()))
}

/// What a file is, by how it begins.
fn guess(path: &Path) -> Result<Format, Failure> {
    let mut begin = Vec::new();
    let read = open(path)?.take(1 << 16).read_to_end(&mut begin);
    read.map_err(|e| unreadable(path, &e))?;
    if begin.starts_with(perfdata::MAGIC) {
        return Ok(Format::PerfData);
    }
    let text = String::from_utf8_lossy(&begin);
    let first = text
        .lines()
        .find(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let last_word = first.and_then(|l| l.trim_end().rsplit(' ').next());
    // A folded stack ends with its weight, a sample of perf script with its event.
    match last_word {
        Some(word) if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Format::Folded)
        }
        Some(_) => Ok(Format::PerfScript),
        None => Err(Failure::failed(format!(
            "there is no sample and no stack in {}",
            path.display()
        ))),
    }
}

fn read_folded(files: &[PathBuf]) -> Result<Folded, Failure> {
    let mut folded = Folded::default();
    for file in files {
        let name = file.display().to_string();
        let text = BufReader::new(open(file)?);
        folded.read(&name, text).map_err(Failure::failed)?;
    }
    if folded.is_empty() {
        return Err(Failure::failed("there is no stack in the files"));
    }
    Ok(folded)
}

/// Notes what has to be named while perf.data is read.
#[derive(Default)]
struct Sampled(SampledAddresses);

impl Symbolizer for Sampled {
    fn meta(&mut self, meta: &Meta) {
        self.0.meta(meta);
    }
    fn sample(&mut self, sample: &Sample) {
        self.0.sample(sample);
    }
    fn finish(&mut self) -> Vec<Symbols> {
        Vec::new()
    }
}

fn perf_data(
    args: &Args,
    (name, file): (&str, File),
    event: Option<&str>,
    writer: &mut Writer,
) -> Result<String, Failure> {
    let mut sampled = Sampled::default();
    let tally = perfdata::write(name, BufReader::new(file), event, writer, &mut sampled);
    let tally = tally.map_err(|e| match e {
        PerfDataError::Read { .. } => Failure::failed(e).hint(
            "`perf script -F comm,pid,tid,cpu,time,period,event,ip,sym,dso` and import of its text",
        ),
        PerfDataError::NoEvent { .. } | PerfDataError::Write(_) => Failure::failed(e),
    })?;
    if tally.samples == 0 {
        return Err(Failure::failed(format!(
            "there is no sample of {} in {name}",
            tally.event
        )));
    }
    let files = LocalSymbols::afterwards().with_folders(args.folders.folders());
    let mut files = files.kernel_at(&tally.kernel, tally.kernel_text);
    for (mapping, at) in sampled.0.take() {
        let symbols = Meta::Symbols(files.names(&mapping, &at));
        writer.meta(&symbols).map_err(Failure::failed)?;
    }
    let end = Meta::End(End {
        time: tally.end,
        ..End::default()
    });
    writer.meta(&end).map_err(Failure::failed)?;
    Ok(format!("{} samples of {}", tally.samples, tally.event))
}
