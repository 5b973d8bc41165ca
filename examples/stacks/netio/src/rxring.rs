//! The receive ring of a packet socket: memory shared with the kernel, slots that change hands by their status word.
//!
//! In: a socket whose ring has been set up; out: bursts of frames lent from the ring itself.
//! Unsafe code is fenced in here. What makes it sound: a slot's bytes are read only between the acquiring load that
//! found it ours and the releasing store that gives it back; giving back takes the ring by `&mut`, so no frame is lent.
#![allow(unsafe_code)]

use crate::RxFrame;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// How the ring is cut: powers of two, so that slots lie one after the other over all blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a slot.
    pub slot: usize,
    /// Slots.
    pub slots: usize,
}

impl Shape {
    /// What the kernel allocates at once.
    const BLOCK: usize = 1 << 16;
    /// Deep enough that a thousand connections' worth of full frames fit between two polls.
    const SLOTS: usize = 1 << 14;
    const BYTES: usize = 1 << 25;
    /// However long the frames are; those of 64 KiB need 64 MiB.
    const FEWEST: usize = 512;

    /// The ring for frames of up to `frame` bytes.
    pub fn for_frames(frame: usize) -> Shape {
        // In front of the frame: the header, the sender's address, and a gap that aligns what follows Ethernet.
        let slot = (frame + libc::TPACKET2_HDRLEN + 32).next_power_of_two();
        let slots = (Self::BYTES / slot).clamp(Self::FEWEST, Self::SLOTS);
        Shape { slot, slots }
    }

    /// The same in the kernel's words.
    pub fn request(self) -> libc::tpacket_req {
        let block = self.slot.max(Self::BLOCK);
        libc::tpacket_req {
            tp_block_size: block as u32,
            tp_block_nr: (self.slots * self.slot / block) as u32,
            tp_frame_size: self.slot as u32,
            tp_frame_nr: self.slots as u32,
        }
    }

    fn bytes(self) -> usize {
        self.slot * self.slots
    }
}

/// A frame that was found, by where it is.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: usize,
    len: usize,
    checksum_ok: bool,
}

/// The ring, mapped.
#[derive(Debug)]
pub struct RxRing {
    memory: NonNull<u8>,
    shape: Shape,
    /// The slot that the kernel fills next, as far as we know.
    next: usize,
    /// Slots up to `next` that are ours; some may hold no frame for us.
    ours: usize,
    held: Vec<Held>,
    /// Frames that did not fit into a slot: larger than the link's MTU says.
    oversized: u64,
}

// SAFETY: the mapping belongs to the process and this is its only user; nothing in it is tied to a thread.
unsafe impl Send for RxRing {}

/// A tag that the kernel has taken off and kept beside the frame.
const VLAN_VALID: u32 = 1 << 4;

impl RxRing {
    /// Maps the ring of a socket that was set up with this shape.
    pub fn map(socket: BorrowedFd<'_>, shape: Shape) -> io::Result<RxRing> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let none = std::ptr::null_mut();
        // SAFETY: a new mapping, where the kernel finds room for it; no memory of ours changes.
        let memory = unsafe { mmap(none, shape.bytes(), protection, flags, socket, 0) }?;
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(RxRing {
            memory,
            shape,
            next: 0,
            ours: 0,
            held: Vec::new(),
            oversized: 0,
        })
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        debug_assert!(slot < self.shape.slots);
        // SAFETY: a slot begins with its status word, inside the mapping and aligned to the slot's size; kernel and
        // user only touch it as a whole.
        unsafe { AtomicU32::from_ptr(self.memory.add(slot * self.shape.slot).cast().as_ptr()) }
    }

    /// Looks at up to `max` slots; how many hold a frame for us. Frames of an earlier burst are given back first.
    pub fn burst(&mut self, max: usize) -> usize {
        self.release();
        while self.ours < max.min(self.shape.slots) {
            // Acquire: what the kernel wrote before it handed the slot over is read after this.
            let status = self.status(self.next).load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                break;
            }
            self.look(self.next, status);
            self.next = (self.next + 1) & (self.shape.slots - 1);
            self.ours += 1;
        }
        if self.held.is_empty() {
            self.release();
        }
        self.held.len()
    }

    /// Holds the frame of a slot that is ours, if it is whole and was not tagged for another network.
    fn look(&mut self, slot: usize, status: u32) {
        let start = slot * self.shape.slot;
        // SAFETY: the slot is inside the mapping, aligned, and ours until it is given back: the kernel does not write
        // to it; every pattern of bits is a value of this structure of integers.
        let header = unsafe { self.memory.add(start).cast::<libc::tpacket2_hdr>().read() };
        let offset = usize::from(header.tp_mac);
        let len = header.tp_snaplen as usize;
        if header.tp_snaplen < header.tp_len || offset + len > self.shape.slot {
            self.oversized += 1;
        } else if status & VLAN_VALID == 0 {
            let verified = libc::TP_STATUS_CSUMNOTREADY | libc::TP_STATUS_CSUM_VALID;
            self.held.push(Held {
                at: start + offset,
                len,
                checksum_ok: status & verified != 0,
            });
        }
    }

    /// The frame `index` of the burst.
    pub fn frame(&self, index: usize) -> RxFrame<'_> {
        let held = self.held[index];
        // SAFETY: `look` has checked that the range is inside its slot; the slot is ours, so nobody writes to it, until
        // `release`, which cannot run while this borrow lives.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.memory.add(held.at).as_ptr(), held.len) };
        RxFrame {
            bytes,
            checksum_ok: held.checksum_ok,
        }
    }

    /// Gives the burst's slots back to the kernel.
    pub fn release(&mut self) {
        let slots = self.shape.slots;
        for back in (1..=self.ours).rev() {
            let slot = (self.next + slots - back) & (slots - 1);
            // Release: what we read from the slot was read before the kernel may write to it.
            self.status(slot)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.ours = 0;
        self.held.clear();
    }

    /// Frames that did not fit.
    pub fn oversized(&self) -> u64 {
        self.oversized
    }
}

impl Drop for RxRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and no frame of it is lent any more. It cannot fail.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.shape.bytes()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any MTU gives whole blocks of whole slots within the memory allowed.
    #[test]
    fn shapes_are_whole() {
        for mtu in [68, 1500, 9000, 65_536] {
            let shape = Shape::for_frames(mtu + 14);
            let request = shape.request();
            assert!(
                shape.slot > mtu + 14 && shape.slots.is_power_of_two(),
                "{shape:?}"
            );
            assert_eq!(request.tp_block_size % request.tp_frame_size, 0);
            let blocks = request.tp_block_nr as usize * request.tp_block_size as usize;
            assert_eq!(blocks, shape.bytes(), "{mtu}");
            assert!(
                blocks <= Shape::BYTES.max(Shape::FEWEST * shape.slot),
                "{mtu}"
            );
        }
    }
}
