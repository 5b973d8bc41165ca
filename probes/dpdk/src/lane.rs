//! One thread's way through its bursts: counts for every one, events for some, idle or not.
//!
//! In: what a driver's function was asked and answered; out: counts in the queue file and events in the thread's ring.
//! A thread is idle only when the last polls of all its queues were empty, and nothing was sent, for a whole turn over
//! them. A stamp costs more than all the rest, so that bursts are stamped one in N, N chosen anew after each so that
//! stamps take at most one part in [`BUDGET`] of the time: every burst where bursts take long, few where they are short.
//! While the thread is idle every poll is stamped before it, which costs nothing but idle time.

use crate::counts::{self, Entry, add};
use crate::ports;
use bypassprof_probe::thread::{is_on, own_ring};
use bypassprof_probe::{Flow, Point, points};
use bypassprof_ring::{Ring, Total};
use bypassprof_wire::queues::size_class;
use bypassprof_wire::{Slot, Tsc};
use core::cell::Cell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Stamps and events take at most one part of the time in so many.
const BUDGET: u64 = 200;
/// Ticks that one stamped burst costs, with room to spare.
const STAMP_TICKS: u64 = 60;
/// Most bursts between two stamped ones.
const MOST_SKIPPED: u64 = 4096;
/// Threads that can have counts.
const LANES: usize = 256;
/// Queues that a thread remembers, a power of two.
const QUEUES: usize = 64;
/// Turns without a poll after which a queue is no longer this thread's.
const FORGOTTEN: u64 = 64;

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Receive,
    Transmit,
}

/// What the ring's reader knows of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Untold,
    Working,
    Idle,
}

/// A queue that the thread has met.
struct Queue {
    data: Cell<*mut c_void>,
    /// Generation, port and direction; 0 for none.
    key: Cell<u64>,
    /// Number of its entry, as far as an event has room.
    number: Cell<u8>,
    /// Whether its last poll found frames.
    full: Cell<bool>,
    /// Frames so far: the running number of the next.
    frames: Cell<u32>,
    entry: Cell<Option<&'static Entry>>,
}

/// One thread's words.
pub struct Lane {
    /// Whether the next burst is to be stamped.
    stamping: Cell<bool>,
    state: Cell<State>,
    /// Receive queues, and those of them whose last poll found frames.
    receives: Cell<u32>,
    full: Cell<u32>,
    /// Empty polls since the last work.
    streak: Cell<u64>,
    /// Bursts until the next stamped one.
    countdown: Cell<u32>,
    /// The countdown's start, and the stamp then.
    skipped: Cell<u32>,
    last: Cell<u64>,
    /// Ticks that a burst took lately, with all that goes with it.
    usual: Cell<u64>,
    random: Cell<u32>,
    queues: [Queue; QUEUES],
}

struct Pool([Lane; LANES]);

// SAFETY: each lane is used by the one thread that took it (`own`), all others leave it alone.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(
    [const {
        Lane {
            stamping: Cell::new(true),
            state: Cell::new(State::Untold),
            receives: Cell::new(0),
            full: Cell::new(0),
            streak: Cell::new(0),
            countdown: Cell::new(0),
            skipped: Cell::new(1),
            last: Cell::new(0),
            usual: Cell::new(STAMP_TICKS * BUDGET),
            random: Cell::new(0),
            queues: [const {
                Queue {
                    data: Cell::new(core::ptr::null_mut()),
                    key: Cell::new(0),
                    number: Cell::new(u8::MAX),
                    full: Cell::new(false),
                    frames: Cell::new(0),
                    entry: Cell::new(None),
                }
            }; QUEUES],
        }
    }; LANES],
);
static TAKEN: AtomicUsize = AtomicUsize::new(0);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe extern "C" {
    fn bypassprof_dpdk_lane_address_v1() -> *const Cell<Option<&'static Lane>>;
}

/// The calling thread's word of `lane.c`.
#[inline(always)]
fn word() -> &'static Cell<Option<&'static Lane>> {
    let address: *const Cell<Option<&'static Lane>>;
    // SAFETY: reads the thread pointer and adds the symbol's offset, as a compiler does for initial-exec storage.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + bypassprof_dpdk_lane_v1@GOTTPOFF]",
            "add {0}, qword ptr fs:[0]",
            out(reg) address,
            options(pure, readonly, nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "mrs {0}, tpidr_el0",
            "adrp {1}, :gottprel:bypassprof_dpdk_lane_v1",
            "ldr {1}, [{1}, #:gottprel_lo12:bypassprof_dpdk_lane_v1]",
            "add {0}, {0}, {1}",
            out(reg) address,
            out(reg) _,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    // SAFETY: the function has no preconditions.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    unsafe {
        address = bypassprof_dpdk_lane_address_v1();
    }
    // SAFETY: the storage lives as long as the thread and is used by it alone; null is `None`.
    unsafe { &*address }
}

