//! Folded stacks of other tools (`comm;frame;frame WEIGHT`) as records: a recording without times, switches and probes.
//!
//! In: text; out: records for a [`Writer`]. Names become positions in a file that never was, so that everything right of
//! the waist goes its usual way. It refuses to know what the names mean.

use super::lines::{LineError, Lines};
use super::record::{
    AddressNames, End, EventSource, Mapping, Meta, NamedFrame, Notice, Pid, Sample, Session,
    Symbols, Thread, Tid,
};
use super::{WriteError, Writer};
use crate::units::{Avma, FileOffset};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::BufRead;

/// Path of the file that names are put into; whether a function is the kernel's is not known there.
pub const FOLDED: &str = "[folded]";
/// The same for functions that are marked as the kernel's.
const KERNEL: &str = "[kernel.folded]";
const START: u64 = 0x10_0000;
const KERNEL_START: u64 = 0xffff_8000_0000_0000;
/// Between two names: room for a return address behind a function's first byte.
const STEP: u64 = 16;
/// Most samples made of one line; what weighs more has samples of a longer period.
const MOST_SAMPLES: u64 = 20_000;
/// Most frames of one line.
const MOST_FRAMES: usize = 4096;

/// A line that is not a folded stack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct FoldedError {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

struct Line {
    thread: (Pid, Tid),
    /// Outermost first, kernel frames marked.
    frames: Vec<u32>,
    kernel_frames: u16,
    weight: u64,
}

/// Stacks read so far.
#[derive(Default)]
pub struct Folded {
    threads: BTreeMap<(Pid, Tid), String>,
    unnumbered: HashMap<String, (Pid, Tid)>,
    names: Vec<String>,
    ids: HashMap<String, u32>,
    lines: Vec<Line>,
}

/// Numbers given to threads whose stacks carry none: above those the kernel gives.
const FIRST_UNNUMBERED: Tid = 1 << 30;

impl Folded {
    /// Adds the stacks of one file. Empty lines and lines that begin with `#` are skipped.
    pub fn read(&mut self, file: &str, text: impl BufRead) -> Result<(), FoldedError> {
        let mut lines = Lines::of(text);
        loop {
            let at = lines.number() + 1;
            let wrong = |what: &str| FoldedError {
                file: file.to_owned(),
                line: at,
                what: what.to_owned(),
            };
            let line = lines.line().map_err(|e| match e {
                LineError::Long => wrong(LineError::LONG),
                LineError::Read(source) => wrong(&format!("it cannot be read: {source}")),
            })?;
            let Some(line) = line else {
                return Ok(());
            };
            let line = line.trim_end_matches(['\r', '\n']);
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let (stack, weight) = line
                .rsplit_once(' ')
                .ok_or_else(|| wrong("no folded stack: it should be `comm;frame;frame NUMBER`"))?;
            let weight: u64 = weight
                .parse()
                .map_err(|_| wrong("the last word is no weight: it should be a whole number"))?;
            if stack.split(';').count() > MOST_FRAMES {
                return Err(wrong("more than 4096 frames"));
            }
            if !stack.trim().is_empty() {
                self.add(stack.trim(), weight);
            }
        }
    }

    fn add(&mut self, stack: &str, weight: u64) {
        let mut frames = stack.split(';').map(str::trim);
        let thread = self.thread(frames.next().unwrap_or_default());
        let mut ids = Vec::new();
        let mut kernel = Vec::new();
        for frame in frames.filter(|f| !f.is_empty()) {
            let (name, is_kernel) = unmarked(frame);
            kernel.push(is_kernel);
            ids.push(self.name(name));
        }
        let kernel_frames = kernel.iter().rev().take_while(|k| **k).count();
        self.lines.push(Line {
            thread,
            frames: ids,
            kernel_frames: kernel_frames as u16,
            weight,
        });
    }

