//! Session directories of recorders that are gone: which are removed, and which are kept for post mortem.
//!
//! In: `/dev/shm`; out: the directories that need not be kept are gone. A recorder that ends removes its own; these are
//! of recorders that were killed. A directory stays while a program in it runs. One that tells of a crash which no one
//! has looked at stays, unless `BYPASSPROF_KEEP` says how many bytes of such directories to keep: then the oldest go
//! first. What someone has read is kept for a day, within 256 MiB. It refuses to know what is in rings.

use super::place::SESSION;
use super::tasks::{self, Inside};
use bypassprof_ring::reader::{ControlHandle, SessionDir};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How much is kept, in bytes; a number with K, M or G behind it.
const KEEP: &str = "BYPASSPROF_KEEP";
/// Bytes kept while nothing else is said.
const USUAL_KEPT: u64 = 256 << 20;
/// For how long what was read is kept.
const READ_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What a directory is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Nothing: its programs ended by themselves, or wrote nothing.
    Nothing,
    /// It tells of a crash that someone has looked at.
    Read,
    /// It tells of a crash that no one has looked at.
    Unread,
    /// A program in it runs, or may run.
    Used,
}

struct Remains {
    path: PathBuf,
    worth: Worth,
    changed: SystemTime,
    bytes: u64,
}

/// Removes what need not be kept.
pub fn reap() {
    let uid = rustix::process::geteuid().as_raw();
    let told = std::env::var(KEEP).ok().and_then(|text| size(&text));
    let Some((parent, prefix)) = SESSION.rsplit_once('/') else {
        return;
    };
    reap_in(Path::new(parent), prefix, uid, told);
}

fn reap_in(parent: &Path, prefix: &str, uid: u32, told: Option<u64>) {
    let entries = fs::read_dir(parent).into_iter().flatten();
    let mut all: Vec<Remains> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|n| n.strip_prefix(prefix));
            rest.is_some_and(recorder_is_gone)
        })
        .filter_map(|entry| {
            let stat = fs::symlink_metadata(entry.path()).ok()?;
            (stat.is_dir() && stat.uid() == uid).then(|| look_at(entry.path(), &stat))
        })
        .collect();
    all.sort_by_key(|r| (r.worth, r.changed));
    let mut bytes: u64 = all.iter().map(|r| r.bytes).sum();
    for remains in all {
        let old = remains.changed.elapsed().is_ok_and(|age| age > READ_KEPT);
        let too_much = bytes > told.unwrap_or(USUAL_KEPT);
        let goes = match remains.worth {
            Worth::Nothing => true,
            Worth::Read => old || too_much,
            Worth::Unread => told.is_some() && too_much,
            Worth::Used => false,
        };
        if goes {
            bytes -= remains.bytes;
            // Another recorder may reap at the same time.
            let _ = fs::remove_dir_all(remains.path);
        }
    }
}

/// Whether the recorder that a name is of, `PID-START` and perhaps more, is gone.
fn recorder_is_gone(name: &str) -> bool {
    let mut numbers = name.split('-');
    let pid = numbers.next().and_then(|n| n.parse().ok());
    let start = numbers.next().and_then(|n| n.parse::<u64>().ok());
    pid.zip(start)
        .is_some_and(|(pid, start)| tasks::start_time(pid) != Some(start))
}

fn look_at(path: PathBuf, stat: &Metadata) -> Remains {
    let files = fs::read_dir(&path).into_iter().flatten();
    let stats = files.filter_map(|entry| entry.ok()?.metadata().ok());
    let (mut bytes, mut changed) = (0, stat.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    for stat in stats {
        bytes += stat.blocks() * 512;
        changed = changed.max(stat.modified().unwrap_or(changed));
    }
    let programs = SessionDir::open(&path, stat.uid()).and_then(|dir| {
        let keys = dir.processes()?.into_iter();
        Ok(keys
            .filter_map(|key| dir.look_at_control(key).ok())
            .collect::<Vec<_>>())
    });
    let worth = programs.unwrap_or_default().iter().map(worth_of).max();
    Remains {
        path,
        worth: worth.unwrap_or(Worth::Nothing),
        changed,
        bytes,
    }
}

fn worth_of(control: &ControlHandle) -> Worth {
    let facts = control.facts();
    let inside = Inside::of(&facts);
    match inside.outside() {
        // Of another namespace, where it may run or not: its number tells nothing, so time has to.
        None => Worth::Read,
        Some(pid) if !inside.is_gone(pid) => Worth::Used,
        Some(_) if control.has_left() || control.rings().is_empty() => Worth::Nothing,
        Some(_) if control.is_examined() => Worth::Read,
        Some(_) => Worth::Unread,
    }
}

/// Bytes in a text, with K, M or G behind the number.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}
