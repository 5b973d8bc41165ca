//! A file's bytes as memory, guarded against the file being cut short.
//!
//! In: an open file and a length; out: a mapping that stays until it is dropped. It refuses to know what is in it.
#![allow(unsafe_code)]

use crate::guard::{self, Guarded};
use core::ffi::c_void;
use core::ptr::NonNull;

/// A guarded mapping.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    len: usize,
    guarded: Option<Guarded>,
}

// SAFETY: the memory belongs to the process, not to a thread, and is only handed out as atomic words.
unsafe impl Send for Mapping {}

/// What to do besides mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populate {
    /// Touch every page now, so that no store faults later.
    Yes,
    /// Leave it to the first touch.
    No,
}

impl Mapping {
    /// Maps the first `len` bytes of a file, readable and writable; `None` when the kernel refuses or no guard is left.
    pub fn new(fd: i32, len: usize, populate: Populate) -> Option<Mapping> {
        guard::install();
        Mapping::unguarded(fd, len, populate).and_then(|mut mapping| {
            mapping.guarded = Some(guard::guard(mapping.start.as_ptr() as usize, len, 0, 0)?);
            Some(mapping)
        })
    }

    /// The same for reading alone: a store through it ends the process.
    #[cfg(feature = "reader")]
    pub fn read_only(fd: i32, len: usize) -> Option<Mapping> {
        guard::install();
        Mapping::map(fd, len, 0, libc::PROT_READ).and_then(|mut mapping| {
            mapping.guarded = Some(guard::guard(mapping.start.as_ptr() as usize, len, 0, 0)?);
            Some(mapping)
        })
    }

    /// The same without a guard, for programs that want no signal handler.
    pub fn unguarded(fd: i32, len: usize, populate: Populate) -> Option<Mapping> {
        let populate = match populate {
            Populate::Yes => libc::MAP_POPULATE,
            Populate::No => 0,
        };
        Mapping::map(fd, len, populate, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn map(fd: i32, len: usize, populate: i32, protection: i32) -> Option<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED | populate,
                fd,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(start).map(|start| Mapping {
            start,
            len,
            guarded: None,
        })
    }

    /// The first byte, aligned to a page.
    pub fn as_ptr<T>(&self) -> *const T {
        self.start.as_ptr().cast_const().cast()
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is mapped: never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the file was found cut short; the memory is private zeros since then.
    pub fn is_hit(&self) -> bool {
        self.guarded.as_ref().is_some_and(Guarded::is_hit)
    }

    /// Keeps the mapping for as long as the process lives; only a guard's table remembers it.
    pub fn leak<T>(self) -> *const T {
        let start = self.as_ptr();
        core::mem::forget(self);
        start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(guarded) = self.guarded.take() {
            guarded.release();
        }
        // SAFETY: the mapping is ours, and whoever got a pointer from it promised not to outlive it.
        unsafe {
            libc::munmap(self.start.as_ptr(), self.len);
        }
    }
}
