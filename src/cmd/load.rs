//! A recording's file into a profile: the way that every analysing command goes.
//!
//! Joins `trace` (the file) and `analyse` (the answer). Whoever waits at a terminal is told how far it is.

use super::Failure;
use crate::analyse::{Join, Packs, Profile};
use crate::trace::{Damage, ReadError, Reader, Record};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "bypassprof.mcap";

/// Reads a recording and joins it.
pub fn profile(path: &Path, packs: Packs) -> Result<Profile, Failure> {
    let reader = Reader::open(path).map_err(|e| unreadable(&e))?;
    let read = |e| unreadable(&e);
    let metas: Vec<_> = reader.metas().collect::<Result<_, _>>().map_err(read)?;
    let summary = reader.meta();
    if let (true, Some(damage)) = (metas.is_empty(), &summary.damage) {
        return Err(Failure::failed(format!(
            "{} was cut off before anything whole was written: {damage}",
            path.display()
        )));
    }
    let mut join = Join::new(&metas, packs);
    let total = summary.sample_count + summary.switch_count + summary.slot_count();
    let mut progress = Progress::new(path, total);
    for record in reader.records() {
        match record.map_err(read)? {
            Record::Sample(sample) => {
                join.sample(&sample);
                progress.passed(1);
            }
            Record::Switch(switch) => {
                join.switch(&switch);
                progress.passed(1);
            }
            Record::Slots(ring, block) => {
                join.slots(ring, block.first, &block.slots);
                progress.passed(block.slots.len() as u64);
            }
        }
    }
    Ok(join.finish(summary.damage.as_ref().map(Damage::to_string)))
}

fn unreadable(error: &ReadError) -> Failure {
    let failure = Failure::failed(error);
    match error {
        ReadError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            failure.hint("`bypassprof record -- COMMAND` makes a recording")
        }
        _ => failure,
    }
}

/// Silent on what is quick, and where no one looks.
struct Progress<'a> {
    path: &'a Path,
    total: u64,
    done: u64,
    next_look: u64,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

const SILENT: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(200);
/// Records between two looks at the clock.
const LOOK: u64 = 1 << 14;

impl<'a> Progress<'a> {
    fn new(path: &'a Path, total: u64) -> Progress<'a> {
        Progress {
            path,
            total: total.max(1),
            done: 0,
            next_look: LOOK,
            started: Instant::now(),
            shown: None,
            terminal: io::stderr().is_terminal(),
        }
    }

    fn passed(&mut self, records: u64) {
        self.done += records;
        if self.done < self.next_look || !self.terminal {
            return;
        }
        self.next_look = self.done + LOOK;
        let due = match self.shown {
            None => self.started.elapsed() > SILENT,
            Some(last) => last.elapsed() > EVERY,
        };
        if due {
            self.shown = Some(Instant::now());
            let percent = self.done.saturating_mul(100) / self.total;
            // Talk that cannot be heard is no failure.
            let _ = write!(
                io::stderr(),
                "\rreading {}: {percent} %",
                self.path.display()
            );
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown.is_some() {
            // Back to an empty line.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
