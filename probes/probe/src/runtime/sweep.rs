//! What dead processes left in a directory that programs share.
//!
//! In: the directory; out: what tells of a crash that no one has looked at, kept for post mortem, and how many bytes it
//! leaves for others. Runs when a process makes its control file there; looks at a bounded number of names.
//!
//! Nothing is kept of a process that ended by itself or had no rings. What someone has read is kept for a day, and goes
//! first when there is too much. What no one has read stays, unless `BYPASSPROF_KEEP` tells how much of it to keep: the
//! bound holds then by removing the oldest, and otherwise by leaving less to new flight recorders.
#![allow(unsafe_code)]

use super::{process, sys};
use bypassprof_wire::layout::{CONTROL_BYTES, Census, ControlFile, Identity, MAX_RINGS, Switch};
use bypassprof_wire::names::{FileKind, FileName, ProcessKey};
use core::ffi::CStr;
use core::fmt::Write;
use core::mem::offset_of;

/// Bytes that crashes may keep while nothing else is said.
const USUAL_KEPT: u64 = 256 << 20;
/// Seconds for which what was read is kept.
const READ_KEPT: i64 = 24 * 3600;
/// Names looked at.
const MAX_NAMES: usize = 4096;
/// Dead processes removed in one sweep to keep the bound.
const MAX_REMOVED: usize = 64;

/// Ends of names of control files in the making.
const DRAFT: &str = ".new";

/// What a dead process left.
struct Remains {
    key: ProcessKey,
    /// Whether someone has read it.
    examined: bool,
    /// When its process began, in this boot; 0 for earlier ones.
    began: u64,
    bytes: u64,
}

/// Removes what need not be kept; returns how many bytes are left for flight recorders.
pub fn sweep(dir: i32) -> u64 {
    let told = sys::size(c"BYPASSPROF_KEEP");
    let bound = told.unwrap_or(USUAL_KEPT);
    let mut kept = 0;
    for _ in 0..MAX_REMOVED {
        kept = 0;
        let mut first: Option<Remains> = None;
        for_each_name(dir, |name| {
            let Some(remains) = look_at(dir, name) else {
                return;
            };
            kept += remains.bytes;
            let order = |r: &Remains| (!r.examined, r.began);
            let earlier = first.as_ref().is_none_or(|f| order(&remains) < order(f));
            if earlier && (remains.examined || told.is_some()) {
                first = Some(remains);
            }
        });
        match first {
            Some(remains) if kept > bound => remove(dir, remains.key),
            _ => break,
        }
    }
    // A flight recorder of the usual size has room beside what a few crashes left.
    match told {
        Some(_) => u64::MAX,
        None => bound.saturating_sub(kept),
    }
}

/// What a dead process left under the name of its control file; `None` if it lives, or after there was nothing to keep.
fn look_at(dir: i32, name: &CStr) -> Option<Remains> {
    let text = name.to_str().ok()?;
    let whole = text.strip_suffix(DRAFT).unwrap_or(text);
    let FileKind::Control(key) = FileKind::parse(whole)? else {
        return None;
    };
    if whole != text {
        if age(dir, name) > READ_KEPT {
            sys::unlink_at(dir, name);
        }
        return None;
    }
    let same_boot = word_of(dir, name, offset_of!(Identity<u64>, boot_id))
        == Some((process::boot_id() >> 64) as u64);
    if same_boot && !is_gone(dir, key, name) {
        return None;
    }
    let census = |at| word_of(dir, name, offset_of!(ControlFile<u64>, census) + at).unwrap_or(0);
    let switch = |at| word_of(dir, name, offset_of!(ControlFile<u64>, switch) + at).unwrap_or(0);
    let examined = switch(offset_of!(Switch<u64>, examined)) > 0;
    let worthless = census(offset_of!(Census<u64>, rings)) == 0
        || census(offset_of!(Census<u64>, left)) > 0
        || (examined && age(dir, name) > READ_KEPT);
    if worthless {
        remove(dir, key);
        return None;
    }
    Some(Remains {
        key,
        examined,
        began: if same_boot { key.start_time } else { 0 },
        bytes: census(offset_of!(Census<u64>, ring_bytes)).saturating_add(CONTROL_BYTES as u64),
    })
}

fn remove(dir: i32, key: ProcessKey) {
    for index in 0..MAX_RINGS as u32 {
        sys::unlink_at(dir, FileKind::Ring(key, index).name().as_c_str());
    }
    sys::unlink_at(dir, FileKind::Queues(key).name().as_c_str());
    sys::unlink_at(dir, FileKind::Control(key).name().as_c_str());
}

/// Seconds since a file was changed by a call, as marking it read does.
fn age(dir: i32, name: &CStr) -> i64 {
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let stat = sys::open_at(dir, name, flags).and_then(|file| sys::stat_of(file.0));
    stat.map_or(0, |stat| sys::wall_seconds() - stat.st_mtime)
}

fn for_each_name(dir: i32, mut each: impl FnMut(&CStr)) {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let Some(again) = sys::open_at(dir, c".", flags) else {
        return;
    };
    // SAFETY: fdopendir takes the descriptor over when it succeeds; names in entries end with a zero byte and are used
    // before the next readdir.
    unsafe {
        let stream = libc::fdopendir(again.0);
        if stream.is_null() {
            return;
        }
        core::mem::forget(again);
        for _ in 0..MAX_NAMES {
            let entry = libc::readdir(stream);
            if entry.is_null() {
                break;
            }
            each(CStr::from_ptr((*entry).d_name.as_ptr()));
        }
        libc::closedir(stream);
    }
}

/// Whether the process is gone; those of other PID namespaces, whose numbers mean nothing here, are left alone.
fn is_gone(dir: i32, key: ProcessKey, name: &CStr) -> bool {
    let here = sys::pid_namespace();
    if here == 0 || word_of(dir, name, offset_of!(Identity<u64>, pid_namespace)) != Some(here) {
        return false;
    }
    // SAFETY: signal 0 only checks.
    let gone = unsafe { libc::kill(key.pid as i32, 0) } != 0 && sys::errno() == libc::ESRCH;
    let mut path = FileName::default();
    let written = write!(path, "/proc/{}/stat", key.pid);
    // Its number may be another process's by now.
    let other = || process::start_time(path.as_c_str()).is_some_and(|at| at != key.start_time);
    gone || (written.is_ok() && other())
}

fn word_of(dir: i32, name: &CStr, offset: usize) -> Option<u64> {
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = sys::open_at(dir, name, flags)?;
    let mut word = [0; 8];
    // SAFETY: the buffer is as long as the kernel is told.
    let read = unsafe { libc::pread(file.0, word.as_mut_ptr().cast(), 8, offset as libc::off_t) };
    (read == 8).then(|| u64::from_ne_bytes(word))
}
