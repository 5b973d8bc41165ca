//! Opens a plan's events for whom they are about: each unit on each CPU, all of a CPU's events into one ring.
//!
//! In: a [`Plan`] and a [`Whom`]; out: [`Events`] to enable, drain and read. Threads and children that are made later
//! are inherited by the kernel. It refuses to know where the threads came from.

use super::attr::Plan;
use super::ring::{self, Batch, From, Ids};
use super::sys;
use crate::collect::counting::Whom;
use crate::trace::record::CounterValue;
use perf_event_open::config::{Cgroup, Cpu, Proc, Target};
use perf_event_open::count::Counter;
use perf_event_open::count::group::CounterGroup;
use perf_event_open::sample::Sampler;
use std::io;

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

/// Open events.
pub struct Events {
    plan: Plan,
    /// By the place of the sampled event in the plan.
    leaders: Vec<(usize, CounterGroup)>,
    /// What leaders counted that were closed on the way, in the order of the plan's sampled events and their members.
    before: Vec<Option<CounterValue>>,
    counted: Vec<Vec<Counter>>,
    rings: Vec<Ring>,
    ids: Ids,
    /// Events of one task: it is on one CPU at a time, and the times of the others pass as well.
    per_task: u64,
}

struct Ring {
    cpu: u32,
    sampler: Sampler,
    /// The place in `leaders` of the event it belongs to.
    owner: usize,
}

