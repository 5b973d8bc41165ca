//! One CPU's ring of kernel records, turned into ours.
//!
//! In: what the kernel wrote; out: a [`Batch`]. It refuses to know which events feed the ring.

use super::stacks::StackSource;
use crate::trace::StackCopy;
use crate::trace::record::{
    Exit, Lost, Mapping, Meta, Pid, Sample, Switch, SwitchKind, Thread, Tid,
};
use crate::units::{Avma, FileOffset, Nanos};
use perf_event_open::sample::Sampler;
use perf_event_open::sample::record::ksymbol::State;
use perf_event_open::sample::record::mmap::Info;
use perf_event_open::sample::record::sample::Sample as RawSample;
use perf_event_open::sample::record::{Record, RecordId, ctx};
use std::collections::HashMap;
use std::ffi::CStr;

/// Records of one drain, ready to be written.
#[derive(Debug, Default)]
pub struct Batch {
    /// Samples.
    pub samples: Vec<Sample>,
    /// Stacks of samples, by their place, that are to be walked yet.
    pub copies: Vec<(usize, StackCopy)>,
    /// Switches.
    pub switches: Vec<Switch>,
    /// Mappings, threads, exits, losses.
    pub metas: Vec<Meta>,
}

/// Bytes that every tracepoint's record begins with; other events' samples come with fewer, which mean nothing.
const COMMON: usize = 8;
/// The number of a thread that has none any more.
const NOBODY: Tid = Tid::MAX;

/// Which event a sample is of, by the number the kernel gave it.
#[derive(Debug, Default)]
pub struct Ids(HashMap<u64, u16>);

impl Ids {
    /// An event's number and its place in the recording's list.
    pub fn add(&mut self, id: u64, event: u16) {
        self.0.insert(id, event);
    }

    /// With one event there are no numbers.
    fn event(&self, id: Option<u64>) -> u16 {
        id.and_then(|id| self.0.get(&id)).copied().unwrap_or(0)
    }
}

/// What has to be known of a ring to read it.
pub struct From<'a> {
    /// Whose ring it is.
    pub cpu: u32,
    /// Deepest stack that the kernel walks.
    pub max_frames: u16,
    /// Where user stacks come from.
    pub stacks: StackSource,
    /// The events that write into it.
    pub ids: &'a Ids,
}

/// Takes everything out of a CPU's ring; `limit` keeps one CPU from holding up the others. Returns how many.
pub fn drain(sampler: &Sampler, from: &From, limit: usize, batch: &mut Batch) -> usize {
    let Some(records) = sampler.iter() else {
        return 0;
    };
    let mut count = 0;
    for (_, record) in records.take(limit) {
        count += 1;
        take(record, from, batch);
    }
    count
}

fn take(record: Record, from: &From, batch: &mut Batch) {
    let cpu = from.cpu;
    match record {
        Record::Sample(raw) => sample(*raw, from, batch),
        Record::CtxSwitch(switch) => {
            let (time, pid, tid) = who(switch.record_id.as_ref());
            // A thread that has ended already leaves its CPU once more, without a number: its exit has told it.
            if tid == NOBODY {
                return;
            }
            let kind = match switch.info {
                ctx::Switch::InFrom(_) => SwitchKind::In,
                ctx::Switch::OutTo { preempt: true, .. } => SwitchKind::OutPreempted,
                ctx::Switch::OutTo { preempt: false, .. } => SwitchKind::OutWaiting,
            };
            batch.switches.push(Switch {
                time,
                pid,
                tid,
                cpu,
                kind,
            });
        }
        Record::Mmap(map) => {
            let build_id = match map.ext.map(|e| e.info) {
                Some(Info::BuildId(id)) => hex(&id),
                _ => String::new(),
            };
            batch.metas.push(Meta::Mapping(Mapping {
                time: who(map.record_id.as_ref()).0,
                pid: map.task.pid,
                start: Avma(map.addr),
                len: map.len,
                offset: FileOffset(map.page_offset),
                path: text(&map.file),
                build_id,
            }));
        }
        Record::Comm(comm) => batch.metas.push(Meta::Thread(Thread {
            time: who(comm.record_id.as_ref()).0,
            pid: comm.task.pid,
            tid: comm.task.tid,
            parent: 0,
            parent_tid: 0,
            name: text(&comm.comm),
            exec: comm.by_execve,
        })),
        Record::Fork(fork) => batch.metas.push(Meta::Thread(Thread {
            time: Nanos::from_ns(fork.time),
            pid: fork.task.pid,
            tid: fork.task.tid,
            parent: fork.parent_task.pid,
            parent_tid: fork.parent_task.tid,
            name: String::new(),
            exec: false,
        })),
        Record::Exit(exit) => batch.metas.push(Meta::Exit(Exit {
            time: Nanos::from_ns(exit.time),
            pid: exit.task.pid,
            tid: exit.task.tid,
        })),
        Record::Ksymbol(made) if made.state == State::Reg => {
            batch.metas.push(Meta::Mapping(Mapping {
                time: who(made.record_id.as_ref()).0,
                pid: Mapping::KERNEL,
                start: Avma(made.addr),
                len: u64::from(made.len),
                path: text(&made.name),
                ..Mapping::default()
            }));
        }
        Record::LostRecords(lost) => {
            let time = who(lost.record_id.as_ref()).0;
            batch
                .metas
                .push(self::lost(time, cpu, 0, lost.lost_records));
        }
        Record::LostSamples(lost) => {
            let time = who(lost.record_id.as_ref()).0;
            batch
                .metas
                .push(self::lost(time, cpu, lost.lost_samples, 0));
        }
        _ => {}
    }
}

fn lost(time: Nanos, cpu: u32, samples: u64, records: u64) -> Meta {
    Meta::Lost(Lost {
        time,
        source: format!("perf cpu {cpu}"),
        samples,
        records,
    })
}

fn who(id: Option<&RecordId>) -> (Nanos, Pid, Tid) {
    let task = id.and_then(|i| i.task.as_ref());
    let time = id.and_then(|i| i.time).unwrap_or(0);
    let (pid, tid) = task.map_or((0, 0), |t| (t.pid, t.tid));
    (Nanos::from_ns(time), pid, tid)
}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Bytes of a build id as they are usually written.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn sample(mut raw: RawSample, from: &From, batch: &mut Batch) {
    let (time, pid, tid) = who(Some(&raw.record_id));
    let mut sample = Sample {
        time,
        pid,
        tid,
        cpu: raw.record_id.cpu.unwrap_or(from.cpu),
        event: from.ids.event(raw.record_id.id),
        period: raw.period.unwrap_or(0),
        raw: raw
            .raw
            .take()
            .filter(|r| r.len() >= COMMON)
            .unwrap_or_default(),
        ..Sample::default()
    };
    let copy = from.stacks.take(&mut raw, from.max_frames, &mut sample);
    if let Some(copy) = copy {
        batch.copies.push((batch.samples.len(), copy));
    }
    let group = raw.stat.map(|stat| stat.siblings).unwrap_or_default();
    sample.group = group.iter().map(|member| member.count).collect();
    batch.samples.push(sample);
}
