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

#[cfg(test)]
mod tests {
    use super::*;
    use bypassprof_wire::layout::{
        CONTROL_BYTES, CONTROL_MAGIC, Census, ControlFile, Identity, Switch, VERSION_WORD,
    };
    use bypassprof_wire::names::{FileKind, ProcessKey};
    use std::fs::{DirBuilder, File};
    use std::mem::offset_of;
    use std::os::unix::fs::{DirBuilderExt, FileExt};

    type Words = ControlFile<u64>;

    /// A recorder's directory with one program's control file: `left`, `examined`.
    fn directory(parent: &Path, number: u32, pid: u32, left: u64, examined: u64) -> PathBuf {
        let path = parent.join(format!("session-{}-1-{number}", u32::MAX / 2));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        let start_time = tasks::start_time(pid).unwrap_or(7);
        let name = FileKind::Control(ProcessKey { pid, start_time }).name();
        let file = File::create(path.join(name.as_str())).unwrap();
        file.set_len(CONTROL_BYTES as u64).unwrap();
        let (census, switch) = (offset_of!(Words, census), offset_of!(Words, switch));
        // One ring, live.
        let words = [
            (0, CONTROL_MAGIC),
            (8, VERSION_WORD),
            (offset_of!(Identity<u64>, pid), u64::from(pid)),
            (offset_of!(Identity<u64>, start_time), start_time),
            (census, 1),
            (census + offset_of!(Census<u64>, left), left),
            (switch + offset_of!(Switch<u64>, examined), examined),
            (offset_of!(Words, rings), (1 << 48) | (2 << 32) | 1),
        ];
        for (at, word) in words {
            file.write_all_at(&word.to_ne_bytes(), at as u64).unwrap();
        }
        // What makes it weigh something, a megabyte; and the later ones are the newer ones.
        fs::write(path.join("weight"), vec![1; 1 << 20]).unwrap();
        let at = SystemTime::now() - Duration::from_secs(1000 - u64::from(number));
        for entry in fs::read_dir(&path).unwrap() {
            let file = File::options().write(true).open(entry.unwrap().path());
            file.unwrap().set_modified(at).unwrap();
        }
        File::open(&path).unwrap().set_modified(at).unwrap();
        path
    }

    /// What ended well goes at once, what runs and what no one has read stays, and what is told to be too much goes from
    /// the oldest on, what was read first.
    #[test]
    fn worth_keeping() {
        let dir = tempfile::tempdir().unwrap();
        let dead = u32::MAX / 2;
        let uid = rustix::process::geteuid().as_raw();
        let make = |number, pid, left, examined| directory(dir.path(), number, pid, left, examined);
        let ended = make(1, dead, 1, 0);
        let unread = [make(2, dead, 0, 0), make(4, dead, 0, 0)];
        let read = make(3, dead, 0, 1);
        let running = make(5, std::process::id(), 0, 0);
        let there = || {
            let all = [&ended, &unread[0], &unread[1], &read, &running];
            all.map(|path| path.exists())
        };
        reap_in(dir.path(), "session-", uid + 1, Some(0));
        assert_eq!(there(), [true; 5], "not ours");
        reap_in(dir.path(), "session-", uid, None);
        assert_eq!(there(), [false, true, true, true, true]);
        reap_in(dir.path(), "session-", uid, Some(7 << 19));
        assert_eq!(there(), [false, true, true, false, true], "what was read");
        reap_in(dir.path(), "session-", uid, Some(5 << 19));
        assert_eq!(there(), [false, false, true, false, true], "the oldest");
        reap_in(dir.path(), "session-", uid, Some(0));
        assert_eq!(
            there(),
            [false, false, false, false, true],
            "all but what runs"
        );
        assert_eq!(
            (size("64M"), size("7"), size("x"), size("")),
            (Some(64 << 20), Some(7), None, None)
        );
    }
}
