//! Where programs with probes and their recorder meet: session directories.
//!
//! In: nothing, or a running process; out: an open directory. Its owner is checked, since a directory in `/dev/shm` may
//! be anyone's. It refuses to know what is in the files.

use super::{reap, tasks};
use crate::trace::record::Pid;
use bypassprof_ring::reader::SessionDir;
use bypassprof_wire::names::{FileKind, SESSION_VARIABLE, USER_DIRECTORY};
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Session directories are this, the recorder's process and its start time.
pub(super) const SESSION: &str = "/dev/shm/bypassprof-session-";

/// An open session directory.
#[derive(Debug)]
pub struct Place {
    dir: SessionDir,
    path: PathBuf,
    inode: (u64, u64),
    /// Whether it is ours to remove.
    ours: bool,
    /// Its name here, if it is one that a user's programs share.
    of_user: Option<PathBuf>,
}

impl Place {
    /// Makes a session directory for a command that is about to start.
    pub fn create() -> io::Result<Place> {
        let me = std::process::id();
        let start = tasks::start_time(me).unwrap_or(0);
        reap::reap();
        // The end of the name cannot be guessed: anyone may make directories there, and could make ours first.
        let end = std::hash::RandomState::new().hash_one(start) as u32;
        let path = PathBuf::from(format!("{SESSION}{me}-{start}-{end:08x}"));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let me = rustix::process::geteuid().as_raw();
        match SessionDir::open(&path, me) {
            Ok(dir) => Ok(Place {
                inode: inode(&path),
                dir,
                path,
                ours: true,
                of_user: None,
            }),
            Err(e) => {
                // It was made a moment ago and is empty.
                let _ = fs::remove_dir(&path);
                Err(io::Error::other(e))
            }
        }
    }

    /// The directory that a running process uses: that of its environment, else its user's. `None` if there is none,
    /// or if it belongs to someone else than the process or root.
    pub fn of_process(pid: Pid) -> Option<Place> {
        let owner = owner(pid)?;
        let mut candidates = session_of(pid).into_iter().chain([of_user(owner)]);
        candidates.find_map(|inside| Place::inside(pid, owner, &inside))
    }

    /// The per-user directory of a running process that is another user's than ours.
    pub fn of_other_user(pid: Pid) -> Option<Place> {
        let owner = owner(pid)?;
        let other = owner != rustix::process::geteuid().as_raw();
        other.then(|| Place::inside(pid, owner, &of_user(owner)))?
    }

    /// A directory as the process sees it.
    fn inside(pid: Pid, owner: u32, path: &Path) -> Option<Place> {
        let of_user = path
            .to_str()
            .filter(|p| p.starts_with(USER_DIRECTORY))
            .map(PathBuf::from);
        let path = Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").ok()?);
        // One that gave its privileges away may have been started in root's.
        let dir = SessionDir::open(&path, owner).or_else(|_| SessionDir::open(&path, 0));
        Some(Place {
            inode: inode(&path),
            dir: dir.ok()?,
            path,
            ours: false,
            of_user,
        })
    }

    /// A directory that someone else removes.
    #[cfg(test)]
    pub fn at(path: &Path) -> io::Result<Place> {
        let owner = fs::metadata(path)?.uid();
        Ok(Place {
            inode: inode(path),
            dir: SessionDir::open(path, owner).map_err(io::Error::other)?,
            path: path.to_path_buf(),
            ours: false,
            of_user: None,
        })
    }

    /// Its name, for the environment of a command.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from others.
    pub fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// The open directory.
    pub fn dir(&self) -> &SessionDir {
        &self.dir
    }

    /// Removes a dead program's file. What lies in a directory that programs share is kept for post mortem, unless its
    /// program ended by itself, and reaped by the programs that come after.
    pub fn remove(&self, file: FileKind, has_left: bool) {
        if !self.ours && !has_left {
            return;
        }
        self.dir.remove(file);
        if let (false, FileKind::Control(_), Some(path)) = (self.ours, file, &self.of_user)
            && inode(path) == self.inode
        {
            // Others may still use it: then it stays.
            let _ = fs::remove_dir(path);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.ours {
            // What cannot be removed is swept by the next recorder.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn inode(path: &Path) -> (u64, u64) {
    fs::metadata(path).map_or((0, 0), |m| (m.dev(), m.ino()))
}

fn owner(pid: Pid) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|m| m.uid())
}

fn of_user(user: u32) -> PathBuf {
    PathBuf::from(format!("{USER_DIRECTORY}{user}"))
}

/// The session directory that a process was started with, if it is an absolute path without detours.
fn session_of(pid: Pid) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment.split(|&b| b == 0).find_map(|entry| {
        let rest = entry.strip_prefix(SESSION_VARIABLE.as_bytes())?;
        rest.strip_prefix(b"=")
    })?;
    let path = Path::new(std::ffi::OsStr::from_bytes(value));
    let plain = |c| !matches!(c, std::path::Component::ParentDir);
    (path.is_absolute() && path.components().all(plain)).then(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Whoever makes directories with all the names that can be guessed does not keep a recorder from making its own.
    #[test]
    fn name_taken() {
        let me = std::process::id();
        let start = tasks::start_time(me).unwrap();
        let guessed = PathBuf::from(format!("{SESSION}{me}-{start}"));
        fs::create_dir_all(&guessed).unwrap();
        let places = [Place::create().unwrap(), Place::create().unwrap()];
        assert_ne!(places[0].path(), places[1].path());
        fs::remove_dir(&guessed).unwrap();
    }

    /// A directory is private while it is there and gone afterwards, with what is in it; a dead recorder's goes too.
    #[test]
    fn made_and_removed() {
        let dead = PathBuf::from(format!("{SESSION}{}-1", u32::MAX / 2));
        fs::create_dir_all(&dead).unwrap();
        let place = Place::create().unwrap();
        let path = place.path().to_owned();
        assert!(!dead.exists());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(path.join("1-2.control"), b"x").unwrap();
        assert_eq!(place.dir().processes().unwrap().len(), 1);
        drop(place);
        assert!(!path.exists());
    }
}
