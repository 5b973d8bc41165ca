//! What dead processes left in the per-user directory.
//!
//! In: the directory; out: at most a few dead processes' rings in it, kept for post mortem. Runs when a process makes
//! its control file there; looks at a bounded number of names.
#![allow(unsafe_code)]

use super::sys;
use bypassprof_wire::layout::{Census, ControlFile, Identity, MAX_RINGS};
use bypassprof_wire::names::{FileKind, ProcessKey};
use core::ffi::CStr;
use core::mem::offset_of;

/// Dead processes whose rings are kept.
const KEPT: usize = 4;
/// Names looked at.
const MAX_NAMES: usize = 4096;

/// Removes control files of dead processes that had no rings, and the oldest of those that had if there are many.
pub fn sweep(dir: i32) {
    let mut kept = 0;
    let mut oldest: Option<ProcessKey> = None;
    for_each_name(dir, |name| {
        let Some(FileKind::Control(key)) = name.to_str().ok().and_then(FileKind::parse) else {
            return;
        };
        if !is_dead(dir, key, name) {
            return;
        }
        if has_rings(dir, name) {
            kept += 1;
            if oldest.is_none_or(|oldest| key.start_time < oldest.start_time) {
                oldest = Some(key);
            }
        } else {
            sys::unlink_at(dir, FileKind::Queues(key).name().as_c_str());
            sys::unlink_at(dir, name);
        }
    });
    if let (true, Some(key)) = (kept >= KEPT, oldest) {
        for index in 0..MAX_RINGS as u32 {
            sys::unlink_at(dir, FileKind::Ring(key, index).name().as_c_str());
        }
        sys::unlink_at(dir, FileKind::Queues(key).name().as_c_str());
        sys::unlink_at(dir, FileKind::Control(key).name().as_c_str());
    }
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
fn is_dead(dir: i32, key: ProcessKey, name: &CStr) -> bool {
    let namespace = offset_of!(Identity<u64>, pid_namespace);
    let here = sys::pid_namespace();
    // SAFETY: signal 0 only checks.
    let gone = unsafe { libc::kill(key.pid as i32, 0) } != 0 && sys::errno() == libc::ESRCH;
    gone && here != 0 && word_of(dir, name, namespace) == Some(here)
}

fn has_rings(dir: i32, name: &CStr) -> bool {
    let rings = offset_of!(ControlFile<u64>, census) + offset_of!(Census<u64>, rings);
    word_of(dir, name, rings).is_some_and(|n| n > 0)
}

fn word_of(dir: i32, name: &CStr, offset: usize) -> Option<u64> {
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = sys::open_at(dir, name, flags)?;
    let mut word = [0; 8];
    // SAFETY: the buffer is as long as the kernel is told.
    let read = unsafe { libc::pread(file.0, word.as_mut_ptr().cast(), 8, offset as libc::off_t) };
    (read == 8).then(|| u64::from_ne_bytes(word))
}
