//! Which events to open on this machine, and with what options.
//!
//! In: the rate asked for, what the kernel lets us open; out: a [`Plan`], with a notice for everything that is missing.
//! It refuses to know which processes the plan is for.

use crate::trace::record::{EventSource, Notice};
use perf_event_open::config::{
    CallChain, Clock, Cpu, ExtraRecord, Inherit, Mmap, OnExecve, Opts, Priv, Proc, RecordIdFormat,
    SampleFormat, SampleOn, StatFormat, UseBuildId, sibling,
};
use perf_event_open::count::Counter;
use perf_event_open::event::Event;
use perf_event_open::event::hw::{Hardware, Op, OpResult, Type};
use perf_event_open::event::sw::Software;
use std::io;

/// An event that is opened here.
#[derive(Clone, Debug)]
pub enum Source {
    /// The CPU's counters.
    Hardware(Hardware),
    /// The kernel's own counts and clocks.
    Software(Software),
}

impl TryFrom<Source> for Event {
    type Error = io::Error;

    fn try_from(source: Source) -> io::Result<Event> {
        match source {
            Source::Hardware(event) => event.try_into(),
            Source::Software(event) => event.try_into(),
        }
    }
}

/// An event by name.
#[derive(Clone, Debug)]
pub struct Named {
    /// In perf's notation, without modifiers.
    pub name: &'static str,
    /// What the kernel is asked for.
    pub event: Source,
}

/// What will be opened.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The event that is sampled.
    pub sampled: Named,
    /// Members of its group, read with every sample.
    pub members: Vec<Named>,
    /// Events that are only counted.
    pub counted: Vec<Named>,
    /// Samples per second and CPU.
    pub frequency_hz: u64,
    /// Whether the kernel must be left out.
    pub user_only: bool,
    /// Deepest stack.
    pub max_frames: u16,
    /// What the user should know.
    pub notices: Vec<Notice>,
}

fn hardware(name: &'static str, event: Hardware) -> Named {
    let event = Source::Hardware(event);
    Named { name, event }
}

fn software(name: &'static str, event: Software) -> Named {
    let event = Source::Software(event);
    Named { name, event }
}

/// Deepest stack that the kernel walks, if its own limit allows it.
const MAX_FRAMES: u16 = 127;

impl Plan {
    /// Finds out, on this very process, what the machine and our privileges allow.
    pub fn probe(frequency_hz: u64) -> io::Result<Plan> {
        let cycles = hardware("cycles", Hardware::CpuCycle);
        let clock = software("cpu-clock", Software::CpuClock);
        let limit = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_stack");
        let limit = limit.ok().and_then(|t| t.trim().parse().ok());
        let rate = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
        let rate: Option<u64> = rate.ok().and_then(|t| t.trim().parse().ok());
        let mut plan = Plan {
            sampled: cycles,
            members: Vec::new(),
            counted: Vec::new(),
            frequency_hz,
            user_only: false,
            max_frames: limit.unwrap_or(MAX_FRAMES).clamp(1, MAX_FRAMES),
            notices: Vec::new(),
        };
        if let Some(rate) = rate.filter(|&r| r < frequency_hz) {
            plan.frequency_hz = rate;
            plan.notice(
                "rate-limited",
                format!("sampling at {rate} Hz, not {frequency_hz}: kernel.perf_event_max_sample_rate allows no more"),
            );
        }
        plan.choose_privilege(&clock)?;
        if plan.opens(&plan.sampled).is_err() {
            plan.sampled = clock;
            plan.notice(
                "no-pmu",
                "this machine offers no hardware counters: sampling on cpu-clock; cycles, instructions, cache, TLB \
                 and branch misses are missing"
                    .to_string(),
            );
        } else {
            plan.choose_hardware();
        }
        plan.choose_group();
        plan.choose_counted();
        Ok(plan)
    }

    fn notice(&mut self, id: &str, text: String) {
        let id = id.to_string();
        self.notices.push(Notice { id, text });
    }

    fn choose_privilege(&mut self, clock: &Named) -> io::Result<()> {
        match self.opens(clock) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            Err(e) => return Err(e),
        }
        self.user_only = true;
        self.opens(clock)?;
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

    fn choose_hardware(&mut self) {
        let cache = |unit, result| Hardware::Cache(unit, Op::Read, result);
        let wanted = [
            hardware("instructions", Hardware::Instr),
            hardware("LLC-load-misses", cache(Type::Ll, OpResult::Miss)),
            hardware("dTLB-load-misses", cache(Type::Dtlb, OpResult::Miss)),
            hardware("branch-misses", Hardware::BranchMiss),
        ];
        let (mut members, mut missing) = (Vec::new(), Vec::new());
        for member in wanted {
            match self.opens(&member) {
                Ok(()) => members.push(member),
                Err(_) => missing.push(member.name),
            }
        }
        if !missing.is_empty() {
            self.notice(
                "no-counter",
                format!("this machine cannot count {}", missing.join(", ")),
            );
        }
        self.members = members;
    }

