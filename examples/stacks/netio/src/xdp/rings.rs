//! One ring of an AF_XDP socket: entries in memory shared with the kernel, a position for each side.
//!
//! In: a socket's descriptor and the places the kernel gave; out: [`Producer`]s and [`Consumer`]s of plain entries.
//! Unsafe code is fenced in here. What makes it sound: an entry is written only while it is ours by the positions, read
//! only after the kernel has given it; entries are plain numbers. The pairs of orderings are the kernel's own
//! (net/xdp/xsk_queue.h): each side stores its position with release and loads the other's with acquire.
#![allow(unsafe_code)]

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What rings hold.
pub trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for libc::xdp_desc {}

/// Where a ring is.
#[derive(Clone, Copy)]
pub struct Place {
    /// Its place in the socket's mappings.
    pub page: u64,
    /// Where in it the positions and the entries are.
    pub offsets: libc::xdp_ring_offset,
    /// Entries; a power of two.
    pub size: u32,
}

/// Memory and positions, whoever writes which.
#[derive(Debug)]
struct Ring<T> {
    memory: NonNull<u8>,
    bytes: usize,
    producer: usize,
    consumer: usize,
    entries: usize,
    size: u32,
    /// Our position, which the other side may not know yet.
    ours: u32,
    /// The other side's position, as last seen.
    theirs: u32,
    kind: PhantomData<T>,
}

// SAFETY: the mapping belongs to the process and this is its only user; nothing in it is tied to a thread.
unsafe impl<T> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    fn map(socket: BorrowedFd<'_>, place: Place) -> io::Result<Ring<T>> {
        let offset = |at: u64| usize::try_from(at).map_err(io::Error::other);
        let entries = offset(place.offsets.desc)?;
        let bytes = entries + place.size as usize * size_of::<T>();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let none = std::ptr::null_mut();
        // SAFETY: a new mapping, where the kernel finds room for it; no memory of ours changes.
        let memory = unsafe { mmap(none, bytes, protection, flags, socket, place.page) }?;
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Ring {
            memory,
            bytes,
            producer: offset(place.offsets.producer)?,
            consumer: offset(place.offsets.consumer)?,
            entries,
            size: place.size,
            ours: 0,
            theirs: 0,
            kind: PhantomData,
        })
    }

    fn position(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the kernel has placed an aligned 32-bit position there, inside the mapping, which both sides only touch
        // as a whole.
        unsafe { AtomicU32::from_ptr(self.memory.add(at).cast().as_ptr()) }
    }

    fn entry(&self, position: u32) -> NonNull<T> {
        let index = (position & (self.size - 1)) as usize;
        // SAFETY: the index is below `size`, so that the entry is inside the mapping; entries are aligned by the kernel.
        unsafe { self.memory.add(self.entries).cast::<T>().add(index) }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and nothing of it is lent. It cannot fail.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}

/// A ring that we fill and the kernel empties: fill, transmit.
#[derive(Debug)]
pub struct Producer<T>(Ring<T>);

impl<T: Entry> Producer<T> {
    /// Maps the ring.
    pub fn map(socket: BorrowedFd<'_>, place: Place) -> io::Result<Producer<T>> {
        Ring::map(socket, place).map(Producer)
    }

    /// Puts an entry behind the others, to be published; false if the ring is full.
    pub fn push(&mut self, entry: T) -> bool {
        let ring = &mut self.0;
        if ring.ours.wrapping_sub(ring.theirs) == ring.size {
            // Acquire, with the kernel's release of its consumer position: it has read the entries before.
            ring.theirs = ring.position(ring.consumer).load(Ordering::Acquire);
            if ring.ours.wrapping_sub(ring.theirs) == ring.size {
                return false;
            }
        }
        // SAFETY: the entry is ours: the kernel has read it, and will not again before it is published.
        unsafe { ring.entry(ring.ours).write(entry) };
        ring.ours = ring.ours.wrapping_add(1);
        true
    }

    /// Gives the kernel what was pushed.
    pub fn publish(&mut self) {
        let ring = &self.0;
        // Release, with the kernel's acquire of this position: the entries are written before.
        ring.position(ring.producer)
            .store(ring.ours, Ordering::Release);
    }

    /// Entries that the kernel has not taken yet.
    pub fn untaken(&mut self) -> u32 {
        let ring = &mut self.0;
        // Acquire: as in `push`.
        ring.theirs = ring.position(ring.consumer).load(Ordering::Acquire);
        ring.ours.wrapping_sub(ring.theirs)
    }
}

/// A ring that the kernel fills and we empty: receive, completion.
#[derive(Debug)]
pub struct Consumer<T>(Ring<T>);

impl<T: Entry> Consumer<T> {
    /// Maps the ring.
    pub fn map(socket: BorrowedFd<'_>, place: Place) -> io::Result<Consumer<T>> {
        Ring::map(socket, place).map(Consumer)
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<T> {
        let ring = &mut self.0;
        if ring.ours == ring.theirs {
            // Acquire, with the kernel's release of its producer position: entries, and the frames they name, are
            // written before.
            ring.theirs = ring.position(ring.producer).load(Ordering::Acquire);
            if ring.ours == ring.theirs {
                return None;
            }
        }
        // SAFETY: the kernel has published the entry and does not write to it before we give its place back.
        let entry = unsafe { ring.entry(ring.ours).read() };
        ring.ours = ring.ours.wrapping_add(1);
        Some(entry)
    }

    /// Gives the kernel the places of the entries taken.
    pub fn give_back(&mut self) {
        let ring = &self.0;
        // Release, with the kernel's acquire of this position: the entries are read before.
        ring.position(ring.consumer)
            .store(ring.ours, Ordering::Release);
    }
}
