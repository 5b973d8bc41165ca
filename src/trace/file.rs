//! Opens what must be a regular file, and passes over what is not in it: whoever may name a path may have put something
//! else there, or a file that is larger than any disk.
//!
//! In: a path; out: an open file, or why not. Opening never waits, as it would at a FIFO without a writer, and has no
//! effect, as it may have at a device.

use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};
use rustix::io::Errno;
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

/// The first position from `at` on that lies in no hole of a sparse file, where all is zero; `None` if a hole reaches to
/// the file's end. On a file system that knows no holes there are none.
pub fn data_from(file: &File, at: u64) -> Option<u64> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(found) => Some(found),
        Err(Errno::NXIO) => None,
        Err(_) => Some(at),
    }
}
