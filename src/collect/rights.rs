//! What a recorded program's user may read, and no more: the rights with which files are opened that a program named.
//!
//! In: a process; out: its real user and groups, and a way to open files as that user. A recorder that is root would
//! otherwise open whatever a program's mappings name. It refuses to know which files these are.
//!
//! Unsafe code is fenced in here: the system calls that change one thread's rights.
#![allow(unsafe_code)]

use crate::trace::record::Pid;
use std::fs;

/// A user's rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl Rights {
    /// Those of the user who started a process; `None` when it is gone.
    pub fn of(pid: Pid) -> Option<Rights> {
        parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Does something with these rights: files are opened as this user would open them. Without being root there is
    /// nothing to give up.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        if !rustix::process::geteuid().is_root() || self.user == 0 {
            return work();
        }
        let _back = Borrowed::take(self);
        work()
    }
}

/// The real user and group, which a program cannot choose, and the other groups.
fn parse(status: &str) -> Option<Rights> {
    let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let first = |text: &str| text.split_whitespace().next()?.parse().ok();
    let groups = line("Groups:")?.split_whitespace();
    Some(Rights {
        user: first(line("Uid:")?)?,
        group: first(line("Gid:")?)?,
        groups: groups.filter_map(|g| g.parse().ok()).collect(),
    })
}

/// This thread's rights before, given back when dropped.
struct Borrowed(Rights);

impl Borrowed {
    fn take(rights: &Rights) -> Borrowed {
        let groups = rustix::process::getgroups().unwrap_or_default();
        let before = Rights {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            groups: groups.into_iter().map(|g| g.as_raw()).collect(),
        };
        // Groups first: who is not root any more may not change them.
        set(&rights.groups, rights.group, rights.user);
        Borrowed(before)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // SAFETY: no memory is involved. The user first: who is not root may not change groups.
        unsafe { libc::syscall(libc::SYS_setfsuid, self.0.user) };
        set(&self.0.groups, self.0.group, self.0.user);
    }
}

/// Sets what files are opened with, of the calling thread alone: the calls below, unlike the C library's functions of
/// their names, leave other threads as they are.
fn set(groups: &[u32], group: u32, user: u32) {
    // SAFETY: the list is as long as the kernel is told; the other calls involve no memory.
    unsafe {
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
        libc::syscall(libc::SYS_setfsgid, group);
        libc::syscall(libc::SYS_setfsuid, user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// As another user a file of root's cannot be opened, by the way to it or by itself; afterwards it can.
    #[test]
    fn as_another_user() {
        let nobody = Rights {
            user: 65534,
            group: 65534,
            groups: Vec::new(),
        };
        if !rustix::process::geteuid().is_root() {
            println!("left out: only root has rights to give up");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = |mode| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            nobody.within(|| fs::File::open(file.path()).is_ok())
        };
        assert!(!open(0o600));
        assert!(open(0o604));
        assert!(!open(0o640), "root's group was kept");
        assert!(fs::File::open(file.path()).is_ok());
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.path().join("x"), b"").unwrap();
        fs::set_permissions(dir.path().join("x"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(nobody.within(|| fs::File::open(dir.path().join("x")).is_err()));
    }

    /// The real user counts, not the one that a program has made itself.
    #[test]
    fn status_lines() {
        let status = "Name:\tUid: 0\nUid:\t1000\t0\t0\t0\nGid:\t100\t0\t0\t0\nGroups:\t4 100 \n";
        let rights = parse(status).unwrap();
        assert_eq!((rights.user, rights.group), (1000, 100));
        assert_eq!(rights.groups, [4, 100]);
        assert_eq!(parse("Name: x\n"), None);
        let me = Rights::of(std::process::id()).unwrap();
        assert_eq!(me.user, rustix::process::getuid().as_raw());
    }
}
