//! The system calls of packet sockets and TAP devices that need unsafe code.
//!
//! Unsafe code is fenced in here: plain structures in, plain structures out.
#![allow(unsafe_code)]

use crate::Spread;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A raw packet socket that receives nothing until it is bound.
pub fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a system call on numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Values that packet options take.
pub trait Plain: Copy {}
impl Plain for libc::c_int {}
impl Plain for libc::tpacket_req {}
impl Plain for libc::tpacket_req3 {}

/// Sets a packet option.
pub fn set<T: Plain>(socket: BorrowedFd<'_>, option: libc::c_int, value: T) -> io::Result<()> {
    let at = (&raw const value).cast();
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of a value that lives as long as the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, at, size) };
    check(done as isize).map(|_| ())
}

/// Binds a packet socket to one interface, to receive this protocol of it; 0: to send only.
pub fn bind(socket: BorrowedFd<'_>, interface: u32, protocol: libc::c_int) -> io::Result<()> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of an address that lives as long as the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    check(done as isize).map(|_| ())
}

/// Adds a bound packet socket to the group that shares its interface's frames, or begins one; the group's number.
pub fn join_fanout(socket: BorrowedFd<'_>, group: Option<u16>, spread: Spread) -> io::Result<u16> {
    let mode = match spread {
        Spread::Hash => libc::PACKET_FANOUT_HASH,
        Spread::Turn => libc::PACKET_FANOUT_LB,
        Spread::Cpu => libc::PACKET_FANOUT_CPU,
    };
    let unique = match group {
        Some(_) => 0,
        None => libc::PACKET_FANOUT_FLAG_UNIQUEID,
    };
    let kind = mode | unique | FANOUT_IGNORE_OUTGOING;
    let value = u32::from(group.unwrap_or(0)) | kind << 16;
    set(socket, libc::PACKET_FANOUT, value.cast_signed())?;
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    let (fd, at) = (socket.as_raw_fd(), (&raw mut value).cast());
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_FANOUT);
    // SAFETY: the kernel writes at most `size` bytes to an integer that has them.
    let done = unsafe { libc::getsockopt(fd, level, option, at, &raw mut size) };
    check(done as isize).map(|_| value as u16)
}

/// The group leaves out what is sent here, whatever its sockets say; of linux/if_packet.h.
const FANOUT_IGNORE_OUTGOING: u32 = 0x4000;

/// Frames that a packet socket has dropped since the last time this was asked.
pub fn dropped(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // A ring of version 3 has one number more, behind those of version 2.
    let mut stats = libc::tpacket_stats_v3 {
        tp_packets: 0,
        tp_drops: 0,
        tp_freeze_q_cnt: 0,
    };
    let mut size = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    let at = (&raw mut stats).cast();
    // SAFETY: the kernel writes at most `size` bytes to a structure that has them.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, at, &raw mut size) };
    check(done as isize).map(|_| u64::from(stats.tp_drops))
}

/// Frames of one call to [`send`].
pub const BATCH: usize = 64;

/// Sends frames in one system call; how many were taken. An error means that the first was not.
pub fn send<'a>(
    socket: BorrowedFd<'_>,
    frames: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    // SAFETY: structures of integers and pointers, for which zero is a value.
    let mut vectors: [libc::iovec; BATCH] = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut count = 0;
    for ((frame, vector), message) in frames.zip(&mut vectors).zip(&mut messages) {
        vector.iov_base = frame.as_ptr().cast_mut().cast();
        vector.iov_len = frame.len();
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let (fd, at) = (socket.as_raw_fd(), messages.as_mut_ptr());
    // SAFETY: `count` messages are filled; each points to one vector of a frame that outlives the call, which only
    // reads frames.
    let done = unsafe { libc::sendmmsg(fd, at, count, libc::MSG_DONTWAIT) };
    check(done as isize)
}

/// Whether a frame that was not taken may be taken later: queues are full, or a signal came between.
pub fn is_full(error: &io::Error) -> bool {
    let full = [libc::EAGAIN, libc::ENOBUFS, libc::EINTR, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|number| full.contains(&number))
}

/// Makes `device`, an open `/dev/net/tun`, the stack's end of a TAP interface; the name that the interface got. `flags` are
/// further `IFF_` ones.
pub fn attach_tap(device: &File, name: &str, flags: libc::c_int) -> io::Result<String> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | flags;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request reads and writes one `struct ifreq`.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    check(done as isize)?;
    let bytes = request.ifr_name.map(|c| c as u8);
    let name = CStr::from_bytes_until_nul(&bytes).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

/// Tells the host what a TAP's stack takes: checksums that are not made and TCP frames that are not cut, or neither.
pub fn set_tap_offloads(device: &File, offloads: bool) -> io::Result<()> {
    let flags = if offloads {
        libc::TUN_F_CSUM | libc::TUN_F_TSO4
    } else {
        0
    };
    let flags = libc::c_ulong::from(flags);
    // SAFETY: the request takes a number.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, flags) };
    check(done as isize).map(|_| ())
}

/// A socket to ask about interfaces of the calling thread's network namespace, from wherever.
pub fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: a system call on numbers.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(fd as isize)?;
    // SAFETY: the descriptor has just been made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the interface of this number is up; an error if there is none.
pub fn is_up(socket: BorrowedFd<'_>, interface: u32) -> io::Result<bool> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    request.ifr_ifru.ifru_ifindex = interface.cast_signed();
    for ask in [libc::SIOCGIFNAME, libc::SIOCGIFFLAGS] {
        // SAFETY: both requests read and write one `struct ifreq`.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), ask, &raw mut request) };
        check(done as isize)?;
    }
    // SAFETY: the last request has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
}

fn check(done: isize) -> io::Result<usize> {
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}
