//! An AF_XDP socket: memory for frames, cut into chunks, and four rings that say whose each chunk is.
//!
//! ```text
//! receive:   fill ring --> kernel --> receive ring --> held --> fill ring
//! send:      free --> queued --> transmit ring --> kernel --> completion ring --> free
//! ```
//!
//! In: a queue of an interface; out: bursts lent from the chunks. Unsafe code is fenced in here. What makes it sound: each
//! chunk is in one of these places at a time; its bytes are read while it is held, written while it is queued, and the
//! kernel does neither then.
#![allow(unsafe_code)]

use super::rings::{Consumer, Place, Producer};
use crate::outbox::ETHERNET;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::collections::VecDeque;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// How the memory is cut: chunks for receiving first, then those for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    chunk: usize,
    largest: usize,
}

impl Shape {
    /// The kernel leaves room in front of every frame that it receives (`XDP_PACKET_HEADROOM`).
    const HEADROOM: usize = 256;
    /// The longest chunk; the kernel's limit is a page.
    const LONGEST: usize = 4096;
    /// Largest MTU.
    pub const MOST: u32 = (Self::LONGEST - Self::HEADROOM - ETHERNET) as u32;
    const RX: u32 = 1 << 13;
    const TX: u32 = 1 << 10;

    /// Chunks for frames of a link with this MTU, if there are such.
    pub fn for_mtu(mtu: u32) -> Option<Shape> {
        let largest = mtu as usize + ETHERNET;
        let chunk = (largest + Self::HEADROOM).next_power_of_two().max(2048);
        (mtu <= Self::MOST).then_some(Shape { chunk, largest })
    }

    fn bytes(self) -> usize {
        (Self::RX + Self::TX) as usize * self.chunk
    }
}

/// Where a frame is.
#[derive(Clone, Copy, Debug)]
struct Extent {
    at: usize,
    len: usize,
}

/// The socket.
#[derive(Debug)]
pub struct Socket {
    // Closed before the memory is unmapped, which it is anyway only when the kernel has let go of it.
    fd: OwnedFd,
    shape: Shape,
    memory: Memory,
    fill: Producer<u64>,
    receive: Consumer<libc::xdp_desc>,
    transmit: Producer<libc::xdp_desc>,
    completion: Consumer<u64>,
    held: Vec<Extent>,
    /// Chunks of held frames, and of those that could not be held.
    back: Vec<u64>,
    free: Vec<usize>,
    queued: VecDeque<Extent>,
}

impl Socket {
    /// A socket with memory of this shape, bound to nothing yet.
    pub fn open(shape: Shape) -> io::Result<Socket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: a system call on numbers.
        let fd = check(unsafe { libc::socket(libc::AF_XDP, kind, 0) } as isize)? as i32;
        // SAFETY: the descriptor has just been made and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let memory = Memory::new(shape.bytes())?;
        let registration = libc::xdp_umem_reg {
            addr: memory.start.as_ptr() as u64,
            len: memory.bytes as u64,
            chunk_size: shape.chunk as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let socket = fd.as_fd();
        set(socket, libc::XDP_UMEM_REG, registration)?;
        for (option, size) in [
            (libc::XDP_UMEM_FILL_RING, Shape::RX),
            (libc::XDP_RX_RING, Shape::RX),
            (libc::XDP_TX_RING, Shape::TX),
            (libc::XDP_UMEM_COMPLETION_RING, Shape::TX),
        ] {
            set(socket, option, size)?;
        }
        let offsets: libc::xdp_mmap_offsets = get(socket, libc::XDP_MMAP_OFFSETS)?;
        let place = |page, offsets, size| Place {
            page,
            offsets,
            size,
        };
        let rx = place(libc::XDP_PGOFF_RX_RING as u64, offsets.rx, Shape::RX);
        let tx = place(libc::XDP_PGOFF_TX_RING as u64, offsets.tx, Shape::TX);
        let fill = place(libc::XDP_UMEM_PGOFF_FILL_RING, offsets.fr, Shape::RX);
        let done = place(libc::XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, Shape::TX);
        let mut opened = Socket {
            fill: Producer::map(socket, fill)?,
            receive: Consumer::map(socket, rx)?,
            transmit: Producer::map(socket, tx)?,
            completion: Consumer::map(socket, done)?,
            shape,
            memory,
            held: Vec::new(),
            back: (0..u64::from(Shape::RX))
                .map(|n| n * shape.chunk as u64)
                .collect(),
            free: (Shape::RX..Shape::RX + Shape::TX)
                .rev()
                .map(|n| n as usize * shape.chunk)
                .collect(),
            queued: VecDeque::new(),
            fd,
        };
        opened.release();
        Ok(opened)
    }

    /// Takes the frames of a queue that a program sends here.
    pub fn bind(&self, interface: u32, queue: u32) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let size = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        let fd = self.fd.as_raw_fd();
        // SAFETY: the kernel reads `size` bytes of an address that lives as long as the call.
        let done = unsafe { libc::bind(fd, (&raw const address).cast(), size) };
        check(done as isize).map(|_| ())
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Holds up to `max` frames; how many there are. Frames held before are given back first.
    pub fn receive(&mut self, max: usize) -> usize {
        self.release();
        if self.transmit.untaken() > 0 {
            self.kick();
        }
        while self.held.len() < max
            && let Some(found) = self.receive.pop()
        {
            let (at, len) = (found.addr as usize, found.len as usize);
            self.back.push(found.addr & !(self.shape.chunk as u64 - 1));
            if at
                .checked_add(len)
                .is_some_and(|end| end <= self.memory.bytes)
            {
                self.held.push(Extent { at, len });
            }
        }
        if !self.back.is_empty() {
            self.receive.give_back();
        }
        self.held.len()
    }

