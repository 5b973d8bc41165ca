//! Events that are only counted: opened for whom they are about, each with its count or the reason why it has none.
//!
//! In: events and a [`Whom`]; out: [`Reading`]s. What the kernel does not take as it was asked is tried with less, and
//! the name says so. It refuses to know what counts mean.

use super::events::{Encoded, Group, Machine, refusal};
use crate::trace::record::{CounterValue, Tid};
use perf_event_open::config::{
    Cgroup, Cpu, Inherit, OnExecve, Opts, Proc, StatFormat, Target, sibling,
};
use perf_event_open::count::Counter;
use perf_event_open::count::group::CounterGroup;
use std::fs::File;
use std::io;
use std::rc::Rc;

/// Whom events are about.
#[derive(Debug)]
pub enum Whom {
    /// These threads, and the threads and children that they make.
    Tasks(Vec<Tid>),
    /// Everything on these CPUs.
    Cpus(Vec<u32>),
    /// A control group, on these CPUs.
    Cgroup(File, Vec<u32>),
}

impl Whom {
    /// What each event is opened for, and the thread if it is one. A PMU that counts for whole CPUs names its own.
    pub fn units(&self, own_cpus: Option<&[u32]>) -> Vec<(Target, Option<Tid>)> {
        match self {
            Whom::Tasks(tids) => {
                let unit = |&tid: &Tid| ((Proc(tid), Cpu::ALL).into(), Some(tid));
                tids.iter().map(unit).collect()
            }
            Whom::Cpus(cpus) => {
                let wanted = |c: &&u32| own_cpus.is_none_or(|own| own.contains(c));
                let unit = |&cpu: &u32| ((Proc::ALL, Cpu(cpu)).into(), None);
                cpus.iter().filter(wanted).map(unit).collect()
            }
            Whom::Cgroup(file, cpus) => {
                let unit = |&cpu: &u32| ((Cgroup(file), Cpu(cpu)).into(), None);
                cpus.iter().map(unit).collect()
            }
        }
    }
}

/// One event and what was counted of it.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Its name, with what was really left out.
    pub name: String,
    /// The count, or why there is none.
    pub value: Result<CounterValue, String>,
    /// What a count is multiplied by for its unit.
    pub scale: f64,
    /// The unit; empty for a plain count.
    pub unit: String,
}

/// Events being counted.
pub struct Counting {
    slots: Vec<Slot>,
    /// The slots of each group that could be had: the first, and how many.
    had: Vec<(usize, usize)>,
    open: Vec<Open>,
}

struct Slot {
    event: Encoded,
    refused: Option<String>,
}

/// A group, open for one thread or CPU.
struct Open {
    /// The slot of its leader; those of its members follow.
    first: usize,
    group: CounterGroup,
}

/// Behind the name of what is not counted in threads made later: a uprobe that is not in the kernel's table.
const NOT_INHERITED: &str = " (threads made later left out)";

/// The same events once more, of one thread alone.
pub struct Alone(Vec<Open>);

impl Counting {
    /// Opens what can be opened, stopped. `on_exec`: it starts by itself when the task runs its program.
    pub fn open(groups: Vec<Group>, whom: &Whom, on_exec: bool, machine: &Machine) -> Counting {
        let mut counting = Counting {
            slots: Vec::new(),
            had: Vec::new(),
            open: Vec::new(),
        };
        let inherit = matches!(whom, Whom::Tasks(_));
        let how = How { on_exec, inherit };
        for mut group in groups {
            if inherit && group.events.iter().any(|e| !e.is_inherited()) {
                let partly = |e: &mut Encoded| e.name.push_str(NOT_INHERITED);
                group.events.iter_mut().for_each(partly);
            }
            if group.braced
                && let Err((at, error)) = counting.together(&group.events, whom, how)
            {
                if group.weak {
                    counting.each(group.events, whom, how, machine);
                } else {
                    counting.refuse(group.events, (at, &error), machine, whom);
                }
            } else if !group.braced {
                counting.each(group.events, whom, how, machine);
            }
        }
        counting
    }

