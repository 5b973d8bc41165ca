//! Records of perf.data one by one as records of ours.
//!
//! In: parsed records and the fields of samples; out: what is written, and a [`Tally`]. It refuses to know the file they came from.

use super::sample::Fields;
use super::{Tally, about, hex, made};
use crate::trace::record::{
    Exit, Lost, Mapping, Meta, Notice, Pid, Sample, StackEnd, Switch, SwitchKind, Thread,
};
use crate::trace::{Symbolizer, WriteError, Writer};
use crate::units::{Avma, FileOffset, Nanos};
use linux_perf_data::linux_perf_event_reader::{
    CommonData, ContextSwitchRecord, CpuMode, EventRecord, Mmap2FileId, RawData, RecordType,
    SamplingPolicy, TaskWasPreempted,
};
use linux_perf_data::{DsoKey, PerfFile};
use std::collections::HashMap;

/// The longest chain the kernel records if it is not told otherwise: a stack of that length was cut.
const LONGEST: usize = 127;
const EXECUTABLE: u32 = 4;
const BATCH: usize = 4096;

/// Records on their way.
pub struct Import<'a> {
    writer: &'a mut Writer,
    names: &'a mut dyn Symbolizer,
    build_ids: HashMap<DsoKey, String>,
    longest: usize,
    period: u64,
    pub tally: Tally,
    samples: Vec<Sample>,
    switches: Vec<Switch>,
    raw_stacks: u64,
}

