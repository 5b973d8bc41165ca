//! A recording's file into a profile: the way that every analysing command goes.
//!
//! Joins `trace` (the file) and `analyse` (the answer). Whoever waits at a terminal is told how far it is.

mod slowest;

pub use slowest::{Told, again, moments, told};

use super::Failure;
use super::filter::{Asked, There};
use super::part::Part;
use crate::analyse::compare::tally::{self, Tally};
use crate::analyse::compare::{Side, side};
use crate::analyse::depths::Depths;
use crate::analyse::flows::{Flows, Looking};
use crate::analyse::latency::{Latency, Sampled};
use crate::analyse::series::{self, Series};
use crate::analyse::spans::{Pass, Preempted, Spans};
use crate::analyse::stacks::StackNumbers;
use crate::analyse::{Filter, Join, Packs, Profile, readings};
use crate::trace::record::{Counters, Device, Meta, Queue};
use crate::trace::{ReadError, Reader, Record};
use crate::units::{ClockMap, Nanos};
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "bypassprof.mcap";

/// Reads all of a recording and joins it.
pub fn profile(path: &Path, packs: Packs) -> Result<Profile, Failure> {
    of_part(path, packs, &Part::default())
}

/// Reads the part of a recording that passes a filter, and what the counters counted in it.
pub fn with_counters(
    path: &Path,
    packs: Packs,
    filter: &Filter,
) -> Result<(Profile, Option<Counters>), Failure> {
    let profile = of_part(path, packs, &Part::passing(filter.clone()))?;
    let (_, metas) = open(path)?;
    let readings = metas.into_iter().filter_map(|meta| match meta {
        Meta::Counters(counters) => Some(counters),
        _ => None,
    });
    let started = profile.session.started;
    let readings: Vec<_> = readings.collect();
    let counters = readings::counters(&readings, started, filter.span(started));
    Ok((profile, counters))
}

/// What a page about a recording is made of.
pub struct Everything {
    /// Its samples, by window and CPU too.
    pub profile: Profile,
    /// Its requests, the slowest as timelines.
    pub spans: Spans,
    /// What was counted, and how deep queues were, over time.
    pub series: Vec<Series>,
    /// As one side of a comparison, where there are others.
    pub side: Option<Side>,
}

/// As [`chosen_both`], with all that is shown over time, and as a side of a comparison if that is asked for, reading once.
pub fn everything(
    path: &Path,
    packs: Packs,
    asked: &Asked,
    (window, show): (Nanos, usize),
    is_side: bool,
) -> Result<Everything, Failure> {
    let part = Part::of(path, &packs, asked)?;
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    there.check(&part.rest)?;
    let mut pass = Pass::new(&metas, &packs, part.requests.clone(), show);
    let mut depths = Depths::new(&metas, &packs, &part.rest);
    let mut join = part.join(&metas, packs.clone()).in_windows(window);
    let mut cut = None;
    if is_side {
        let edges = side::edges(&metas, part.rest.window);
        pass = pass.sliced(&edges).kept_by(preempted(&reader, &metas)?);
        join = join.sliced(&edges);
        cut = Some((part.tally(&metas, &packs, &edges), edges));
    }
    let mut pass = pass.on_two_threads();
    each(path, &reader, |record| {
        to_pass(&mut pass, record);
        to_join(&mut join, record);
        if let Record::Slots(ring, block) = record {
            depths.slots(*ring, block.first, &block.slots);
        }
        if let Some((tally, _)) = &mut cut {
            to_tally(tally, record);
        }
    })?;
    let profile = join.finish(damage(&reader));
    there.check_left(&part.rest, !profile.threads.is_empty())?;
    let mut series = series::of(&metas, &profile);
    series.extend(depths.finish(&profile));
    let spans = pass.finish(damage(&reader));
    let side = cut.map(|(tally, edges)| {
        let tally = tally.finish();
        as_side(path, &part.rest, profile.clone(), &spans, tally, &edges)
    });
    Ok(Everything {
        series,
        side: side.transpose()?,
        spans,
        profile,
    })
}

/// Reads the part of a recording that is asked for and joins it; where that is about requests, what threads did for
/// these.
pub fn chosen(path: &Path, packs: Packs, asked: &Asked) -> Result<Profile, Failure> {
    of_part(path, packs.clone(), &Part::of(path, &packs, asked)?)
}