    /// Events that cannot be had because of the one at a place.
    fn refuse(
        &mut self,
        events: Vec<Encoded>,
        (at, error): (usize, &io::Error),
        machine: &Machine,
        whom: &Whom,
    ) {
        let culprit = events[at].name.clone();
        let why = refusal::why(&events[at], error, machine, !matches!(whom, Whom::Tasks(_)));
        for (place, event) in events.into_iter().enumerate() {
            let refused = if place == at {
                why.clone()
            } else {
                format!("its group cannot be had without {culprit}: {why}")
            };
            let refused = Some(refused);
            self.slots.push(Slot { event, refused });
        }
    }

    fn each(&mut self, events: Vec<Encoded>, whom: &Whom, how: How, machine: &Machine) {
        for event in events {
            let alone = vec![event];
            if let Err((at, error)) = self.together(&alone, whom, how) {
                self.refuse(alone, (at, &error), machine, whom);
            }
        }
    }

    /// Opens events as one group for each unit; the error is that of the event at a place. Nothing is left of a group
    /// that is not whole.
    fn together(
        &mut self,
        events: &[Encoded],
        whom: &Whom,
        how: How,
    ) -> Result<(), (usize, io::Error)> {
        let units = whom.units(events[0].set.cpus.as_deref());
        let mut chosen: Option<Vec<Encoded>> = None;
        let mut groups = Vec::new();
        let mut gone = (0, io::Error::from_raw_os_error(libc::EINVAL));
        for (unit, _) in units {
            let opened = match &chosen {
                Some(events) => how.group(events, &unit),
                None => how.with_less(events, &unit).map(|(events, group)| {
                    chosen = Some(events);
                    group
                }),
            };
            match opened {
                Ok(group) => groups.push(group),
                Err(refused) if !is_gone(&refused.1) => return Err(refused),
                // The thread ended, or the CPU went, since they were listed.
                Err(refused) => gone = refused,
            }
        }
        let Some(chosen) = chosen else {
            return Err(gone);
        };
        let first = self.slots.len();
        let opened = groups.into_iter().map(|group| Open { first, group });
        self.open.extend(opened);
        self.had.push((first, chosen.len()));
        self.slots.extend(chosen.into_iter().map(|event| Slot {
            event,
            refused: None,
        }));
        Ok(())
    }

    /// Opens what is open for all for one thread alone, without what it makes; stopped.
    pub fn alone(&self, tid: Tid, on_exec: bool) -> io::Result<Alone> {
        let inherit = false;
        let how = How { on_exec, inherit };
        let unit = (Proc(tid), Cpu::ALL).into();
        let open = |&(first, count): &(usize, usize)| -> io::Result<Open> {
            let slots = &self.slots[first..first + count];
            let events: Vec<_> = slots.iter().map(|s| s.event.clone()).collect();
            let group = how.group(&events, &unit).map_err(|(_, e)| e)?;
            Ok(Open { first, group })
        };
        self.had
            .iter()
            .map(open)
            .collect::<io::Result<_>>()
            .map(Alone)
    }

    /// Starts what does not start by itself.
    pub fn enable(&self) -> io::Result<()> {
        enable(&self.open)
    }

    /// Stops everything.
    pub fn disable(&self) -> io::Result<()> {
        disable(&self.open)
    }

    /// What has been counted of each event, all threads and CPUs together.
    pub fn read(&self) -> Vec<Reading> {
        self.sum(&self.open)
    }

    /// The same of one thread.
    pub fn read_alone(&self, alone: &Alone) -> Vec<Reading> {
        self.sum(&alone.0)
    }

    fn sum(&self, all: &[Open]) -> Vec<Reading> {
        let mut sums = vec![CounterValue::default(); self.slots.len()];
        for open in all {
            let members = open.group.siblings().iter().map(Rc::as_ref);
            let counters = std::iter::once(open.group.leader()).chain(members);
            for (sum, counter) in sums[open.first..].iter_mut().zip(counters) {
                // A pinned event that lost its place says so by an empty answer; its times stay behind.
                if let Ok(stat) = counter.stat() {
                    sum.value += stat.count;
                    sum.enabled += stat.time_enabled.unwrap_or(0);
                    sum.running += stat.time_running.unwrap_or(0);
                }
            }
        }
        let reading = |(slot, sum): (&Slot, CounterValue)| Reading {
            name: slot.event.name.clone(),
            value: match &slot.refused {
                Some(why) => Err(why.clone()),
                None => Ok(sum),
            },
            scale: slot.event.set.scale.unwrap_or(1.0),
            unit: if slot.event.is_a_clock() {
                "ns".to_owned()
            } else {
                slot.event.set.unit.clone()
            },
        };
        self.slots.iter().zip(sums).map(reading).collect()
    }
}

