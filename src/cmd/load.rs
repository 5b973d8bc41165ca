//! A recording's file into a profile: the way that every analysing command goes.
//!
//! Joins `trace` (the file) and `analyse` (the answer). Whoever waits at a terminal is told how far it is.

use super::Failure;
use crate::analyse::compare::{Side, side, tally};
use crate::analyse::spans::{Filter, Pass, Spans};
use crate::analyse::{Join, Packs, Profile};
use crate::trace::record::Meta;
use crate::trace::{Damage, ReadError, Reader, Record};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "bypassprof.mcap";

/// Reads a recording and joins it.
pub fn profile(path: &Path, packs: Packs) -> Result<Profile, Failure> {
    let (reader, metas) = open(path)?;
    let mut join = Join::new(&metas, packs);
    each(path, &reader, |record| match record {
        Record::Sample(sample) => join.sample(&sample),
        Record::Switch(switch) => join.switch(&switch),
        Record::Slots(ring, block) => join.slots(ring, block.first, &block.slots),
    })?;
    Ok(join.finish(damage(&reader)))
}

/// Reads a recording's events and joins them into requests.
pub fn spans(path: &Path, packs: &Packs, filter: Filter, show: usize) -> Result<Spans, Failure> {
    let (reader, metas) = open(path)?;
    let mut pass = Pass::new(&metas, packs, filter, show);
    each(path, &reader, |record| {
        if let Record::Slots(ring, block) = record {
            pass.slots(ring, block.first, &block.slots);
        }
    })?;
    Ok(pass.finish(damage(&reader)))
}

/// Reads a recording as one side of a comparison: profile, requests and counts in one pass, cut into the same slices.
pub fn side(path: &Path, packs: &Packs) -> Result<Side, Failure> {
    let (reader, metas) = open(path)?;
    let edges = side::edges(&metas);
    let mut join = Join::new(&metas, packs.clone()).sliced(&edges);
    let mut pass = Pass::new(&metas, packs, Filter::default(), 0).sliced(&edges);
    let mut tally = tally::Pass::new(&metas, packs, &edges);
    each(path, &reader, |record| match record {
        Record::Sample(sample) => join.sample(&sample),
        Record::Switch(switch) => {
            join.switch(&switch);
            tally.switch(&switch);
        }
        Record::Slots(ring, block) => {
            join.slots(ring, block.first, &block.slots);
            pass.slots(ring, block.first, &block.slots);
            tally.slots(ring, block.first, &block.slots);
        }
    })?;
    let name = path.display().to_string();
    let (profile, spans) = (join.finish(damage(&reader)), pass.finish(damage(&reader)));
    Ok(Side::of(name, profile, &spans, tally.finish(), &edges))
}

fn damage(reader: &Reader) -> Option<String> {
    reader.meta().damage.as_ref().map(Damage::to_string)
}

/// Opens a recording and gathers its records of low rate.
fn open(path: &Path) -> Result<(Reader, Vec<Meta>), Failure> {
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
    Ok((reader, metas))
}

/// Reads all records of high rate, in the order of the file.
fn each(path: &Path, reader: &Reader, mut take: impl FnMut(Record)) -> Result<(), Failure> {
    let summary = reader.meta();
    let total = summary.sample_count + summary.switch_count + summary.slot_count();
    let mut progress = Progress::new(path, total);
    for record in reader.records() {
        let record = record.map_err(|e| unreadable(&e))?;
        let records = match &record {
            Record::Slots(_, block) => block.slots.len() as u64,
            Record::Sample(_) | Record::Switch(_) => 1,
        };
        take(record);
        progress.passed(records);
    }
    Ok(())
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
