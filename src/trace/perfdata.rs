//! perf.data, as `perf record` writes it, as records of ours.
//!
//! In: the file; out: records for a [`Writer`], each shown to a [`Symbolizer`] first. The format is crate
//! `linux-perf-data`'s to know. Only one event's samples are taken: shares of two events are shares of nothing. It
//! refuses to open the files that were mapped, and to unwind raw stacks (`--call-graph dwarf`): those end at the
//! function that was sampled and say so.

mod check;
mod made;
mod sample;

use super::record::{
    EventSource, Exit, Lost, Mapping, Meta, Notice, Pid, Sample, Session, StackEnd, Switch,
    SwitchKind, Thread,
};
use super::{Symbolizer, WriteError, Writer};
use crate::units::{Avma, FileOffset, Nanos};
use linux_perf_data::linux_perf_event_reader::constants::{
    PERF_CONTEXT_KERNEL, PERF_CONTEXT_MAX, PERF_CONTEXT_USER,
};
use linux_perf_data::linux_perf_event_reader::{
    AttrFlags, CommonData, ContextSwitchRecord, CpuMode, EventRecord, Mmap2FileId, RawData,
    RecordType, SamplingPolicy, TaskWasPreempted,
};
use linux_perf_data::{AttributeDescription, DsoKey, PerfFile, PerfFileReader, PerfFileRecord};
use sample::Fields;
use std::collections::HashMap;
use std::io::{Read, Seek};

/// How files of this kind begin.
pub const MAGIC: &[u8; 8] = b"PERFILE2";

/// Why a perf.data file does not become a recording.
#[derive(Debug, thiserror::Error)]
pub enum PerfDataError {
    /// It is damaged, or of a kind that the reader does not know.
    #[error("{file} cannot be read as perf.data: {why}")]
    Read {
        /// The file.
        file: String,
        /// What its reader said.
        why: String,
    },
    /// It has no event of that name.
    #[error("{file} has no event {wanted:?}; it has {there}")]
    NoEvent {
        /// The file.
        file: String,
        /// The event asked for.
        wanted: String,
        /// Those that there are.
        there: String,
    },
    /// The recording could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples written.
    pub samples: u64,
    /// Name of their event.
    pub event: String,
    /// Release of the kernel, as `uname -r` says it.
    pub kernel: String,
    /// Where its text began: names of a kernel that was loaded elsewhere are wrong ones.
    pub kernel_text: Option<u64>,
    /// Time of the last record.
    pub end: Nanos,
}

/// The longest chain the kernel records if it is not told otherwise: a stack of that length was cut.
const LONGEST: usize = 127;
const EXECUTABLE: u32 = 4;
const BATCH: usize = 4096;

struct Import<'a> {
    writer: &'a mut Writer,
    names: &'a mut dyn Symbolizer,
    build_ids: HashMap<DsoKey, String>,
    longest: usize,
    period: u64,
    tally: Tally,
    samples: Vec<Sample>,
    switches: Vec<Switch>,
    raw_stacks: u64,
}

/// Writes the samples of `event` (the first one if `None`), with what they need, but for names and the last record.
pub fn write(
    name: &str,
    mut file: impl Read + Seek,
    event: Option<&str>,
    writer: &mut Writer,
    names: &mut dyn Symbolizer,
) -> Result<Tally, PerfDataError> {
    let unreadable = |why: String| PerfDataError::Read {
        file: name.to_owned(),
        why,
    };
    check::check(&mut file).map_err(unreadable)?;
    let reader = PerfFileReader::parse_file(file).map_err(|e| unreadable(e.to_string()))?;
    let (mut perf, mut records) = (reader.perf_file, reader.record_iter);
    let chosen = choose(name, &perf, event)?;
    let attribute = &perf.event_attributes()[chosen];
    let formats = (
        attribute.attributes().sample_format,
        attribute.attributes().read_format,
    );
    let cap = usize::from(attribute.attributes().sample_max_stack);
    let mut import = Import {
        build_ids: build_ids(&perf),
        longest: if cap == 0 { LONGEST } else { cap },
        period: match attribute.attributes().sampling_policy {
            SamplingPolicy::Period(period) => period.get(),
            SamplingPolicy::Frequency(_) | SamplingPolicy::NoSampling => 1,
        },
        tally: Tally {
            event: event_name(attribute),
            ..Tally::default()
        },
        writer,
        names,
        samples: Vec::new(),
        switches: Vec::new(),
        raw_stacks: 0,
    };
    let mut session = Some(session(&perf, chosen));
    import.tally.kernel = session
        .as_ref()
        .map_or_else(String::new, |s| s.kernel.clone());
    let other_events = perf.event_attributes().len() > 1;
    loop {
        let record = records.next_record(&mut perf);
        let Some(record) = record.map_err(|e| unreadable(e.to_string()))? else {
            break;
        };
        let PerfFileRecord::EventRecord { attr_index, record } = record else {
            continue;
        };
        let common = record.common_data().unwrap_or_default();
        let time = Nanos::from_ns(common.timestamp.unwrap_or(0));
        // What was there before carries no time: the session begins with the first record that does.
        if time > Nanos::default()
            && let Some(mut session) = session.take()
        {
            session.started = time;
            import.meta(Meta::Session(session))?;
        }
        import.tally.end = import.tally.end.max(time);
        if record.record_type == RecordType::SAMPLE {
            if attr_index == chosen {
                let body = record.data.as_slice();
                let fields = Fields::of(&body, formats.0, formats.1);
                let fields =
                    fields.ok_or_else(|| unreadable("a sample is shorter than it says".into()))?;
                import.sample(&fields, CpuMode::from_misc(record.misc), time)?;
            }
            continue;
        }
        let parsed = record.parse().map_err(|e| unreadable(e.to_string()))?;
        import.record(parsed, &common, time)?;
    }
    if let Some(session) = session.take() {
        import.meta(Meta::Session(session))?;
    }
    import.finish(other_events)
}

