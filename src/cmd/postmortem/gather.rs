//! All that is left of one process, into one recording.
//!
//! In: directories of rings, core dumps, recordings; out: their records, one after the other, with stacks and names of
//! what a core holds. Rings that a core names and does not hold are looked for where they were.

use super::super::naming::LocalNames;
use super::super::{Failure, load};
use crate::collect::core::Core;
use crate::collect::remains::{self, RemainsError};
use crate::resolve::{Folders, StackWalker};
use crate::trace::record::{LastStack, Meta, Missing, Pid, Sample, Session, Thread};
use crate::trace::{Message, Reader, Symbolizer, Writer};
use crate::units::Nanos;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was named on the command line, opened.
#[derive(Default)]
pub struct Gathered {
    directories: Vec<PathBuf>,
    cores: Vec<Core>,
    recordings: Vec<Reader>,
}

impl Gathered {
    /// Opens everything, so that what cannot be opened is said before anything is written.
    pub fn open(paths: &[PathBuf]) -> Result<Gathered, Failure> {
        let mut gathered = Gathered::default();
        let mut seen = BTreeSet::new();
        for path in paths {
            if !seen.insert(real(path)) {
                // Said twice, it happened once.
                continue;
            }
            if path.is_dir() {
                gathered.directories.push(path.clone());
            } else if Core::is_one(path) {
                let core = Core::open(path).map_err(Failure::failed)?;
                gathered.cores.push(core);
            } else {
                let reader = Reader::salvage(path).map_err(|e| load::unreadable(&e))?;
                gathered.recordings.push(reader);
            }
        }
        Ok(gathered)
    }

    /// Writes it; gives what is damaged in recordings.
    pub fn write(&self, pid: Option<Pid>, writer: &mut Writer) -> Result<Option<String>, Failure> {
        let mut next_ring = 0;
        for reader in &self.recordings {
            next_ring = copy(reader, next_ring, writer)?;
        }
        let (mut crashes, mut began) = (Vec::new(), Vec::new());
        let (mut seen, mut known) = (BTreeSet::new(), BTreeSet::new());
        for path in &self.directories {
            seen.insert(real(path));
            let pid = pid.or_else(|| Some(self.cores.first()?.pid).filter(|&pid| pid > 0));
            let found = remains::of_directory(path, pid, &known, &mut next_ring, writer);
            if let Some(found) = found.map_err(|e| failure(&e))? {
                remains::examined(path, found.key, None);
                known.insert(found.key);
                crashes.push(found.crash);
                began.extend(found.began);
            }
        }
        for core in &self.cores {
            let aside = Aside::make()?;
            let of_core = remains::of_core(core, &known, &aside.0, &mut next_ring, writer);
            let mut of_core = of_core.map_err(|e| failure(&e))?;
            let missing = &mut of_core.crash.missing;
            let mut directories: BTreeSet<PathBuf> = BTreeSet::new();
            let parents = of_core.left_out.iter().filter_map(|p| p.parent());
            directories.extend(parents.map(Path::to_path_buf));
            for directory in directories {
                if !seen.insert(real(&directory)) {
                    continue;
                }
                let pid = Some(core.pid);
                let found = remains::of_directory(&directory, pid, &known, &mut next_ring, writer);
                match found {
                    Ok(None) => {}
                    Ok(Some(found)) => {
                        remains::examined(&directory, found.key, Some(core));
                        known.insert(found.key);
                        crashes.push(found.crash);
                        began.extend(found.began);
                    }
                    Err(RemainsError::Write(e)) => return Err(Failure::failed(e)),
                    Err(why) => missing.push(left_out(&of_core.left_out, &why.to_string())),
                }
            }
            missing.extend(stacks(core, writer)?);
            began.extend(of_core.began);
            crashes.push(of_core.crash);
        }
        if self.recordings.is_empty() {
            let session = self.session(began.into_iter().min());
            writer
                .meta(&Meta::Session(session))
                .map_err(Failure::failed)?;
        }
        // A core knows most.
        for crash in crashes.into_iter().rev() {
            writer.meta(&Meta::Crash(crash)).map_err(Failure::failed)?;
        }
        let damages = self
            .recordings
            .iter()
            .filter_map(|r| r.meta().damage_line());
        let damages: Vec<String> = damages.collect();
        Ok((!damages.is_empty()).then(|| damages.join("; ")))
    }