    fn choose_group(&mut self) {
        self.members
            .push(software("page-faults", Software::PageFault));
        // Older kernels refuse inherited groups that are read with samples; then the members are counted alone.
        if self.opens_group().is_err() {
            let members = std::mem::take(&mut self.members);
            self.notice(
                "no-group",
                "this kernel cannot read a group with every sample of an inherited event: counters are totals only"
                    .to_string(),
            );
            self.counted = members;
        }
    }

    fn choose_counted(&mut self) {
        self.counted
            .push(software("task-clock", Software::TaskClock));
        if self.user_only {
            self.notice(
                "no-kernel-counters",
                "context-switches and cpu-migrations happen in the kernel and are not counted"
                    .to_string(),
            );
            return;
        }
        self.counted
            .push(software("context-switches", Software::CtxSwitch));
        self.counted
            .push(software("cpu-migrations", Software::CpuMigration));
    }

    fn opens(&self, event: &Named) -> io::Result<()> {
        let opts = self.sampling(false);
        Counter::new(event.event.clone(), (Proc::CURRENT, Cpu(0)), &opts).map(drop)
    }

    fn opens_group(&self) -> io::Result<()> {
        let opts = self.sampling(false);
        let leader = Counter::new(self.sampled.event.clone(), (Proc::CURRENT, Cpu(0)), &opts)?;
        let mut group = perf_event_open::count::group::CounterGroup::from(leader);
        for member in &self.members {
            group.add(member.event.clone(), self.member())?;
        }
        Ok(())
    }

    fn privilege(&self) -> Priv {
        Priv {
            kernel: self.user_only,
            hv: self.user_only,
            ..Priv::default()
        }
    }

    /// Options of the sampled event. `on_exec`: it starts when the task runs its program.
    pub fn sampling(&self, on_exec: bool) -> Opts {
        let mut sample_format = SampleFormat {
            period: true,
            code_addr: true,
            ..SampleFormat::default()
        };
        sample_format.call_chain = Some(CallChain {
            exclude_user: false,
            exclude_kernel: self.user_only,
            defer_user: false,
            max_stack_frames: self.max_frames,
        });
        sample_format.stat = !self.members.is_empty();
        Opts {
            exclude: self.privilege(),
            inherit: Some(Inherit::NewChild),
            on_execve: on_exec.then_some(OnExecve::Enable),
            stat_format: StatFormat {
                time_enabled: true,
                time_running: true,
                siblings: !self.members.is_empty(),
                ..StatFormat::default()
            },
            sample_on: SampleOn::Freq(self.frequency_hz),
            sample_format,
            extra_record: ExtraRecord {
                task: true,
                comm: true,
                mmap: Mmap {
                    code: true,
                    data: false,
                    ext: Some(UseBuildId(true)),
                },
                ctx_switch: true,
                ..ExtraRecord::default()
            },
            record_id_all: true,
            record_id_format: RecordIdFormat {
                cpu: true,
                task: true,
                time: true,
                ..RecordIdFormat::default()
            },
            timer: Some(Clock::MonotonicRaw),
            ..Opts::default()
        }
    }

    /// Options of a member of the sampled group; it runs when its leader does.
    pub fn member(&self) -> sibling::Opts {
        sibling::Opts {
            exclude: self.privilege(),
            inherit: Some(Inherit::NewChild),
            enable: true,
            ..sibling::Opts::default()
        }
    }

    /// Options of an event that is only counted.
    pub fn counting(&self, on_exec: bool) -> Opts {
        Opts {
            exclude: self.privilege(),
            inherit: Some(Inherit::NewChild),
            on_execve: on_exec.then_some(OnExecve::Enable),
            stat_format: StatFormat {
                time_enabled: true,
                time_running: true,
                ..StatFormat::default()
            },
            ..Opts::default()
        }
    }

    /// What the recording says was opened: the sampled event, its members, the counted ones.
    pub fn sources(&self) -> Vec<EventSource> {
        let source = |named: &Named, frequency_hz, leader| EventSource {
            name: format!("{}{}", named.name, if self.user_only { ":u" } else { "" }),
            frequency_hz,
            leader,
            user_only: self.user_only,
        };
        let mut sources = vec![source(&self.sampled, self.frequency_hz, None)];
        sources.extend(self.members.iter().map(|m| source(m, 0, Some(0))));
        sources.extend(self.counted.iter().map(|c| source(c, 0, None)));
        sources
    }
}
