//! A recording in progress: records taken, names asked for, counters read, all of it written as it comes.
//!
//! In: a [`Target`], what is wanted, where it goes to; out: a finished recording and its [`Tally`]. It refuses to know what
//! drives it.

mod budget;
mod cut;

use super::counting::Whom;
use super::events::{Group, Machine};
use super::kernel::Kernel;
use super::perf::{Batch, Events, Plan, StackSource};
use super::probes::Probes;
use super::{CollectError, Outcome, Tally, Target, clock, cpu_time, limits, proc, skew};
use crate::trace::record::{Counters, End, Meta, Notice, Pid, Tid};
use crate::trace::{RecordSink, Symbolizer, WriteError, Writer};
use crate::units::Nanos;
pub use cut::{Cut, Finished};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

const COUNT_EVERY: Duration = Duration::from_millis(100);
const CLOCK_EVERY: Duration = Duration::from_secs(1);
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// Between two looks at rings that fill quickly.
const SHORTEST_PROBE_WAIT: Duration = Duration::from_micros(100);
/// Where events are opened for each thread: what a thread runs until it is seen is not sampled.
const LONGEST_UNSEEN: Duration = SHORTEST_WAIT;
/// Between two looks for programs with probes: until they are found they write nothing.
const LONGEST_PROBE_WAIT: Duration = Duration::from_millis(10);
/// The same while a command is expected to show itself.
const EXPECTING_WAIT: Duration = Duration::from_millis(1);
/// Rings fuller than this are looked at more often, at once if they are half full.
const FILLING: f64 = 0.1;
/// Records in one turn that make the next one come sooner.
const BUSY: usize = 2048;

/// What is wanted of a recording.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Samples per second and CPU.
    pub frequency_hz: u64,
    /// Events to sample instead of the usual.
    pub events: Vec<Group>,
    /// Where user stacks come from, and in the user's words.
    pub stacks: (StackSource, String),
    /// Whether events wait until they are enabled.
    pub waits: bool,
    /// The share of a CPU that the recorder may use.
    pub budget: Option<f64>,
    /// Whether counters are read on the way: the kernel interrupts the CPU that a counter is on to read it.
    pub reads_counters: bool,
}

/// A recording in progress, into `S`.
pub struct Recorder<S = Writer> {
    target: Target,
    budget: Option<f64>,
    reads_counters: bool,
    /// When the budget was looked at, and the CPU time used until then.
    spent: (Instant, Nanos),
    /// Whether events count now.
    running: bool,
    /// Processes of threads that are there.
    alive: HashMap<Tid, Pid>,
    events: Events,
    kernel: Kernel,
    writer: S,
    symbols: Box<dyn Symbolizer>,
    probes: Option<Probes>,
    batch: Batch,
    tally: Tally,
    names: Vec<String>,
    threads: HashSet<Tid>,
    started: Instant,
    counted: Instant,
    paired: Instant,
    wait: Duration,
    probe_wait: Duration,
}

impl<S: RecordSink> Recorder<S> {
    /// Opens events for the target and writes the recording's head. A running target is recorded from here on, a
    /// starting one from when it runs its program, both only when they are enabled if that is wanted.
    pub fn start(
        target: &Target,
        wanted: Wanted,
        writer: impl FnOnce() -> Result<S, WriteError>,
        symbols: Box<dyn Symbolizer>,
        probes: Result<Probes, Notice>,
    ) -> Result<Recorder<S>, CollectError> {
        limits::raise_open_files();
        let whom = target.whom()?;
        let inherit = matches!(whom, Whom::Tasks(_));
        let machine = Machine::here();
        let plan = {
            let (stacks, _) = wanted.stacks;
            Plan::probe(
                wanted.frequency_hz,
                wanted.events,
                stacks,
                inherit,
                &machine,
            )?
        };
        let mut session = proc::session();
        session.events = plan.sources();
        session.call_graph = wanted.stacks.1;
        match target {
            Target::Starting(pid, command) => {
                session.pids = vec![*pid];
                session.command = command.clone();
            }
            Target::Running(pids) => session.pids = pids.clone(),
            Target::Cpus(_) | Target::Cgroup(..) => session.command = vec![target.to_string()],
        }
        let mut notices = plan.notices.clone();
        if let Some(doubt) = skew::Doubt::here() {
            notices.push(Notice {
                id: "clock".to_owned(),
                text: format!(
                    "times of probes' events may be wrong: {doubt}; `bypassprof doctor` has more"
                ),
            });
        }
        let probes = probes.map_err(|notice| notices.push(notice)).ok();
        let tally = Tally {
            sampled: plan.told(),
            notices: notices.clone(),
            ..Tally::default()
        };
        let names = session.events.iter().map(|e| e.name.clone()).collect();
        let on_exec = matches!(target, Target::Starting(..)) && !wanted.waits;
        let events = Events::open(plan, &proc::cpus(), &whom, on_exec)?;
        let mut metas = vec![Meta::Session(session)];
        metas.extend(notices.into_iter().map(Meta::Notice));
        let kernel = Kernel::read(&mut metas);
        let now = Instant::now();
        let mut recorder = Recorder {
            target: target.clone(),
            budget: wanted.budget,
            reads_counters: wanted.reads_counters,
            spent: (now, cpu_time()),
            running: on_exec,
            alive: HashMap::new(),
            events,
            kernel,
            writer: writer()?,
            symbols,
            probes,
            batch: Batch::default(),
            tally,
            names,
            threads: HashSet::new(),
            started: now,
            counted: now,
            paired: now,
            wait: SHORTEST_WAIT,
            probe_wait: SHORTEST_WAIT,
        };
        recorder.batch.metas = metas;
        recorder.batch.metas.push(Meta::Clock(clock::pair()));
        if !on_exec && !wanted.waits {
            recorder.enable()?;
        }
        recorder.write_batch()?;
        recorder.writer.flush()?;
        Ok(recorder)
    }

