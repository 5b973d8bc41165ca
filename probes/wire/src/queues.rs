//! Layout of a process's queue file: what each thread did on each queue of each port, counted and never lost.
//!
//! In: nothing; out: `repr(C)` structures of 64-bit words, as in [`crate::layout`]. Every entry has one writer, the
//! thread it names, so that counting is a load, an addition and a store. Events may be dropped or left out; these counts
//! are whole. Which program counts, and how it learns of bursts, is not known here.

use crate::layout::{Identity, NAME_WORDS};

/// First word of a queue file.
pub const QUEUES_MAGIC: u64 = u64::from_le_bytes(*b"bypQUE2\0");
/// Entries of a queue file.
pub const MAX_ENTRIES: usize = 1023;
/// Burst sizes: those below this number have a count of their own, so that common ones are exact.
pub const EXACT_SIZES: usize = 65;
/// Counts of burst sizes: the exact ones, then 65 to 127, and one for each power of two from 128 to 32768.
pub const SIZES: usize = EXACT_SIZES + 1 + 9;
/// Bytes of a queue file.
pub const QUEUES_BYTES: usize = (MAX_ENTRIES + 1) * size_of::<QueueEntry<u64>>();

/// Memory pools whose use is told.
pub const POOLS: usize = 16;

/// [`QueueEntry::direction`] of a receive queue.
pub const RECEIVE: u64 = 0;
/// [`QueueEntry::direction`] of a transmit queue.
pub const TRANSMIT: u64 = 1;

/// Which count a burst of `frames` belongs to.
#[inline(always)]
pub const fn size_class(frames: u16) -> usize {
    if (frames as usize) < EXACT_SIZES {
        frames as usize
    } else if frames < 128 {
        EXACT_SIZES
    } else {
        EXACT_SIZES + 1 + frames.ilog2() as usize - 7
    }
}

/// Whether all bursts of a class are of one size, so that their count tells their frames.
#[inline(always)]
pub const fn is_exact(class: usize) -> bool {
    class < EXACT_SIZES
}

/// The smallest burst of a class.
pub const fn smallest_of(class: usize) -> u32 {
    if class <= EXACT_SIZES {
        class as u32
    } else {
        1 << (class - EXACT_SIZES - 1 + 7)
    }
}

/// The first entry's worth of a queue file.
#[derive(Debug)]
#[repr(C)]
pub struct QueuesHeader<W> {
    /// Which program.
    pub identity: Identity<W>,
    /// Entries taken so far.
    pub taken: W,
    /// Bursts that could not be counted: no entry, or no thread's place, was left.
    pub uncounted: W,
    /// Ports whose burst functions are wrapped now, one bit each.
    pub wrapped: W,
    /// Ports that could not be wrapped, one bit each.
    pub refused: W,
    /// 1 from when DPDK takes its memory down: who asks it anything from then on may crash it.
    pub leaving: W,
    /// 1 while a recorder waits for an answer of DPDK's telemetry; the program waits for it before it leaves.
    pub asked: W,
    /// Memory pools, the first ones that the program made; those without a name are none.
    pub pools: [PoolWords<W>; POOLS],
    /// Zero.
    pub reserved: [W; 10],
}

/// How much of a memory pool is in use, as read last.
#[derive(Debug)]
#[repr(C)]
pub struct PoolWords<W> {
    /// Its name.
    pub name: [W; NAME_WORDS],
    /// Objects in all.
    pub size: W,
    /// Objects that are free, those in caches of threads included.
    pub free: W,
}

/// One thread's counts on one queue.
#[derive(Debug)]
#[repr(C)]
pub struct QueueEntry<W> {
    /// 1 when the words up to the port's name are there.
    pub whole: W,
    /// The thread, as it sees itself in its PID namespace.
    pub tid: W,
    /// 1 + its lcore; 0 for a thread that has none.
    pub lcore: W,
    /// The port.
    pub port: W,
    /// The queue of the port.
    pub queue: W,
    /// [`RECEIVE`] or [`TRANSMIT`].
    pub direction: W,
    /// 1 if what the device accepted is not known: frames are those asked for.
    pub unaccepted: W,
    /// One in how many bursts is an event, as chosen last.
    pub sampled: W,
    /// The port's name.
    pub name: [W; NAME_WORDS],
    /// Frames received, or accepted for sending, by calls whose class does not say how many ([`is_exact`]).
    pub more_frames: W,
    /// Frames offered for sending that were not accepted.
    pub refused: W,
    /// Bytes of frames that were looked at.
    pub bytes: W,
    /// How many those are.
    pub bytes_of: W,
    /// Calls by burst size, see [`size_class`]; the first are empty ones.
    pub sizes: [W; SIZES],
    /// Frames that were to be looked at and were not: the ring had no room for them.
    pub unlooked: W,
    /// Zero.
    pub reserved: [W; 36],
}

const _: () = assert!(size_of::<QueuesHeader<u64>>() == 1024);
const _: () = assert!(size_of::<QueueEntry<u64>>() == 1024);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every size has a class inside of the table, classes grow with sizes, and each begins where it says.
    #[test]
    fn classes() {
        for frames in 0..=u16::MAX {
            let class = size_class(frames);
            assert!(class < SIZES, "{frames}");
            assert!(smallest_of(class) <= u32::from(frames));
            if class + 1 < SIZES {
                assert!(u32::from(frames) < smallest_of(class + 1), "{frames}");
            }
        }
        assert_eq!(size_class(64), 64);
        assert_eq!(smallest_of(SIZES - 1), 32768);
    }
}
