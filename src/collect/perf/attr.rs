//! Which events to open for a recording, and with what options.
//!
//! In: the rate asked for, events asked for, what the kernel lets us open; out: a [`Plan`], with a notice for everything
//! that is missing. It refuses to know which processes the plan is for.

use super::stacks::StackSource;
use crate::collect::events::{Encoded, EventError, Group, Machine, refusal};
use crate::trace::record::{EventSource, Notice};
use perf_event_open::config::{Cpu, Proc, SampleOn};
use perf_event_open::count::Counter;
use std::io;

/// An event that is sampled, and those that are read with it.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The event.
    pub leader: Encoded,
    /// Members of its group, read with every sample.
    pub members: Vec<Encoded>,
    /// The text that says what lies where in what a tracepoint or uprobe records.
    pub format: String,
}

impl Sampled {
    fn new(leader: Encoded, members: Vec<Encoded>, machine: &Machine) -> Sampled {
        let format = machine.format(&leader.set);
        Sampled {
            format: format.unwrap_or_default(),
            leader,
            members,
        }
    }
}

/// What will be opened.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The events that are sampled.
    pub sampled: Vec<Sampled>,
    /// Events that are only counted.
    pub counted: Vec<Encoded>,
    /// Samples per second and CPU.
    pub frequency_hz: u64,
    /// Whether the kernel must be left out.
    pub user_only: bool,
    /// Whether children are followed: events of whole CPUs see them anyway.
    pub inherit: bool,
    /// Whether what is sampled must be opened for each thread made later, since the kernel does not hand it on.
    pub per_thread: bool,
    /// Deepest stack.
    pub max_frames: u16,
    /// How user stacks are had.
    pub stacks: StackSource,
    /// What the user should know.
    pub notices: Vec<Notice>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// An event cannot be had.
    #[error(transparent)]
    Event(#[from] EventError),
    /// An event cannot be sampled here.
    #[error("event {name}: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// The reason.
        why: String,
    },
    /// The processor keeps no record of calls, or the kernel does not show it.
    #[error(
        "--call-graph lbr needs a processor that records its calls, and its counters: {source}"
    )]
    NoBranches {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel offers no events at all.
    #[error("cannot open perf events: {source}")]
    Perf {
        /// What the kernel said.
        source: io::Error,
    },
}

/// Deepest stack that the kernel walks, if its own limit allows it.
const MAX_FRAMES: u16 = 127;

/// What rides in every sample unless something else is asked for.
const MEMBERS: &str = "instructions,LLC-load-misses,dTLB-load-misses,branch-misses";

impl Plan {
    /// Finds out, on this very process, what the machine and our privileges allow. `asked`: sampled instead of the usual;
    /// `inherit`: for tasks, whose children are followed.
    pub fn probe(
        frequency_hz: u64,
        asked: Vec<Group>,
        stacks: StackSource,
        inherit: bool,
        machine: &Machine,
    ) -> Result<Plan, PlanError> {
        let number = |path| {
            std::fs::read_to_string(path)
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        };
        let deepest = number("/proc/sys/kernel/perf_event_max_stack");
        let rate = number("/proc/sys/kernel/perf_event_max_sample_rate");
        let most = u64::from(MAX_FRAMES);
        let mut plan = Plan {
            sampled: Vec::new(),
            counted: Vec::new(),
            frequency_hz,
            user_only: false,
            inherit,
            per_thread: false,
            max_frames: deepest.unwrap_or(most).clamp(1, most) as u16,
            // Branch records come with hardware counters only: without is what is tried first.
            stacks: StackSource::None,
            notices: Vec::new(),
        };
        if let Some(rate) = rate.filter(|&r| r < frequency_hz) {
            plan.frequency_hz = rate;
            plan.notice(
                "rate-limited",
                format!("sampling at {rate} Hz, not {frequency_hz}: kernel.perf_event_max_sample_rate allows no more"),
            );
        }
        plan.choose_privilege(machine)?;
        plan.stacks = stacks;
        if asked.is_empty() {
            plan.usual(machine)?;
        } else {
            plan.asked(asked, machine)?;
        }
        plan.choose_counted(machine)?;
        if stacks == StackSource::Branches {
            plan.check_branches()?;
        }
        Ok(plan)
    }

