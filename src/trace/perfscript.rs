//! The text of `perf script` as records: times, CPUs and periods as printed, functions by the names perf gave them.
//!
//! In: lines; out: records for a [`Writer`], a batch at a time. Each module becomes a file of its own in which every
//! name has a position, so that everything right of the waist goes its usual way. Memory grows with the distinct names.
//! It refuses to know what was not printed: addresses are not looked up again.

mod line;

use super::lines::{LineError, Lines};
use super::record::{
    AddressNames, End, EventSource, Mapping, Meta, NamedFrame, Notice, Pid, Sample, Session,
    Symbols, Thread, Tid,
};
use super::{WriteError, Writer};
use crate::units::{Avma, FileOffset, Nanos};
use line::{Head, is_frame, without_offset};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead};

/// Why a text does not become a recording.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A line is not what perf prints.
    #[error("{file}:{line}: {what}")]
    Line {
        /// The file.
        file: String,
        /// Its line, from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The text could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The recording could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Each module's addresses begin at a multiple of this.
const MODULE: u64 = 1 << 32;
const KERNEL_START: u64 = 0xffff_8000_0000_0000;
/// Between two names: room for a return address behind a function's first byte.
const STEP: u64 = 16;
/// Names of one module.
const MOST_NAMES: u64 = MODULE / STEP - 1;
/// Modules that have room in either half of the address space.
const MOST_MODULES: usize = 30_000;
/// Frames of one sample.
const MOST_FRAMES: usize = 4096;
const BATCH: usize = 4096;

/// One module: its names by position.
struct Module {
    path: String,
    kernel: bool,
    /// Name or, where perf had none, `None`.
    names: Vec<Option<String>>,
    ids: HashMap<Option<String>, u64>,
}

/// A sample whose stack is still being read.
struct Open {
    sample: Sample,
    user: Vec<u64>,
    /// Names inlined into the next frame that has a module.
    inlined: Vec<String>,
}

/// Texts on their way into a recording.
pub struct Script<'a> {
    writer: &'a mut Writer,
    session: Session,
    begun: bool,
    modules: Vec<Module>,
    by_path: HashMap<(String, bool), usize>,
    mapped: HashSet<(Pid, usize)>,
    threads: BTreeMap<(Pid, Tid), String>,
    samples: Vec<Sample>,
    written: u64,
    skipped: BTreeMap<String, u64>,
    last: Nanos,
}