impl<'a> Import<'a> {
    /// Of the event in this place.
    pub fn new(
        perf: &PerfFile,
        event: usize,
        writer: &'a mut Writer,
        names: &'a mut dyn Symbolizer,
    ) -> Import<'a> {
        let attribute = &perf.event_attributes()[event];
        let cap = usize::from(attribute.attributes().sample_max_stack);
        Import {
            build_ids: about::build_ids(perf),
            longest: if cap == 0 { LONGEST } else { cap },
            period: match attribute.attributes().sampling_policy {
                SamplingPolicy::Period(period) => period.get(),
                SamplingPolicy::Frequency(_) | SamplingPolicy::NoSampling => 1,
            },
            tally: Tally {
                event: about::event_name(attribute),
                ..Tally::default()
            },
            writer,
            names,
            samples: Vec::new(),
            switches: Vec::new(),
            raw_stacks: 0,
        }
    }

    /// Writes a record, and shows it to whoever gives names.
    pub fn meta(&mut self, meta: Meta) -> Result<(), WriteError> {
        self.names.meta(&meta);
        self.writer.meta(&meta)
    }

    /// Takes a record that is no sample.
    pub fn record(
        &mut self,
        record: EventRecord,
        common: &CommonData,
        time: Nanos,
    ) -> Result<(), WriteError> {
        match record {
            EventRecord::Comm(comm) => self.meta(Meta::Thread(Thread {
                time,
                pid: number(comm.pid),
                tid: number(comm.tid),
                name: text(comm.name),
                exec: comm.is_execve,
                ..Thread::default()
            })),
            EventRecord::Fork(fork) => self.meta(Meta::Thread(Thread {
                time,
                pid: number(fork.pid),
                tid: number(fork.tid),
                parent: number(fork.ppid),
                parent_tid: number(fork.ptid),
                ..Thread::default()
            })),
            EventRecord::Exit(exit) => self.meta(Meta::Exit(Exit {
                time,
                pid: number(exit.pid),
                tid: number(exit.tid),
            })),
            EventRecord::Mmap(m) if m.is_executable || is_kernel(m.cpu_mode) => {
                let (path, mode) = (m.path.as_slice(), m.cpu_mode);
                let at = (m.pid, m.address, m.length, m.page_offset);
                self.mapping(time, at, &path, mode, None)
            }
            EventRecord::Mmap2(m) if m.protection & EXECUTABLE != 0 => {
                let id = match m.file_id {
                    Mmap2FileId::BuildId(id) => Some(hex(&id)),
                    Mmap2FileId::InodeAndVersion(_) => None,
                };
                let (path, mode) = (m.path.as_slice(), m.cpu_mode);
                let at = (m.pid, m.address, m.length, m.page_offset);
                self.mapping(time, at, &path, mode, id)
            }
            EventRecord::Lost(lost) => self.meta(Meta::Lost(Lost {
                time,
                source: "perf record".into(),
                samples: lost.count,
                records: 0,
            })),
            EventRecord::ContextSwitch(switch) => self.switch(switch, common, time),
            EventRecord::Raw(raw) if raw.record_type == RecordType::KSYMBOL => {
                match made::code(&raw.data.as_slice(), time) {
                    Some(mapping) => self.meta(Meta::Mapping(mapping)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn mapping(
        &mut self,
        time: Nanos,
        (pid, start, len, offset): (i32, u64, u64, u64),
        path: &[u8],
        mode: CpuMode,
        build_id: Option<String>,
    ) -> Result<(), WriteError> {
        let key = DsoKey::detect(path, mode);
        let known = key.as_ref().and_then(|key| self.build_ids.get(key));
        let build_id = build_id.or_else(|| known.cloned()).unwrap_or_default();
        let path = String::from_utf8_lossy(path).into_owned();
        let kernel = pid == -1 || is_kernel(mode);
        let path = match (&key, kernel) {
            // perf adds the symbol that the text begins with, and where it lies.
            (Some(DsoKey::Kernel), true) => {
                if path.ends_with("_text") && offset > 0 {
                    self.tally.kernel_text.get_or_insert(offset);
                }
                "[kernel.kallsyms]".to_owned()
            }
            (Some(key @ DsoKey::KernelModule { .. }), true) => key.name().to_owned(),
            _ => path,
        };
        self.meta(Meta::Mapping(Mapping {
            time,
            pid: if kernel { Mapping::KERNEL } else { number(pid) },
            start: Avma(start),
            len,
            offset: FileOffset(if kernel { 0 } else { offset }),
            path,
            build_id,
        }))
    }

    /// Takes a sample.
    pub fn sample(&mut self, perf: &Fields, mode: CpuMode, time: Nanos) -> Result<(), WriteError> {
        let (pid, tid) = perf.thread.unwrap_or_default();
        let (frames, kernel_frames) = perf.frames(is_kernel(mode));
        self.raw_stacks += u64::from(perf.raw_stack);
        let sample = Sample {
            time,
            pid,
            tid,
            cpu: perf.cpu.unwrap_or(0),
            event: 0,
            period: perf.period.unwrap_or(self.period).max(1),
            stack: match perf.raw_stack {
                true => StackEnd::Broken,
                false if frames.len() >= self.longest => StackEnd::Truncated,
                false => StackEnd::Whole,
            },
            frames,
            kernel_frames,
            ..Sample::default()
        };
        self.names.sample(&sample);
        self.samples.push(sample);
        self.tally.samples += 1;
        if self.samples.len() == BATCH {
            self.writer.samples(&self.samples)?;
            self.samples.clear();
        }
        Ok(())
    }

    fn switch(
        &mut self,
        switch: ContextSwitchRecord,
        common: &CommonData,
        time: Nanos,
    ) -> Result<(), WriteError> {
        let (Some(pid), Some(tid)) = (common.pid, common.tid) else {
            return Ok(());
        };
        let kind = match switch {
            ContextSwitchRecord::In { .. } => SwitchKind::In,
            ContextSwitchRecord::Out { preempted, .. } => match preempted {
                TaskWasPreempted::Yes => SwitchKind::OutPreempted,
                TaskWasPreempted::No => SwitchKind::OutWaiting,
            },
        };
        self.switches.push(Switch {
            time,
            pid: number(pid),
            tid: number(tid),
            cpu: common.cpu.unwrap_or(0),
            kind,
        });
        if self.switches.len() == BATCH {
            self.writer.switches(&self.switches)?;
            self.switches.clear();
        }
        Ok(())
    }

    /// Writes what waits, and what the user should know.
    pub fn finish(mut self, other_events: bool) -> Result<Tally, WriteError> {
        self.writer.samples(&self.samples)?;
        self.writer.switches(&self.switches)?;
        let mut text =
            "imported from perf.data: no probes, so all about states is an estimate".to_owned();
        if other_events {
            text += &format!("; only samples of {} (--event chooses)", self.tally.event);
        }
        self.meta(notice("imported-perf-data", text))?;
        if self.raw_stacks > 0 {
            let text = format!(
                "{} samples carry a raw stack (--call-graph dwarf), which is not unwound: they end at the function \
                 that was sampled; record with --call-graph fp, or with bypassprof",
                self.raw_stacks
            );
            self.meta(notice("raw-stacks", text))?;
        }
        Ok(self.tally)
    }
}

/// A remark on the recording.
fn notice(id: &str, text: String) -> Meta {
    Meta::Notice(Notice {
        id: id.into(),
        text,
    })
}

fn is_kernel(mode: CpuMode) -> bool {
    mode == CpuMode::Kernel
}

fn number(id: i32) -> Pid {
    id.cast_unsigned()
}

fn text(data: RawData) -> String {
    String::from_utf8_lossy(&data.as_slice()).into_owned()
}
