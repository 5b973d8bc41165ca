//! What a process that is gone left behind, as records: the rings in its session directory, or its core dump.
//!
//! In: a directory or a core; out: records in a recording, and what could not be had. It refuses to walk stacks and to
//! name functions: that is done by whoever has both a core and the files that ran.

use super::clock;
use super::core::{Core, rings};
use super::probes::look::{self, Looked, Subject};
use super::probes::{is_gone, is_of_this_boot};
use crate::trace::record::{Crash, Meta, Missing, Pid, Thread};
use crate::trace::{WriteError, Writer};
use crate::units::Nanos;
use bypassprof_ring::reader::{ReadError, SessionDir, Writing};
use bypassprof_wire::names::ProcessKey;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum RemainsError {
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(#[from] ReadError),
    /// There is nothing in it.
    #[error("{} holds no rings of a program with probes", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// All that is in it is of programs that run.
    #[error("process {pid}, whose rings {} holds, still runs", path.display())]
    Running {
        /// The directory.
        path: PathBuf,
        /// The process.
        pid: Pid,
    },
    /// It holds more than one.
    #[error("{} holds the rings of several processes that are gone: {}", path.display(), list(pids))]
    Several {
        /// The directory.
        path: PathBuf,
        /// The processes.
        pids: Vec<Pid>,
    },
    /// Rings of a core could not be put into files.
    #[error("cannot put rings aside in {}: {source}", path.display())]
    Aside {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The recording could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The first few of them.
fn list(pids: &[Pid]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<_> = pids.iter().take(SHOWN).map(Pid::to_string).collect();
    match pids.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What a directory gave.
#[derive(Debug)]
pub struct OfDirectory {
    /// The process.
    pub key: ProcessKey,
    /// Why it ended, and what could not be had.
    pub crash: Crash,
    /// When the oldest event was.
    pub began: Option<Nanos>,
}

/// Copies the rings of a process that is gone; of `pid`, if several are; of none whose rings are `known`.
pub fn of_directory(
    path: &Path,
    pid: Option<Pid>,
    known: &BTreeSet<ProcessKey>,
    next_ring: &mut u32,
    writer: &mut Writer,
) -> Result<Option<OfDirectory>, RemainsError> {
    let dir = SessionDir::look(path)?;
    let with_rings = dir.ring_files()?.into_iter().map(|(key, _)| key);
    let mut keys: BTreeSet<ProcessKey> = dir.processes()?.into_iter().chain(with_rings).collect();
    keys.retain(|key| pid.is_none_or(|pid| pid == key.pid));
    let Some(&first) = keys.first() else {
        let path = path.to_path_buf();
        return Err(RemainsError::Empty { path });
    };
    keys.retain(|&key| is_gone(&dir, key));
    let key = match (keys.first(), keys.len()) {
        (Some(&key), 1) => key,
        (None, _) => {
            return Err(RemainsError::Running {
                path: path.to_path_buf(),
                pid: first.pid,
            });
        }
        _ => {
            return Err(RemainsError::Several {
                path: path.to_path_buf(),
                pids: keys.iter().map(|k| k.pid).collect(),
            });
        }
    };
    if known.contains(&key) {
        return Ok(None);
    }
    let (looked, began) = looked(&dir, key, key.pid, next_ring, writer)?;
    let mut crash = Crash {
        pid: key.pid,
        missing: missing_of(&looked),
        ..Crash::default()
    };
    if let Ok(control) = dir.look_at_control(key) {
        writer.meta(&Meta::Thread(Thread {
            pid: key.pid,
            tid: key.pid,
            name: control.name(),
            ..Thread::default()
        }))?;
        if control.has_left() {
            crash.exit_code = Some(0);
            crash.told_by = format!("its control file in {}", path.display());
        }
    }
    Ok(Some(OfDirectory { key, crash, began }))
}

/// Notes that what a process left has been read, so that it may go some day where programs leave rings by themselves; a
/// copy stays as it is. Where a `core` led there it is believed only about its own user's: it could name anyone's.
pub fn examined(directory: &Path, key: ProcessKey, core: Option<&Core>) {
    let real = directory.canonicalize().unwrap_or_default();
    if !real.to_string_lossy().starts_with("/dev/shm/bypassprof-") {
        return;
    }
    let Ok(owner) = fs::metadata(&real).map(|m| m.uid()) else {
        return;
    };
    if core.is_some_and(|core| core.owner() != Some(owner)) {
        return;
    }
    if let Ok(dir) = SessionDir::open(&real, owner) {
        // If we may not, its user reads it some day.
        let _ = dir.mark_examined(key);
    }
}

/// Copies a process's rings; gives when the oldest event of them was, too.
fn looked(
    dir: &SessionDir,
    key: ProcessKey,
    pid: Pid,
    next_ring: &mut u32,
    writer: &mut Writer,
) -> Result<(Looked, Option<Nanos>), WriteError> {
    let subject = Subject {
        key,
        pid,
        writing: Writing::Over,
        thread: &|tid| tid,
    };
    let looked = look::look(dir, &subject, next_ring, writer)?;
    // A second reading of both clocks, if the counter still counts what it counted then.
    let now = looked.facts.filter(is_of_this_boot).map(|_| clock::pair());
    if let Some(now) = now {
        writer.meta(&Meta::Clock(now))?;
    }
    let began = looked.began(now);
    Ok((looked, began))
}

fn missing_of(looked: &Looked) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut say = |what: String, how: &str| {
        missing.push(Missing {
            what,
            how: how.to_owned(),
        });
    };
    for error in &looked.unread {
        say("a ring".to_owned(), &error.to_string());
    }
    if let Some(threads) = looked.unreached.filter(|&n| n > 0) {
        let how = "its control file counts them: the bound of ring memory was reached, or there was no room for files";
        say(
            format!("the events of {threads} threads that got no ring"),
            how,
        );
    }
    for ring in &looked.rings {
        let name = match ring.name.as_str() {
            "" => format!("thread {}", ring.tid),
            name => format!("thread {} ({name})", ring.tid),
        };
        if ring.gone_before > 0 {
            let how =
                "the ring's positions tell: they were overwritten, or a recorder had read them";
            say(format!("{} older slots of {name}", ring.gone_before), how);
        }
        if ring.earlier_threads > 0 {
            let how = "its ring was theirs before";
            say(
                format!("{} threads before {name}", ring.earlier_threads),
                how,
            );
        }
    }
    missing
}

/// What a core's memory gave.
#[derive(Debug, Default)]
pub struct OfCore {
    /// Why the process ended.
    pub crash: Crash,
    /// Ring files that it had mapped and the core lacks.
    pub left_out: Vec<PathBuf>,
    /// When the oldest event was.
    pub began: Option<Nanos>,
}

/// What a core's notes tell of its process's end.
pub fn crash_of(core: &Core) -> Crash {
    Crash {
        pid: core.pid,
        tid: core.signal.and(core.threads.first()).map(|t| t.tid),
        signal: core.signal.map(|s| s.number),
        code: core.signal.and_then(|s| s.code),
        address: core.signal.and_then(|s| s.address),
        sender: core.signal.and_then(|s| s.sender),
        alive: core.signal.is_none(),
        told_by: core.path().display().to_string(),
        ..Crash::default()
    }
}

/// Copies the rings in a core's memory, but for processes whose rings are `known`; `aside` is an empty directory for them.
pub fn of_core(
    core: &Core,
    known: &BTreeSet<ProcessKey>,
    aside: &Path,
    next_ring: &mut u32,
    writer: &mut Writer,
) -> Result<OfCore, RemainsError> {
    let found = rings::extract(core, aside).map_err(|source| RemainsError::Aside {
        path: aside.to_path_buf(),
        source,
    })?;
    let mut crash = crash_of(core);
    let mut began = None;
    if found.rings > 0 {
        let dir = SessionDir::look(aside)?;
        for key in found.keys.into_iter().filter(|key| !known.contains(key)) {
            let (looked, oldest) = looked(&dir, key, key.pid, next_ring, writer)?;
            began = began.into_iter().chain(oldest).min();
            crash.missing.extend(missing_of(&looked));
        }
    }
    for (name, slots, of) in found.cut {
        crash.missing.push(Missing {
            what: format!("{slots} of the {of} slots of {name}'s ring"),
            how: "they lie in a part of memory that the core ends before".to_owned(),
        });
    }
    if found.unread > 0 {
        crash.missing.push(Missing {
            what: format!("rings in {} bytes of memory", found.unread),
            how: "parts of the core's memory share bytes of its file, which no kernel writes: they were looked at as \
                  long as the file is, and no longer"
                .to_owned(),
        });
    }
    crash.missing.extend(gaps(core));
    if found.rings == 0 && found.left_out.is_empty() && known.is_empty() {
        crash.missing.push(Missing {
            what: "events".to_owned(),
            how: "no probe ring begins at any page that the core holds, and no ring file was mapped: the program had no \
                  probes, or its rings are not in the core"
                .to_owned(),
        });
    }
    Ok(OfCore {
        crash,
        left_out: found.left_out,
        began,
    })
}

/// What a core lacks, by its own tables.
fn gaps(core: &Core) -> Vec<Missing> {
    let mut missing = Vec::new();
    let (size, said) = core.lengths;
    if size < said {
        missing.push(Missing {
            what: format!("{} of the {said} bytes of the core", said - size),
            how: "its headers tell how long it should be: the disk was full, or `ulimit -c` is too small".to_owned(),
        });
    }
    if core.notes_damaged {
        missing.push(Missing {
            what: "some of the core's notes".to_owned(),
            how: "they end inside a note, or before the length that the headers tell".to_owned(),
        });
    }
    if core.files.is_empty() {
        missing.push(Missing {
            what: "names of functions".to_owned(),
            how: "the core does not tell which files were mapped".to_owned(),
        });
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    /// A core of one user's that names the directory of another's has none of that noted as read.
    #[test]
    fn examined_by_whom() {
        if !rustix::process::geteuid().is_root() {
            println!("left out: only root can play two users");
            return;
        }
        let seed = |name: &str| {
            let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds");
            fs::read(format!("{seeds}/{name}")).unwrap()
        };
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("bypassprof-test-");
        let dir = builder.tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let control = dir.path().join("0-0.control");
        fs::write(&control, seed("ring/control")).unwrap();
        let theirs = tempfile::NamedTempFile::new().unwrap();
        fs::write(theirs.path(), seed("core/threads-alone")).unwrap();
        let core = Core::open(theirs.path()).unwrap();
        let key = ProcessKey {
            pid: 0,
            start_time: 0,
        };
        let is_examined = || fs::read(&control).unwrap()[168] == 1;
        for path in [dir.path(), &control] {
            chown(path, Some(60_021), Some(60_021)).unwrap();
        }
        chown(theirs.path(), Some(60_022), None).unwrap();
        examined(dir.path(), key, Some(&core));
        assert!(!is_examined());
        chown(theirs.path(), Some(60_021), None).unwrap();
        examined(dir.path(), key, Some(&core));
        assert!(is_examined());
        fs::write(&control, seed("ring/control")).unwrap();
        examined(dir.path(), key, None);
        assert!(is_examined(), "who names a directory has read it");
    }
}
