//! What the two sides of a ring must agree on, and nothing else: the traced program writes it, the recorder reads it.
//!
//! In: a time stamp, a place on a data path, a flow, a few numbers. Out: 16-byte slots and back ([`event`]), the
//! catalogue of places ([`points`]), one flow hash for stacks, applications, kernel and DPDK ([`flow`], from [`headers`]), the layout of
//! ring and control files ([`layout`]) and what they are called ([`names`]). It refuses to know memory mappings, atomics
//! and clocks: there is no `unsafe` here and nothing to allocate.
#![cfg_attr(not(test), no_std)]

pub mod event;
pub mod flow;
pub mod headers;
pub mod layout;
pub mod names;
pub mod points;
pub mod queues;

pub use event::{Decoder, Event, Slot};
pub use flow::Flow;
pub use points::{Point, PointInfo};

/// A reading of the CPU's counter: TSC ticks on x86-64 (`rdtsc`), generic timer ticks on Arm (`cntvct_el0`).
///
/// "Cycles" in reports are these reference cycles, not core clock cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tsc(u64);

impl Tsc {
    /// The counter's value as read from the CPU.
    #[inline(always)]
    pub const fn from_raw(ticks: u64) -> Self {
        Tsc(ticks)
    }

    /// The 64-bit tick count.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Ticks from `earlier` to `self`; zero if `earlier` is later.
    #[inline]
    pub const fn since(self, earlier: Tsc) -> Cycles {
        Cycles(self.0.saturating_sub(earlier.0))
    }
}

/// A number of counter ticks (see [`Tsc`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cycles(u64);

impl Cycles {
    /// A tick count.
    #[inline(always)]
    pub const fn from_ticks(ticks: u64) -> Self {
        Cycles(ticks)
    }

    /// The tick count.
    #[inline(always)]
    pub const fn ticks(self) -> u64 {
        self.0
    }
}
