//! The system calls that need unsafe code: interface ioctls, namespaces, the process that outlives us to clean up.
//!
//! Unsafe code is fenced in here. Everything acts in the calling thread's network namespace.
#![allow(unsafe_code)]

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// Longest interface name, without the zero that ends it.
pub const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// `struct ifreq`: a name and a union of 24 bytes.
#[repr(C, align(8))]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: [u8; 24],
}

impl Request {
    fn new(name: &str, data: [u8; 24]) -> io::Result<Request> {
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            data,
        };
        if name.is_empty() || name.len() > NAME_MAX || name.contains(['\0', '/']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    /// A socket of the thread's namespace, only to carry requests.
    fn carrier() -> io::Result<OwnedFd> {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(socket)
    }
}

/// One of the interface requests whose argument is the structure itself (addresses, flags, MTU, index); the kernel's
/// answer is in the bytes that come back.
pub fn interface(name: &str, request: libc::Ioctl, data: [u8; 24]) -> io::Result<[u8; 24]> {
    const OURS: &[libc::Ioctl] = &[
        libc::SIOCGIFINDEX,
        libc::SIOCGIFHWADDR,
        libc::SIOCGIFMTU,
        libc::SIOCGIFFLAGS,
        libc::SIOCSIFFLAGS,
        libc::SIOCSIFADDR,
        libc::SIOCSIFNETMASK,
    ];
    if !OURS.contains(&request) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut argument = Request::new(name, data)?;
    let carrier = Request::carrier()?;
    // SAFETY: each request in OURS reads and writes one `struct ifreq`, whose size and layout `Request` has, and none
    // follows a pointer in it.
    let done = unsafe { libc::ioctl(carrier.as_raw_fd(), request, &raw mut argument) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(argument.data)
}

/// The name of the interface with this number.
pub fn interface_name(index: u32) -> io::Result<String> {
    let carrier = Request::carrier()?;
    Ok(rustix::net::netdevice::index_to_name(carrier, index)?)
}

/// Switches one of the offloads that take a flag (`ETHTOOL_S...`).
pub fn ethtool(name: &str, command: u32, value: u32) -> io::Result<()> {
    // `struct ethtool_value`; the callers' commands are of the kind that read no more than that.
    ethtool_words(name, &mut [command, value])
}

/// Sets how many receive and transmit queues an interface has.
pub fn set_queues(name: &str, queues: u32) -> io::Result<()> {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    const ETHTOOL_SCHANNELS: u32 = 0x3d;
    // `struct ethtool_channels`: command, four maxima, then the counts in the same order: rx, tx, other, combined.
    let mut channels = [0; 9];
    channels[0] = ETHTOOL_GCHANNELS;
    ethtool_words(name, &mut channels)?;
    channels[0] = ETHTOOL_SCHANNELS;
    let separate = channels[1] > 0;
    let counts = if separate { 5..7 } else { 8..9 };
    channels[counts].fill(queues);
    ethtool_words(name, &mut channels)
}

/// A request whose structure is these words, the command first.
fn ethtool_words(name: &str, words: &mut [u32]) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let mut data = [0; 24];
    data[..8].copy_from_slice(&(words.as_mut_ptr() as usize as u64).to_ne_bytes());
    let mut argument = Request::new(name, data)?;
    let carrier = Request::carrier()?;
    // SAFETY: the structure holds a pointer to words that live until after the call; the callers above give as many as
    // their commands read and write.
    let done = unsafe { libc::ioctl(carrier.as_raw_fd(), SIOCETHTOOL, &raw mut argument) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Moves the calling thread into a new network namespace.
pub fn new_network() -> io::Result<()> {
    // SAFETY: only the thread's view of the network changes; no descriptor or memory does.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?)
}

/// Moves the process, which must have one thread, into a new user namespace.
pub fn new_user() -> io::Result<()> {
    // SAFETY: only credentials change, of a process that has no other thread (the kernel refuses it otherwise).
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }?)
}

/// Makes `command` run inside a network namespace.
pub fn run_inside(command: &mut Command, namespace: Arc<OwnedFd>) {
    let enter = move || {
        // SAFETY: a system call on a descriptor that the closure keeps open.
        let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(enter);
    }
}

/// Starts a process that leads a group of its own, sleeps until the other end of `pipe` is closed by everyone, which
/// the death of this process does too, and then ends its whole group: SIGTERM, and after a while SIGKILL, itself included.
pub fn guard(pipe: BorrowedFd<'_>) -> io::Result<Pid> {
    let pipe = pipe.as_raw_fd();
    // SAFETY: the child, which may be a copy of a process with threads, only makes system calls and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: this is the child of a fork.
        unsafe { watch(pipe) }
    }
    let guard = Pid::from_raw(pid).filter(|_| pid > 0);
    let guard = guard.ok_or_else(io::Error::last_os_error)?;
    // The guard does it too; whoever comes first, its group exists when this returns. Both cannot fail.
    let _ = rustix::process::setpgid(Some(guard), Some(guard));
    Ok(guard)
}

/// What a recorder needs to finish its file.
const GRACE_SECONDS: u32 = 2;

/// The guard's whole life.
///
/// # Safety
/// Only for the child of a fork: it closes every descriptor, and does not return.
unsafe fn watch(pipe: RawFd) -> ! {
    // SAFETY: system calls on numbers and on two buffers of this frame; descriptors are closed in a process of which
    // no other code runs any more.
    unsafe {
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_NAME, c"netlab-guard".as_ptr());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::dup2(pipe, 0);
        libc::close_range(1, libc::c_uint::MAX, 0);
        let mut byte = 0_u8;
        loop {
            let got = libc::read(0, (&raw mut byte).cast(), 1);
            if got == 0 || (got < 0 && *libc::__errno_location() != libc::EINTR) {
                break;
            }
        }
        libc::kill(0, libc::SIGTERM);
        libc::sleep(GRACE_SECONDS);
        libc::kill(0, libc::SIGKILL);
        libc::_exit(0)
    }
}
