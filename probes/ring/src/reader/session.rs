//! A session directory: where programs leave their control files and rings.
//!
//! In: a path and the user it must belong to; out: checked, opened files. No symlink is followed, and a directory that
//! others could write to is refused.

use super::{ControlHandle, QueueFile, ReadError, RingFile, RingLook, RingPlace, Writing};
use bypassprof_wire::layout::{self, ControlFile};
use bypassprof_wire::names::{FileKind, ProcessKey};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RawMode, fstat, fstatfs, openat, unlinkat};
use std::fs::File;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// File systems in user space answer when they please, or never.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Where the word is that says so.
const EXAMINED: usize =
    offset_of!(ControlFile<u64>, switch) + offset_of!(layout::Switch<u64>, examined);

/// An open session directory.
#[derive(Debug)]
pub struct SessionDir {
    dir: OwnedFd,
    path: PathBuf,
    /// Whose files are read here; `None`: anyone's, since they are only looked at.
    owner: Option<u32>,
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
            owner: Some(owner),
        })
    }

    /// Opens a directory that the user named, perhaps a copy from elsewhere: files in it are only ever looked at, so it
    /// may be anyone's.
    pub fn look(path: &Path) -> Result<SessionDir, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(|source| {
            ReadError::Open {
                path: path.to_path_buf(),
                source: source.into(),
            }
        })?;
        Ok(SessionDir {
            dir,
            path: path.to_path_buf(),
            owner: None,
        })
    }

    /// The processes that have a control file here.
    pub fn processes(&self) -> Result<Vec<ProcessKey>, ReadError> {
        let names = self.names()?.into_iter();
        let keys = names.filter_map(|kind| match kind {
            FileKind::Control(key) => Some(key),
            FileKind::Ring(..) | FileKind::Queues(_) => None,
        });
        Ok(keys.collect())
    }

    /// The rings that have a file here, with or without a control file.
    pub fn ring_files(&self) -> Result<Vec<(ProcessKey, u32)>, ReadError> {
        let names = self.names()?.into_iter();
        let rings = names.filter_map(|kind| match kind {
            FileKind::Ring(key, index) => Some((key, index)),
            FileKind::Control(_) | FileKind::Queues(_) => None,
        });
        Ok(rings.collect())
    }

    fn names(&self) -> Result<Vec<FileKind>, ReadError> {
        let refused = |source: rustix::io::Errno| ReadError::Open {
            path: self.path.clone(),
            source: source.into(),
        };
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let kind = entry.file_name().to_str().ok().and_then(FileKind::parse);
            found.extend(kind);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The control file of a process.
    pub fn control(&self, key: ProcessKey) -> Result<ControlHandle, ReadError> {
        let (file, path) = self.file(FileKind::Control(key), OFlags::RDWR)?;
        of_process(ControlHandle::open(&file, &path)?, key)
    }

    /// The same for reading alone.
    pub fn look_at_control(&self, key: ProcessKey) -> Result<ControlHandle, ReadError> {
        let (file, path) = self.file(FileKind::Control(key), OFlags::RDONLY)?;
        of_process(ControlHandle::look(&file, &path)?, key)
    }

    /// A ring of a process.
    pub fn ring(&self, control: &ControlHandle, place: RingPlace) -> Result<RingFile, ReadError> {
        let (file, path) = match place.fd {
            None => self.file(FileKind::Ring(control.key(), place.index), OFlags::RDWR)?,
            Some(fd) => descriptor(control.host_pid(), fd, OFlags::RDWR)?,
        };
        RingFile::open(&file, &path)
    }

    /// A ring of a process as it is now, for reading alone.
    pub fn look_at(
        &self,
        control: &ControlHandle,
        place: RingPlace,
        writing: Writing,
    ) -> Result<RingLook, ReadError> {
        match place.fd {
            None => self.look_at_file(control.key(), place.index, writing),
            Some(fd) => {
                let (file, path) = descriptor(control.host_pid(), fd, OFlags::RDONLY)?;
                RingLook::open(&file, &path, writing)
            }
        }
    }

    /// A ring by the name of its file, for reading alone.
    pub fn look_at_file(
        &self,
        key: ProcessKey,
        index: u32,
        writing: Writing,
    ) -> Result<RingLook, ReadError> {
        let (file, path) = self.file(FileKind::Ring(key, index), OFlags::RDONLY)?;
        RingLook::open(&file, &path, writing)
    }

    /// Notes that what a dead process left has been read, so that it may be removed some day.
    pub fn mark_examined(&self, key: ProcessKey) -> Result<(), ReadError> {
        let control = self.control(key)?;
        let (file, path) = self.file(FileKind::Control(key), OFlags::WRONLY)?;
        drop(control);
        // By a call and not through the mapping, so that the file's time says when.
        file.write_all_at(&1u64.to_ne_bytes(), EXAMINED as u64)
            .map_err(|source| ReadError::Open { path, source })
    }

    /// Removes a file, never one of another kind or in another place.
    pub fn remove(&self, kind: FileKind) {
        // If its program removed it first, so much the better.
        let _ = unlinkat(&self.dir, kind.name().as_c_str(), AtFlags::empty());
    }

    /// The queue file of a process; only those that count queues have one.
    pub fn queues(&self, key: ProcessKey) -> Result<QueueFile, ReadError> {
        let (file, path) = self.file(FileKind::Queues(key), OFlags::RDWR)?;
        QueueFile::open(&file, &path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, kind: FileKind, access: OFlags) -> Result<(File, PathBuf), ReadError> {
        let name = kind.name();
        let path = self.path.join(name.as_str());
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.dir, name.as_c_str(), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(source) => {
                let source = source.into();
                return Err(ReadError::Open { path, source });
            }
        };
        let stat = fstat(&file).map_err(|source| ReadError::Open {
            path: path.clone(),
            source: source.into(),
        })?;
        if self.owner.is_some_and(|owner| owner != stat.st_uid) {
            // A hard link to someone else's file, or one that someone who may do anything has put here.
            let why = "it belongs to another user than its directory";
            return Err(ReadError::Unsafe { path, why });
        }
        Ok((file, path))
    }
}

fn of_process(control: ControlHandle, key: ProcessKey) -> Result<ControlHandle, ReadError> {
    if control.key() == key {
        return Ok(control);
    }
    Err(ReadError::Format {
        path: control.path().to_path_buf(),
        why: "it describes another process than its name",
    })
}

/// A memory file that a process holds open: what it does when it may no longer make files in its session directory.
/// Only memory files are opened, since opening a device has effects.
fn descriptor(pid: u32, fd: u32, access: OFlags) -> Result<(File, PathBuf), ReadError> {
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
    // The descriptor may be another one by now: what would wait or become our terminal must not.
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(rustix::fs::CWD, &path, flags, Mode::empty());
    let file = file.map_err(|source| refused(source.into()))?;
    Ok((File::from(file), path))
}
