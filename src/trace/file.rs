//! Opens what must be a regular file: whoever may name a path may have put something else there.
//!
//! In: a path; out: an open file, or why not. Opening never waits, as it would at a FIFO without a writer, and has no
//! effect, as it may have at a device.

use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a regular file for reading.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}
