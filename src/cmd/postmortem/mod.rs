//! `bypassprof postmortem`: what a process was doing when it ended, from whatever is left of it.
//!
//! Joins `collect` (rings in a directory, a core dump), `trace` (a recording of them), `resolve` (stacks and names),
//! `analyse` and `present`. All that is found becomes one ordinary recording, which is kept with `--out`.

pub mod gather;

use super::packs::PackArgs;
use super::{Failure, load, recover};
use crate::analyse::postmortem::{PostMortem, Reading};
use crate::analyse::{Packs, postmortem};
use crate::collect::core::Core;
use crate::present::postmortem as present;
use crate::present::style::Style;
use crate::trace::record::{End, Meta, Pid};
use crate::trace::{Reader, Record, Writer};
use gather::Gathered;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `postmortem`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is left: a session directory or a copy of one, a core dump, a recording; several of one process together
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Events of each thread to tell
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    last: u32,
    /// The process, if a directory holds the rings of several
    #[arg(short, long, value_name = "PID")]
    pid: Option<Pid>,
    /// Keep all that was found as a recording, in a file that does not exist
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave command line, host name and folders out of that recording, and of what is told
    #[arg(long, requires = "out")]
    redact: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    packs: PackArgs,
}

/// Tells.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let packs = args.packs.load()?;
    let last = args.last as usize;
    let gathered = match args.paths.as_slice() {
        [path] if args.out.is_none() && !path.is_dir() && !Core::is_one(path) => None,
        paths => Some(Gathered::open(paths)?),
    };
    let answer = match gathered {
        None => {
            let reader = Reader::salvage(&args.paths[0]).map_err(|e| load::unreadable(&e))?;
            read(&reader, &packs, last, reader.meta().damage_line())?
        }
        Some(gathered) => {
            let (path, file) = match &args.out {
                Some(path) => (path.clone(), recover::create(path)?),
                None => in_memory()?,
            };
            let answer = assemble(gathered, &path, file, &args, &packs);
            if let (Err(_), Some(path)) = (&answer, &args.out) {
                // Ours: it was made a moment ago.
                let _ = fs::remove_file(path);
            }
            answer?
        }
    };
    let text = if args.json {
        present::json(&answer).map_err(Failure::failed)? + "\n"
    } else {
        present::text(&answer, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    if let Some(path) = &args.out {
        eprintln!("bypassprof: all of it is in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// A file without a name, which goes away with this program, and what it can be opened again by.
fn in_memory() -> Result<(PathBuf, File), Failure> {
    let made = rustix::fs::memfd_create("postmortem", rustix::fs::MemfdFlags::CLOEXEC);
    let made = made.map_err(|e| Failure::failed(format!("cannot make a file in memory: {e}")))?;
    let file = File::from(made);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok((path.into(), file))
}

/// Writes all that was found into one recording, and reads it.
fn assemble(
    gathered: Gathered,
    path: &Path,
    file: File,
    args: &Args,
    packs: &Packs,
) -> Result<PostMortem, Failure> {
    // The file in memory goes away with its last descriptor.
    let kept = file.try_clone().map_err(Failure::failed)?;
    let mut writer = Writer::to_file(path, file).map_err(Failure::failed)?;
    if args.redact {
        writer.redact();
    }
    let damage = gathered.write(args.pid, &mut writer)?;
    let answer = so_far(&mut writer, packs, args.last as usize, damage)?;
    writer
        .meta(&Meta::End(end(&answer)))
        .map_err(Failure::failed)?;
    writer.finish().map_err(Failure::failed)?;
    drop(kept);
    Ok(answer)
}

/// The last record of a recording of a dead process: it ends with its newest event.
fn end(answer: &PostMortem) -> End {
    End {
        time: answer.newest.unwrap_or_default(),
        exit_code: answer.ended.exit_code,
        signal: answer.ended.signal,
        ..End::default()
    }
}

/// The answer from what has been written so far.
pub(super) fn so_far(
    writer: &mut Writer,
    packs: &Packs,
    last: usize,
    damage: Option<String>,
) -> Result<PostMortem, Failure> {
    writer.flush().map_err(Failure::failed)?;
    let reader = Reader::open(writer.path()).map_err(|e| load::unreadable(&e))?;
    // That it is not finished is no damage: it goes on after this.
    read(&reader, packs, last, damage)
}

fn read(
    reader: &Reader,
    packs: &Packs,
    last: usize,
    damage: Option<String>,
) -> Result<postmortem::PostMortem, Failure> {
    let metas: Result<Vec<Meta>, _> = reader.metas().collect();
    let metas = metas.map_err(|e| load::unreadable(&e))?;
    let mut reading = Reading::new(&metas, packs, last);
    for record in reader.records() {
        match record.map_err(|e| load::unreadable(&e))? {
            Record::Slots(ring, block) => reading.slots(ring, block.first, &block.slots),
            Record::Sample(sample) => reading.sample(&sample),
            Record::Switch(_) => {}
        }
    }
    Ok(reading.finish(damage))
}