    /// It begins with its oldest event.
    fn session(&self, began: Option<Nanos>) -> Session {
        let core = self.cores.first();
        Session {
            started: began.unwrap_or_default(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            command: core.map_or_else(Vec::new, |c| vec![c.arguments.clone()]),
            pids: core.map_or_else(Vec::new, |c| vec![c.pid]),
            arch: core.map_or(std::env::consts::ARCH, |c| c.arch).to_owned(),
            ..Session::default()
        }
    }
}

/// A path by which a thing with several names is known.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

fn failure(error: &RemainsError) -> Failure {
    let failure = Failure::failed(error);
    match error {
        RemainsError::Running { pid, .. } => failure.hint(format!(
            "`bypassprof snapshot -p {pid}`: it needs no post mortem yet"
        )),
        RemainsError::Several { .. } => failure.hint("--pid with one of them"),
        _ => failure,
    }
}

/// A recording's messages; gives the number for the next ring.
fn copy(reader: &Reader, rings: u32, writer: &mut Writer) -> Result<u32, Failure> {
    let mut next = rings;
    for message in reader.messages() {
        let message = message.map_err(|e| load::unreadable(&e))?;
        let written = match &message {
            Message::Meta(json) => match Meta::from_json(json) {
                // The end comes at the end; numbers of rings must not meet.
                Ok(Meta::End(end)) => {
                    let crash = crate::trace::record::Crash {
                        exit_code: end.exit_code,
                        signal: end.signal,
                        told_by: "the recorder".to_owned(),
                        ..Default::default()
                    };
                    writer.meta(&Meta::Crash(crash))
                }
                Ok(Meta::Ring(mut ring)) => {
                    ring.ring = ring.ring.saturating_add(rings);
                    next = next.max(ring.ring.saturating_add(1));
                    writer.meta(&Meta::Ring(ring))
                }
                Ok(Meta::RingTotals(mut totals)) => {
                    totals.ring = totals.ring.saturating_add(rings);
                    writer.meta(&Meta::RingTotals(totals))
                }
                _ => writer.encoded_meta(json),
            },
            Message::Samples(samples) => writer.samples(samples),
            Message::Switches(switches) => writer.switches(switches),
            Message::Slots(ring, block) => {
                writer.slots(ring.saturating_add(rings), block.first, &block.slots)
            }
        };
        written.map_err(Failure::failed)?;
    }
    Ok(next)
}

fn left_out(rings: &[PathBuf], why: &str) -> Missing {
    let names: Vec<String> = rings.iter().map(|r| r.display().to_string()).collect();
    Missing {
        what: format!("the rings {}", names.join(", ")),
        how: format!(
            "the core lists them as mapped and does not hold their memory, and where they were there is nothing to read \
             ({why}). To have them in cores, set bit 3 (shared mappings of files): `echo 0x3b > \
             /proc/self/coredump_filter` in the shell that starts the program"
        ),
    }
}

/// Threads, their stacks and the names of what is in them; gives what could not be had.
pub fn stacks(core: &Core, writer: &mut Writer) -> Result<Vec<Missing>, Failure> {
    let mappings = core.mappings();
    let mut names = LocalNames::new(Folders::default());
    let mut metas = vec![Meta::Thread(Thread {
        pid: core.pid,
        tid: core.pid,
        name: core.name.clone(),
        ..Thread::default()
    })];
    metas.extend(mappings.iter().cloned().map(Meta::Mapping));
    let mut walker = StackWalker::new(core.arch, &mappings);
    for thread in &core.threads {
        let (frames, end) = walker.walk(thread.registers, core);
        names.sample(&Sample {
            pid: core.pid,
            frames: frames.clone(),
            ..Sample::default()
        });
        metas.push(Meta::LastStack(LastStack {
            pid: core.pid,
            tid: thread.tid,
            frames,
            end,
        }));
    }
    metas.iter().for_each(|meta| names.meta(meta));
    metas.extend(names.finish().into_iter().map(Meta::Symbols));
    for meta in &metas {
        writer.meta(meta).map_err(Failure::failed)?;
    }
    let mut missing: Vec<Missing> = (walker.without.into_iter())
        .map(|(path, why)| Missing {
            what: format!("unwind tables and names of {path}"),
            how: format!("{why}; frame pointers were followed through it"),
        })
        .collect();
    let unsure: BTreeSet<&str> = (mappings.iter())
        .filter(|m| m.build_id.is_empty() && m.path.starts_with('/'))
        .map(|m| m.path.as_str())
        .collect();
    if !unsure.is_empty() {
        let files: Vec<&str> = unsure.into_iter().collect();
        missing.push(Missing {
            what: format!("proof that {} is what ran", files.join(", ")),
            how: "the core does not hold its first page, or it was linked without a build id: set bit 4 of \
                  coredump_filter, link with -Wl,--build-id"
                .to_owned(),
        });
    }
    Ok(missing)
}

/// A directory for rings of a core, which goes away.
struct Aside(PathBuf);

impl Aside {
    fn make() -> Result<Aside, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let base = std::env::temp_dir();
        for n in 0..1000u32 {
            let path = base.join(format!("bypassprof-core-{}-{n}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Aside(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    let why = format!("cannot make a directory in {}: {e}", base.display());
                    return Err(Failure::failed(why));
                }
            }
        }
        Err(Failure::failed(format!(
            "{} is full of directories named bypassprof-core-*",
            base.display()
        ))
        .hint("TMPDIR with another directory"))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What is left over is only in the way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