/// The same of a part that is known.
pub fn of_part(path: &Path, packs: Packs, part: &Part) -> Result<Profile, Failure> {
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    there.check(&part.rest)?;
    let mut join = part.join(&metas, packs);
    drop(metas);
    each(path, &reader, |record| to_join(&mut join, record))?;
    let profile = join.finish(damage(&reader));
    there.check_left(&part.rest, !profile.threads.is_empty())?;
    Ok(profile)
}

/// As [`chosen`], and its requests. These may be absent: not every thread handles any.
pub fn chosen_both(path: &Path, packs: Packs, asked: &Asked) -> Result<(Profile, Spans), Failure> {
    let part = Part::of(path, &packs, asked)?;
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    there.check(&part.rest)?;
    let mut pass = Pass::new(&metas, &packs, part.requests.clone(), 0).on_two_threads();
    let mut join = part.join(&metas, packs);
    drop(metas);
    each(path, &reader, |record| {
        to_pass(&mut pass, record);
        to_join(&mut join, record);
    })?;
    let profile = join.finish(damage(&reader));
    there.check_left(&part.rest, !profile.threads.is_empty())?;
    Ok((profile, pass.finish(damage(&reader))))
}

/// Requests and where they spend their time.
pub struct Requests {
    /// The recording: names, phases and the line of trust.
    pub profile: Profile,
    /// What was sampled on which thread.
    pub sampled: Sampled,
    /// Requests that count.
    pub latency: Latency,
    /// The others, where only the slowest count.
    pub rest: Latency,
}

/// Reads the requests that pass a filter, twice: what was sampled has to be known before the ways of requests are, and
/// how long the slowest are before they are told from the rest.
pub fn requests(path: &Path, packs: Packs, asked: &Asked) -> Result<Requests, Failure> {
    let filter = &asked.filter;
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    there.check(filter)?;
    let mut sampled = Sampled::new(&metas);
    let mut pass = Pass::new(&metas, &packs, filter.clone(), 0).on_two_threads();
    let mut again = Pass::new(&metas, &packs, filter.clone(), 0).telling_ways();
    // Samples are looked up by thread and time: which of them count is said by the requests.
    let mut join = Join::new(&metas, packs);
    each(path, &reader, |record| {
        to_pass(&mut pass, record);
        match record {
            Record::Sample(sample) => {
                if let Some(node) = join.sample(sample) {
                    sampled.sample(sample, node);
                }
            }
            Record::Switch(switch) => {
                join.switch(switch);
                sampled.switch(switch);
            }
            Record::Slots(..) => to_join(&mut join, record),
        }
    })?;
    sampled.settle();
    let profile = join.finish(damage(&reader));
    let spans = pass.finish(None);
    there.check_left(filter, spans.counts.complete > 0)?;
    let least = asked.slowest;
    let least = least.and_then(|share| spans.slowest_from(share));
    let (mut latency, mut rest) = (Latency::default(), Latency::default());
    let mut take = |pass: &mut Pass| {
        for way in pass.take_ways() {
            let is_slow = least.is_none_or(|least| pass.length(&way) >= least);
            let sums = if is_slow { &mut latency } else { &mut rest };
            sums.add(&way, &sampled);
        }
    };
    each(path, &reader, |record| {
        to_pass(&mut again, record);
        take(&mut again);
    })?;
    again.close_all();
    take(&mut again);
    Ok(Requests {
        profile,
        sampled,
        latency,
        rest,
    })
}

/// What a recording counts of device queues.
pub struct Counted {
    /// By thread, port, queue and direction.
    pub queues: Vec<Queue>,
    /// What devices said of themselves, over time.
    pub devices: Vec<Device>,
    /// Flows of the frames that were looked at.
    pub flows: Flows,
}