    /// `comm-pid/tid`, `comm-?/tid`, `comm-tid` or a bare name.
    fn thread(&mut self, root: &str) -> (Pid, Tid) {
        let numbered = root.rsplit_once('-').and_then(|(comm, numbers)| {
            let (pid, tid) = numbers.split_once('/').unwrap_or((numbers, numbers));
            let tid: Tid = tid.parse().ok()?;
            let pid = if pid == "?" { tid } else { pid.parse().ok()? };
            Some((comm, (pid, tid)))
        });
        let (comm, key) = match numbered {
            Some(numbered) => numbered,
            None => {
                let next = FIRST_UNNUMBERED + self.unnumbered.len() as Tid;
                let known = self.unnumbered.entry(root.to_owned());
                (root, *known.or_insert((next, next)))
            }
        };
        self.threads.entry(key).or_insert_with(|| comm.to_owned());
        key
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// Whether there is no stack.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What one sample weighs, as far as the weights show: nearly the smallest, since stacks seen once are common and a
    /// few samples are cut short when a counter is switched on.
    pub fn period(&self) -> u64 {
        let mut weights: Vec<_> = self
            .lines
            .iter()
            .map(|l| l.weight)
            .filter(|w| *w > 0)
            .collect();
        weights.sort_unstable();
        weights.get(weights.len() / 20).copied().unwrap_or(1)
    }

    /// Writes a recording of them. `event` is what weights count; each line becomes as many samples as fit into its
    /// weight with `period`.
    pub fn write(&self, writer: &mut Writer, event: &str, period: u64) -> Result<u64, WriteError> {
        for meta in self.metas(event) {
            writer.meta(&meta)?;
        }
        let mut samples = Vec::new();
        let mut written = 0;
        for line in self.lines.iter().filter(|l| l.weight > 0) {
            let weight = line.weight;
            let count = (weight + period / 2) / period.max(1);
            let count = count.clamp(1, MOST_SAMPLES.min(weight));
            for n in 0..count {
                // Parts of a whole, to the last unit.
                let part = |n: u64| (u128::from(weight) * u128::from(n) / u128::from(count)) as u64;
                samples.push(self.sample(line, part(n + 1) - part(n)));
            }
            written += count;
            if samples.len() >= 4096 {
                writer.samples(&samples)?;
                samples.clear();
            }
        }
        writer.samples(&samples)?;
        writer.meta(&Meta::End(End::default()))?;
        Ok(written)
    }

    fn sample(&self, line: &Line, period: u64) -> Sample {
        let kernel_frames = usize::from(line.kernel_frames);
        let innermost_first = line.frames.iter().rev().enumerate();
        let address = |(at, &id): (usize, &u32)| {
            let start = if at < kernel_frames {
                KERNEL_START
            } else {
                START
            };
            let first = at == 0 || at == kernel_frames;
            start + u64::from(id) * STEP + u64::from(!first)
        };
        Sample {
            pid: line.thread.0,
            tid: line.thread.1,
            period,
            frames: innermost_first.map(address).collect(),
            kernel_frames: line.kernel_frames,
            ..Sample::default()
        }
    }

    fn metas(&self, event: &str) -> Vec<Meta> {
        let session = Session {
            tool_version: env!("CARGO_PKG_VERSION").into(),
            command: vec!["imported".into()],
            events: vec![EventSource {
                name: event.to_owned(),
                frequency_hz: 1,
                ..EventSource::default()
            }],
            ..Session::default()
        };
        let notice = Notice {
            id: "imported-folded".into(),
            text: "imported from folded stacks: no times, no switches, no probes; all about states is an estimate".into(),
        };
        let mut metas = vec![Meta::Session(session), Meta::Notice(notice)];
        let len = self.names.len() as u64 * STEP + STEP;
        let mut mapped = std::collections::BTreeSet::new();
        for (&(pid, tid), name) in &self.threads {
            metas.push(Meta::Thread(Thread {
                pid,
                tid,
                name: name.clone(),
                ..Thread::default()
            }));
            if mapped.insert(pid) {
                metas.push(mapping(pid, START, len, FOLDED));
            }
        }
        metas.push(mapping(Mapping::KERNEL, KERNEL_START, len, KERNEL));
        metas.push(self.symbols(FOLDED, 0));
        if self.lines.iter().any(|l| l.kernel_frames > 0) {
            metas.push(self.symbols(KERNEL, KERNEL_START));
        }
        metas
    }

    fn symbols(&self, path: &str, base: u64) -> Meta {
        let at = |id: usize| base + id as u64 * STEP;
        let names = self
            .names
            .iter()
            .enumerate()
            .map(|(id, name)| AddressNames {
                at: at(id),
                frames: vec![NamedFrame {
                    name: name.clone(),
                    ..NamedFrame::default()
                }],
                why: None,
            });
        Meta::Symbols(Symbols {
            path: path.into(),
            build_id: String::new(),
            addresses: names.collect(),
        })
    }
}

fn mapping(pid: Pid, start: u64, len: u64, path: &str) -> Meta {
    Meta::Mapping(Mapping {
        pid,
        start: Avma(start),
        len,
        offset: FileOffset(0),
        path: path.into(),
        ..Mapping::default()
    })
}

/// A frame without the mark of its kind (`_[k]`, `_[j]`, `_[i]`), and whether it is the kernel's.
fn unmarked(frame: &str) -> (&str, bool) {
    match frame.strip_suffix("_[k]") {
        Some(name) => (name, true),
        None => (
            frame
                .strip_suffix("_[j]")
                .or(frame.strip_suffix("_[i]"))
                .unwrap_or(frame),
            false,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Folded {
        let mut folded = Folded::default();
        folded.read("a.folded", text.as_bytes()).unwrap();
        folded
    }

    /// Threads, kernel marks and weights come out as they went in.
    #[test]
    fn lines() {
        let folded =
            folded("a b-?/7;main;x_[k];y_[k] 30\n\n# c\nc-5/6;main 10\nbare;f 20\nbare;g 1\n");
        let names: Vec<_> = folded
            .threads
            .iter()
            .map(|(k, n)| (*k, n.as_str()))
            .collect();
        let bare = (FIRST_UNNUMBERED, FIRST_UNNUMBERED);
        assert_eq!(names, [((5, 6), "c"), ((7, 7), "a b"), (bare, "bare")]);
        let sample = folded.sample(&folded.lines[0], 30);
        assert_eq!((sample.frames.len(), sample.kernel_frames), (3, 2));
        assert_eq!(sample.frames[0], KERNEL_START + 2 * STEP);
        assert_eq!(sample.frames[1], KERNEL_START + STEP + 1);
        assert_eq!(sample.frames[2], START);
        assert_eq!(folded.period(), 1);
    }

    /// What is no folded stack is named by file and line.
    #[test]
    fn mistakes() {
        let mut folded = Folded::default();
        let error = folded.read("x", &b"a;b 1\nnothing\n"[..]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x:2: no folded stack: it should be `comm;frame;frame NUMBER`"
        );
        let error = folded.read("x", &b"a;b 1.5"[..]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x:1: the last word is no weight: it should be a whole number"
        );
    }
}
