//! With which options a plan's events are opened.
//!
//! In: an event of a [`Plan`]; out: options for it. All that write into a ring write records of one form. It refuses to know for
//! whom an event is opened.

use super::attr::Plan;
use crate::collect::events::Encoded;
use perf_event_open::config::{
    Clock, ExtraRecord, Inherit, Mmap, OnExecve, Opts, Priv, RecordIdFormat, SampleFormat,
    SampleOn, StatFormat, UseBuildId, WakeUp, WakeUpOn, sibling,
};

/// What is told of tasks, their switches left out.
fn of_tasks() -> ExtraRecord {
    ExtraRecord {
        task: true,
        comm: true,
        mmap: Mmap {
            code: true,
            data: false,
            ext: Some(UseBuildId(true)),
        },
        // Code that the kernel makes, as of BPF programs, which may be gone when names are looked for.
        ksymbol: true,
        ..ExtraRecord::default()
    }
}

impl Plan {
    fn inherit(&self, event: &Encoded) -> Option<Inherit> {
        let inherit = self.inherit && event.is_inherited();
        inherit.then_some(Inherit::NewChild)
    }

    /// The same of what is sampled.
    fn inherit_sampled(&self, event: &Encoded) -> Option<Inherit> {
        self.inherit(event).filter(|_| !self.per_thread)
    }

    /// Whether samples carry what a tracepoint or uprobe recorded.
    fn has_fields(&self) -> bool {
        self.sampled.iter().any(|s| !s.format.is_empty())
    }

    /// When an event is sampled: so often in a second, or, of what is not a flow but a happening, each time.
    pub(super) fn sample_on(&self, event: &Encoded) -> SampleOn {
        match (event.set.period, event.set.frequency_hz) {
            (Some(period), _) => SampleOn::Count(period.max(1)),
            (None, Some(hz)) => SampleOn::Freq(hz.clamp(1, self.frequency_hz.max(hz))),
            (None, None) if event.is_a_happening() => SampleOn::Count(1),
            (None, None) => SampleOn::Freq(self.frequency_hz),
        }
    }

    /// What all records of a ring begin or end with.
    fn telling(&self) -> Opts {
        Opts {
            record_id_all: true,
            record_id_format: RecordIdFormat {
                id: self.sampled.len() > 1,
                cpu: true,
                task: true,
                time: true,
                ..RecordIdFormat::default()
            },
            // Nobody sleeps on a ring: a wake-up would be an interrupt on the CPU for no one.
            wake_up: WakeUp {
                on: WakeUpOn::Bytes(u32::MAX),
                ..WakeUp::default()
            },
            timer: Some(Clock::MonotonicRaw),
            ..Opts::default()
        }
    }

    /// Options of a sampled event. `on_exec`: it starts when the task runs its program. All sampled events write records
    /// of the same form, since they share rings.
    pub fn sampling(&self, event: &Encoded, on_exec: bool) -> Opts {
        let groups = self.sampled.iter().any(|s| !s.members.is_empty());
        let mut sample_format = SampleFormat {
            period: true,
            code_addr: true,
            stat: groups,
            raw: self.has_fields(),
            ..SampleFormat::default()
        };
        self.stacks
            .ask(&mut sample_format, self.max_frames, self.user_only);
        Opts {
            exclude: event.privilege(),
            only_group: event.exclusive,
            pin_on_pmu: event.pinned,
            sample_skid: event.skid(),
            inherit: self.inherit_sampled(event),
            on_execve: on_exec.then_some(OnExecve::Enable),
            stat_format: StatFormat {
                time_enabled: true,
                time_running: true,
                siblings: groups,
                ..StatFormat::default()
            },
            sample_on: self.sample_on(event),
            sample_format,
            extra_record: ExtraRecord {
                ctx_switch: true,
                ..of_tasks()
            },
            ..self.telling()
        }
    }

    /// The same for all but the first sampled event: what happens to tasks is told once.
    pub fn sampling_beside(&self, event: &Encoded, on_exec: bool) -> Opts {
        Opts {
            extra_record: ExtraRecord::default(),
            ..self.sampling(event, on_exec)
        }
    }

    /// Options of a member of a sampled group; it runs when its leader does.
    pub fn member(&self, event: &Encoded) -> sibling::Opts {
        sibling::Opts {
            exclude: event.privilege(),
            inherit: self.inherit_sampled(event),
            enable: true,
            ..sibling::Opts::default()
        }
    }

    /// Options of an event that is only counted.
    pub fn counting(&self, event: &Encoded, on_exec: bool) -> Opts {
        Opts {
            exclude: event.privilege(),
            inherit: self.inherit(event),
            on_execve: on_exec.then_some(OnExecve::Enable),
            stat_format: StatFormat {
                time_enabled: true,
                time_running: true,
                ..StatFormat::default()
            },
            ..Opts::default()
        }
    }

    /// Options of an event that counts nothing and tells of tasks, where those that are sampled are not inherited. It tells
    /// while nothing is sampled, too: who is there is to be known then.
    pub fn of_tasks(&self, on_exec: bool) -> Opts {
        Opts {
            extra_record: of_tasks(),
            enable: !on_exec,
            ..self.silent(on_exec)
        }
    }

    /// The same of threads that enter and leave CPUs.
    pub fn of_switches(&self, on_exec: bool) -> Opts {
        Opts {
            extra_record: ExtraRecord {
                ctx_switch: true,
                ..ExtraRecord::default()
            },
            ..self.silent(on_exec)
        }
    }

    fn silent(&self, on_exec: bool) -> Opts {
        Opts {
            exclude: Priv {
                kernel: true,
                hv: true,
                ..Priv::default()
            },
            inherit: Some(Inherit::NewChild),
            on_execve: on_exec.then_some(OnExecve::Enable),
            ..self.telling()
        }
    }
}