#[cold]
#[inline(never)]
fn take() -> Option<&'static Lane> {
    let at = TAKEN.fetch_add(1, Ordering::Relaxed);
    let Some(lane) = POOL.0.get(at) else {
        // Stays above the bound for as long as the program can count.
        TAKEN.fetch_sub(1, Ordering::Relaxed);
        return None;
    };
    word().set(Some(lane));
    lane.random.set(bypassprof_probe::now().raw() as u32 | 1);
    if let Some(number) = crate::dpdk::lcore() {
        bypassprof_probe::name_thread(&format!("lcore {number}"));
    }
    Some(lane)
}

/// What is known before a burst.
pub struct Before {
    lane: Option<&'static Lane>,
    stamp: Tsc,
}

/// To be called before the driver.
#[inline(always)]
pub fn before() -> Before {
    let lane = match word().get() {
        Some(lane) => Some(lane),
        None => take(),
    };
    let stamp = match lane {
        Some(lane) if lane.stamping.get() => bypassprof_probe::now(),
        _ => Tsc::from_raw(0),
    };
    Before { lane, stamp }
}

impl Before {
    /// A receive call came back.
    #[inline(always)]
    pub fn received(self, port: usize, queue: *mut c_void, frames: u16, most: u16) {
        let Some(lane) = self.lane else {
            counts::uncounted();
            return;
        };
        let queue = lane.queue(port, queue, Direction::Receive);
        queue.count(frames, most);
        if frames == 0 {
            lane.empty(queue);
        } else {
            if !queue.full.replace(true) {
                lane.full.set(lane.full.get() + 1);
            }
            lane.burst(self.stamp, queue, Direction::Receive, most, frames);
        }
    }

    /// A transmit call came back.
    #[inline(always)]
    pub fn sent(self, port: usize, queue: *mut c_void, accepted: u16, asked: u16) {
        let Some(lane) = self.lane else {
            counts::uncounted();
            return;
        };
        let queue = lane.queue(port, queue, Direction::Transmit);
        queue.count(accepted, asked);
        if asked > 0 {
            lane.burst(self.stamp, queue, Direction::Transmit, accepted, asked);
        }
    }
}

impl Queue {
    #[inline(always)]
    fn count(&self, frames: u16, asked: u16) {
        if let Some(entry) = self.entry.get() {
            add(&entry.sizes[size_class(frames)], 1);
            add(&entry.frames, u64::from(frames));
            add(&entry.asked, u64::from(asked));
        } else {
            counts::uncounted();
        }
    }
}

fn key(port: usize, direction: Direction) -> u64 {
    (u64::from(ports::generation(port)) << 16) | ((port as u64) << 1) | direction as u64
}

impl Lane {
    #[inline(always)]
    fn queue(&self, port: usize, data: *mut c_void, direction: Direction) -> &Queue {
        let key = key(port, direction);
        let queue = &self.queues[place(data, key)];
        if queue.data.get() == data && queue.key.get() == key {
            queue
        } else {
            self.meet(port, data, direction, key)
        }
    }

    /// A queue that is not where it would be at best: further on, or met for the first time.
    #[cold]
    #[inline(never)]
    fn meet(&self, port: usize, data: *mut c_void, direction: Direction, key: u64) -> &Queue {
        let start = place(data, key);
        let places = || (0..QUEUES).map(|step| &self.queues[(start + step) % QUEUES]);
        if let Some(known) = places().find(|q| q.data.get() == data && q.key.get() == key) {
            return known;
        }
        // Ports that were started again have left places behind.
        let is_void = |q: &Queue| {
            let port = (q.key.get() >> 1 & 0x7fff) as usize;
            q.entry.get().is_none() || q.key.get() >> 16 != u64::from(ports::generation(port))
        };
        let queue = places().find(|q| is_void(q)).unwrap_or(&self.queues[start]);
        let number = crate::dpdk::table()
            .and_then(|table| table.queue_of(port, direction == Direction::Receive, data));
        let entry = counts::entry(port, number.unwrap_or(u16::MAX), direction);
        queue.data.set(data);
        queue.key.set(key);
        queue.full.set(false);
        queue.entry.set(entry.map(|(entry, _)| entry));
        queue
            .number
            .set(entry.map_or(u8::MAX, |(_, at)| at.min(255) as u8));
        let frames = entry.map_or(0, |(entry, _)| entry.frames.load(Ordering::Relaxed));
        queue.frames.set(frames as u32);
        let now = |q: &&Queue| !is_void(q) && q.key.get() & 1 == Direction::Receive as u64;
        let receives = self.queues.iter().filter(now);
        self.receives.set(receives.clone().count() as u32);
        self.full
            .set(receives.filter(|q| q.full.get()).count() as u32);
        // A recorder that came since has to be told anew.
        self.state.set(State::Untold);
        self.stamping.set(true);
        queue
    }

