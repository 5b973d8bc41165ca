//! One run of `stat` after the other: a command is held until its events are open, followed to its end, and read.
//!
//! In: options, events, whom; out: what each run counted. It refuses to know how counts are told.

use super::Args;
use super::intervals::{Intervals, raw};
use super::totals::Totals;
use crate::analyse::Trust;
use crate::analyse::apart::{Apart as Threads, ThreadCounts};
use crate::analyse::counts::{Counts, Run};
use crate::cmd::child::{self, End, Ending};
use crate::cmd::switch::{Order, Switch};
use crate::cmd::{Failure, gate};
use crate::collect::apart::{Apart, Told, Untold};
use crate::collect::counting::{Counting, Whom};
use crate::collect::events::refusal::{self, Sight};
use crate::collect::events::{Group, Machine};
use crate::collect::probes::{Place, ProbeTally, Probes};
use crate::collect::{Outcome, Target, cpu_time};
use bypassprof_wire::names::SESSION_VARIABLE;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What all runs have in common.
pub struct Session<'a> {
    /// What the command may run on, if this process keeps to fewer CPUs.
    pub command_cpus: Option<String>,
    /// The options.
    pub args: &'a Args,
    /// Where events come from.
    pub machine: Machine,
    /// What is counted.
    pub groups: Vec<Group>,
    /// Interrupts so far.
    pub interrupted: Arc<AtomicUsize>,
    /// Whom, if not the command.
    pub target: Option<Target>,
    /// Whether no further run is wanted.
    pub stops: bool,
    /// How the last run ended.
    pub outcome: Outcome,
}

/// One run's end.
#[derive(Default)]
pub struct Done {
    /// What was counted.
    pub run: Run,
    /// The same by thread, where that was asked for.
    pub threads: Option<Threads>,
    /// What the user should know of it.
    pub notices: Vec<(&'static str, String)>,
    /// How far to trust it.
    pub trust: Trust,
}

/// What counts.
struct Live {
    counting: Counting,
    apart: Option<Apart>,
    probes: Option<Probes>,
    totals: Totals,
}

/// How often is looked, where nothing else says so.
const LOOK: Duration = Duration::from_millis(100);

impl Session<'_> {
    /// What was counted, in words.
    pub fn what(&self) -> String {
        let words = child::words(&self.args.command);
        match &self.target {
            Some(target) if words.is_empty() => target.to_string(),
            Some(target) => format!("{target} while {}", words.join(" ")),
            None => words.join(" "),
        }
    }

    /// Runs the command, or follows whom it is about, to the end.
    pub fn once(&mut self) -> Result<Done, Failure> {
        let mut switch = self.args.whom.switch()?;
        let place = if self.args.no_probes {
            None
        } else {
            Place::create().ok()
        };
        let held = self.hold(place.as_ref())?;
        let probes = match (&held, &self.target) {
            _ if self.args.no_probes => None,
            (Some(held), None) => place.map(|p| Probes::of_session(p, held.child.id())),
            (_, Some(Target::Running(pids))) => Some(Probes::of_processes(pids)),
            _ => None,
        };
        let own = held
            .as_ref()
            .map(|h| Target::Starting(h.child.id(), Vec::new()));
        let Some(target) = self.target.as_ref().or(own.as_ref()) else {
            return Err(Failure::wrong_use("there is nothing to count"));
        };
        let on_exec = self.target.is_none() && !switch.waits;
        let (counting, apart) = match self.open(target, on_exec) {
            Ok(opened) => opened,
            Err(e) => {
                if let Some(held) = held {
                    held.cancel();
                }
                return Err(e);
            }
        };
        let mut live = Live {
            counting,
            apart,
            probes,
            totals: Totals::default(),
        };
        let before = cpu_time();
        // Before the command is let go: it may be done before this process runs again.
        let started = Instant::now();
        if self.target.is_some() && !switch.waits {
            live.enable()?;
        }
        let child = match held {
            Some(held) => {
                let name = self.args.command[0].to_string_lossy();
                let released = held.release();
                Some(released.map_err(|e| Failure::failed(format!("cannot run {name}: {e}")))?)
            }
            None => None,
        };
        switch.begin();
        let elapsed = self.follow(child, &mut live, &mut switch, started)?;
        live.finish(elapsed, self.target.is_none(), || {
            cpu_time().since(before).ns()
        })
    }

    /// Starts the command's stand-in, if there is a command.
    fn hold(&self, place: Option<&Place>) -> Result<Option<gate::Held>, Failure> {
        let command = self.args.command.as_slice();
        let Some(name) = command.first() else {
            return Ok(None);
        };
        let environment: Vec<_> = place
            .iter()
            .map(|p| (SESSION_VARIABLE, p.path().as_os_str()))
            .collect();
        let cpus = self.command_cpus.as_deref();
        let held = gate::hold(command, &environment, cpus, gate::Words::Here);
        let name = name.to_string_lossy();
        held.map(Some)
            .map_err(|e| Failure::failed(format!("cannot run {name}: {e}")))
    }

    /// Opens what is counted, of all together and, if that is wanted, of each thread.
    fn open(&self, target: &Target, on_exec: bool) -> Result<(Counting, Option<Apart>), Failure> {
        let whom = target.whom().map_err(Failure::failed)?;
        let counting = Counting::open(self.groups.clone(), &whom, on_exec, &self.machine);
        let apart = match &whom {
            Whom::Tasks(tids) if self.args.per_thread => {
                Some(Apart::open(&counting, tids, on_exec).map_err(|e| unwatched(&e))?)
            }
            _ => None,
        };
        Ok((counting, apart))
    }

