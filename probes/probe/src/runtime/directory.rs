//! The session directory, held open from the first probe on.
//!
//! In: the environment; out: a descriptor that works after a chroot, and is checked before each use, since a program
//! that closes all its descriptors closes this one too.
#![allow(unsafe_code)]

use super::sys::{self, Fd};
use bypassprof_wire::names::FileName;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

static FD: AtomicI32 = AtomicI32::new(-1);
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);
static PER_USER: AtomicBool = AtomicBool::new(false);

/// The directory's descriptor, opening it if need be.
pub fn get() -> Option<i32> {
    let fd = FD.load(Ordering::Acquire);
    if let Some(stat) = (fd >= 0).then(|| sys::stat_of(fd)).flatten()
        && stat.st_dev == DEVICE.load(Ordering::Relaxed)
        && stat.st_ino == INODE.load(Ordering::Relaxed)
    {
        return Some(fd);
    }
    let session = sys::variable(c"BYPASSPROF_SESSION").and_then(open);
    PER_USER.store(session.is_none(), Ordering::Relaxed);
    let opened = session.or_else(per_user)?.high();
    let stat = sys::stat_of(opened.0)?;
    DEVICE.store(stat.st_dev, Ordering::Relaxed);
    INODE.store(stat.st_ino, Ordering::Relaxed);
    FD.store(opened.0, Ordering::Release);
    Some(opened.keep())
}

/// Whether it is the one that programs share, not one that a recorder made and removes.
pub fn is_per_user() -> bool {
    PER_USER.load(Ordering::Relaxed)
}

/// Whether the directory has no name any more: nothing can be made in it.
pub fn is_removed(dir: i32) -> bool {
    sys::stat_of(dir).is_some_and(|stat| stat.st_nlink == 0)
}

/// Looks for a directory again next time.
pub fn forget() {
    FD.store(-1, Ordering::Release);
}

/// Removes the directory that programs share if this was the last.
pub fn remove_if_empty() {
    if is_per_user() {
        // SAFETY: no arguments.
        let path = FileName::user_directory(unsafe { libc::geteuid() });
        sys::remove_dir(path.as_c_str());
    }
}

/// A directory that belongs to us and to which no one else can write.
fn open(path: &CStr) -> Option<Fd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let dir = sys::open_at(libc::AT_FDCWD, path, flags)?;
    let stat = sys::stat_of(dir.0)?;
    // SAFETY: no arguments.
    let user = unsafe { libc::geteuid() };
    (stat.st_uid == user && stat.st_mode & 0o022 == 0).then_some(dir)
}

fn per_user() -> Option<Fd> {
    // SAFETY: no arguments.
    let path = FileName::user_directory(unsafe { libc::geteuid() });
    // SAFETY: the path ends with a zero byte.
    unsafe { libc::mkdir(path.as_c_str().as_ptr(), 0o700) };
    open(path.as_c_str())
}