/// Reads a recording and what it counts of device queues, in the time and by the threads that pass a filter.
pub fn queues(path: &Path, packs: Packs, filter: &Filter) -> Result<(Profile, Counted), Failure> {
    let part = Part::passing(filter.clone());
    let profile = of_part(path, packs, &part)?;
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    let span = filter.span(profile.session.started);
    let counts = |pid, tid| {
        let mut threads = profile.threads.iter();
        filter.threads.is_empty() || threads.any(|t| (t.pid, t.tid) == (pid, tid))
    };
    let (mut readings, mut devices, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    for meta in metas {
        match meta {
            Meta::Queue(queue) if counts(queue.pid, queue.tid) => readings.push(queue),
            Meta::Device(device) if (span.0..span.1).contains(&device.time) => devices.push(device),
            Meta::Clock(pair) => pairs.push(pair),
            _ => {}
        }
    }
    let queues = readings::queues(&readings, profile.session.started, span);
    there.check_left(filter, !queues.is_empty())?;
    let clock = ClockMap::fit(&pairs);
    let ticks = |time: Nanos| match clock {
        Some(clock) if time < Nanos::from_ns(u64::MAX) => clock.tsc(time).raw(),
        _ => time.ns(),
    };
    let mut looking = Looking::new(&queues, ticks(span.0)..ticks(span.1));
    if queues.iter().any(|q| q.bytes_of > 0) {
        let rings = reader.meta().rings.values();
        for ring in rings.filter(|ring| counts(ring.pid, ring.tid)) {
            // Blocks that are damaged are told by the profile.
            let blocks = reader.slots(ring.ring).flatten();
            looking.ring(ring, blocks.flat_map(|block| block.slots));
        }
    }
    let counted = Counted {
        flows: looking.finish(),
        devices,
        queues,
    };
    Ok((profile, counted))
}

fn to_join(join: &mut Join, record: &Record) {
    match record {
        Record::Sample(sample) => {
            join.sample(sample);
        }
        Record::Switch(switch) => join.switch(switch),
        Record::Slots(ring, block) => join.slots(*ring, block.first, &block.slots),
    }
}

pub(super) fn to_pass(pass: &mut Pass, record: &Record) {
    match record {
        Record::Sample(sample) => pass.sample(sample),
        Record::Switch(switch) => pass.switch(switch),
        Record::Slots(ring, block) => pass.slots(*ring, block.first, &block.slots),
    }
}

/// Reads a recording as one side of a comparison: profile, requests and counts in one pass, cut into the same slices.
///
/// Of a filter's threads, CPUs and requests there are work and latency; what is counted is that of the whole program, but
/// where only some requests count what was done in their time.
pub fn side(path: &Path, packs: &Packs, asked: &Asked) -> Result<Side, Failure> {
    let part = Part::of(path, packs, asked)?;
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    there.check(&part.rest)?;
    let edges = side::edges(&metas, part.rest.window);
    let mut join = part.join(&metas, packs.clone()).sliced(&edges);
    let mut pass = Pass::new(&metas, packs, part.requests.clone(), 0)
        .sliced(&edges)
        .kept_by(preempted(&reader, &metas)?)
        .on_two_threads();
    let mut tally = part.tally(&metas, packs, &edges);
    each(path, &reader, |record| {
        to_tally(&mut tally, record);
        to_pass(&mut pass, record);
        to_join(&mut join, record);
    })?;
    let (profile, spans) = (join.finish(damage(&reader)), pass.finish(damage(&reader)));
    there.check_left(&part.rest, !profile.threads.is_empty())?;
    as_side(path, &part.rest, profile, &spans, tally.finish(), &edges)
}

/// When threads were kept from running: switches are read before all else.
fn preempted(reader: &Reader, metas: &[Meta]) -> Result<Preempted, Failure> {
    let mut preempted = Preempted::new(metas);
    for switch in reader.switches() {
        preempted.switch(&switch.map_err(|e| unreadable(&e))?);
    }
    preempted.settle();
    Ok(preempted)
}

/// What was cut at the same edges as one side.
fn as_side(
    path: &Path,
    filter: &Filter,
    profile: Profile,
    spans: &Spans,
    tally: Tally,
    edges: &[Nanos],
) -> Result<Side, Failure> {
    let name = path.display().to_string();
    if filter.window.is_some() && profile.slices.is_empty() {
        return Err(Failure::failed(format!(
            "{name} has no two readings of both clocks, or the window is empty: it cannot be cut by --window"
        )));
    }
    Ok(Side::of(name, profile, spans, tally, edges))
}

fn to_tally(tally: &mut tally::Pass, record: &Record) {
    match record {
        Record::Slots(ring, block) => tally.slots(*ring, block.first, &block.slots),
        Record::Switch(switch) => tally.switch(switch),
        Record::Sample(_) => {}
    }
}

fn damage(reader: &Reader) -> Option<String> {
    reader.meta().damage_line()
}

/// Opens a recording and gathers its records of low rate.
pub(super) fn open(path: &Path) -> Result<(Reader, Vec<Meta>), Failure> {
    let mut progress = Progress::new(path, "opening");
    let reader = Reader::open_watched(path, |done, all| progress.reached(done, all));
    let reader = reader.map_err(|e| unreadable(&e))?;
    drop(progress);
    let read = |e| unreadable(&e);
    let metas: Vec<_> = reader.metas().collect::<Result<_, _>>().map_err(read)?;
    let summary = reader.meta();
    if let (true, Some(damage)) = (metas.is_empty(), summary.damage_line()) {
        return Err(Failure::failed(format!(
            "{} was cut off before anything whole was written: {damage}",
            path.display()
        )));
    }
    Ok((reader, metas))
}

/// Reads all records of high rate, in the order of the file: a thread takes the file apart while this one analyses.
pub(super) fn each(
    path: &Path,
    reader: &Reader,
    mut take: impl FnMut(&Record),
) -> Result<(), Failure> {
    let summary = reader.meta();
    let total = summary.sample_count + summary.switch_count + summary.slot_count();
    let (mut progress, mut done) = (Progress::new(path, "reading"), 0);
    thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(BATCHES);
        // What was taken, for its memory.
        let (give_back, taken) = mpsc::channel::<Batch>();
        scope.spawn(move || {
            let empty = RefCell::new(Vec::new());
            let mut records = reader.records_in(|spare| {
                for mut batch in taken.try_iter() {
                    let records = batch.drain(..).flatten();
                    records.for_each(|record| spare.take(record));
                    empty.borrow_mut().push(batch);
                }
            });
            let mut numbers = StackNumbers::default();
            let mut next = || {
                let mut batch = empty.borrow_mut().pop().unwrap_or_default();
                fill(&mut batch, &mut records);
                for record in &mut batch {
                    if let Ok(Record::Sample(sample)) = record {
                        numbers.number(sample);
                    }
                }
                (!batch.is_empty()).then_some(batch)
            };
            // Whoever listens may stop at an error; then so does this.
            while let Some(batch) = next()
                && send.send(batch).is_ok()
            {}
        });
        for batch in receive {
            for record in &batch {
                let record = record.as_ref().map_err(unreadable)?;
                take(record);
                done += weight(record);
                progress.reached(done, total);
            }
            // A thread that has read all needs none.
            let _ = give_back.send(batch);
        }
        Ok(())
    })
}

