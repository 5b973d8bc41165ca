//! Opens a plan's events for whom they are about: each unit on each CPU, all of a CPU's events into one ring.
//!
//! In: a [`Plan`] and a [`Whom`]; out: [`Events`] to enable, drain and read. Threads and children that are made later are
//! inherited by the kernel, or followed one by one where it hands nothing on. It refuses to know where the threads came from.

mod follow;
mod totals;

use super::attr::Plan;
use super::ring::{Batch, From, Ids};
use super::rings::Rings;
use super::tellers::Tellers;
use super::threads::Threads;
use crate::collect::clock;
use crate::collect::counting::Whom;
use crate::collect::proc;
use crate::trace::record::{CounterValue, Tid};
use perf_event_open::config::{Cgroup, Cpu, Proc, Target};
use perf_event_open::count::Counter;
use perf_event_open::count::group::CounterGroup;
use perf_event_open::sample::Sampler;
use std::io;
pub use totals::Unsampled;

/// An event that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open event {event} for {whom}: {source}")]
pub struct OpenError {
    /// Its name.
    pub event: String,
    /// For whom.
    pub whom: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// A sampled event with its group, open for one unit on one CPU; its place in the plan.
type Leader = (usize, CounterGroup);
/// What could not be opened, by name.
type Refused = (String, io::Error);

/// Open events.
pub struct Events {
    plan: Plan,
    cpus: Vec<u32>,
    leaders: Vec<Leader>,
    /// Leaders of threads one by one, where they are not inherited.
    threads: Threads<Vec<Leader>>,
    tellers: Tellers,
    unsampled: Unsampled,
    /// Whether what is opened later is to count at once.
    running: bool,
    /// What leaders counted that were closed on the way, in the order of the plan's sampled events and their members.
    before: Vec<Option<CounterValue>>,
    counted: Vec<Vec<Counter>>,
    rings: Rings,
    ids: Ids,
    /// Events of one task: it is on one CPU at a time, and the times of the others pass as well.
    per_task: u64,
}

/// Bytes of a sample besides its frames.
const SAMPLE_BYTES: u64 = 128;
/// A ring holds what comes in so many seconds at the rate asked for, with room for switches and mappings.
const RING_SECONDS: f64 = 1.0;
/// Ring sizes, as powers of two of pages: what an unprivileged user may lock is less.
const SMALLEST_RING: u8 = 4;
const USUAL_RING: u8 = 7;
const LARGEST_RING: u8 = 12;
/// Where each happening is a sample, nothing says how many there will be.
const RING_OF_HAPPENINGS: u8 = 10;
const PAGE: f64 = 4096.0;

impl Events {
    /// Opens everything, stopped. `on_exec`: it starts by itself when the task runs its program. Threads that are gone by
    /// now are passed over; `Ok` with none opened is an error of the first.
    pub fn open(plan: Plan, cpus: &[u32], whom: &Whom, on_exec: bool) -> Result<Events, OpenError> {
        let mut events = Events {
            counted: plan.counted.iter().map(|_| Vec::new()).collect(),
            before: Vec::new(),
            cpus: cpus.to_vec(),
            plan,
            leaders: Vec::new(),
            threads: Threads::default(),
            tellers: Tellers::default(),
            unsampled: Unsampled::default(),
            running: on_exec,
            rings: Rings::default(),
            ids: Ids::default(),
            per_task: match whom {
                Whom::Tasks(_) => cpus.len().max(1) as u64,
                Whom::Cpus(_) | Whom::Cgroup(..) => 1,
            },
        };
        events.open_sampled(whom, on_exec)?;
        events.open_counted(whom, on_exec)?;
        Ok(events)
    }

