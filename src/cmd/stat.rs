//! `bypassprof stat`: counts events of a command, of what runs, or of a recording.
//!
//! Joins `collect` (the counts), `analyse` (what they say together) and `present`. The command's exit status becomes ours.

use super::affinity::AffinityArgs;
use super::child::{self, End, Ending};
use super::events::EventArgs;
use super::switch::{Order, Switch};
use super::whom::WhomArgs;
use super::{Failure, gate, load};
use crate::analyse::counted::Counted;
use crate::analyse::counts::{Counts, Raw, Run};
use crate::analyse::profile::Work;
use crate::analyse::{Packs, Trust};
use crate::collect::counting::{Counting, Reading};
use crate::collect::events::{Group, Machine};
use crate::collect::probes::{Place, ProbeTally, Probes};
use crate::collect::{Outcome, Target, cpu_time, limits};
use crate::present::stat as present;
use crate::present::style::Style;
use crate::trace::record::{CounterValue, Meta, Tid};
use crate::trace::{RingSink, WriteError};
use crate::units::Nanos;
use bypassprof_wire::Slot;
use bypassprof_wire::names::SESSION_VARIABLE;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Arguments of `stat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recording to read, if nothing is to be run or followed [default: bypassprof.mcap]
    file: Option<PathBuf>,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    whom: WhomArgs,
    #[command(flatten)]
    affinity: AffinityArgs,
    /// Run the command so many times; counts are means, with their deviation
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: Option<u32>,
    /// Tell the counts of every so many milliseconds too
    #[arg(short = 'I', long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    interval: Option<u64>,
    /// Count each thread by itself: those of -p that are there at the start
    #[arg(long, requires = "pid")]
    per_thread: bool,
    /// Leave the probes of programs alone
    #[arg(long)]
    no_probes: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Command to run and count
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What is counted if nothing else is asked for: one at a time, so that each is had where the others are not.
const USUAL: &str = "task-clock,context-switches,cpu-migrations,page-faults,cycles,instructions,branches,branch-misses,\
     LLC-load-misses,dTLB-load-misses";

/// Counts.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let target = args.whom.target()?;
    let live = !args.command.is_empty() || target.is_some();
    if !live {
        return of_recording(&args);
    }
    if let Some(file) = &args.file {
        return Err(Failure::wrong_use(format!(
            "{} is neither an option nor behind `--`",
            file.display()
        ))
        .hint("`bypassprof stat [OPTIONS] -- COMMAND`, or a recording alone"));
    }
    if args.repeat.is_some() && args.command.is_empty() {
        return Err(Failure::wrong_use("-r runs a command again; there is none"));
    }
    let command_cpus = args.affinity.apply()?;
    limits::raise_open_files();
    let machine = Machine::here();
    let groups = if args.events.is_empty() {
        machine.encode(USUAL).map_err(Failure::failed)?
    } else {
        args.events.groups(&machine)?
    };
    let interrupted = child::interrupts()?;
    let mut session = Session {
        command_cpus,
        args: &args,
        machine,
        groups,
        interrupted,
        target,
        stops: false,
        outcome: Outcome::default(),
    };
    let mut runs = Vec::new();
    let mut told = None;
    for number in 0..args.repeat.unwrap_or(1) {
        let done = session.once(number)?;
        runs.push(done.run);
        told = Some((done.threads, done.trust));
        if session.stops {
            break;
        }
    }
    let (threads, trust) = told.unwrap_or_default();
    let counts = Counts::of(&runs);
    let nothing = !args.events.is_empty() && counts.counts.iter().all(|c| c.value.is_none());
    let document = present::Document {
        what: session.what(),
        counts: &counts,
        threads: &threads,
        notices: Vec::new(),
        trust: &trust,
        live: true,
    };
    print(&document, args.json)?;
    if nothing {
        return Err(Failure::failed("none of these events could be counted")
            .hint("`bypassprof list` for what this machine has, `bypassprof doctor` for why"));
    }
    Ok(ExitCode::from(child::exit_code(session.outcome)))
}

fn print(document: &present::Document, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        present::json(document).map_err(Failure::failed)? + "\n"
    } else {
        present::table(document, Style::of_stdout())
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)
}

/// The counters that a recording holds.
fn of_recording(args: &Args) -> Result<ExitCode, Failure> {
    let live_only = [
        (args.repeat.is_some(), "-r"),
        (args.interval.is_some(), "-I"),
        (!args.events.is_empty(), "-e"),
    ];
    if let Some((_, option)) = live_only.iter().find(|o| o.0) {
        return Err(
            Failure::wrong_use(format!("{option} needs something to count"))
                .hint("`bypassprof stat [OPTIONS] -- COMMAND`, -p PID or -a"),
        );
    }
    let file = args
        .file
        .as_deref()
        .unwrap_or(Path::new(load::DEFAULT_FILE));
    let (profile, counters) = load::with_counters(file, Packs::built_in())?;
    let of = |at: usize| counters.as_ref()?.values.get(at)?.as_ref();
    let raw = profile
        .session
        .events
        .iter()
        .enumerate()
        .map(|(at, source)| {
            let name = source.name.split(':').next().unwrap_or_default();
            let is_clock = ["task-clock", "cpu-clock"].contains(&name);
            Raw {
                name: source.name.clone(),
                value: of(at)
                    .copied()
                    .ok_or_else(|| "it was sampled, not counted".to_owned()),
                scale: 1.0,
                unit: if is_clock { "ns" } else { "" }.to_owned(),
            }
        });
    let has_probes = profile.threads.iter().any(|t| t.probes);
    let run = Run {
        raw: raw.collect(),
        elapsed_ns: profile.wall_ns,
        work: has_probes.then_some(profile.totals),
    };
    let counts = Counts::of(&[run]);
    let document = present::Document {
        what: crate::present::table::command(&profile),
        counts: &counts,
        threads: &[],
        notices: profile
            .notices
            .iter()
            .map(|n| (n.id.as_str(), n.text.as_str()))
            .collect(),
        trust: &profile.trust,
        live: false,
    };
    print(&document, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// What programs count, without what they write.
#[derive(Default)]
struct Totals {
    rings: BTreeMap<u32, (Counted, bool)>,
    slots: u64,
}

impl RingSink for Totals {
    fn slots(&mut self, _: u32, _: u64, slots: &[Slot]) -> Result<(), WriteError> {
        self.slots += slots.len() as u64;
        Ok(())
    }

    fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        match meta {
            // A ring that was there before counts from its first reading on.
            Meta::Ring(ring) => {
                let fresh = ring.first_slot == 0 && ring.listening == Nanos::default();
                self.rings.entry(ring.ring).or_default().1 = fresh;
            }
            Meta::RingTotals(totals) => {
                self.rings
                    .entry(totals.ring)
                    .or_default()
                    .0
                    .add(*totals, (None, None));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Totals {
    fn work(&self, all_fresh: bool) -> Option<Work> {
        let mut work = Work::default();
        for (counted, fresh) in self.rings.values() {
            let origin = (*fresh || all_fresh).then(Nanos::default);
            counted.add_to(&mut work, (None, None), origin);
        }
        (!self.rings.is_empty()).then_some(work)
    }
}

struct Session<'a> {
    /// What the command may run on, if this process keeps to fewer CPUs.
    command_cpus: Option<String>,
    args: &'a Args,
    machine: Machine,
    groups: Vec<Group>,
    interrupted: Arc<AtomicUsize>,
    target: Option<Target>,
    /// Whether no further run is wanted.
    stops: bool,
    outcome: Outcome,
}

/// One run's end.
struct Done {
    run: Run,
    threads: Vec<(Tid, Counts)>,
    trust: Trust,
}

/// How often is looked, where nothing else says so.
const LOOK: Duration = Duration::from_millis(100);

impl Session<'_> {
    fn what(&self) -> String {
        let words: Vec<_> = self
            .args
            .command
            .iter()
            .map(|w| w.to_string_lossy())
            .collect();
        match &self.target {
            Some(target) if words.is_empty() => target.to_string(),
            Some(target) => format!("{target} while {}", words.join(" ")),
            None => words.join(" "),
        }
    }

    fn once(&mut self, number: u32) -> Result<Done, Failure> {
        let mut switch = self.args.whom.switch()?;
        let place = if self.args.no_probes {
            None
        } else {
            Place::create().ok()
        };
        let held = match self.args.command.as_slice() {
            [] => None,
            command => {
                let environment = place
                    .iter()
                    .map(|p| (SESSION_VARIABLE, p.path().as_os_str()));
                let environment: Vec<_> = environment.collect();
                let name = command[0].to_string_lossy();
                let held = gate::hold(
                    command,
                    &environment,
                    self.command_cpus.as_deref(),
                    gate::Words::Here,
                );
                Some(held.map_err(|e| Failure::failed(format!("cannot run {name}: {e}")))?)
            }
        };
        let mut probes = match (&held, &self.target) {
            _ if self.args.no_probes => None,
            (Some(held), None) => place.map(|p| Probes::of_session(p, held.child.id())),
            (_, Some(Target::Running(pids))) => Some(Probes::of_processes(pids)),
            _ => None,
        };
        let own = held
            .as_ref()
            .map(|h| Target::Starting(h.child.id(), Vec::new()));
        let target = self.target.as_ref().or(own.as_ref());
        let Some(target) = target else {
            return Err(Failure::wrong_use("there is nothing to count"));
        };
        let on_exec = self.target.is_none() && !switch.waits;
        let whom = target.whom();
        let whom = match whom {
            Ok(whom) => whom,
            Err(e) => {
                if let Some(held) = held {
                    held.cancel();
                }
                return Err(Failure::failed(e));
            }
        };
        let inherit = !self.args.per_thread;
        let counting = Counting::open(self.groups.clone(), &whom, on_exec, inherit, &self.machine);
        let before = cpu_time();
        // Before the command is let go: it may be done before this process runs again.
        let started = Instant::now();
        if self.target.is_some() && !switch.waits {
            counting.enable().map_err(Failure::failed)?;
        }
        let child = match held {
            Some(held) => {
                let name = self.args.command[0].to_string_lossy();
                let released = held.release();
                Some(released.map_err(|e| Failure::failed(format!("cannot run {name}: {e}")))?)
            }
            None => None,
        };
        let mut totals = Totals::default();
        switch.begin();
        let elapsed = self.follow(
            child,
            &counting,
            &mut switch,
            probes.as_mut(),
            &mut totals,
            started,
        )?;
        // Events whose threads are gone refuse; there is nothing left to stop then.
        let _ = counting.disable();
        let (mut tally, mut unreached) = (ProbeTally::default(), 0);
        if let Some(probes) = probes {
            (tally, unreached) = probes.finish(&mut totals).map_err(Failure::failed)?;
        }
        let used = cpu_time().since(before);
        let last = number + 1 == self.args.repeat.unwrap_or(1) || self.stops;
        let threads = if self.args.per_thread && last {
            let of = |(tid, readings): (Tid, Vec<Reading>)| {
                let run = Run {
                    raw: raw(readings),
                    elapsed_ns: elapsed.as_nanos() as u64,
                    work: None,
                };
                (tid, Counts::of(&[run]))
            };
            counting.read_threads().into_iter().map(of).collect()
        } else {
            Vec::new()
        };
        Ok(Done {
            run: Run {
                raw: raw(counting.read()),
                elapsed_ns: elapsed.as_nanos() as u64,
                work: totals.work(self.target.is_none()),
            },
            threads,
            trust: Trust {
                events: totals.slots,
                events_dropped: tally.dropped,
                rings_unreached: unreached,
                observer_share: Some(used.ns() as f64 / elapsed.as_nanos().max(1) as f64),
                ..Trust::default()
            },
        })
    }

    /// Waits until it is over, and does meanwhile what is due. Returns how long it took.
    fn follow(
        &mut self,
        mut child: Option<Child>,
        counting: &Counting,
        switch: &mut Switch,
        mut probes: Option<&mut Probes>,
        totals: &mut Totals,
        started: Instant,
    ) -> Result<Duration, Failure> {
        let end = child.as_ref().and_then(|c| End::of(c).ok());
        let mut ending = Ending::default();
        let mut intervals = self
            .args
            .interval
            .map(|ms| Intervals::new(Duration::from_millis(ms), self.args.json));
        loop {
            let orders = switch.orders();
            for order in &orders {
                match order {
                    Order::Enable => counting.enable().map_err(Failure::failed)?,
                    // Of threads that are gone there is nothing to stop.
                    Order::Disable => drop(counting.disable()),
                    Order::Stop => self.stops = true,
                }
                switch.done();
            }
            let interrupts = self.interrupted.load(Ordering::Relaxed);
            let late = self
                .args
                .whom
                .duration
                .is_some_and(|d| started.elapsed() >= d);
            if let Some(child) = &mut child {
                if let Some(status) = child.try_wait().map_err(Failure::failed)? {
                    let elapsed = started.elapsed();
                    self.outcome = Outcome {
                        code: status.code(),
                        signal: status.signal(),
                    };
                    if ending.by_duration {
                        self.outcome = Outcome {
                            code: Some(0),
                            signal: None,
                        };
                    }
                    self.stops |= interrupts > 0;
                    return Ok(elapsed);
                }
                ending.step(child, interrupts, late || self.stops);
            } else {
                let gone = match &self.target {
                    Some(Target::Running(pids)) => pids.iter().all(|&p| child::ended(p)),
                    _ => false,
                };
                if interrupts > 0 || late || gone || self.stops {
                    self.stops = true;
                    self.outcome = Outcome {
                        code: Some(0),
                        signal: None,
                    };
                    return Ok(started.elapsed());
                }
            }
            let mut wait = LOOK;
            if let Some(probes) = probes.as_deref_mut() {
                let full = probes.turn(totals).map_err(Failure::failed)?;
                wait = if full > 0.1 || probes.is_expecting() {
                    Duration::from_millis(1)
                } else {
                    Duration::from_millis(10)
                };
            }
            if let Some(intervals) = &mut intervals {
                wait = wait.min(intervals.look(started.elapsed(), counting)?);
            }
            let left = self
                .args
                .whom
                .duration
                .map(|d| d.saturating_sub(started.elapsed()));
            let due = [left, switch.due()].into_iter().flatten().min();
            let wait = due.map_or(wait, |d| wait.min(d.max(Duration::from_micros(100))));
            match &end {
                Some(end) => end.wait(wait),
                None => std::thread::sleep(wait),
            }
        }
    }
}

fn raw(readings: Vec<Reading>) -> Vec<Raw> {
    let one = |r: Reading| Raw {
        name: r.name,
        value: r.value,
        scale: r.scale,
        unit: r.unit,
    };
    readings.into_iter().map(one).collect()
}

/// Counts of every interval, told as they come.
struct Intervals {
    every: Duration,
    next: Duration,
    from: Duration,
    before: Vec<Raw>,
    as_json: bool,
}

impl Intervals {
    fn new(every: Duration, as_json: bool) -> Intervals {
        Intervals {
            every,
            next: every,
            from: Duration::ZERO,
            before: Vec::new(),
            as_json,
        }
    }

    /// Tells if one is over; returns how long until the next is.
    fn look(&mut self, now: Duration, counting: &Counting) -> Result<Duration, Failure> {
        if now < self.next {
            return Ok(self.next - now);
        }
        let raws = raw(counting.read());
        let since = raws.iter().enumerate().map(|(at, raw)| {
            let before = self.before.get(at).and_then(|b| b.value.as_ref().ok());
            let before = before.copied().unwrap_or_default();
            Raw {
                value: raw.value.clone().map(|v| CounterValue {
                    value: v.value.saturating_sub(before.value),
                    enabled: v.enabled.saturating_sub(before.enabled),
                    running: v.running.saturating_sub(before.running),
                }),
                ..raw.clone()
            }
        });
        let run = Run {
            raw: since.collect(),
            elapsed_ns: (now - self.from).as_nanos() as u64,
            work: None,
        };
        let text = present::interval(&Counts::of(&[run]), now, self.as_json);
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(Failure::output)?;
        self.before = raws;
        self.from = now;
        while self.next <= now {
            self.next += self.every;
        }
        Ok(self.next - now)
    }
}