impl Alone {
    /// Starts what does not start by itself.
    pub fn enable(&self) -> io::Result<()> {
        enable(&self.0)
    }

    /// Stops it.
    pub fn disable(&self) -> io::Result<()> {
        disable(&self.0)
    }
}

fn enable(all: &[Open]) -> io::Result<()> {
    all.iter().try_for_each(|o| o.group.leader().enable())
}

fn disable(all: &[Open]) -> io::Result<()> {
    all.iter().try_for_each(|o| o.group.leader().disable())
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV))
}

#[derive(Clone, Copy)]
struct How {
    on_exec: bool,
    inherit: bool,
}

impl How {
    fn group(self, events: &[Encoded], unit: &Target) -> Result<CounterGroup, (usize, io::Error)> {
        let leader = &events[0];
        let inherit = self.inherit && events.iter().all(Encoded::is_inherited);
        let stat_format = StatFormat {
            time_enabled: true,
            time_running: true,
            ..StatFormat::default()
        };
        let opts = Opts {
            exclude: leader.privilege(),
            only_group: leader.exclusive,
            pin_on_pmu: leader.pinned,
            sample_skid: leader.skid(),
            inherit: inherit.then_some(Inherit::NewChild),
            on_execve: self.on_exec.then_some(OnExecve::Enable),
            stat_format,
            ..Opts::default()
        };
        let counter = Counter::new(leader, unit.clone(), &opts).map_err(|e| (0, e))?;
        let mut group = CounterGroup::from(counter);
        for (at, member) in events.iter().enumerate().skip(1) {
            let opts = sibling::Opts {
                exclude: member.privilege(),
                sample_skid: member.skid(),
                inherit: inherit.then_some(Inherit::NewChild),
                enable: true,
                stat_format: sibling::StatFormat {
                    time_enabled: true,
                    time_running: true,
                    ..sibling::StatFormat::default()
                },
                ..sibling::Opts::default()
            };
            group.add(member, &opts).map_err(|e| (at, e))?;
        }
        Ok(group)
    }

    /// As asked; where a PMU cannot tell host and guest apart, both; where the kernel may not be looked at, user code
    /// only, unless that would be nothing or something else was asked for.
    fn with_less(
        self,
        events: &[Encoded],
        unit: &Target,
    ) -> Result<(Vec<Encoded>, CounterGroup), (usize, io::Error)> {
        let mut refused = match self.group(events, unit) {
            Ok(group) => return Ok((events.to_vec(), group)),
            Err(refused) => refused,
        };
        let any_side = |e: &Encoded| {
            if e.sides_chosen() {
                e.clone()
            } else {
                e.clone().any_side()
            }
        };
        let user_only = |e: &Encoded| {
            let keep = e.chosen || e.is_of_the_kernel() || e.exclude.kernel;
            if keep {
                e.clone()
            } else {
                e.clone().user_only()
            }
        };
        let sideless: Vec<_> = events.iter().map(any_side).collect();
        let user: Vec<_> = events.iter().map(user_only).collect();
        let tries: [(&[i32], Vec<Encoded>); 2] = [
            (&[libc::EINVAL, libc::EOPNOTSUPP], sideless),
            (&[libc::EACCES, libc::EPERM], user),
        ];
        for (errors, less) in tries {
            if refused
                .1
                .raw_os_error()
                .is_none_or(|e| !errors.contains(&e))
            {
                continue;
            }
            match self.group(&less, unit) {
                Ok(group) => return Ok((less, group)),
                // What was wrong at first is what the user should hear of.
                Err(again) if again.1.kind() != refused.1.kind() => refused = again,
                Err(_) => {}
            }
        }
        Err(refused)
    }
}
