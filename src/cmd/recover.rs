//! `bypassprof recover`: a damaged recording into one that is whole but for what it says it lacks.
//!
//! Joins two halves of `trace`. The damaged file is only read; what is written is a file that was not there before.

use super::{Failure, load};
use crate::analyse::recovery::{Kept, Recovery};
use crate::present::recover as present;
use crate::trace::record::{Meta, Salvaged};
use crate::trace::{Message, Reader, WriteError, Writer};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Damaged recording; it is not written to
    #[arg(default_value = load::DEFAULT_FILE)]
    file: PathBuf,
    /// File to write, which must not exist; by default FILE with `.recovered` before its ending
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Salvages, and says what is lost.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let reader = Reader::salvage(&args.file).map_err(|e| load::unreadable(&e))?;
    let bytes = fs::metadata(&args.file).map_or(0, |m| m.len());
    let summary = reader.meta();
    let salvaged = Salvaged {
        bytes,
        damage: summary.damage.clone(),
        slots_missing: summary.slots_missing.clone().into_iter().collect(),
    };
    let mut kept = Kept::default();
    let mut output = None;
    if !salvaged.damage.is_empty() || args.output.is_some() {
        let path = args.output.unwrap_or_else(|| default_output(&args.file));
        let file = create(&path)?;
        if let Err(failure) = copy(&reader, &path, file, &salvaged, &mut kept) {
            // Ours: it was made a moment ago, and what is in it is in the damaged file too.
            let _ = fs::remove_file(&path);
            return Err(failure);
        }
        output = Some(path);
    }
    let recovery = Recovery::of(summary, kept);
    let name = args.file.display().to_string();
    let output = output.map(|path| path.display().to_string());
    let text = if args.json {
        let json = present::json(&name, output.as_deref(), &recovery);
        json.map_err(Failure::failed)? + "\n"
    } else {
        present::text(&name, output.as_deref(), &recovery)
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// `a.mcap` becomes `a.recovered.mcap`.
fn default_output(file: &Path) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_os_string();
    name.push(".recovered");
    if let Some(ending) = file.extension() {
        name.push(".");
        name.push(ending);
    }
    file.with_file_name(name)
}

/// Makes a new file: nothing that is there, by whatever name, is written to.
pub(super) fn create(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|source| {
        let exists = source.kind() == io::ErrorKind::AlreadyExists;
        let failure = Failure::failed(WriteError::Create {
            path: path.to_path_buf(),
            source,
        });
        match exists {
            true => failure.hint("-o with another name"),
            false => failure,
        }
    })
}

/// Copies every message that is whole, and what is missing as the last one.
fn copy(
    reader: &Reader,
    path: &Path,
    file: File,
    salvaged: &Salvaged,
    kept: &mut Kept,
) -> Result<(), Failure> {
    let mut writer = Writer::to_file(path, file).map_err(Failure::failed)?;
    for message in reader.messages() {
        let message = message.map_err(|e| load::unreadable(&e))?;
        let written = match &message {
            Message::Meta(json) => {
                kept.metas += 1;
                writer.encoded_meta(json)
            }
            Message::Samples(samples) => {
                kept.samples += samples.len() as u64;
                writer.samples(samples)
            }
            Message::Switches(switches) => {
                kept.switches += switches.len() as u64;
                writer.switches(switches)
            }
            Message::Slots(ring, block) => {
                kept.slots += block.slots.len() as u64;
                writer.slots(*ring, block.first, &block.slots)
            }
        };
        written.map_err(Failure::failed)?;
    }
    if !salvaged.damage.is_empty() {
        let written = writer.meta(&Meta::Salvaged(salvaged.clone()));
        written.map_err(Failure::failed)?;
    }
    writer.finish().map_err(Failure::failed)
}