    /// The held frame `index`.
    pub fn frame(&self, index: usize) -> &[u8] {
        self.memory.at(self.held[index])
    }

    /// Gives the kernel the chunks of the frames held.
    pub fn release(&mut self) {
        self.held.clear();
        if self.back.is_empty() {
            return;
        }
        // There is always room: the ring has as many entries as there are chunks.
        for chunk in self.back.drain(..) {
            self.fill.push(chunk);
        }
        self.fill.publish();
    }

    /// Queues a frame of `len` bytes and lends its chunk.
    pub fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        if !(ETHERNET..=self.shape.largest).contains(&len) {
            return None;
        }
        if self.free.is_empty() {
            self.complete();
        }
        let at = self.free.pop()?;
        let place = Extent { at, len };
        self.queued.push_back(place);
        Some(self.memory.at_mut(place))
    }

    /// Frames that wait to be handed over.
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Hands all queued frames to the kernel; how many it took.
    pub fn send(&mut self) -> usize {
        let mut taken = 0;
        while let Some(place) = self.queued.front() {
            let descriptor = libc::xdp_desc {
                addr: place.at as u64,
                len: place.len as u32,
                options: 0,
            };
            if !self.transmit.push(descriptor) {
                break;
            }
            self.queued.pop_front();
            taken += 1;
        }
        self.transmit.publish();
        self.kick();
        self.complete();
        taken
    }

    /// Has the kernel send what is in the transmit ring, as long as it gets on: it takes 32 frames a call.
    fn kick(&mut self) {
        let mut left = self.transmit.untaken();
        while left > 0 {
            let fd = self.fd.as_raw_fd();
            let none = std::ptr::null();
            // SAFETY: there is no data and no address to read.
            unsafe { libc::sendto(fd, none, 0, libc::MSG_DONTWAIT, none.cast(), 0) };
            // Whatever it answered, what it took is seen in the ring; the rest goes with a later call.
            match self.transmit.untaken() {
                now if now < left => left = now,
                _ => return,
            }
        }
    }

    /// Takes chunks back whose frames have been sent.
    fn complete(&mut self) {
        let before = self.free.len();
        while let Some(chunk) = self.completion.pop() {
            self.free.push(chunk as usize & !(self.shape.chunk - 1));
        }
        if self.free.len() > before {
            self.completion.give_back();
        }
    }

    /// Frames that came and found no chunk, or no room in the ring.
    pub fn dropped(&self) -> io::Result<u64> {
        let statistics: libc::xdp_statistics = get(self.fd.as_fd(), libc::XDP_STATISTICS)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }
}

/// The memory of the chunks.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process and this is its only user; nothing in it is tied to a thread.
unsafe impl Send for Memory {}

impl Memory {
    fn new(bytes: usize) -> io::Result<Memory> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new mapping, where the kernel finds room for it; no memory of ours changes.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Memory { start, bytes })
    }

    fn at(&self, place: Extent) -> &[u8] {
        assert!(place.at + place.len <= self.bytes);
        // SAFETY: inside the mapping, which is initialised by the kernel; the chunk is held, so nobody writes to it while
        // this borrow lives, since giving it back takes the socket by `&mut`.
        unsafe { std::slice::from_raw_parts(self.start.add(place.at).as_ptr(), place.len) }
    }

    fn at_mut(&mut self, place: Extent) -> &mut [u8] {
        assert!(place.at + place.len <= self.bytes);
        // SAFETY: inside the mapping; the chunk is queued, so the kernel does not know it, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(place.at).as_ptr(), place.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and nothing of it is lent. It cannot fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Values that options of these sockets take and give: structures of integers.
trait Plain: Copy {}
impl Plain for u32 {}
impl Plain for libc::xdp_umem_reg {}
impl Plain for libc::xdp_mmap_offsets {}
impl Plain for libc::xdp_statistics {}

fn set<T: Plain>(socket: BorrowedFd<'_>, option: libc::c_int, value: T) -> io::Result<()> {
    let (fd, at) = (socket.as_raw_fd(), (&raw const value).cast());
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of a value that lives as long as the call.
    let done = unsafe { libc::setsockopt(fd, libc::SOL_XDP, option, at, size) };
    check(done as isize).map(|_| ())
}

fn get<T: Plain>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut value: T = unsafe { MaybeUninit::zeroed().assume_init() };
    let (fd, at) = (socket.as_raw_fd(), (&raw mut value).cast());
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to a value that has them.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, at, &raw mut size) };
    check(done as isize).map(|_| value)
}

fn check(done: isize) -> io::Result<usize> {
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks have room for a link's largest frame behind the kernel's headroom, up to a page; larger MTUs are refused.
    #[test]
    fn chunks_hold_the_largest_frame() {
        for mtu in [68, 1500, 1778, 1779, Shape::MOST] {
            let shape = Shape::for_mtu(mtu).unwrap();
            assert!(shape.chunk.is_power_of_two() && (2048..=4096).contains(&shape.chunk));
            assert!(shape.largest + Shape::HEADROOM <= shape.chunk, "{mtu}");
        }
        assert_eq!(Shape::for_mtu(Shape::MOST + 1), None);
    }
}
