//! A session directory: where programs leave their control files and rings.
//!
//! In: a path and the user it must belong to; out: checked, opened files. No symlink is followed, and a directory that
//! others could write to is refused.

use super::{ControlHandle, QueueFile, ReadError, RingFile, RingPlace};
use bypassprof_wire::names::{FileKind, ProcessKey};
use rustix::fs::{Dir, Mode, OFlags, RawMode, fstat, fstatfs, openat};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// File systems in user space answer when they please, or never.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// An open session directory.
#[derive(Debug)]
pub struct SessionDir {
    dir: OwnedFd,
    path: PathBuf,
}

impl SessionDir {
    /// Opens a directory that must belong to `owner` and be writable by no one else.
    pub fn open(path: &Path, owner: u32) -> Result<SessionDir, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let refused = |source: rustix::io::Errno| ReadError::Open {
            path: path.to_path_buf(),
            source: source.into(),
        };
        let dir = openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(refused)?;
        let stat = fstat(&dir).map_err(refused)?;
        let unsafe_because = |why| ReadError::Unsafe {
            path: path.to_path_buf(),
            why,
        };
        if stat.st_uid != owner {
            return Err(unsafe_because("it belongs to another user"));
        }
        if stat.st_mode as RawMode & 0o022 != 0 {
            return Err(unsafe_because("other users may write to it"));
        }
        if fstatfs(&dir).map_err(refused)?.f_type as u64 == FUSE_MAGIC {
            return Err(unsafe_because("it lies on a file system in user space"));
        }
        Ok(SessionDir {
            dir,
            path: path.to_path_buf(),
        })
    }

    /// The processes that have a control file here.
    pub fn processes(&self) -> Result<Vec<ProcessKey>, ReadError> {
        let refused = |source: rustix::io::Errno| ReadError::Open {
            path: self.path.clone(),
            source: source.into(),
        };
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let kind = entry.file_name().to_str().ok().and_then(FileKind::parse);
            if let Some(FileKind::Control(key)) = kind {
                found.push(key);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The control file of a process.
    pub fn control(&self, key: ProcessKey) -> Result<ControlHandle, ReadError> {
        let (file, path) = self.file(FileKind::Control(key))?;
        let control = ControlHandle::open(&file, &path)?;
        let facts = control.facts();
        if facts.pid != key.pid || facts.start_time != key.start_time {
            let why = "it describes another process than its name";
            return Err(ReadError::Format { path, why });
        }
        Ok(control)
    }

    /// A ring of a process.
    pub fn ring(&self, control: &ControlHandle, place: RingPlace) -> Result<RingFile, ReadError> {
        let facts = control.facts();
        let key = ProcessKey {
            pid: facts.pid,
            start_time: facts.start_time,
        };
        let (file, path) = match place.fd {
            None => self.file(FileKind::Ring(key, place.index))?,
            Some(fd) => descriptor(control.host_pid(), fd)?,
        };
        RingFile::open(&file, &path)
    }

    /// The queue file of a process; only those that count queues have one.
    pub fn queues(&self, key: ProcessKey) -> Result<QueueFile, ReadError> {
        let (file, path) = self.file(FileKind::Queues(key))?;
        QueueFile::open(&file, &path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, kind: FileKind) -> Result<(File, PathBuf), ReadError> {
        let name = kind.name();
        let path = self.path.join(name.as_str());
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.dir, name.as_c_str(), flags, Mode::empty()) {
            Ok(fd) => Ok((File::from(fd), path)),
            Err(source) => Err(ReadError::Open {
                path,
                source: source.into(),
            }),
        }
    }
}

/// A memory file that a process holds open: what it does when it may no longer make files in its session directory.
/// Only memory files are opened, since opening a device has effects.
fn descriptor(pid: u32, fd: u32) -> Result<(File, PathBuf), ReadError> {
    let path = PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
    let refused = |source| ReadError::Open {
        path: path.clone(),
        source,
    };
    let target = std::fs::read_link(&path).map_err(refused)?;
    if !target.to_string_lossy().starts_with("/memfd:bypassprof") {
        let why = "it is not a memory file of the probes";
        return Err(ReadError::Format { path, why });
    }
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(refused)?;
    Ok((file, path))
}
