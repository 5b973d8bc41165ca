//! `bypassprof import`: what other tools recorded as a recording of ours.

use super::Failure;
use super::output::{self, Output};
use crate::trace::Writer;
use crate::trace::folded::Folded;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files to read; all of them become one recording
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// They hold folded stacks: `comm;frame;frame WEIGHT` a line
    #[arg(long, required = true)]
    folded: bool,
    /// File to write
    #[arg(short, long, default_value = super::load::DEFAULT_FILE)]
    output: PathBuf,
    /// What weights count, for the headings of tables
    #[arg(long, value_name = "EVENT", default_value = "folded")]
    event: String,
    /// Weight of one sample [default: taken from the weights]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    period: Option<u64>,
}

/// Imports.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut folded = Folded::default();
    for file in &args.files {
        let text = fs::read(file)
            .map_err(|e| Failure::failed(format!("cannot read {}: {e}", file.display())))?;
        let text = String::from_utf8_lossy(&text);
        let name = file.display().to_string();
        folded.read(&name, &text).map_err(Failure::failed)?;
    }
    if folded.is_empty() {
        return Err(Failure::failed("there is no stack in the files"));
    }
    output::check(&args.output)?;
    let period = args.period.unwrap_or_else(|| folded.period());
    let samples = Output::create(&args.output).and_then(|(_, file)| {
        let mut writer = Writer::to_file(&args.output, file)?;
        let samples = folded.write(&mut writer, &args.event, period)?;
        writer.finish()?;
        Ok(samples)
    });
    let samples = samples.map_err(|e| {
        // Half a recording is none; if it is gone already, so much the better.
        let _ = fs::remove_file(&args.output);
        Failure::failed(e)
    })?;
    eprintln!(
        "bypassprof: {samples} samples of {period} {} each in {}",
        args.event,
        args.output.display()
    );
    Ok(ExitCode::SUCCESS)
}
