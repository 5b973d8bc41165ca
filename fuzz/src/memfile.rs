//! Files and folders that have a path and no place on a disk.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file in memory, gone when dropped.
pub struct MemFile {
    file: File,
    path: PathBuf,
}

impl MemFile {
    /// A file with these bytes.
    pub fn new(data: &[u8]) -> MemFile {
        let fd = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory can be made");
        let mut file = File::from(fd);
        file.write_all(data).expect("memory is there");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        MemFile { file, path }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it can be opened again.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// An empty folder in memory, if the system has a place for that.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a folder can be made")
}
