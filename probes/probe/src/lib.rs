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

pub use bypassprof_wire::{Flow, Point, Tsc, points};

/// Whether a recorder listens. Use it to skip work that only serves an event's arguments.
#[inline(always)]
pub fn enabled() -> bool {
    false
}

/// Reads the CPU's counter.
#[inline(always)]
pub fn now() -> Tsc {
    Tsc::from_raw(0)
}

/// One event, stamped now.
#[inline(always)]
pub fn emit(_point: Point, _flow: Flow, _arg: u32) {}

/// One event with three more arguments, stamped now.
#[inline(always)]
pub fn emit_with(_point: Point, _flow: Flow, _arg: u32, _more: [u32; 3]) {}

/// One event with six more arguments, stamped now.
#[inline(always)]
pub fn emit_with6(_point: Point, _flow: Flow, _arg: u32, _more: [u32; 6]) {}

/// Registers a point of the program's own; the same name gives the same number. [`Point::from_id`]`(0)` (never
/// recorded) when all are taken.
pub fn register(_name: &str) -> Point {
    Point::from_id(0)
}

/// Names the calling thread in recordings; without it the kernel's name of the thread is used.
pub fn name_thread(_name: &str) {}

/// The stamp of a burst, reused by the events of its packets.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    stamp: Tsc,
}

impl Burst {
    /// A burst stamped now, for loops without a [`PollLoop`].
    #[inline(always)]
    pub fn now() -> Burst {
        Burst { stamp: now() }
    }

    /// When the burst was asked for.
    #[inline(always)]
    pub fn stamp(self) -> Tsc {
        self.stamp
    }

    /// One event with the burst's stamp.
    #[inline(always)]
    pub fn emit(self, _point: Point, _flow: Flow, _arg: u32) {}

    /// One event with three more arguments and the burst's stamp.
    #[inline(always)]
    pub fn emit_with(self, _point: Point, _flow: Flow, _arg: u32, _more: [u32; 3]) {}

    /// One event with six more arguments and the burst's stamp.
    #[inline(always)]
    pub fn emit_with6(self, _point: Point, _flow: Flow, _arg: u32, _more: [u32; 6]) {}
}

/// The parts of a round that a sampled `loop` event tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Receiving from and sending to the device.
    Nic = 0,
    /// Queues from other threads or processes.
    Rings = 1,
    /// Timers.
    Timers = 2,
    /// Things polled besides the network.
    Side = 3,
    /// Application callbacks.
    App = 4,
}

/// The rounds of one polling loop, on the thread that runs it.
///
/// A round that neither received nor reported work is empty: it is counted, and only the first one after work and the
/// first working one after it become events.
#[derive(Debug, Default)]
pub struct PollLoop {}

impl PollLoop {
    /// A loop that stamps the start of each round, so that a useful receive is booked as work.
    pub fn new() -> PollLoop {
        PollLoop {}
    }

    /// A loop that does not: an empty round costs a counter increment, and what a round did before it first reported
    /// work is booked as empty polling.
    pub fn unstamped() -> PollLoop {
        PollLoop {}
    }

    /// Starts a round.
    #[inline(always)]
    pub fn begin(&mut self) {}

    /// The round did something: packets, a timer, a queue, a callback. `n` is how much.
    #[inline(always)]
    pub fn worked(&mut self, _n: u32) {}

    /// What a receive call returned; with frames it is work, and an `rx_burst` event stamped at the start of the round
    /// (at the call's start for a second receive in one round). `first` is the queue's running number of the first frame.
    #[inline(always)]
    pub fn rx_burst(&mut self, _queue: u8, _frames: u32, _capacity: u32, _first: u32) -> Burst {
        Burst::now()
    }

    /// Frames given to the device and how many it took; nothing for `asked` 0.
    #[inline(always)]
    pub fn tx_burst(&mut self, _queue: u8, _asked: u32, _accepted: u32, _first: u32) {}

    /// The same with the age of the oldest frame in ticks and what triggered the burst (see [`points::TX_BURST`]).
    #[inline(always)]
    pub fn tx_burst_aged(
        &mut self,
        _queue: u8,
        _asked: u32,
        _accepted: u32,
        _first: u32,
        _age: u32,
        _trigger: u32,
    ) {
    }

    /// The part of the round up to here was `stage`; only a sampled round takes note.
    #[inline(always)]
    pub fn stage(&mut self, _stage: Stage) {}

    /// Ends the round.
    #[inline(always)]
    pub fn end(&mut self) {}
}

/// Adds received bytes to this thread's totals (frames are counted by the bursts).
#[inline(always)]
pub fn count_rx_bytes(_bytes: u64) {}

/// Adds sent bytes to this thread's totals.
#[inline(always)]
pub fn count_tx_bytes(_bytes: u64) {}
