//! A live system in, records out: perf events, /proc and clocks, written to a recording as they come.
//!
//! In: processes, a [`Writer`], something that names addresses, where probes meet us; out: a finished recording and its [`Tally`]. It refuses
//! to know how a command is started, what signals mean and how names are found.

pub mod clock;
pub mod core;
pub mod oom;
pub mod perf;
pub mod probes;
pub mod proc;
pub mod remains;

use crate::trace::record::{Counters, End, Meta, Notice, Pid, Tid};
use crate::trace::{Symbolizer, WriteError, Writer};
use crate::units::Nanos;
use perf::{Batch, Events, Plan};
use probes::{ProbeTally, Probes};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::time::{Duration, Instant};

/// Whom to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process that is about to run this program; recording starts when it does.
    Starting(Pid, Vec<String>),
    /// Processes that are running.
    Running(Vec<Pid>),
}

/// Why recording failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The kernel offers no events at all.
    #[error("cannot open perf events: {source}")]
    Perf {
        /// What the kernel said.
        source: io::Error,
    },
    /// An event could not be opened.
    #[error(transparent)]
    Open(#[from] perf::group::OpenError),
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The number asked for.
        pid: Pid,
    },
    /// An event could not be switched on.
    #[error("cannot start recording: {source}")]
    Start {
        /// What the kernel said.
        source: io::Error,
    },
    /// The recording could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What went into a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// From start to finish.
    pub elapsed: Duration,
    /// Samples written.
    pub samples: u64,
    /// Samples that the kernel lost.
    pub samples_lost: u64,
    /// Other records that the kernel lost.
    pub records_lost: u64,
    /// Samples whose user stack is cut or could not be walked.
    pub stacks_unknown: u64,
    /// Switch records written.
    pub switches: u64,
    /// Threads seen.
    pub threads: u64,
    /// Name of the sampled event.
    pub event: String,
    /// Its rate.
    pub frequency_hz: u64,
    /// Rings, slots and drops of programs with probes.
    pub probes: ProbeTally,
    /// Rings that could not be reached.
    pub rings_unreached: u64,
    /// CPU time of the recorder.
    pub recorder_cpu: Duration,
    /// Counted events and their totals.
    pub counters: Vec<(String, u64)>,
    /// What the user should know.
    pub notices: Vec<Notice>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

const COUNT_EVERY: Duration = Duration::from_millis(100);
const CLOCK_EVERY: Duration = Duration::from_secs(1);
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// Between two looks at rings that fill quickly.
const SHORTEST_PROBE_WAIT: Duration = Duration::from_micros(100);
/// Between two looks for programs with probes: until they are found they write nothing.
const LONGEST_PROBE_WAIT: Duration = Duration::from_millis(10);
/// The same while a command is expected to show itself.
const EXPECTING_WAIT: Duration = Duration::from_millis(1);
/// Rings fuller than this are looked at more often, at once if they are half full.
const FILLING: f64 = 0.1;
/// Records in one turn that make the next one come sooner.
const BUSY: usize = 2048;

/// A recording in progress.
pub struct Recorder {
    events: Events,
    writer: Writer,
    symbols: Box<dyn Symbolizer>,
    probes: Option<Probes>,
    batch: Batch,
    tally: Tally,
    names: Vec<String>,
    threads: std::collections::HashSet<Tid>,
    started: Instant,
    counted: Instant,
    paired: Instant,
    wait: Duration,
    probe_wait: Duration,
}

impl Recorder {
    /// Opens events for the target and writes the recording's head. A running target is recorded from here on, a
    /// starting one from when it runs its program.
    pub fn start(
        target: &Target,
        frequency_hz: u64,
        writer: impl FnOnce() -> Result<Writer, WriteError>,
        symbols: Box<dyn Symbolizer>,
        probes: Result<Probes, Notice>,
    ) -> Result<Recorder, CollectError> {
        let plan = Plan::probe(frequency_hz).map_err(|source| CollectError::Perf { source })?;
        let (tids, on_exec) = match target {
            Target::Starting(pid, _) => (vec![*pid], true),
            Target::Running(pids) => (threads_of(pids)?, false),
        };
        let mut session = proc::session();
        session.events = plan.sources();
        let mut metas = Vec::new();
        match target {
            Target::Starting(pid, command) => {
                session.pids = vec![*pid];
                session.command = command.clone();
            }
            Target::Running(pids) => session.pids = pids.clone(),
        }
        let mut notices = plan.notices.clone();
        let probes = probes.map_err(|notice| notices.push(notice)).ok();
        let tally = Tally {
            event: session.events[0].name.clone(),
            frequency_hz: plan.frequency_hz,
            notices: notices.clone(),
            ..Tally::default()
        };
        let names = session.events.iter().map(|e| e.name.clone()).collect();
        let events = Events::open(plan, &proc::cpus(), &tids, on_exec)?;
        metas.push(Meta::Session(session));
        metas.extend(notices.into_iter().map(Meta::Notice));
        proc::kernel(&mut metas);
        if let Target::Running(pids) = target {
            // First switched on, then read: what is mapped in between is seen twice rather than never.
            events
                .enable()
                .map_err(|source| CollectError::Start { source })?;
            for &pid in pids {
                proc::names(pid, &mut metas);
                proc::mappings(pid, &mut metas);
            }
        }
        let now = Instant::now();
        let mut recorder = Recorder {
            events,
            writer: writer()?,
            symbols,
            probes,
            batch: Batch::default(),
            tally,
            names,
            threads: Default::default(),
            started: now,
            counted: now,
            paired: now,
            wait: SHORTEST_WAIT,
            probe_wait: SHORTEST_WAIT,
        };
        recorder.batch.metas = metas;
        recorder.batch.metas.push(Meta::Clock(clock::pair()));
        recorder.write_batch()?;
        recorder.writer.flush()?;
        Ok(recorder)
    }