/// Records taken from one CPU before the next has its turn.
const DRAIN_LIMIT: usize = 1 << 16;
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
            plan,
            leaders: Vec::new(),
            rings: Vec::new(),
            ids: Ids::default(),
            per_task: match whom {
                Whom::Tasks(_) => cpus.len().max(1) as u64,
                Whom::Cpus(_) | Whom::Cgroup(..) => 1,
            },
        };
        events.open_sampled(cpus, whom, on_exec)?;
        events.open_counted(cpus, whom, on_exec)?;
        Ok(events)
    }

    /// Everything that is sampled.
    fn open_sampled(&mut self, cpus: &[u32], whom: &Whom, on_exec: bool) -> Result<(), OpenError> {
        let mut gone = None;
        let mut each = |name: String, target: &dyn Fn(u32) -> Target, cpus: &[u32]| {
            for &cpu in cpus {
                let opened = self.open_on(cpu, &target(cpu), on_exec);
                match opened {
                    Ok(()) => {}
                    // The CPU went offline since it was listed.
                    Err((_, e)) if e.raw_os_error() == Some(libc::ENODEV) => {}
                    Err((event, source)) => {
                        let whom = name.clone();
                        let error = OpenError {
                            event,
                            whom,
                            source,
                        };
                        if error.source.raw_os_error() == Some(libc::ESRCH) {
                            gone = Some(error);
                            return Ok(());
                        }
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        match whom {
            Whom::Tasks(tids) => {
                for &tid in tids {
                    each(
                        format!("thread {tid}"),
                        &|cpu| (Proc(tid), Cpu(cpu)).into(),
                        cpus,
                    )?;
                }
            }
            Whom::Cpus(own) => {
                for &cpu in own {
                    each(
                        format!("CPU {cpu}"),
                        &|cpu| (Proc::ALL, Cpu(cpu)).into(),
                        &[cpu],
                    )?;
                }
            }
            Whom::Cgroup(file, own) => {
                let target = |cpu| (Cgroup(file), Cpu(cpu)).into();
                each("the control group".to_string(), &target, own)?;
            }
        }
        match gone {
            Some(e) if self.leaders.is_empty() => Err(e),
            _ => Ok(()),
        }
    }

    /// All sampled events of one unit on one CPU.
    fn open_on(
        &mut self,
        cpu: u32,
        target: &Target,
        on_exec: bool,
    ) -> Result<(), (String, io::Error)> {
        for (place, sampled) in self.plan.sampled.iter().enumerate() {
            let event = &sampled.leader;
            if event
                .set
                .cpus
                .as_ref()
                .is_some_and(|own| !own.contains(&cpu))
            {
                continue;
            }
            let failed = |e: io::Error| (event.name.clone(), e);
            let opts = if place == 0 {
                self.plan.sampling(event, on_exec)
            } else {
                self.plan.sampling_beside(event, on_exec)
            };
            let leader = Counter::new(event, target.clone(), &opts).map_err(failed)?;
            if self.plan.sampled.len() > 1 {
                let source = self.plan.place_of(place);
                self.ids.add(leader.id().map_err(failed)?, source);
            }
            match self.rings.iter().find(|r| r.cpu == cpu) {
                Some(ring) => {
                    let owner = self.leaders[ring.owner].1.leader();
                    sys::set_output(leader.file(), owner.file()).map_err(failed)?;
                }
                None => {
                    let sampler = self.sampler(&leader).map_err(failed)?;
                    let owner = self.leaders.len();
                    self.rings.push(Ring {
                        cpu,
                        sampler,
                        owner,
                    });
                }
            }
            let mut group = CounterGroup::from(leader);
            for member in &sampled.members {
                let added = group.add(member, self.plan.member(member));
                added.map_err(|e| (member.name.clone(), e))?;
            }
            self.leaders.push((place, group));
        }
        Ok(())
    }

    fn open_counted(&mut self, cpus: &[u32], whom: &Whom, on_exec: bool) -> Result<(), OpenError> {
        for (event, counters) in self.plan.counted.iter().zip(&mut self.counted) {
            let opts = self.plan.counting(event, on_exec);
            for (unit, tid) in whom.units(event.set.cpus.as_deref()) {
                match Counter::new(event, unit, &opts) {
                    Ok(counter) => counters.push(counter),
                    // It ended since it was opened for sampling.
                    Err(e)
                        if [Some(libc::ESRCH), Some(libc::ENODEV)].contains(&e.raw_os_error()) => {}
                    Err(source) => {
                        return Err(OpenError {
                            event: event.name.clone(),
                            whom: tid.map_or_else(
                                || format!("{} CPUs", cpus.len()),
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

    /// The ring that holds what comes between two turns, or the largest that the limit on locked memory allows.
    fn sampler(&self, leader: &Counter) -> io::Result<Sampler> {
        let sample = SAMPLE_BYTES + 8 * u64::from(self.plan.max_frames) + self.plan.stacks.bytes();
        let bytes = (sample * self.plan.frequency_hz) as f64 * RING_SECONDS;
        let wanted = (bytes / PAGE)
            .log2()
            .ceil()
            .clamp(f64::from(USUAL_RING), f64::from(LARGEST_RING)) as u8;
        let wanted = match self.plan.has_happenings() {
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

    /// Samples less or more often from here on: what is sampled is opened anew, since the kernel changes the rate of an
    /// event but not of those that threads inherited. Take what is in the rings before.
    pub fn resample(
        &mut self,
        frequency_hz: u64,
        cpus: &[u32],
        whom: &Whom,
    ) -> Result<(), OpenError> {
        self.before = self.sampled_totals();
        self.rings.clear();
        self.leaders.clear();
        self.ids = Ids::default();
        self.plan.frequency_hz = frequency_hz;
        self.open_sampled(cpus, whom, false)?;
        let enabled = self.leaders.iter().try_for_each(|l| l.1.leader().enable());
        enabled.map_err(|source| OpenError {
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
    pub fn enable(&self) -> io::Result<()> {
        self.leaders
            .iter()
            .try_for_each(|l| l.1.leader().enable())?;
        self.counted.iter().flatten().try_for_each(Counter::enable)
    }

    /// Stops everything, so that a last drain ends.
    pub fn disable(&self) -> io::Result<()> {
        self.leaders
            .iter()
            .try_for_each(|l| l.1.leader().disable())?;
        self.counted.iter().flatten().try_for_each(Counter::disable)
    }

    /// Takes what the kernel has written. Returns how many records.
    pub fn drain(&self, batch: &mut Batch) -> usize {
        let drain = |ring: &Ring| {
            let from = From {
                cpu: ring.cpu,
                max_frames: self.plan.max_frames,
                stacks: self.plan.stacks,
                ids: &self.ids,
            };
            ring::drain(&ring.sampler, &from, DRAIN_LIMIT, batch)
        };
        self.rings.iter().map(drain).sum()
    }

    /// Totals in the order of [`Plan::sources`].
    pub fn totals(&self) -> Vec<Option<CounterValue>> {
        let mut totals = self.sampled_totals();
        for counters in &self.counted {
            let mut total = None;
            for stat in counters.iter().filter_map(|c| c.stat().ok()) {
                let times = (stat.time_enabled, stat.time_running);
                add(&mut total, stat.count, times);
            }
            totals.push(total);
        }
        totals
    }

    /// Totals of what is sampled and its members.
    fn sampled_totals(&self) -> Vec<Option<CounterValue>> {
        let all: usize = self.plan.sampled.iter().map(|s| 1 + s.members.len()).sum();
        let mut totals = self.before.clone();
        totals.resize(all, None);
        for (place, group) in &self.leaders {
            let Ok(stat) = group.leader().stat() else {
                continue;
            };
            let first = usize::from(self.plan.place_of(*place));
            let enabled = stat.time_enabled.map(|t| t / self.per_task);
            let times = (enabled, stat.time_running);
            add(&mut totals[first], stat.count, times);
            let members = self.plan.sampled[*place].members.len();
            let own = &mut totals[first + 1..first + 1 + members];
            for (total, member) in own.iter_mut().zip(&stat.siblings) {
                add(total, member.count, times);
            }
        }
        totals
    }
}

fn add(total: &mut Option<CounterValue>, count: u64, times: (Option<u64>, Option<u64>)) {
    let total = total.get_or_insert_default();
    total.value += count;
    total.enabled += times.0.unwrap_or(0);
    total.running += times.1.unwrap_or(0);
}