impl Import<'_> {
    fn meta(&mut self, meta: Meta) -> Result<(), WriteError> {
        self.names.meta(&meta);
        self.writer.meta(&meta)
    }

    fn record(
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

    fn sample(&mut self, perf: &Fields, mode: CpuMode, time: Nanos) -> Result<(), WriteError> {
        let (pid, tid) = perf.thread.unwrap_or_default();
        let (frames, kernel_frames) = frames(perf, is_kernel(mode));
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

    fn finish(mut self, other_events: bool) -> Result<Tally, PerfDataError> {
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

/// The place of the event that is wanted.
fn choose(name: &str, perf: &PerfFile, event: Option<&str>) -> Result<usize, PerfDataError> {
    let names: Vec<_> = perf.event_attributes().iter().map(event_name).collect();
    let found = match event {
        None => (!names.is_empty()).then_some(0),
        Some(event) => names
            .iter()
            .position(|n| n == event || n.split(':').next() == Some(event)),
    };
    found.ok_or_else(|| PerfDataError::NoEvent {
        file: name.to_owned(),
        wanted: event.unwrap_or_default().to_owned(),
        there: names.join(", "),
    })
}

fn event_name(attribute: &AttributeDescription) -> String {
    attribute.name().unwrap_or("unnamed event").to_owned()
}

fn session(perf: &PerfFile, chosen: usize) -> Session {
    let text = |field: Result<Option<&str>, linux_perf_data::Error>| {
        field.ok().flatten().unwrap_or_default().to_owned()
    };
    let attribute = &perf.event_attributes()[chosen];
    let command = perf.cmdline().ok().flatten().unwrap_or_default();
    Session {
        tool_version: format!("perf {}", text(perf.perf_version())),
        command: command.into_iter().map(str::to_owned).collect(),
        kernel: text(perf.os_release()),
        arch: text(perf.arch()),
        host: text(perf.hostname()),
        cpu_model: text(perf.cpu_desc()),
        cpus: perf
            .nr_cpus()
            .ok()
            .flatten()
            .map_or(0, |n| n.nr_cpus_online),
        events: vec![EventSource {
            name: event_name(attribute),
            frequency_hz: match attribute.attributes().sampling_policy {
                SamplingPolicy::Frequency(hz) => hz.max(1),
                SamplingPolicy::Period(_) | SamplingPolicy::NoSampling => 1,
            },
            ..EventSource::default()
        }],
        switches_unknown: !attribute
            .attributes()
            .flags
            .contains(AttrFlags::CONTEXT_SWITCH),
        ..Session::default()
    }
}

fn build_ids(perf: &PerfFile) -> HashMap<DsoKey, String> {
    // A file without the list is read as one that has none.
    let ids = perf.build_ids().unwrap_or_default().into_iter();
    ids.map(|(key, info)| (key, hex(&info.build_id))).collect()
}

/// Addresses of a sample, innermost first, and how many are the kernel's.
fn frames(sample: &Fields, in_kernel: bool) -> (Vec<u64>, u16) {
    let mut kernel = in_kernel;
    let (mut of_kernel, mut of_user) = (Vec::new(), Vec::new());
    let (chain, _) = sample.chain.as_chunks();
    for &address in chain {
        match u64::from_le_bytes(address) {
            PERF_CONTEXT_KERNEL => kernel = true,
            PERF_CONTEXT_USER => kernel = false,
            // A guest's frames lie in address spaces that no record describes.
            marker if marker >= PERF_CONTEXT_MAX => break,
            address if kernel => of_kernel.push(address),
            address => of_user.push(address),
        }
    }
    if of_kernel.is_empty() && of_user.is_empty() {
        let part = if in_kernel {
            &mut of_kernel
        } else {
            &mut of_user
        };
        part.extend(sample.address);
    }
    let kernel_frames = of_kernel.len() as u16;
    of_kernel.append(&mut of_user);
    (of_kernel, kernel_frames)
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