    /// Takes what has come in and writes it; returns how long to wait before the next turn.
    pub fn turn(&mut self) -> Result<Duration, CollectError> {
        let taken = self.events.drain(&mut self.batch);
        if self.counted.elapsed() >= COUNT_EVERY {
            self.counted = Instant::now();
            let counters = self.counters();
            self.batch.metas.push(counters);
        }
        if self.paired.elapsed() >= CLOCK_EVERY {
            self.paired = Instant::now();
            self.batch.metas.push(Meta::Clock(clock::pair()));
        }
        self.write_batch()?;
        if let Some(probes) = &mut self.probes {
            let full = probes.turn(&mut self.writer)?;
            self.probe_wait = if full > 0.5 {
                Duration::ZERO
            } else if full > FILLING {
                (self.probe_wait / 2).max(SHORTEST_PROBE_WAIT)
            } else {
                (self.probe_wait * 2).clamp(SHORTEST_PROBE_WAIT, LONGEST_PROBE_WAIT)
            };
        }
        self.wait = if taken > BUSY {
            (self.wait / 2).max(SHORTEST_WAIT)
        } else {
            (self.wait * 2).min(LONGEST_WAIT)
        };
        Ok(match &self.probes {
            Some(probes) if probes.is_expecting() => EXPECTING_WAIT,
            Some(_) => self.wait.min(self.probe_wait),
            None => self.wait,
        })
    }

    fn counters(&self) -> Meta {
        Meta::Counters(Counters {
            time: clock::now(),
            values: self.events.totals(),
        })
    }

    fn write_batch(&mut self) -> Result<(), WriteError> {
        let Batch {
            samples,
            switches,
            metas,
        } = &mut self.batch;
        for meta in metas.drain(..) {
            match &meta {
                Meta::Lost(lost) => {
                    self.tally.samples_lost += lost.samples;
                    self.tally.records_lost += lost.records;
                }
                Meta::Thread(thread) => drop(self.threads.insert(thread.tid)),
                _ => {}
            }
            self.symbols.meta(&meta);
            if let Some(probes) = &mut self.probes {
                probes.meta(&meta);
            }
            self.writer.meta(&meta)?;
        }
        for sample in samples.iter() {
            self.symbols.sample(sample);
            self.threads.insert(sample.tid);
            use crate::trace::record::StackEnd::{Broken, Truncated};
            self.tally.stacks_unknown += u64::from(matches!(sample.stack, Broken | Truncated));
        }
        self.tally.samples += samples.len() as u64;
        self.tally.switches += switches.len() as u64;
        self.writer.samples(samples)?;
        self.writer.switches(switches)?;
        samples.clear();
        switches.clear();
        Ok(())
    }

    /// Stops, takes what is left, names what was sampled, and closes the recording; `before_end` writes what is to stand
    /// in it besides, when all else is there.
    pub fn finish(
        mut self,
        outcome: Outcome,
        before_end: impl FnOnce(&mut Writer),
    ) -> Result<Tally, CollectError> {
        self.tally.elapsed = self.started.elapsed();
        // Events whose threads are gone refuse; there is nothing left to stop then.
        let _ = self.events.disable();
        let stopped = clock::now();
        while self.events.drain(&mut self.batch) > 0 {
            self.write_batch()?;
        }
        if let Some(probes) = self.probes.take() {
            (self.tally.probes, self.tally.rings_unreached) = probes.finish(&mut self.writer)?;
        }
        let counters = self.counters();
        if let Meta::Counters(counters) = &counters {
            let values = self.names.iter().zip(&counters.values);
            let named = values.filter_map(|(name, v)| Some((name.clone(), v.as_ref()?.value)));
            self.tally.counters = named.collect();
        }
        self.batch.metas.push(counters);
        self.batch.metas.push(Meta::Clock(clock::pair()));
        self.write_batch()?;
        self.writer.flush()?;
        let cpu = cpu_time();
        // From here on nothing is disturbed any more: names take time, but no one's.
        for symbols in self.symbols.finish() {
            self.writer.meta(&Meta::Symbols(symbols))?;
        }
        before_end(&mut self.writer);
        self.writer.meta(&Meta::End(End {
            time: stopped,
            exit_code: outcome.code,
            signal: outcome.signal,
            recorder_cpu_ns: cpu.ns(),
            rings_unreached: self.tally.rings_unreached,
        }))?;
        self.writer.finish()?;
        self.tally.threads = self.threads.len() as u64;
        self.tally.recorder_cpu = Duration::from_nanos(cpu.ns());
        Ok(self.tally)
    }
}

fn threads_of(pids: &[Pid]) -> Result<Vec<Tid>, CollectError> {
    let mut tids = Vec::new();
    for &pid in pids {
        let threads = proc::threads(pid).map_err(|_| CollectError::NoProcess { pid })?;
        tids.extend(threads);
    }
    Ok(tids)
}

/// CPU time that this process has used.
fn cpu_time() -> Nanos {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Nanos::from_ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