    #[inline(always)]
    fn empty(&self, queue: &Queue) {
        if queue.full.replace(false) {
            self.full.set(self.full.get() - 1);
        }
        let streak = self.streak.get() + 1;
        self.streak.set(streak);
        if !is_on() {
            return;
        }
        if let Some(ring) = own_ring() {
            ring.add(Total::EmptyRounds, 1);
        }
        if self.state.get() != State::Idle && streak > u64::from(self.receives.get()) {
            self.fall_idle();
        }
    }

    /// A whole turn over the queues, and one poll more, found nothing.
    #[cold]
    #[inline(never)]
    fn fall_idle(&self) {
        if self.full.get() > 0 {
            // Some queue has not been polled in this turn. One that never is again must not keep the thread busy.
            if self.streak.get() < FORGOTTEN * u64::from(self.receives.get().max(1)) {
                return;
            }
            self.queues.iter().for_each(|q| q.full.set(false));
            self.full.set(0);
        }
        let Some(ring) = own_ring().filter(Ring::has_room) else {
            return;
        };
        let told = tell(&ring, bypassprof_probe::now(), points::IDLE_BEGIN, 0);
        self.state
            .set(if told { State::Idle } else { State::Untold });
        self.stamping.set(true);
        self.streak.set(1);
    }

    /// Frames came or were sent. `high` and `low` are what the event says of them.
    #[inline(always)]
    fn burst(&self, stamp: Tsc, queue: &Queue, direction: Direction, high: u16, low: u16) {
        let first = queue.frames.get();
        let moved = match direction {
            Direction::Receive => low,
            Direction::Transmit => high,
        };
        queue.frames.set(first.wrapping_add(u32::from(moved)));
        let streak = self.streak.replace(0);
        if !is_on() {
            return;
        }
        if let Some(ring) = own_ring() {
            match direction {
                Direction::Receive => {
                    ring.add(Total::WorkedRounds, 1);
                    ring.add(Total::RxBursts, 1);
                    ring.add(Total::RxPackets, u64::from(low));
                }
                Direction::Transmit => {
                    ring.add(Total::TxBursts, 1);
                    ring.add(Total::TxPackets, u64::from(high));
                }
            }
            if self.stamping.get() {
                self.stamped(&ring, stamp, queue, direction, high, low, first, streak);
            } else {
                let left = self.countdown.get().saturating_sub(1);
                self.countdown.set(left);
                self.stamping.set(left == 0);
            }
        }
    }

    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn stamped(
        &self,
        ring: &Ring,
        stamp: Tsc,
        queue: &Queue,
        direction: Direction,
        high: u16,
        low: u16,
        first: u32,
        streak: u64,
    ) {
        if self.state.get() != State::Working {
            let rounds = if self.state.get() == State::Idle {
                streak
            } else {
                0
            };
            let told = tell(ring, stamp, points::IDLE_END, rounds);
            self.state
                .set(if told { State::Working } else { State::Untold });
        }
        let bits = |n: u16| u32::from(n.min(0xfff));
        let field = (u32::from(queue.number.get()) << 24) | (bits(high) << 12) | bits(low);
        let point = match direction {
            Direction::Receive => points::RX_BURST,
            Direction::Transmit => points::TX_BURST,
        };
        ring.push(
            stamp,
            [Slot::head(stamp, point, Flow::from_raw(field), first)],
        );
        self.choose_next(stamp.raw(), queue);
    }

    /// How many bursts go by before the next stamped one: by what bursts took lately, a stretch off the CPU smoothed out.
    fn choose_next(&self, stamp: u64, queue: &Queue) {
        let passed = stamp.saturating_sub(self.last.replace(stamp));
        let usual = self.usual.get();
        let each = (passed / u64::from(self.skipped.get())).min(usual.saturating_mul(16).max(1));
        let usual = (usual - usual / 8 + each / 8).max(1);
        self.usual.set(usual);
        let one_in = (STAMP_TICKS * BUDGET / usual).clamp(1, MOST_SKIPPED);
        if let Some(entry) = queue.entry.get() {
            entry.sampled.store(one_in, Ordering::Relaxed);
        }
        // Xorshift (Marsaglia 2003): even spacing would lock onto a loop's own rhythm.
        let mut random = self.random.get();
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        self.random.set(random);
        let next = if one_in == 1 {
            1
        } else {
            1 + random % (2 * one_in as u32 - 1)
        };
        self.skipped.set(next);
        self.countdown.set(next - 1);
        self.stamping.set(next == 1);
    }
}

#[inline(always)]
fn place(data: *mut c_void, key: u64) -> usize {
    let mixed = (data as u64 >> 6 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - QUEUES.ilog2())) as usize
}

fn tell(ring: &Ring, stamp: Tsc, point: Point, count: u64) -> bool {
    let high = Flow::from_raw((count >> 32) as u32);
    ring.push_quiet(stamp, [Slot::head(stamp, point, high, count as u32)])
}