    pub(super) fn notice(&mut self, id: &str, text: String) {
        let id = id.to_string();
        self.notices.push(Notice { id, text });
    }

    /// Branch records are the processor's: what has none must say so before anything is recorded.
    fn check_branches(&self) -> Result<(), PlanError> {
        for sampled in &self.sampled {
            let opened = self.opens(&sampled.leader);
            opened.map_err(|source| PlanError::NoBranches { source })?;
        }
        Ok(())
    }

    fn choose_privilege(&mut self, machine: &Machine) -> Result<(), PlanError> {
        let clock = one(machine, "cpu-clock")?;
        match self.opens(&clock) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            Err(source) => return Err(PlanError::Perf { source }),
        }
        self.user_only = true;
        let refused = |source| PlanError::Perf { source };
        self.opens(&clock.user_only()).map_err(refused)?;
        let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        let level = level.unwrap_or_default();
        self.notice(
            "user-only",
            format!(
                "recording user code only: kernel.perf_event_paranoid is {} and this user lacks CAP_PERFMON; time \
                 spent in the kernel is not sampled",
                level.trim()
            ),
        );
        Ok(())
    }

    /// An event for whoever we may look at.
    fn allowed(&self, event: Encoded) -> Encoded {
        if self.user_only && !event.chosen {
            event.user_only()
        } else {
            event
        }
    }

    /// `cycles` with its group, or the clock.
    fn usual(&mut self, machine: &Machine) -> Result<(), PlanError> {
        let busy = |mut event: Encoded| {
            // Of whole CPUs: a CPU that idles is used by no one.
            event.exclude.idle = !self.inherit;
            event
        };
        let cycles = busy(self.allowed(one(machine, "cycles")?));
        if self.opens(&cycles).is_err() {
            let clock = busy(self.allowed(one(machine, "cpu-clock")?));
            let sampled = Sampled::new(clock, Vec::new(), machine);
            self.sampled.push(sampled);
            self.notice(
                "no-pmu",
                "this machine offers no hardware counters: sampling on cpu-clock; cycles, instructions, cache, TLB \
                 and branch misses are missing"
                    .to_string(),
            );
            return Ok(());
        }
        let (mut members, mut missing) = (Vec::new(), Vec::new());
        for group in machine.encode(MEMBERS)? {
            for member in group.events {
                let member = self.allowed(member);
                match self.opens(&member) {
                    Ok(()) => members.push(member),
                    Err(_) => missing.push(member.set.name),
                }
            }
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            self.notice("no-counter", format!("this machine cannot count {missing}"));
        }
        self.add(Sampled::new(cycles, members, machine), false);
        Ok(())
    }

    /// What the user wants sampled.
    fn asked(&mut self, groups: Vec<Group>, machine: &Machine) -> Result<(), PlanError> {
        for group in groups {
            let mut events = Vec::new();
            for event in group.events {
                self.tell_if_not_inherited(&event);
                events.push(self.sampleable(event, machine)?);
            }
            if !group.braced {
                let alone = |leader| Sampled::new(leader, Vec::new(), machine);
                self.sampled.extend(events.into_iter().map(alone));
                continue;
            }
            let mut events = events.into_iter();
            if let Some(leader) = events.next() {
                self.add(Sampled::new(leader, events.collect(), machine), true);
            }
        }
        Ok(())
    }

    fn tell_if_not_inherited(&mut self, event: &Encoded) {
        if self.inherit && !event.is_inherited() {
            let name = &event.name;
            let text = format!(
                "{name} is seen in threads that are there at the start and in none that are made later: the kernel's table \
                 of uprobes (uprobe_events in tracefs) may not be written, or the file's name has a blank or colon"
            );
            self.notice("uprobe-threads", text);
        }
    }

    /// The event with as little taken away as lets the kernel sample it.
    fn sampleable(&self, event: Encoded, machine: &Machine) -> Result<Encoded, PlanError> {
        let mut tries = vec![event.clone()];
        if !event.sides_chosen() {
            tries.push(event.clone().any_side());
        }
        // A kernel event without the kernel would be a silent nothing.
        if !event.chosen && !event.is_of_the_kernel() {
            tries.push(event.clone().user_only());
        }
        let mut refused = None;
        for event in tries {
            match self.opens(&event) {
                Ok(()) => return Ok(event),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        let why = refused.map_or_else(String::new, |e| refusal::why(&event, &e, machine, false));
        Err(PlanError::Refused {
            name: event.name,
            why,
        })
    }

    fn choose_counted(&mut self, machine: &Machine) -> Result<(), PlanError> {
        let mut names = vec!["task-clock", "page-faults"];
        if self.user_only {
            self.notice(
                "no-kernel-counters",
                "context-switches and cpu-migrations happen in the kernel and are not counted"
                    .to_string(),
            );
        } else {
            names.extend(["context-switches", "cpu-migrations"]);
        }
        for name in names {
            let event = self.allowed(one(machine, name)?);
            self.counted.push(event);
        }
        Ok(())
    }

    fn opens(&self, event: &Encoded) -> io::Result<()> {
        let target = match &event.set.cpus {
            Some(cpus) => (Proc::ALL, Cpu(cpus.first().copied().unwrap_or(0))).into(),
            None => perf_event_open::config::Target::from((Proc::CURRENT, Cpu(0))),
        };
        Counter::new(event, target, self.sampling(event, false)).map(drop)
    }

    /// Whether how often samples come is not ours to say.
    pub fn has_happenings(&self) -> bool {
        let each = |s: &Sampled| s.leader.is_a_happening() && s.leader.set.period.is_none();
        self.sampled.iter().any(each)
    }

    /// What is sampled, in words.
    pub fn told(&self) -> String {
        let Some(first) = self.sampled.first() else {
            return "nothing".to_owned();
        };
        let how = match self.sample_on(&first.leader) {
            SampleOn::Count(1) => "each time".to_owned(),
            SampleOn::Count(period) => format!("every {period}"),
            SampleOn::Freq(hz) => format!("at {hz} Hz"),
        };
        let more = match self.sampled.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("{} {how}{more}", first.leader.name)
    }

    /// The place in [`Plan::sources`] of a sampled event.
    pub fn place_of(&self, sampled: usize) -> u16 {
        let before = self.sampled.iter().take(sampled);
        before.map(|s| 1 + s.members.len() as u16).sum()
    }

    /// What the recording says was opened: each sampled event followed by its members, then the counted ones.
    pub fn sources(&self) -> Vec<EventSource> {
        let source = |event: &Encoded, frequency_hz, leader| EventSource {
            name: event.name.clone(),
            frequency_hz,
            leader,
            user_only: event.exclude.kernel,
            format: String::new(),
        };
        let mut sources = Vec::new();
        for sampled in &self.sampled {
            let leader = sources.len() as u16;
            // Events sampled by count have a rate too, whatever it turns out to be.
            sources.push(EventSource {
                format: sampled.format.clone(),
                ..source(&sampled.leader, self.frequency_hz, None)
            });
            let members = sampled.members.iter();
            sources.extend(members.map(|m| source(m, 0, Some(leader))));
        }
        sources.extend(self.counted.iter().map(|c| source(c, 0, None)));
        sources
    }
}

/// One event that every kernel knows.
fn one(machine: &Machine, name: &str) -> Result<Encoded, EventError> {
    let mut groups = machine.encode(name)?;
    let mut group = groups.remove(0);
    Ok(group.events.remove(0))
}