    /// Everything that is sampled.
    fn open_sampled(&mut self, whom: &Whom, on_exec: bool) -> Result<(), OpenError> {
        let error = |whom: String, (event, source): Refused| OpenError {
            event,
            whom,
            source,
        };
        match whom {
            Whom::Tasks(tids) => {
                let (mut gone, mut any) = (None, false);
                for &tid in tids {
                    let refused = match self.open_task(tid, on_exec) {
                        Ok(()) => {
                            any = true;
                            continue;
                        }
                        Err(refused) => error(format!("thread {tid}"), refused),
                    };
                    if refused.source.raw_os_error() != Some(libc::ESRCH) {
                        return Err(refused);
                    }
                    gone = Some(refused);
                }
                return gone.filter(|_| !any).map_or(Ok(()), Err);
            }
            Whom::Cpus(own) => {
                for &cpu in own {
                    let target = |cpu| (Proc::ALL, Cpu(cpu)).into();
                    let opened = self.open_on(&[cpu], target, on_exec);
                    let opened = opened.map_err(|e| error(format!("CPU {cpu}"), e))?;
                    self.leaders.extend(opened);
                }
            }
            Whom::Cgroup(file, own) => {
                let target = |cpu| (Cgroup(file), Cpu(cpu)).into();
                let opened = self.open_on(own, target, on_exec);
                let opened = opened.map_err(|e| error("the control group".to_string(), e))?;
                self.leaders.extend(opened);
            }
        }
        Ok(())
    }

    /// All sampled events of a thread that is to be followed, on all CPUs.
    fn open_task(&mut self, tid: Tid, on_exec: bool) -> Result<(), Refused> {
        let since = clock::now();
        let leaders = self.open_thread(tid, on_exec)?;
        if !self.plan.per_thread {
            self.leaders.extend(leaders);
            return Ok(());
        }
        let pid = proc::process_of(tid).unwrap_or(tid);
        self.threads.add(pid, tid, since, leaders);
        for &cpu in &self.cpus {
            let opened = self
                .tellers
                .open(&self.plan, &mut self.rings, (tid, cpu), on_exec);
            match opened {
                Err(e) if !is_gone(&e) => return Err(("dummy".to_string(), e)),
                _ => {}
            }
        }
        Ok(())
    }

    fn open_thread(&mut self, tid: Tid, on_exec: bool) -> Result<Vec<Leader>, Refused> {
        let cpus = std::mem::take(&mut self.cpus);
        let opened = self.open_on(&cpus, |cpu| (Proc(tid), Cpu(cpu)).into(), on_exec);
        self.cpus = cpus;
        opened
    }

    /// All sampled events of one unit on these CPUs.
    fn open_on(
        &mut self,
        cpus: &[u32],
        target: impl Fn(u32) -> Target,
        on_exec: bool,
    ) -> Result<Vec<Leader>, Refused> {
        let mut opened = Vec::new();
        for &cpu in cpus {
            for place in 0..self.plan.sampled.len() {
                match self.open_one(place, cpu, &target(cpu), on_exec) {
                    Ok(leader) => opened.extend(leader.map(|l| (place, l))),
                    // The CPU went offline since it was listed.
                    Err((_, e)) if e.raw_os_error() == Some(libc::ENODEV) => break,
                    Err(refused) => return Err(refused),
                }
            }
        }
        Ok(opened)
    }

    /// One sampled event with its group on one CPU, unless it is of other CPUs.
    fn open_one(
        &mut self,
        place: usize,
        cpu: u32,
        target: &Target,
        on_exec: bool,
    ) -> Result<Option<CounterGroup>, Refused> {
        let sampled = &self.plan.sampled[place];
        let event = &sampled.leader;
        let elsewhere = |own: &Vec<u32>| !own.contains(&cpu);
        if event.set.cpus.as_ref().is_some_and(elsewhere) {
            return Ok(None);
        }
        let failed = |e: io::Error| (event.name.clone(), e);
        let opts = if place == 0 && !self.plan.per_thread {
            self.plan.sampling(event, on_exec)
        } else {
            self.plan.sampling_beside(event, on_exec)
        };
        let leader = Counter::new(event, target.clone(), &opts).map_err(failed)?;
        if self.plan.sampled.len() > 1 {
            let source = self.plan.place_of(place);
            self.ids.add(leader.id().map_err(failed)?, source);
        }
        let make = |leader: &Counter| sampler(&self.plan, leader);
        self.rings.join(cpu, &leader, make).map_err(failed)?;
        let mut group = CounterGroup::from(leader);
        for member in &sampled.members {
            let added = group.add(member, self.plan.member(member));
            added.map_err(|e| (member.name.clone(), e))?;
        }
        Ok(Some(group))
    }

