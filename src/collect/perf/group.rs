//! Opens a plan's events for processes: each thread on each CPU, all of a CPU's events into one ring.
//!
//! In: a [`Plan`] and threads; out: [`Events`] to enable, drain and read. Threads and children that are made later are
//! inherited by the kernel. It refuses to know where the threads came from.

use super::attr::Plan;
use super::ring::{self, Batch};
use super::sys;
use crate::trace::record::{CounterValue, Tid};
use perf_event_open::config::{Cpu, Proc};
use perf_event_open::count::Counter;
use perf_event_open::count::group::CounterGroup;
use perf_event_open::sample::Sampler;
use std::io;

/// An event that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open event {event} for thread {tid}: {source}")]
pub struct OpenError {
    /// Its name.
    pub event: String,
    /// The thread.
    pub tid: Tid,
    /// What the kernel said.
    pub source: io::Error,
}

/// Open events.
pub struct Events {
    plan: Plan,
    leaders: Vec<CounterGroup>,
    counted: Vec<Vec<Counter>>,
    rings: Vec<(u32, Sampler)>,
}

/// Ring sizes to try, as powers of two of pages: what an unprivileged user may lock is less.
const RING_PAGES: [u8; 4] = [9, 7, 6, 4];

/// Records taken from one CPU before the next has its turn.
const DRAIN_LIMIT: usize = 1 << 16;

impl Events {
    /// Opens everything for `tids`, stopped. `on_exec`: it starts by itself when the task runs its program. Threads
    /// that are gone by now are passed over; `Ok` with none opened is an error of the first.
    pub fn open(
        plan: Plan,
        cpus: &[u32],
        tids: &[Tid],
        on_exec: bool,
    ) -> Result<Events, OpenError> {
        let mut events = Events {
            counted: plan.counted.iter().map(|_| Vec::new()).collect(),
            plan,
            leaders: Vec::new(),
            rings: Vec::new(),
        };
        let mut gone = None;
        for &tid in tids {
            match events.add(cpus, tid, on_exec) {
                Ok(()) => {}
                Err(e) if e.source.raw_os_error() == Some(libc::ESRCH) => gone = Some(e),
                Err(e) => return Err(e),
            }
        }
        match gone {
            Some(e) if events.leaders.is_empty() => Err(e),
            _ => Ok(events),
        }
    }

    fn add(&mut self, cpus: &[u32], tid: Tid, on_exec: bool) -> Result<(), OpenError> {
        let failed = |event: &str| {
            let event = event.to_string();
            move |source| OpenError { event, tid, source }
        };
        let opts = self.plan.sampling(on_exec);
        let name = self.plan.sampled.name;
        for &cpu in cpus {
            let event = self.plan.sampled.event.clone();
            let leader = match Counter::new(event, (Proc(tid), Cpu(cpu)), &opts) {
                // The CPU went offline since it was listed.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
                other => other.map_err(failed(name))?,
            };
            match self.rings.iter().position(|(c, _)| *c == cpu) {
                Some(at) => {
                    let ring = self.leaders[at].leader().file();
                    sys::set_output(leader.file(), ring).map_err(failed(name))?;
                }
                None => {
                    let sampler = sampler(&leader).map_err(failed(name))?;
                    self.rings.push((cpu, sampler));
                }
            }
            let mut group = CounterGroup::from(leader);
            for member in &self.plan.members {
                let added = group.add(member.event.clone(), self.plan.member());
                added.map_err(failed(member.name))?;
            }
            self.leaders.push(group);
        }
        let opts = self.plan.counting(on_exec);
        for (named, counters) in self.plan.counted.iter().zip(&mut self.counted) {
            let counter = Counter::new(named.event.clone(), (Proc(tid), Cpu::ALL), &opts);
            counters.push(counter.map_err(failed(named.name))?);
        }
        Ok(())
    }

    /// Starts what does not start by itself.
    pub fn enable(&self) -> io::Result<()> {
        self.leaders.iter().try_for_each(|g| g.leader().enable())?;
        self.counted.iter().flatten().try_for_each(Counter::enable)
    }

    /// Stops everything, so that a last drain ends.
    pub fn disable(&self) -> io::Result<()> {
        self.leaders.iter().try_for_each(|g| g.leader().disable())?;
        self.counted.iter().flatten().try_for_each(Counter::disable)
    }

    /// Takes what the kernel has written. Returns how many records.
    pub fn drain(&self, batch: &mut Batch) -> usize {
        let frames = self.plan.max_frames;
        let drain = |(cpu, sampler): &(u32, Sampler)| {
            ring::drain(sampler, *cpu, frames, DRAIN_LIMIT, batch)
        };
        self.rings.iter().map(drain).sum()
    }

    /// Totals in the order of [`Plan::sources`].
    pub fn totals(&self) -> Vec<Option<CounterValue>> {
        let members = self.plan.members.len();
        let mut totals = vec![None; 1 + members];
        for stat in self.leaders.iter().filter_map(|g| g.leader().stat().ok()) {
            let times = (stat.time_enabled, stat.time_running);
            add(&mut totals[0], stat.count, times);
            for (total, member) in totals[1..].iter_mut().zip(&stat.siblings) {
                add(total, member.count, times);
            }
        }
        for counters in &self.counted {
            let mut total = None;
            for stat in counters.iter().filter_map(|c| c.stat().ok()) {
                add(
                    &mut total,
                    stat.count,
                    (stat.time_enabled, stat.time_running),
                );
            }
            totals.push(total);
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

/// The largest ring that the limit on locked memory allows.
fn sampler(leader: &Counter) -> io::Result<Sampler> {
    let mut refused = io::ErrorKind::OutOfMemory.into();
    for pages in RING_PAGES {
        match leader.sampler(pages) {
            Ok(sampler) => return Ok(sampler),
            Err(e) => refused = e,
        }
    }
    Err(refused)
}
