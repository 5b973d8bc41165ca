//! What a program links to be seen: events at points of its data path, bursts stamped once, rounds of its polling loop.
//!
//! In: calls on the data path; out: slots in this thread's ring in shared memory. A probe cannot fail, print, lock, or
//! allocate after its thread's first event, and costs a load and a predicted branch while no recorder listens.
//!
//! ```
//! use bypassprof_probe::{self as probe, points, Flow, PollLoop, Stage};
//!
//! let mut rounds = PollLoop::new();
//! for frames in [0u32, 0, 3] {
//!     rounds.begin();
//!     let burst = rounds.rx_burst(0, frames, 32, 1000);
//!     rounds.stage(Stage::Nic);
//!     for frame in 0..frames {
//!         let flow = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000);
//!         burst.emit_with(points::TCP_IN, flow, 1000 + frame, [64, 0, 65_535]);
//!         probe::emit(points::APP_START, flow, 1);
//!         probe::emit(points::APP_END, flow, 151);
//!     }
//!     rounds.stage(Stage::App);
//!     rounds.end();
//! }
//! ```

#![cfg_attr(not(test), no_std)]

#[cfg(feature = "enable")]
mod clock;
#[cfg(not(feature = "enable"))]
mod off;
mod rounds;
#[cfg(feature = "enable")]
pub mod runtime;
#[cfg(feature = "enable")]
pub mod thread;
#[cfg(feature = "enable")]
mod word;

/// Where rings, switch and clock come from.
mod hot {
    #[cfg(not(feature = "enable"))]
    pub use crate::off::{
        Ring, Total, flight, is_on, name_thread, now, own_ring, register, ring, trigger,
    };
    #[cfg(feature = "enable")]
    pub use crate::{
        clock::now,
        runtime::{flight, name_thread, register, trigger},
        thread::{is_on, own_ring, ring},
    };
    #[cfg(feature = "enable")]
    pub use bypassprof_ring::{Ring, Total};
}

pub use bypassprof_wire::{Flow, Point, Tsc, points};
#[cfg(feature = "enable")]
#[doc(hidden)]
pub use rounds::foreign;
pub use rounds::{PollLoop, Stage};

use bypassprof_wire::Slot;
use hot::{Ring, Total};

/// Whether a recorder listens. Use it to skip work that only serves an event's arguments.
#[inline(always)]
pub fn enabled() -> bool {
    hot::ring().is_some()
}

/// Reads the CPU's counter.
#[inline(always)]
pub fn now() -> Tsc {
    hot::now()
}

/// One event, stamped now.
#[inline(always)]
pub fn emit(point: Point, flow: Flow, arg: u32) {
    if let Some(ring) = hot::ring() {
        let tsc = hot::now();
        stamped(&ring, point, tsc, [Slot::head(tsc, point, flow, arg)]);
    }
}

/// One event with three more arguments, stamped now.
#[inline(always)]
pub fn emit_with(point: Point, flow: Flow, arg: u32, more: [u32; 3]) {
    if let Some(ring) = hot::ring() {
        let tsc = hot::now();
        stamped(&ring, point, tsc, slots3(tsc, point, flow, arg, more));
    }
}

/// One event with six more arguments, stamped now.
#[inline(always)]
pub fn emit_with6(point: Point, flow: Flow, arg: u32, more: [u32; 6]) {
    if let Some(ring) = hot::ring() {
        let tsc = hot::now();
        stamped(&ring, point, tsc, slots6(tsc, point, flow, arg, more));
    }
}

/// Registers a point of the program's own; the same name gives the same number. [`Point::from_id`]`(0)` (never
/// recorded) when all are taken.
pub fn register(name: &str) -> Point {
    hot::register(name)
}

/// Names the calling thread in recordings; without it the kernel's name of the thread is used.
pub fn name_thread(name: &str) {
    hot::name_thread(name);
}

/// Starts the flight recorder: the newest events of all threads are kept in at most `bytes` of shared memory from here
/// on, with no recorder attached, and the oldest overwritten; `bypassprof snapshot` and `postmortem` read them. 0 ends it.
/// The same as `BYPASSPROF_FLIGHT` in the environment. `false` if the program has to do without shared memory.
pub fn flight(bytes: u64) -> bool {
    hot::flight(bytes)
}

