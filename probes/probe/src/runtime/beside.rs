//! A file of a process's own beside its control file: counts that are not events.
//!
//! In: a length; out: shared words that stay for the life of the process. It refuses to know what is counted.
#![allow(unsafe_code)]

use super::sys::{self, KeepErrno};
use super::{directory, process, rings};
use bypassprof_ring::mapping::Populate;
use bypassprof_ring::{AtomicU64, Ordering};
use bypassprof_wire::layout::{Identity, Mode};
use bypassprof_wire::names::FileKind;
use bypassprof_wire::queues::QUEUES_BYTES;

/// Makes the process's queue file, all zero but for whose it is; who calls publishes it by its magic number. `None` when
/// there is no session directory, no room, or the file is there already.
pub fn queue_file() -> Option<&'static [AtomicU64]> {
    let _errno = KeepErrno::new();
    process::control()?;
    let dir = directory::get()?;
    let name = FileKind::Queues(process::key()).name();
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let file = sys::open_at(dir, name.as_c_str(), flags)?;
    let mapping = sys::allocate(file.0, QUEUES_BYTES as u64)
        .then(|| rings::map(file.0, QUEUES_BYTES, Populate::Yes))
        .flatten();
    let Some(mapping) = mapping else {
        sys::unlink_at(dir, name.as_c_str());
        return None;
    };
    let words: *const AtomicU64 = mapping.leak();
    // SAFETY: the file was just made this long, the mapping is aligned to a page and stays, and any word is valid.
    let words = unsafe { core::slice::from_raw_parts(words, QUEUES_BYTES / 8) };
    // SAFETY: an identity is words only, and the file is longer than one.
    let identity = unsafe { &*words.as_ptr().cast::<Identity<AtomicU64>>() };
    let bytes = QUEUES_BYTES as u64;
    process::describe(identity, bytes, bytes);
    Some(words)
}

/// Whether the process has its control file; made on the first call.
pub fn is_ready() -> bool {
    process::control().is_some()
}

/// Whether someone takes, or will want, what points write: a recorder that holds the control file, which it lets go of
/// however it ends, or rings that keep the newest for later.
pub fn is_listened_to() -> bool {
    let _errno = KeepErrno::new();
    let Some(control) = process::control() else {
        return false;
    };
    if Mode::from_word(control.switch.mode.load(Ordering::Relaxed)) == Mode::Flight {
        return true;
    }
    is_held().unwrap_or(false)
}

/// Whether a recorder holds the control file; `None` if that cannot be told.
pub fn is_held() -> Option<bool> {
    let name = FileKind::Control(process::key()).name();
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW;
    let file = sys::open_at(directory::get()?, name.as_c_str(), flags)?;
    // SAFETY: no memory is involved; a lock that was free goes with the descriptor.
    Some(unsafe { libc::flock(file.0, libc::LOCK_EX | libc::LOCK_NB) != 0 })
}
