//! Networks of our own: namespaces, veth pairs and addresses, made without `ip` and gone again afterwards.
//!
//! In: names and addresses; out: [`Namespace`]s to run commands and code in. The host's network is never touched: all
//! is made inside network namespaces that have no name in the file system, so that they end with the last process and
//! descriptor in them. What runs in a [`Lab`] is killed when it is dropped, and ended (asked first, then killed) when the
//! process that made it dies in whatever way.

mod interface;
mod netlink;
mod sys;

pub use interface::Interface;

use rustix::fs::{Mode, OFlags, open, stat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// Why a network could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// No privileges, and no user namespace to get them in.
    #[error(
        "cannot make a network namespace: {source}; run as root, or allow user namespaces: sysctl \
         kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 user.max_user_namespaces=1000"
    )]
    NotAllowed {
        /// What the kernel said.
        source: io::Error,
    },
    /// A user namespace is for processes with one thread.
    #[error(
        "cannot make a user namespace in a process that has threads; run as root, or make the lab first"
    )]
    Threads,
    /// Something else failed.
    #[error("cannot make {what}: {source}")]
    Make {
        /// What was to be made.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no such interface.
    #[error(
        "there is no interface {interface} in this network namespace; /proc/net/dev lists those there are"
    )]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// A setting was refused.
    #[error("interface {interface}: cannot get or set its {what}: {source}")]
    Interface {
        /// Its name.
        interface: String,
        /// The setting.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The right to make namespaces, and what cleans up behind them.
#[derive(Debug)]
pub struct Lab {
    guard: Guard,
    kernel_seen: bool,
}

impl Lab {
    /// With the privileges for it this makes nothing yet; without them it moves the process, which must not have other
    /// threads, into a user namespace of its own.
    pub fn new() -> Result<Lab, LabError> {
        match inside(sys::new_network) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => become_root_of_our_own()?,
            Err(source) => return Err(LabError::NotAllowed { source }),
        }
        Ok(Lab {
            guard: Guard::start().map_err(|source| LabError::Make {
                what: "the process that cleans up".to_string(),
                source,
            })?,
            kernel_seen: in_first_user_namespace(),
        })
    }

    /// Whether kernel code can be measured from here: inside a user namespace perf sees none of it.
    pub fn kernel_seen(&self) -> bool {
        self.kernel_seen
    }

    /// A new network namespace in which only the loopback interface is up; the name is for messages.
    pub fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        let make = || {
            sys::new_network()?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            Ok(open("/proc/thread-self/ns/net", flags, Mode::empty())?)
        };
        let fd = inside(make).map_err(|source| LabError::Make {
            what: format!("network namespace {name}"),
            source,
        })?;
        let namespace = Namespace {
            name: name.to_string(),
            fd: Arc::new(fd),
            group: self.guard.group,
        };
        namespace.enter(|| Interface::named("lo")?.up())??;
        Ok(namespace)
    }

    /// Joins two namespaces by a veth pair: each end has a name, IPv6 off, no address yet, and is up.
    pub fn veth(&self, a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<(), LabError> {
        let made = a.0.enter(|| netlink::veth(a.1, b.1, b.0.fd.as_fd()))?;
        made.map_err(|source| LabError::Make {
            what: format!("veth pair {} - {}", a.1, b.1),
            source,
        })?;
        for (namespace, name) in [a, b] {
            namespace.enter(|| {
                let end = Interface::named(name)?;
                end.ipv6_off()?;
                end.up()
            })??;
        }
        Ok(())
    }
}

/// A network namespace, open as long as this is.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    fd: Arc<OwnedFd>,
    group: Pid,
}

impl Namespace {
    /// Runs `f` on a thread of its own inside the namespace.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let run = || {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(f())
        };
        inside(run).map_err(|source| LabError::Make {
            what: format!("a thread in network namespace {}", self.name),
            source,
        })
    }

    /// A command that runs inside the namespace and in the lab's process group: it ends with the lab, and a Ctrl-C at
    /// the terminal does not reach it. To be started before the lab is dropped.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.process_group(self.group.as_raw_nonzero().get());
        sys::run_inside(&mut command, Arc::clone(&self.fd));
        command
    }
}

/// Runs `f` on a thread of its own, whose namespace it may change.
fn inside<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netlab".to_string())
            .spawn_scoped(scope, f)?;
        match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A user namespace in which this process is root and no one else is anyone.
fn become_root_of_our_own() -> Result<(), LabError> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    sys::new_user().map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) => LabError::Threads,
        _ => LabError::NotAllowed { source },
    })?;
    let map = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).map_err(|source| LabError::Make {
            what: format!("a user namespace ({path})"),
            source,
        })
    };
    map("setgroups", "deny".to_string())?;
    map("uid_map", format!("0 {} 1", uid.as_raw()))?;
    map("gid_map", format!("0 {} 1", gid.as_raw()))
}

/// Number that the kernel gives the user namespace it starts with.
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

fn in_first_user_namespace() -> bool {
    stat("/proc/self/ns/user").is_ok_and(|s| s.st_ino == FIRST_USER_NAMESPACE)
}

/// A process that leads the group of all others in the lab: its number cannot be given to strangers while it lives,
/// and it ends the group when we are gone.
#[derive(Debug)]
struct Guard {
    group: Pid,
    /// Closed by our death, too; nothing is ever written to it.
    _alive: OwnedFd,
}

impl Guard {
    fn start() -> io::Result<Guard> {
        let (end, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Guard {
            group: sys::guard(end.as_fd())?,
            _alive: alive,
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Neither can fail: the guard is our child and nobody else waits for it.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = waitpid(Some(self.group), WaitOptions::empty());
    }
}
