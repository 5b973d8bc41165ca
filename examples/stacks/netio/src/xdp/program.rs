//! The program that sends an interface's frames to AF_XDP sockets, and the map it finds them by.
//!
//! In: sockets by queue; out: a program on an interface, for as long as this lives. Five instructions need no compiler
//! and no library: they go to the kernel as they are (linux/bpf.h; the instruction set is RFC 9669).
//! Unsafe code is fenced in here: each call of `bpf` reads one structure that lives as long as the call.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A program and its map, on an interface or not yet.
#[derive(Debug)]
pub struct Redirection {
    map: OwnedFd,
    program: OwnedFd,
    /// The program leaves the interface when this is closed.
    _link: Option<OwnedFd>,
}

impl Redirection {
    /// Loads a program for so many queues.
    pub fn new(queues: u32) -> io::Result<Redirection> {
        let map = bpf(
            MAP_CREATE,
            &MapCreate {
                kind: XSKMAP,
                key_size: 4,
                value_size: 4,
                max_entries: queues,
            },
        )?;
        let instructions = redirect(map.as_raw_fd());
        let program = bpf(
            PROG_LOAD,
            &ProgLoad {
                kind: PROG_XDP,
                count: instructions.len() as u32,
                instructions: instructions.as_ptr() as u64,
                license: c"Dual MIT/GPL".as_ptr() as u64,
                log_level: 0,
                log_size: 0,
                log: 0,
            },
        )?;
        Ok(Redirection {
            map,
            program,
            _link: None,
        })
    }

    /// Frames of this queue go to that socket, which is bound to it.
    pub fn to(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let socket = socket.as_raw_fd();
        let update = MapUpdate {
            map: self.map.as_raw_fd() as u32,
            pad: 0,
            key: &raw const queue as u64,
            value: &raw const socket as u64,
            flags: 0,
        };
        call(MAP_UPDATE_ELEM, &update).map(|_| ())
    }

    /// Attaches the program: in the driver where that has room for it, else behind it.
    pub fn attach(mut self, interface: u32) -> io::Result<Redirection> {
        let attach = |flags| {
            bpf(
                LINK_CREATE,
                &LinkCreate {
                    program: self.program.as_raw_fd() as u32,
                    interface,
                    kind: ATTACH_XDP,
                    flags,
                },
            )
        };
        let link = match attach(IN_DRIVER) {
            Err(e) if e.raw_os_error() != Some(libc::EBUSY) => attach(BEHIND_DRIVER),
            outcome => outcome,
        };
        self._link = Some(link?);
        Ok(self)
    }
}

/// `return bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS)`: what has no socket goes to the kernel.
fn redirect(map: i32) -> [u64; 6] {
    const RX_QUEUE_INDEX: u64 = 16;
    const XDP_PASS: u64 = 2;
    const REDIRECT_MAP: u64 = 51;
    const MAP_FD: u64 = 1;
    let instruction = |code: u64, to: u64, from: u64, offset: u64, value: u64| {
        code | to << 8 | from << 12 | offset << 16 | value << 32
    };
    [
        // r2 = *(u32 *)(r1 + 16)
        instruction(0x61, 2, 1, RX_QUEUE_INDEX, 0),
        // r1 = map, in two slots
        instruction(0x18, 1, MAP_FD, 0, u64::from(map as u32)),
        0,
        // r3 = XDP_PASS
        instruction(0xb7, 3, 0, 0, XDP_PASS),
        // call bpf_redirect_map
        instruction(0x85, 0, 0, 0, REDIRECT_MAP),
        // exit
        instruction(0x95, 0, 0, 0, 0),
    ]
}

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const XSKMAP: u32 = 17;
const PROG_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const BEHIND_DRIVER: u32 = 1 << 1;
const IN_DRIVER: u32 = 1 << 2;

/// Beginnings of `union bpf_attr`, one per command; the kernel takes the rest as zero.
trait Attributes {}
impl Attributes for MapCreate {}
impl Attributes for MapUpdate {}
impl Attributes for ProgLoad {}
impl Attributes for LinkCreate {}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
}

fn bpf<A: Attributes>(command: libc::c_int, attributes: &A) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the commands that come here make a descriptor, which nobody else knows yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<A: Attributes>(command: libc::c_int, attributes: &A) -> io::Result<i32> {
    let (at, size) = (&raw const *attributes, size_of::<A>());
    // SAFETY: the kernel reads `size` bytes of a structure that lives as long as the call, and through its addresses
    // instructions, a text, a key and a value that do so, too; it writes nothing.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, at, size) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(done as i32)
}