/// Batches that wait between the two threads, and records in one: a few megabytes each at most.
const BATCHES: usize = 4;
const BATCH: u64 = 1 << 14;

type Batch = Vec<Result<Record, ReadError>>;

/// The next records, of about [`BATCH`]; none after the last.
fn fill(batch: &mut Batch, records: &mut impl Iterator<Item = Result<Record, ReadError>>) {
    let mut size = 0;
    while size < BATCH
        && let Some(record) = records.next()
    {
        size += record.as_ref().map_or(1, weight);
        batch.push(record);
    }
}

fn weight(record: &Record) -> u64 {
    match record {
        Record::Slots(_, block) => block.slots.len() as u64,
        Record::Sample(_) | Record::Switch(_) => 1,
    }
}

pub(super) fn unreadable(error: &ReadError) -> Failure {
    let failure = Failure::failed(error);
    match error {
        ReadError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            failure.hint("`bypassprof record -- COMMAND` makes a recording")
        }
        ReadError::NotRecording { .. } => {
            failure.hint("`bypassprof recover FILE`, if it was a recording once")
        }
        _ => failure,
    }
}

/// Silent on what is quick, and where no one looks.
struct Progress<'a> {
    path: &'a Path,
    doing: &'a str,
    /// Calls until the next look at the clock, which takes longer than to count.
    until_look: u32,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

const SILENT: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(200);
/// Calls between two looks at the clock.
const LOOK: u32 = 16;

impl<'a> Progress<'a> {
    fn new(path: &'a Path, doing: &'a str) -> Progress<'a> {
        Progress {
            path,
            doing,
            until_look: LOOK,
            started: Instant::now(),
            shown: None,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// So many of all are done.
    fn reached(&mut self, done: u64, all: u64) {
        self.until_look -= 1;
        if self.until_look > 0 {
            return;
        }
        self.until_look = LOOK;
        let due = match self.shown {
            None => self.started.elapsed() > SILENT,
            Some(last) => last.elapsed() > EVERY,
        };
        if due && self.terminal {
            self.shown = Some(Instant::now());
            let percent = u128::from(done) * 100 / u128::from(all.max(1));
            // Talk that cannot be heard is no failure.
            let _ = write!(
                io::stderr(),
                "\r{} {}: {percent} %",
                self.doing,
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