    /// Lets events count, from now on or again. What was mapped and named meanwhile is read.
    pub fn enable(&mut self) -> Result<(), CollectError> {
        // First switched on, then read: what is mapped in between is seen twice rather than never.
        let enabled = self.events.enable();
        enabled.map_err(|source| CollectError::Start { source })?;
        self.running = true;
        if let Target::Running(pids) = &self.target {
            for &pid in pids {
                let threads = proc::threads(pid).unwrap_or_default();
                threads
                    .into_iter()
                    .for_each(|tid| self.events.find(pid, tid));
            }
        }
        for pid in self.processes() {
            proc::names(pid, &mut self.batch.metas);
            proc::mappings(pid, &mut self.batch.metas);
            // There may be thousands: meanwhile rings fill.
            self.take();
        }
        Ok(())
    }

    /// Keeps events from counting until they are enabled again.
    pub fn disable(&mut self) {
        // Events whose threads are gone refuse; there is nothing left to stop then.
        let _ = self.events.disable();
        self.running = false;
    }

    /// The processes that are recorded now.
    fn processes(&self) -> Vec<Pid> {
        let mut roots: Vec<Pid> = self.alive.values().copied().collect();
        match &self.target {
            Target::Starting(pid, _) => roots.push(*pid),
            Target::Running(pids) => roots.extend(pids),
            Target::Cpus(_) | Target::Cgroup(..) => return proc::all(),
        }
        proc::families(&roots)
    }

    /// Takes what has come in and writes it; returns how long to wait before the next turn.
    pub fn turn(&mut self) -> Result<Duration, CollectError> {
        self.tally.recorder_wakeups += 1;
        let taken = self.take();
        self.keep_to_budget()?;
        if self.reads_counters && self.counted.elapsed() >= COUNT_EVERY {
            self.counted = Instant::now();
            let counters = self.counters();
            self.batch.metas.push(counters);
        }
        if self.paired.elapsed() >= CLOCK_EVERY {
            self.paired = Instant::now();
            self.batch.metas.push(Meta::Clock(clock::pair()));
        }
        self.kernel.look_again(&mut self.batch.metas);
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
        if self.events.is_per_thread() {
            self.wait = self.wait.min(LONGEST_UNSEEN);
        }
        Ok(match &self.probes {
            Some(probes) if probes.is_expecting() => EXPECTING_WAIT,
            Some(_) => self.wait.min(self.probe_wait),
            None => self.wait,
        })
    }

