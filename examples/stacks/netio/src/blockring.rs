//! The receive ring of a packet socket in blocks (`TPACKET_V3`): frames of any length packed one behind the other.
//!
//! In: a socket whose ring has been set up; out: bursts of frames lent from the ring itself. The kernel hands a block over
//! when it is full or its time has passed, so that a frame may be seen that much later: for bulk, never for latency.
//! Unsafe code is fenced in here. What makes it sound: a block's bytes are read only between the acquiring load that
//! found it ours and the releasing store that gives it back; giving back takes the ring by `&mut`, so no frame is lent.
#![allow(unsafe_code)]

use crate::RxFrame;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a block: some frames of 64 KiB, or two hundred of 1514 bytes.
const BLOCK: usize = 1 << 19;
const BLOCKS: usize = 64;

/// The ring in the kernel's words; a block that is not full is handed over after `wait` milliseconds.
pub fn request(wait: u16) -> libc::tpacket_req3 {
    /// Only has to divide a block: frames lie where the one before ends.
    const FRAME: usize = 2048;
    libc::tpacket_req3 {
        tp_block_size: BLOCK as u32,
        tp_block_nr: BLOCKS as u32,
        tp_frame_size: FRAME as u32,
        tp_frame_nr: (BLOCK / FRAME * BLOCKS) as u32,
        tp_retire_blk_tov: wait.into(),
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
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
pub struct BlockRing {
    memory: NonNull<u8>,
    /// The block that is ours, or will be next.
    block: usize,
    /// Frames of it that were not looked at, and where the next one is; 0 frames: it is the kernel's, or read.
    left: u32,
    next: usize,
    /// The block is ours and goes back at the next release.
    read: bool,
    held: Vec<Held>,
    /// Frames that did not fit into a block.
    oversized: u64,
}

// SAFETY: the mapping belongs to the process and this is its only user; nothing in it is tied to a thread.
unsafe impl Send for BlockRing {}

/// Where a block's header has what we read.
const HEADER: usize = offset_of!(libc::tpacket_block_desc, hdr);
const STATUS: usize = HEADER + offset_of!(libc::tpacket_hdr_v1, block_status);

/// A tag that the kernel has taken off and kept beside the frame.
const VLAN_VALID: u32 = 1 << 4;

impl BlockRing {
    /// Maps the ring of a socket that was set up by [`request`].
    pub fn map(socket: BorrowedFd<'_>) -> io::Result<BlockRing> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let none = std::ptr::null_mut();
        // SAFETY: a new mapping, where the kernel finds room for it; no memory of ours changes.
        let memory = unsafe { mmap(none, BLOCK * BLOCKS, protection, flags, socket, 0) }?;
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(BlockRing {
            memory,
            block: 0,
            left: 0,
            next: 0,
            read: false,
            held: Vec::new(),
            oversized: 0,
        })
    }

    fn status(&self) -> &AtomicU32 {
        let at = self.block * BLOCK + STATUS;
        // SAFETY: inside the mapping and aligned; kernel and user only touch the word as a whole.
        unsafe { AtomicU32::from_ptr(self.memory.add(at).cast().as_ptr()) }
    }

    /// A structure of the block, which has to be ours, at this place in it; `None` outside of it.
    fn structure<T: Integers>(&self, at: usize) -> Option<T> {
        if at > BLOCK - size_of::<T>() {
            return None;
        }
        // SAFETY: inside the block, which the kernel does not write to while it is ours; every pattern of bits is a value
        // of a structure of integers.
        Some(unsafe {
            self.memory
                .add(self.block * BLOCK + at)
                .cast::<T>()
                .read_unaligned()
        })
    }

    /// Looks at up to `max` frames of one block; how many are for us. Frames of an earlier burst are given back first.
    pub fn burst(&mut self, max: usize) -> usize {
        self.release();
        // A block whose frames were all left out is given back at once, and the next one looked at.
        while self.held.is_empty() {
            if self.left == 0 && !self.take_block() {
                return 0;
            }
            while self.left > 0 && self.held.len() < max {
                self.look();
            }
            if self.held.is_empty() {
                if self.left > 0 {
                    return 0;
                }
                self.release();
            }
        }
        self.held.len()
    }

    /// Takes the next block if the kernel has handed it over.
    fn take_block(&mut self) -> bool {
        // Acquire: what the kernel wrote before it handed the block over is read after this.
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        self.read = true;
        let Some(header) = self.structure::<libc::tpacket_hdr_v1>(HEADER) else {
            return false;
        };
        self.left = header.num_pkts;
        self.next = header.offset_to_first_pkt as usize;
        true
    }

    /// Holds the next frame of the block, if it is whole and was not tagged for another network.
    fn look(&mut self) {
        let Some(header) = self.structure::<libc::tpacket3_hdr>(self.next) else {
            self.left = 0;
            return;
        };
        let at = self.next + usize::from(header.tp_mac);
        let len = header.tp_snaplen as usize;
        if header.tp_snaplen < header.tp_len || at + len > BLOCK {
            self.oversized += 1;
        } else if header.tp_status & VLAN_VALID == 0 {
            let verified = libc::TP_STATUS_CSUMNOTREADY | libc::TP_STATUS_CSUM_VALID;
            self.held.push(Held {
                at: self.block * BLOCK + at,
                len,
                checksum_ok: header.tp_status & verified != 0,
            });
        }
        self.left -= 1;
        self.next += header.tp_next_offset as usize;
    }

    /// The frame `index` of the burst.
    pub fn frame(&self, index: usize) -> RxFrame<'_> {
        let held = self.held[index];
        // SAFETY: `look` has checked that the range is inside its block; the block is ours, so nobody writes to it, until
        // `release`, which cannot run while this borrow lives.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.memory.add(held.at).as_ptr(), held.len) };
        RxFrame {
            bytes,
            checksum_ok: held.checksum_ok,
        }
    }

    /// Gives the block back to the kernel once all its frames were held.
    pub fn release(&mut self) {
        self.held.clear();
        if self.read && self.left == 0 {
            // Release: what we read from the block was read before the kernel may write to it.
            self.status()
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.read = false;
            self.block = (self.block + 1) % BLOCKS;
        }
    }

    /// Frames that did not fit.
    pub fn oversized(&self) -> u64 {
        self.oversized
    }
}

/// Structures of integers.
trait Integers: Copy {}
impl Integers for libc::tpacket_hdr_v1 {}
impl Integers for libc::tpacket3_hdr {}

impl Drop for BlockRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and no frame of it is lent any more. It cannot fail.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), BLOCK * BLOCKS) };
    }
}