/// Something worth looking at has happened: whoever waits with `bypassprof snapshot --on trigger` saves what led to it.
/// `why` is a number of the program's choice.
pub fn trigger(why: u32) {
    emit(points::TRIGGER, Flow::NONE, why);
    hot::trigger();
}

#[inline(always)]
fn stamped<const N: usize>(ring: &Ring, point: Point, tsc: Tsc, slots: [Slot; N]) {
    match point {
        // What `register` gives when it has no number left.
        NOWHERE => return,
        // These say nothing about whether a round worked.
        points::SIDE_POLL | points::SLEEP | points::WAKE => {
            ring.push_quiet(tsc, slots);
            return;
        }
        points::APP_END => ring.add(Total::Requests, 1),
        _ => {}
    }
    ring.push(tsc, slots);
}

const NOWHERE: Point = Point::from_id(0);

#[inline(always)]
fn slots3(tsc: Tsc, point: Point, flow: Flow, arg: u32, more: [u32; 3]) -> [Slot; 2] {
    let [a, b, c] = more;
    [Slot::head(tsc, point, flow, arg), Slot::cont(a, b, c)]
}

#[inline(always)]
fn slots6(tsc: Tsc, point: Point, flow: Flow, arg: u32, more: [u32; 6]) -> [Slot; 3] {
    let [a, b, c, d, e, f] = more;
    let head = Slot::head(tsc, point, flow, arg);
    [head, Slot::cont(a, b, c), Slot::cont(d, e, f)]
}

/// The stamp of a burst, reused by the events of its packets. Belongs to the thread that made it.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    stamp: Tsc,
    ring: Option<Ring>,
}

impl Burst {
    /// A burst stamped now, for loops without a [`PollLoop`].
    #[inline(always)]
    pub fn now() -> Burst {
        match hot::ring() {
            Some(ring) => Burst::of(ring, hot::now()),
            None => Burst::unstamped(),
        }
    }

    /// A burst with a stamp that was just taken.
    #[inline(always)]
    fn of(ring: Ring, stamp: Tsc) -> Burst {
        ring.date(stamp);
        Burst {
            stamp,
            ring: Some(ring),
        }
    }

    /// A burst whose events are stamped one by one, if any are made.
    #[inline(always)]
    fn unstamped() -> Burst {
        Burst {
            stamp: Tsc::from_raw(0),
            ring: None,
        }
    }

    /// When the burst was asked for; 0 when it was not stamped, because no recorder listened or nothing was received.
    #[inline(always)]
    pub fn stamp(self) -> Tsc {
        self.stamp
    }

    /// One event with the burst's stamp.
    #[inline(always)]
    pub fn emit(self, point: Point, flow: Flow, arg: u32) {
        match self.ring {
            Some(ring) => self.push(&ring, point, [Slot::head(self.stamp, point, flow, arg)]),
            None => emit(point, flow, arg),
        }
    }

    /// One event with three more arguments and the burst's stamp.
    #[inline(always)]
    pub fn emit_with(self, point: Point, flow: Flow, arg: u32, more: [u32; 3]) {
        match self.ring {
            Some(ring) => self.push(&ring, point, slots3(self.stamp, point, flow, arg, more)),
            None => emit_with(point, flow, arg, more),
        }
    }

    /// One event with six more arguments and the burst's stamp.
    #[inline(always)]
    pub fn emit_with6(self, point: Point, flow: Flow, arg: u32, more: [u32; 6]) {
        match self.ring {
            Some(ring) => self.push(&ring, point, slots6(self.stamp, point, flow, arg, more)),
            None => emit_with6(point, flow, arg, more),
        }
    }

    #[inline(always)]
    fn push<const N: usize>(self, ring: &Ring, point: Point, slots: [Slot; N]) {
        if point == NOWHERE {
            return;
        }
        if point == points::APP_END {
            ring.add(Total::Requests, 1);
        }
        ring.push_dated(self.stamp, slots);
    }
}

/// Adds received bytes to this thread's totals (frames are counted by the bursts).
#[inline(always)]
pub fn count_rx_bytes(bytes: u64) {
    if let Some(ring) = hot::ring() {
        ring.add(Total::RxBytes, bytes);
    }
}

/// Adds sent bytes to this thread's totals.
#[inline(always)]
pub fn count_tx_bytes(bytes: u64) {
    if let Some(ring) = hot::ring() {
        ring.add(Total::TxBytes, bytes);
    }
}