    fn open_counted(&mut self, whom: &Whom, on_exec: bool) -> Result<(), OpenError> {
        for (event, counters) in self.plan.counted.iter().zip(&mut self.counted) {
            let opts = self.plan.counting(event, on_exec);
            for (unit, tid) in whom.units(event.set.cpus.as_deref()) {
                match Counter::new(event, unit, &opts) {
                    Ok(counter) => counters.push(counter),
                    // It ended since it was opened for sampling.
                    Err(e) if is_gone(&e) => {}
                    Err(source) => {
                        return Err(OpenError {
                            event: event.name.clone(),
                            whom: tid.map_or_else(
                                || format!("{} CPUs", self.cpus.len()),
                                |t| format!("thread {t}"),
                            ),
                            source,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Samples less or more often from here on: what is sampled is opened anew, since the kernel changes the rate of an
    /// event but not of those that threads inherited. Take what is in the rings before.
    pub fn resample(&mut self, frequency_hz: u64, whom: &Whom) -> Result<(), OpenError> {
        self.before = self.sampled_totals();
        self.rings = Rings::default();
        self.leaders.clear();
        self.threads.clear();
        self.tellers = Tellers::default();
        self.ids = Ids::default();
        self.plan.frequency_hz = frequency_hz;
        self.open_sampled(whom, false)?;
        self.enable_sampled().map_err(|source| OpenError {
            event: self.plan.sampled[0].leader.name.clone(),
            whom: "the same as before".to_string(),
            source,
        })
    }

    /// Samples per second and CPU.
    pub fn frequency_hz(&self) -> u64 {
        self.plan.frequency_hz
    }

    /// Starts what does not start by itself.
    pub fn enable(&mut self) -> io::Result<()> {
        self.running = true;
        self.enable_sampled()?;
        self.counted.iter().flatten().try_for_each(Counter::enable)
    }

    fn enable_sampled(&self) -> io::Result<()> {
        let enabled = self.all_leaders().try_for_each(|l| l.1.leader().enable());
        enabled.and_then(|()| self.tellers.enable())
    }

    /// Stops everything, so that a last drain ends.
    pub fn disable(&mut self) -> io::Result<()> {
        self.running = false;
        self.all_leaders()
            .try_for_each(|l| l.1.leader().disable())?;
        self.tellers.disable()?;
        self.counted.iter().flatten().try_for_each(Counter::disable)
    }

    fn all_leaders(&self) -> impl Iterator<Item = &Leader> {
        self.leaders.iter().chain(self.threads.open().flatten())
    }

    /// Takes what the kernel has written. Returns how many records.
    pub fn drain(&self, batch: &mut Batch) -> usize {
        let from = |cpu| From {
            cpu,
            max_frames: self.plan.max_frames,
            stacks: self.plan.stacks,
            ids: &self.ids,
        };
        self.rings.drain(from, batch)
    }
}

/// The ring that holds what comes between two turns, or the largest that the limit on locked memory allows.
fn sampler(plan: &Plan, leader: &Counter) -> io::Result<Sampler> {
    let sample = SAMPLE_BYTES + 8 * u64::from(plan.max_frames) + plan.stacks.bytes();
    let bytes = (sample * plan.frequency_hz) as f64 * RING_SECONDS;
    let wanted = (bytes / PAGE)
        .log2()
        .ceil()
        .clamp(f64::from(USUAL_RING), f64::from(LARGEST_RING)) as u8;
    let wanted = match plan.has_happenings() {
        true => wanted.max(RING_OF_HAPPENINGS),
        false => wanted,
    };
    let mut refused = io::ErrorKind::OutOfMemory.into();
    for pages in (SMALLEST_RING..=wanted).rev() {
        match leader.sampler(pages) {
            Ok(sampler) => return Ok(sampler),
            Err(e) => refused = e,
        }
    }
    Err(refused)
}

/// The thread ended, or the CPU went, since they were listed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV))
}