    /// Waits until it is over, and does meanwhile what is due. Returns how long it took.
    fn follow(
        &mut self,
        mut child: Option<Child>,
        live: &mut Live,
        switch: &mut Switch,
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
                    Order::Enable => live.enable()?,
                    Order::Disable => live.disable(),
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
                        self.outcome = ENDED_WELL;
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
                    self.outcome = ENDED_WELL;
                    return Ok(started.elapsed());
                }
            }
            let mut wait = live.turn()?;
            if let Some(intervals) = &mut intervals {
                wait = wait.min(intervals.look(started.elapsed(), &live.counting)?);
            }
            let left = self
                .args
                .whom
                .duration
                .map(|d| d.saturating_sub(started.elapsed()));
            let due = [left, switch.due()].into_iter().flatten().min();
            let wait = due.map_or(wait, |d| wait.min(d.max(Duration::from_micros(100))));
            let files = live.apart.iter().flat_map(|apart| apart.files());
            child::wait(end.as_ref(), files, wait);
        }
    }
}

/// Of what is ended because it was told so.
const ENDED_WELL: Outcome = Outcome {
    code: Some(0),
    signal: None,
};

impl Live {
    /// Lets events count; all together first, so that no thread has more than all.
    fn enable(&mut self) -> Result<(), Failure> {
        self.counting.enable().map_err(Failure::failed)?;
        if let Some(apart) = &mut self.apart {
            apart.enable();
        }
        Ok(())
    }

    fn disable(&mut self) {
        if let Some(apart) = &mut self.apart {
            apart.disable();
        }
        // Events whose threads are gone refuse; there is nothing left to stop then.
        let _ = self.counting.disable();
    }

    /// Takes what has come; returns how long to wait for more.
    fn turn(&mut self) -> Result<Duration, Failure> {
        if let Some(apart) = &mut self.apart {
            apart.turn(&self.counting);
        }
        let Some(probes) = &mut self.probes else {
            return Ok(LOOK);
        };
        let full = probes.turn(&mut self.totals).map_err(Failure::failed)?;
        Ok(if full > 0.1 || probes.is_expecting() {
            Duration::from_millis(1)
        } else {
            Duration::from_millis(10)
        })
    }

    /// Stops and reads all of it. `all_fresh`: nothing that was counted had begun before; `used`: our own time, in ns.
    fn finish(
        mut self,
        elapsed: Duration,
        all_fresh: bool,
        used: impl FnOnce() -> u64,
    ) -> Result<Done, Failure> {
        self.disable();
        let (mut tally, mut unreached) = (ProbeTally::default(), 0);
        if let Some(probes) = self.probes.take() {
            (tally, unreached) = probes.finish(&mut self.totals).map_err(Failure::failed)?;
        }
        let used = used();
        let elapsed_ns = elapsed.as_nanos() as u64;
        let run = Run {
            raw: raw(self.counting.read()),
            elapsed_ns,
            work: self.totals.work(all_fresh),
        };
        let mut done = Done {
            trust: Trust {
                events: self.totals.slots,
                events_dropped: tally.dropped,
                rings_unreached: unreached,
                observer_share: Some(used as f64 / elapsed_ns.max(1) as f64),
                ..Trust::default()
            },
            ..Done::default()
        };
        if let Some(apart) = self.apart {
            let (told, untold) = apart.finish(&self.counting);
            let of = |told: Told| ThreadCounts {
                tid: told.tid,
                name: told.name,
                counts: Counts::of(&[Run {
                    raw: raw(told.readings),
                    elapsed_ns,
                    work: None,
                }]),
            };
            let all = Counts::of(std::slice::from_ref(&run));
            done.threads = Some(Threads::of(&all, told.into_iter().map(of).collect()));
            done.notices = notices(&untold);
        }
        done.run = run;
        Ok(done)
    }
}

/// Why threads cannot be told apart here.
fn unwatched(error: &io::Error) -> Failure {
    let failure = Failure::failed(format!("cannot watch threads come and go: {error}"));
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => failure.hint(refusal::denied(Sight::User)),
        Some(libc::EMFILE) => failure.hint("raise `ulimit -n`, or leave out --per-thread"),
        _ => failure.hint("without --per-thread they are counted together"),
    }
}

/// What is missing of threads, in words.
fn notices(untold: &Untold) -> Vec<(&'static str, String)> {
    let why = untold.why.as_deref().unwrap_or("not known");
    let all = [
        (
            "threads-unseen",
            untold.ended_sooner,
            "ended before they could be counted by themselves".to_owned(),
        ),
        (
            "threads-refused",
            untold.refused,
            format!("could not be counted by themselves: {why}"),
        ),
        (
            "threads-not-kept",
            untold.not_kept,
            "more than are kept were counted by themselves".to_owned(),
        ),
    ];
    let mut notices: Vec<_> = all
        .into_iter()
        .filter(|(_, number, _)| *number > 0)
        .map(|(id, number, what)| {
            let text = format!("{number} threads {what}; what they did is in the counts of all");
            (id, text)
        })
        .collect();
    if untold.records_lost > 0 {
        let text = format!(
            "the kernel had no room for {} records of threads: some may not be told by themselves",
            untold.records_lost
        );
        notices.push(("threads-lost", text));
    }
    notices
}
