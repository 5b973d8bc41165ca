//! The file that a recording is written to: nothing but an earlier recording of one's own is overwritten.
//!
//! In: a path; out: an open, empty file, or a refusal. Where others may write too, they may have put something under the
//! name: a link to another file, a FIFO, a file of theirs. None of it is opened for writing, and what was looked at is
//! what is written: the file is emptied only after it has been checked through the very descriptor.

use super::Failure;
use crate::trace::{ReadError, Reader, WriteError};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Says early that a recording will not be written to this path.
pub fn check(path: &Path) -> Result<(), Failure> {
    let cannot = |e: io::Error| Failure::failed(format!("cannot write {}: {e}", path.display()));
    match open(path, OFlags::RDONLY) {
        Ok(file) => refusal(path, &file).map_or(Ok(()), Err),
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::LOOP) => Err(Failure::failed(format!(
            "{} is a symbolic link; what it leads to is left as it is",
            path.display()
        ))
        .hint("-o with the name of the file itself")),
        Err(e) => Err(cannot(e.into())),
    }
}

fn open(path: &Path, access: OFlags) -> Result<File, Errno> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::from_raw_mode(0o600)).map(File::from)
}

/// Why a file that is there must not be overwritten.
fn refusal(path: &Path, file: &File) -> Option<Failure> {
    let left = |what: &str| {
        let name = path.display();
        Some(
            Failure::failed(format!("{name} exists and {what}; it is left as it is"))
                .hint("-o with another name"),
        )
    };
    let Ok(stat) = file.metadata() else {
        return left("cannot be looked at");
    };
    if !stat.is_file() {
        return left("is not a recording");
    }
    if stat.nlink() > 1 {
        return left("has another name, too");
    }
    if stat.uid() != rustix::process::geteuid().as_raw() {
        return left("belongs to another user");
    }
    if stat.len() == 0 {
        return None;
    }
    // The very file that is open, whatever has the name by now.
    let same = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match Reader::open(&same) {
        Ok(_) | Err(ReadError::Version { .. }) => None,
        Err(_) => left("is not a recording"),
    }
}

/// The file while it is written: it goes away if nothing comes into it.
pub struct Output {
    path: PathBuf,
}

impl Output {
    /// Makes the file, or empties the earlier recording that is there.
    pub fn create(path: &Path) -> Result<(Output, File), WriteError> {
        let failed = |source: io::Error| WriteError::Create {
            path: path.to_path_buf(),
            source,
        };
        let fresh = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = match open(path, fresh) {
            Err(Errno::EXIST) => {
                let file = open(path, OFlags::RDWR).map_err(|e| failed(e.into()))?;
                if let Some(refusal) = refusal(path, &file) {
                    return Err(failed(io::Error::other(refusal.message)));
                }
                file.set_len(0).map_err(failed)?;
                file
            }
            other => other.map_err(|e| failed(e.into()))?,
        };
        let path = path.to_path_buf();
        Ok((Output { path }, file))
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves nothing behind: there is nothing in it yet.
    pub fn discard(&self) {
        if self.path.is_file() {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(&self.path);
        }
    }
}