impl<'a> Script<'a> {
    /// Samples of `event` will be written to `writer`; without one, of the first event that is printed.
    pub fn new(writer: &'a mut Writer, event: Option<&str>) -> Script<'a> {
        let session = Session {
            tool_version: env!("CARGO_PKG_VERSION").into(),
            command: vec!["imported".into()],
            switches_unknown: true,
            events: event.map(source).into_iter().collect(),
            ..Session::default()
        };
        Script {
            writer,
            session,
            begun: false,
            modules: Vec::new(),
            by_path: HashMap::new(),
            mapped: HashSet::new(),
            threads: BTreeMap::new(),
            samples: Vec::new(),
            written: 0,
            skipped: BTreeMap::new(),
            last: Nanos::default(),
        }
    }

    /// Reads one text.
    pub fn read(&mut self, file: &str, text: impl BufRead) -> Result<(), ScriptError> {
        let mut open: Option<Open> = None;
        // Frames of another event's sample are passed over with it.
        let mut inside = false;
        let mut lines = Lines::of(text);
        loop {
            let at = lines.number() + 1;
            let wrong = |what| ScriptError::Line {
                file: file.to_owned(),
                line: at,
                what,
            };
            let words = lines.line().map_err(|e| match e {
                LineError::Long => wrong(LineError::LONG),
                LineError::Read(source) => ScriptError::Read {
                    file: file.to_owned(),
                    source,
                },
            })?;
            let Some(words) = words else {
                return Ok(self.close(open)?);
            };
            let trimmed = words.trim_end();
            if trimmed.trim_start().is_empty() {
                self.close(open.take())?;
                inside = false;
            } else if trimmed.starts_with('#') {
                self.header(trimmed);
            } else if inside && trimmed.starts_with([' ', '\t']) && is_frame(trimmed) {
                if let Some(open) = &mut open {
                    self.frame(open, trimmed.trim_start()).map_err(wrong)?;
                }
            } else {
                self.close(open.take())?;
                let head = Head::parse(trimmed).ok_or_else(|| {
                    wrong("no sample of `perf script`: it should be `comm PID/TID [CPU] SECONDS: PERIOD EVENT:`")
                })?;
                open = self.begin(&head)?;
                inside = true;
            }
        }
    }

    /// Facts of `perf script --header`.
    fn header(&mut self, line: &str) {
        let Some((key, value)) = line.trim_start_matches(['#', ' ']).split_once(" : ") else {
            return;
        };
        let field = match key.trim() {
            "hostname" => &mut self.session.host,
            "os release" => &mut self.session.kernel,
            "arch" => &mut self.session.arch,
            "cpudesc" => &mut self.session.cpu_model,
            _ => return,
        };
        value.trim().clone_into(field);
    }

    fn begin(&mut self, head: &Head) -> Result<Option<Open>, WriteError> {
        if self.session.events.is_empty() {
            self.session.events.push(source(head.event));
        }
        let wanted = &self.session.events[0].name;
        let bare = |name: &str| name.trim_end_matches(':').to_owned();
        let fits = bare(head.event) == *wanted || head.event.split(':').next() == Some(wanted);
        if !fits {
            *self.skipped.entry(bare(head.event)).or_default() += 1;
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.session.started = head.time;
            self.writer.meta(&Meta::Session(self.session.clone()))?;
        }
        let key = (head.pid, head.tid);
        if self.threads.get(&key).is_none_or(|name| name != head.comm) {
            self.threads.insert(key, head.comm.to_owned());
            self.writer.meta(&Meta::Thread(Thread {
                time: head.time,
                pid: head.pid,
                tid: head.tid,
                name: head.comm.to_owned(),
                ..Thread::default()
            }))?;
        }
        self.last = self.last.max(head.time);
        Ok(Some(Open {
            sample: Sample {
                time: head.time,
                pid: head.pid,
                tid: head.tid,
                cpu: head.cpu,
                period: head.period.max(1),
                ..Sample::default()
            },
            user: Vec::new(),
            inlined: Vec::new(),
        }))
    }

    /// `ADDRESS NAME+0xOFFSET (MODULE)`, innermost first.
    fn frame(&mut self, open: &mut Open, line: &str) -> Result<(), &'static str> {
        const FORM: &str = "no frame: it should be `ADDRESS NAME (MODULE)`";
        let frames = open.sample.frames.len() + open.user.len() + open.inlined.len();
        if frames >= MOST_FRAMES {
            return Err("more than 4096 frames");
        }
        let (address, rest) = line.split_once(char::is_whitespace).ok_or(FORM)?;
        let address = u64::from_str_radix(address, 16).map_err(|_| FORM)?;
        let (name, path) = match rest.rfind(" (") {
            Some(at) => (&rest[..at], rest[at + 2..].trim_end_matches(')')),
            None => (rest, "[unknown]"),
        };
        let name = without_offset(name.trim());
        if path == "inlined" {
            open.inlined.push(name.to_owned());
            return Ok(());
        }
        let kernel = address >= KERNEL_START || path.starts_with("[kernel");
        let known = (name != "[unknown]").then(|| name.to_owned());
        for name in std::mem::take(&mut open.inlined)
            .into_iter()
            .map(Some)
            .chain([known])
        {
            let position = self
                .position(path, kernel, name)
                .ok_or("more names than any program has")?;
            let part = match kernel {
                true => &mut open.sample.frames,
                false => &mut open.user,
            };
            let return_address = u64::from(!part.is_empty());
            part.push(position + return_address);
        }
        Ok(())
    }

    /// Where a name lies.
    fn position(&mut self, path: &str, kernel: bool, name: Option<String>) -> Option<u64> {
        let next = self.modules.len();
        let module = *self
            .by_path
            .entry((path.to_owned(), kernel))
            .or_insert(next);
        if module == next {
            self.modules.push(Module {
                path: path.to_owned(),
                kernel,
                names: Vec::new(),
                ids: HashMap::new(),
            });
        }
        let base = base(module, kernel);
        let module = &mut self.modules[module];
        let id = match module.ids.get(&name) {
            Some(&id) => id,
            None => {
                let id = module.names.len() as u64;
                module.names.push(name.clone());
                module.ids.insert(name, id);
                id
            }
        };
        (id < MOST_NAMES && next < MOST_MODULES).then(|| base + id * STEP)
    }

