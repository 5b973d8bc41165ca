//! A queue as one thread knows it, on one cache line.
//!
//! In: what names a queue (the data that burst functions are given, its port, its direction); out: its entry in the queue
//! file, and what the ring's totals and events do not have yet. What is remembered of a port is void once it was wrapped
//! anew.

use crate::counts::{self, Entry, Moved};
use crate::lane::Direction;
use crate::{dpdk, ports};
use bypassprof_ring::{Ring, Total};
use core::cell::Cell;
use core::ffi::c_void;

/// Queues that a thread remembers beside the first of each port and direction, a power of two.
pub const OTHERS: usize = 64;

/// What names a queue.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Key {
    data: u64,
    /// The port's and direction's mark; 0 for none.
    mark: u64,
}

impl Key {
    /// By what a function of the table is given.
    #[inline(always)]
    pub fn of_table(port: usize, data: *mut c_void, direction: Direction) -> Key {
        Key {
            data: data as u64,
            mark: ports::mark(port, direction),
        }
    }

    /// By number, where callbacks tell it. Numbers are no addresses of data.
    pub fn of_callback(port: usize, queue: u16, direction: Direction) -> Key {
        Key {
            data: u64::from(queue),
            mark: ports::mark(port, direction),
        }
    }

    /// Its place among the others.
    pub fn place(self) -> usize {
        let mixed = (self.data ^ (self.data >> 6) ^ self.mark).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - OTHERS.ilog2())) as usize
    }

    /// Port and direction.
    pub fn of(self) -> (usize, Direction) {
        ports::of_mark(self.mark)
    }

    /// What a function of the table is given.
    pub fn data(self) -> *mut c_void {
        self.data as *mut c_void
    }

    fn is_of_callback(self) -> bool {
        self.data <= u64::from(u16::MAX)
    }
}

/// A queue that the thread has met.
#[repr(C, align(64))]
pub struct Queue {
    data: Cell<u64>,
    mark: Cell<u64>,
    pub entry: Cell<Option<&'static Entry>>,
    /// What of the entry's counts the ring's totals have.
    told: Cell<Moved>,
    /// Whether its last poll found frames.
    pub full: Cell<bool>,
    /// Number of its entry, as far as an event has room.
    pub number: Cell<u8>,
}

const _: () = assert!(size_of::<Queue>() == 64);

impl Queue {
    pub const fn new() -> Queue {
        Queue {
            data: Cell::new(0),
            mark: Cell::new(0),
            entry: Cell::new(None),
            told: Cell::new(Moved {
                calls: 0,
                frames: 0,
            }),
            full: Cell::new(false),
            number: Cell::new(0),
        }
    }

    #[inline(always)]
    pub fn is(&self, key: Key) -> bool {
        self.data.get() == key.data && self.mark.get() == key.mark
    }

    /// Whether nothing that is still true is remembered here.
    pub fn is_void(&self) -> bool {
        let mark = self.mark.get();
        let (port, direction) = ports::of_mark(mark);
        self.entry.get().is_none() || mark != ports::mark(port, direction)
    }

    pub fn is_received_now(&self) -> bool {
        !self.is_void() && ports::of_mark(self.mark.get()).1 == Direction::Receive
    }

    /// Makes this the place of a queue.
    pub fn move_in(&self, key: Key) {
        let (port, direction) = key.of();
        let known = if key.is_of_callback() {
            Some(key.data as u16)
        } else {
            let receives = direction == Direction::Receive;
            dpdk::table().and_then(|t| t.queue_of(port, receives, key.data()))
        };
        let entry = counts::entry(port, known.unwrap_or(u16::MAX), direction);
        self.data.set(key.data);
        self.mark.set(key.mark);
        self.full.set(false);
        self.entry.set(entry.map(|(entry, _)| entry));
        self.number
            .set(entry.map_or(u8::MAX, |(_, at)| at.min(255) as u8));
        let moved = entry.map(|(entry, _)| counts::moved(entry));
        self.told.set(moved.unwrap_or_default());
        if let Some((entry, _)) = entry
            && key.is_of_callback()
            && direction == Direction::Transmit
        {
            counts::accepted_is_not_known(entry);
        }
    }

    /// Brings the ring's totals up to what the entry has counted; returns the number of frames that it has.
    pub fn settle(&self, entry: &Entry, ring: &Ring, direction: Direction) -> u64 {
        let now = counts::moved(entry);
        let told = self.told.replace(now);
        let calls = now.calls.wrapping_sub(told.calls);
        let frames = now.frames.wrapping_sub(told.frames);
        match direction {
            Direction::Receive => {
                ring.add(Total::WorkedRounds, calls);
                ring.add(Total::RxBursts, calls);
                ring.add(Total::RxPackets, frames);
            }
            Direction::Transmit => {
                ring.add(Total::TxBursts, calls);
                ring.add(Total::TxPackets, frames);
            }
        }
        now.frames
    }
}
