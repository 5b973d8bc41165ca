//! The Firefox Profiler's processed format, by the crate of those who make it: every sample with its time, weighted by
//! what it stands for, functions in categories that are phases.
//!
//! The format is columns, so all samples are held until the end: some 40 bytes each. With more than [`MOST`] every
//! other one is left out and the others count double, as often as need be.

use super::{Moments, thread_name};
use crate::analyse::phases::PHASES;
use crate::analyse::stacks::NodeId;
use crate::analyse::tape::{Moment, Sampled};
use crate::analyse::{Profile, ThreadRow};
use crate::present::flame::colours;
use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, ReferenceTimestamp,
    SamplingInterval, StackHandle, ThreadHandle, Timestamp, WeightType,
};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::time::Duration;

/// Samples that a page of the profiler still handles well.
pub const MOST: usize = 4_000_000;

/// Holds samples until all have come.
pub struct Firefox<W> {
    out: W,
    file: fxprof_processed_profile::Profile,
    threads: Vec<ThreadHandle>,
    categories: HashMap<String, CategoryHandle>,
    phases: BTreeMap<String, String>,
    stacks: HashMap<(usize, NodeId), StackHandle>,
    /// Thread, time, stack and weight.
    samples: Vec<(usize, u64, NodeId, u64)>,
    /// One of so many is kept.
    every: u64,
    seen: u64,
    /// What one unit of weight is.
    unit: u64,
}

impl<W: Write> Firefox<W> {
    /// Begins with processes, threads and categories.
    pub fn new(out: W, profile: &Profile) -> Firefox<W> {
        let session = &profile.session;
        let hz = session
            .events
            .iter()
            .map(|e| e.frequency_hz)
            .find(|&hz| hz > 0);
        let interval = SamplingInterval::from_nanos(1_000_000_000 / hz.unwrap_or(1000));
        let started = Duration::from_nanos(session.started_unix_ns);
        let started = ReferenceTimestamp::from_duration_since_unix_epoch(started);
        let product = match session.command.first() {
            Some(command) => command.as_str(),
            None => "bypassprof",
        };
        let mut file = fxprof_processed_profile::Profile::new(product, started, interval);
        file.set_symbolicated(true);
        file.set_os_name(&format!("Linux {}", session.kernel));
        let mut categories = HashMap::new();
        for &(phase, _) in PHASES {
            let category = file.add_category(phase, colour(phase));
            categories.insert(phase.to_owned(), category);
        }
        let zero = Timestamp::from_nanos_since_reference(0);
        let mut processes = HashMap::new();
        let thread = |row: &ThreadRow| {
            let process = *processes
                .entry(row.pid)
                .or_insert_with(|| file.add_process(&thread_name(row), row.pid, zero));
            let thread = file.add_thread(process, row.tid, zero, row.pid == row.tid);
            file.set_thread_name(thread, &thread_name(row));
            file.set_thread_samples_weight_type(thread, WeightType::TracingMs);
            thread
        };
        let threads: Vec<_> = profile.threads.iter().map(thread).collect();
        Firefox {
            out,
            threads,
            categories,
            phases: colours(profile),
            stacks: HashMap::new(),
            samples: Vec::new(),
            every: 1,
            seen: 0,
            unit: if profile.is_time() { 1_000_000 } else { 1 },
            file,
        }
    }

    fn keep(&mut self, sample: &Sampled) {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.every) {
            return;
        }
        let weight = sample.period.saturating_mul(self.every);
        self.samples
            .push((sample.thread, sample.time.ns(), sample.node, weight));
        if self.samples.len() < MOST {
            return;
        }
        self.every *= 2;
        let mut odd = false;
        self.samples.retain_mut(|sample| {
            sample.3 = sample.3.saturating_mul(2);
            odd = !odd;
            odd
        });
    }

    fn stack(&mut self, thread: usize, node: NodeId, profile: &Profile) -> Option<StackHandle> {
        if node == 0 {
            return None;
        }
        if let Some(&stack) = self.stacks.get(&(thread, node)) {
            return Some(stack);
        }
        let (caller, frame) = profile.stacks.parts(node);
        // As deep as stacks are: no deeper than the recorder walks them.
        let caller = self.stack(thread, caller, profile);
        let frame = profile.stacks.get(frame);
        let category = self
            .phases
            .get(&frame.name)
            .and_then(|phase| self.categories.get(phase));
        let category = category.copied().unwrap_or(CategoryHandle::OTHER);
        let name = self.file.intern_string(&frame.name);
        let handle = self.threads[thread];
        let frame = self.file.intern_frame(
            handle,
            FrameInfo {
                frame: Frame::Label(name),
                category_pair: category.into(),
                flags: FrameFlags::empty(),
            },
        );
        let stack = self.file.intern_stack(handle, caller, frame);
        self.stacks.insert((thread, node), stack);
        Some(stack)
    }
}

impl<W: Write> Moments for Firefox<W> {
    fn moment(&mut self, moment: &Moment, _: &Profile) -> io::Result<()> {
        if let Moment::Sample(sample) = moment {
            self.keep(sample);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, profile: &Profile) -> io::Result<()> {
        for (thread, time, node, weight) in std::mem::take(&mut self.samples) {
            let stack = self.stack(thread, node, profile);
            let weight = (weight + self.unit / 2) / self.unit;
            self.file.add_sample(
                self.threads[thread],
                Timestamp::from_nanos_since_reference(time),
                stack,
                CpuDelta::ZERO,
                i32::try_from(weight).unwrap_or(i32::MAX),
            );
        }
        serde_json::to_writer(&mut self.out, &self.file)?;
        self.out.flush()
    }
}

/// The nearest of the profiler's colours to a phase's in pictures.
fn colour(phase: &str) -> CategoryColor {
    match phase {
        "idle" => CategoryColor::Transparent,
        "poll" | "poll.side" => CategoryColor::Gray,
        "driver_rx" | "driver_tx" | "recorder" => CategoryColor::LightBlue,
        "eth_ip" | "tcp_timer" => CategoryColor::LightGreen,
        "tcp_rx" | "tcp_tx" | "ack_only" => CategoryColor::Green,
        "api" => CategoryColor::Yellow,
        "app" => CategoryColor::Orange,
        "csum" | "alloc" => CategoryColor::Brown,
        "copy" => CategoryColor::LightRed,
        "sync" => CategoryColor::Red,
        "irq" | "kernel_syscall" => CategoryColor::Purple,
        "sched" => CategoryColor::Magenta,
        _ => CategoryColor::DarkGray,
    }
}
