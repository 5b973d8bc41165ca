//! A ring's memory: where header and slots are.
//!
//! In: a mapping; out: [`Ring`], two words that both halves work on. The mask is private: it is never read back from
//! shared memory, so no one who scribbles over a header can make a writer store outside of its mapping.
#![allow(unsafe_code)]

use crate::atomics::{AtomicU64, Ordering};
use bypassprof_wire::Slot;
use bypassprof_wire::layout::{ControlFile, RingHeader};
use core::ptr::NonNull;

/// A ring's header in shared memory.
pub type Header = RingHeader<AtomicU64>;
/// A control file in shared memory.
pub type Control = ControlFile<AtomicU64>;

/// A slot in shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedSlot {
    word0: AtomicU64,
    word1: AtomicU64,
}

impl SharedSlot {
    /// Relaxed: the release store of `head` publishes both words.
    #[inline(always)]
    pub(crate) fn store(&self, slot: Slot) {
        self.word0.store(slot.word0, Ordering::Relaxed);
        self.word1.store(slot.word1, Ordering::Relaxed);
    }

    /// Relaxed: the acquire load of `head` before it made both words visible.
    #[cfg(feature = "reader")]
    #[inline(always)]
    pub(crate) fn load(&self) -> Slot {
        Slot {
            word0: self.word0.load(Ordering::Relaxed),
            word1: self.word1.load(Ordering::Relaxed),
        }
    }
}

/// A ring in mapped memory. Copies name the same ring; only one thread at a time may write through any of them.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    header: NonNull<Header>,
    #[cfg(loom)]
    slots: *const SharedSlot,
    mask: u64,
}

#[cfg(loom)]
impl Ring {
    /// A ring of loom's atomics: they are larger than a word, so header and slots come apart.
    ///
    /// # Safety
    /// Both must live for as long as the ring or any copy of it is used.
    pub unsafe fn from_parts(header: *const Header, slots: &[SharedSlot]) -> Ring {
        assert!(slots.len().is_power_of_two());
        Ring {
            header: NonNull::new(header.cast_mut()).unwrap(),
            slots: slots.as_ptr(),
            mask: slots.len() as u64 - 1,
        }
    }

    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> &SharedSlot {
        // SAFETY: the masked index is below the number of slots that `from_parts` was given.
        unsafe { &*self.slots.add((position & self.mask) as usize) }
    }
}

#[cfg(not(loom))]
impl Ring {
    /// A ring whose header starts a mapping.
    ///
    /// # Safety
    /// `header` must not be null, be aligned to 8 bytes and start a readable and writable mapping of at least
    /// `layout::ring_file_bytes(mask + 1)` bytes (see [`bypassprof_wire::layout`]) which stays for as long as the ring
    /// or any copy of it is used; `mask + 1` must be a power of two.
    #[inline(always)]
    pub const unsafe fn from_raw(header: *const Header, mask: u64) -> Ring {
        // SAFETY: not null by this function's contract.
        let header = unsafe { NonNull::new_unchecked(header.cast_mut()) };
        Ring { header, mask }
    }

    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> &SharedSlot {
        let index = (position & self.mask) as usize;
        // SAFETY: `from_raw` promises a mapping of `mask + 1` slots behind the header, and the masked index is below that.
        unsafe { self.header.add(1).cast::<SharedSlot>().add(index).as_ref() }
    }
}

impl Ring {
    /// The header.
    #[inline(always)]
    pub fn header(&self) -> &Header {
        // SAFETY: the constructors' contracts: mapped, aligned and alive; all of it is atomic words.
        unsafe { self.header.as_ref() }
    }

    /// Where the header is.
    #[inline(always)]
    pub fn as_ptr(&self) -> *const Header {
        self.header.as_ptr().cast_const()
    }

    /// Slots of the ring less one.
    #[inline(always)]
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// Slots of the ring.
    #[inline(always)]
    pub fn capacity(&self) -> u64 {
        self.mask.wrapping_add(1)
    }
}