    /// Takes records that have come in; returns how many.
    fn take(&mut self) -> usize {
        let before = (self.batch.samples.len(), self.batch.switches.len());
        let known = self.batch.metas.len();
        let taken = self.events.drain(&mut self.batch);
        self.events.follow(&self.batch.metas[known..]);
        self.tally.samples += (self.batch.samples.len() - before.0) as u64;
        self.tally.switches += (self.batch.switches.len() - before.1) as u64;
        taken
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
            copies,
            switches,
            metas,
        } = &mut self.batch;
        for meta in metas.drain(..) {
            match &meta {
                Meta::Lost(lost) => {
                    self.tally.samples_lost += lost.samples;
                    self.tally.records_lost += lost.records;
                }
                Meta::Thread(thread) => {
                    self.threads.insert(thread.tid);
                    self.alive.insert(thread.tid, thread.pid);
                }
                Meta::Exit(exit) => drop(self.alive.remove(&exit.tid)),
                _ => {}
            }
            self.symbols.meta(&meta);
            if let Some(probes) = &mut self.probes {
                probes.meta(&meta);
            }
            self.writer.meta(&meta)?;
        }
        for (place, copy) in copies.drain(..) {
            self.symbols.walk(&mut samples[place], &copy);
        }
        for sample in samples.iter() {
            self.symbols.sample(sample);
            self.threads.insert(sample.tid);
            use crate::trace::record::StackEnd::{Broken, Truncated};
            self.tally.stacks_unknown += u64::from(matches!(sample.stack, Broken | Truncated));
        }
        self.writer.samples(samples)?;
        self.writer.switches(switches)?;
        samples.clear();
        switches.clear();
        Ok(())
    }

    /// Stops, takes what is left, names what was sampled, and closes what it all went into.
    pub fn leave(mut self, outcome: Outcome) -> Result<Tally, CollectError> {
        let stopped = self.stop();
        self.write_rest(stopped, outcome, |_| ())?;
        Ok(self.tally)
    }

    /// When nothing was recorded any more.
    fn stop(&mut self) -> Nanos {
        self.tally.elapsed = self.started.elapsed();
        // Events whose threads are gone refuse; there is nothing left to stop then.
        let _ = self.events.disable();
        clock::now()
    }

    fn write_rest(
        &mut self,
        stopped: Nanos,
        outcome: Outcome,
        before_end: impl FnOnce(&mut S),
    ) -> Result<(), WriteError> {
        while self.take() > 0 {
            self.write_batch()?;
        }
        self.kernel.look(&mut self.batch.metas);
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
        if let Some(notice) = self.unsampled() {
            self.tally.notices.push(notice.clone());
            self.batch.metas.push(Meta::Notice(notice));
        }
        self.batch.metas.push(Meta::Clock(clock::pair()));
        self.write_batch()?;
        self.writer.flush()?;
        let cpu = cpu_time();
        // From here on nothing is disturbed any more: names take time, but no one's.
        for symbols in self.symbols.finish() {
            self.writer.meta(&Meta::Symbols(symbols))?;
        }
        before_end(&mut self.writer);
        self.writer.meta(&self.end(stopped, outcome, cpu))?;
        self.writer.finish()?;
        self.tally.threads = self.threads.len() as u64;
        self.tally.recorder_cpu = Duration::from_nanos(cpu.ns());
        Ok(())
    }

    /// What threads ran that has no samples, where each is opened by itself.
    fn unsampled(&self) -> Option<Notice> {
        let told = self.events.unsampled()?;
        let (missed, all) = (told.cpu.0.ns() as f64, told.cpu.1.ns() as f64);
        let refused = match &told.refused {
            (0, _) => String::new(),
            (n, why) => format!(
                ", {n} could not be opened ({})",
                why.as_deref().unwrap_or("?")
            ),
        };
        Some(Notice {
            id: "threads-unsampled".to_string(),
            text: format!(
                "of threads made later {} were opened after they had begun, {} ended before that{refused}: {:.1} ms of {:.1} ms \
                 of CPU time ({:.2} %) have no samples",
                told.began_sooner,
                told.ended_sooner,
                missed / 1e6,
                all / 1e6,
                100.0 * missed / all.max(1.0)
            ),
        })
    }

    fn end(&self, stopped: Nanos, outcome: Outcome, cpu: Nanos) -> Meta {
        Meta::End(End {
            time: stopped,
            exit_code: outcome.code,
            signal: outcome.signal,
            recorder_cpu_ns: cpu.ns(),
            recorder_wakeups: self.tally.recorder_wakeups,
            rings_unreached: self.tally.rings_unreached,
        })
    }
}

impl Recorder {
    /// Stops, takes what is left, names what was sampled, and closes the recording; `before_end` writes what is to stand
    /// in it besides, when all else is there.
    pub fn finish(
        mut self,
        outcome: Outcome,
        before_end: impl FnOnce(&mut Writer),
    ) -> Result<Tally, Cut> {
        let stopped = self.stop();
        match self.write_rest(stopped, outcome, before_end) {
            Ok(()) => Ok(self.tally),
            Err(why) => Err(self.cut_short(why.into(), outcome)),
        }
    }
}