    fn close(&mut self, open: Option<Open>) -> Result<(), WriteError> {
        let Some(Open {
            mut sample,
            mut user,
            ..
        }) = open
        else {
            return Ok(());
        };
        sample.kernel_frames = sample.frames.len() as u16;
        sample.frames.append(&mut user);
        for &address in &sample.frames {
            let kernel = address >= KERNEL_START;
            let start = if kernel { KERNEL_START } else { MODULE };
            let module = ((address - start) / MODULE) as usize;
            let pid = if kernel { Mapping::KERNEL } else { sample.pid };
            if self.mapped.insert((pid, module)) {
                self.writer.meta(&Meta::Mapping(Mapping {
                    time: Nanos::default(),
                    pid,
                    start: Avma(base(module, kernel)),
                    len: MODULE,
                    offset: FileOffset(0),
                    path: self.modules[module].path.clone(),
                    build_id: String::new(),
                }))?;
            }
        }
        self.samples.push(sample);
        self.written += 1;
        if self.samples.len() == BATCH {
            self.writer.samples(&self.samples)?;
            self.samples.clear();
        }
        Ok(())
    }

    /// Writes what is left and the names; gives how many samples there were, and of which event.
    pub fn finish(self) -> Result<(u64, String), WriteError> {
        self.writer.samples(&self.samples)?;
        for (at, module) in self.modules.iter().enumerate() {
            let first = if module.kernel { base(at, true) } else { 0 };
            let of_module = module.path.rsplit('/').next().unwrap_or_default();
            let of_module = format!("[{}]", of_module.trim_matches(['[', ']']));
            let address = |(id, name): (usize, &Option<String>)| {
                // What perf had no name for is its module's.
                let name = name.as_ref().unwrap_or(&of_module);
                let made = name.strip_prefix(AddressNames::NO_SYMBOL);
                let made = made.and_then(|m| m.rsplit(' ').next());
                AddressNames {
                    at: first + id as u64 * STEP,
                    frames: vec![NamedFrame {
                        name: made.unwrap_or(name).to_owned(),
                        ..NamedFrame::default()
                    }],
                    why: made.map(|_| "it had no symbol where the text was made".to_owned()),
                }
            };
            self.writer.meta(&Meta::Symbols(Symbols {
                path: module.path.clone(),
                build_id: String::new(),
                addresses: module.names.iter().enumerate().map(address).collect(),
            }))?;
        }
        let event = self
            .session
            .events
            .first()
            .map_or_else(String::new, |e| e.name.clone());
        let mut text =
            "imported from the text of perf script: no switches, no probes; all about states is an estimate".to_owned();
        for (other, samples) in &self.skipped {
            text += &format!("; {samples} samples of {other} left out (--event chooses)");
        }
        self.writer.meta(&Meta::Notice(Notice {
            id: "imported-perf-script".into(),
            text,
        }))?;
        self.writer.meta(&Meta::End(End {
            time: self.last,
            ..End::default()
        }))?;
        Ok((self.written, event))
    }
}

fn base(module: usize, kernel: bool) -> u64 {
    let start = if kernel { KERNEL_START } else { MODULE };
    start + module as u64 * MODULE
}

fn source(event: &str) -> EventSource {
    EventSource {
        name: event.trim_end_matches(':').to_owned(),
        frequency_hz: 1,
        ..EventSource::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn import(text: &[u8]) -> Result<(u64, String), ScriptError> {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&dir.path().join("a.mcap")).unwrap();
        let mut script = Script::new(&mut writer, None);
        script.read("a", text)?;
        Ok(script.finish()?)
    }

    /// A mistake is named by file and line.
    #[test]
    fn mistakes() {
        let error = import(b"sh 1 2.5: 1 e:\n\t40 main (a)\n\tnothing\n").unwrap_err();
        assert!(
            error.to_string().starts_with("a:3: no sample of"),
            "{error}"
        );
    }

    /// Inlined functions are frames: a stack has no more of both than it may.
    #[test]
    fn frames_without_end() {
        let inlined = "\t40 f (inlined)\n".repeat(MOST_FRAMES);
        let error = import(format!("sh 1 2.5: 1 e:\n{inlined}\t40 main (a)\n").as_bytes());
        assert!(error.unwrap_err().to_string().contains("4096 frames"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the text, it is read or refused; samples that were begun are counted.
        #[test]
        fn any_text(lines in proptest::collection::vec("(sh 1/2 \\[00[01]\\] 1\\.[0-9]{1,7}: [0-9]{1,3} (e|f):|\\t[0-9a-f]{1,17} [a-z+]{1,3}(\\+0x[0-9]{1,2})? \\((inlined|lib|\\[k\\])\\)|[ -~]{0,12}|)", 0..40)) {
            let text = lines.join("\n");
            let heads = lines.iter().filter(|l| l.starts_with("sh ")).count() as u64;
            if let Ok((samples, _)) = import(text.as_bytes()) {
                prop_assert!(samples <= heads.max(lines.len() as u64));
            }
        }
    }
}
