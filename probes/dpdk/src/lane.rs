//! One thread's way through its bursts: counts for every one, events for some, idle or not.
//!
//! In: what a driver's function was asked and answered; out: counts in the queue file and events in the thread's ring.
//! Most bursts go the quick way: a place on one cache line that says all of the queue, one count of its entry, and these
//! lines here. The rest, stamped ones and those of idle threads, go the way of `slow.rs`. A thread is idle only when the
//! last polls of all its queues were empty, and nothing was sent, for a whole turn over them.

use crate::counts::{self, Entry, add};
use crate::pace::Pace;
use crate::queue::{Key, QUEUES, Queue};
use bypassprof_probe::thread::{is_on, own_ring};
use bypassprof_probe::{Flow, Point, Tsc, points};
use bypassprof_ring::{Ring, Total};
use bypassprof_wire::Slot;
use bypassprof_wire::queues::{is_exact, size_class};
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Threads that can have counts.
const LANES: usize = 256;
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
pub enum State {
    Untold,
    Working,
    Idle,
}

/// One thread's words; those of the quick way lie on the first line.
#[repr(C, align(64))]
pub struct Lane {
    /// When bursts leave the quick way.
    pub pace: Pace,
    /// Empty polls since the last work.
    pub streak: Cell<u64>,
    /// Empty polls that the ring's totals do not have yet.
    pub empties: Cell<u64>,
    /// Receive queues, and those of them whose last poll found frames.
    receives: Cell<u32>,
    full: Cell<u32>,
    pub state: Cell<State>,
    queues: [Queue; QUEUES],
}

struct Pool([Lane; LANES]);

// SAFETY: each lane is used by the one thread that took it (`own`), all others leave it alone.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(
    [const {
        Lane {
            pace: Pace::new(),
            streak: Cell::new(0),
            empties: Cell::new(0),
            receives: Cell::new(0),
            full: Cell::new(0),
            state: Cell::new(State::Untold),
            queues: [const { Queue::new() }; QUEUES],
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
    // SAFETY: `lane.c` defines the symbol so; the storage lives as long as the thread and is used by it alone; null is
    // `None`.
    unsafe {
        let address: *const Cell<Option<&'static Lane>> = bypassprof_probe::thread_word!(
            "bypassprof_dpdk_lane_v1",
            bypassprof_dpdk_lane_address_v1()
        );
        &*address
    }
}

/// The calling thread's lane, if its next burst may go the quick way.
#[inline(always)]
pub fn quick() -> Option<&'static Lane> {
    word().get().filter(|lane| lane.pace.is_quick())
}

/// The calling thread's lane, taken if it has none yet; `None` if there is none left.
pub fn own() -> Option<&'static Lane> {
    word().get().or_else(take)
}

#[cold]
fn take() -> Option<&'static Lane> {
    let at = TAKEN.fetch_add(1, Ordering::Relaxed);
    let Some(lane) = POOL.0.get(at) else {
        // Stays above the bound for as long as the program can count.
        TAKEN.fetch_sub(1, Ordering::Relaxed);
        return None;
    };
    word().set(Some(lane));
    lane.pace.seed(bypassprof_probe::now().raw());
    if let Some(number) = crate::dpdk::lcore() {
        bypassprof_probe::name_thread(&format!("lcore {number}"));
    }
    Some(lane)
}

/// Counts a call.
#[inline(always)]
pub fn count(entry: &Entry, moved: u16, refused: u16) {
    let class = size_class(moved);
    add(&entry.sizes[class], 1);
    if !is_exact(class) {
        add(&entry.more_frames, u64::from(moved));
    }
    if refused > 0 {
        add(&entry.refused, u64::from(refused));
    }
}

impl Lane {
    /// A receive call of the quick way came back.
    #[inline(always)]
    pub fn received(&self, key: Key, frames: u16) {
        let Some((queue, entry)) = self.queue(key) else {
            counts::uncounted();
            return;
        };
        count(entry, frames, 0);
        if frames == 0 {
            self.empties.set(self.empties.get() + 1);
            self.empty(queue);
        } else {
            self.full(queue);
            self.worked(queue, frames);
        }
    }

    /// A transmit call of the quick way came back.
    #[inline(always)]
    pub fn sent(&self, key: Key, accepted: u16, asked: u16) {
        let Some((queue, entry)) = self.queue(key) else {
            counts::uncounted();
            return;
        };
        count(entry, accepted, asked.saturating_sub(accepted));
        if asked > 0 {
            self.worked(queue, accepted);
        }
    }

    #[inline(always)]
    fn worked(&self, queue: &Queue, moved: u16) {
        queue.moved(moved);
        self.streak.set(0);
        self.pace.step();
    }

    /// A receive queue's last poll found frames.
    #[inline(always)]
    pub fn full(&self, queue: &Queue) {
        if !queue.full.replace(true) {
            self.full.set(self.full.get() + 1);
        }
    }

    /// The place of a queue and its entry; `None` where there is no entry left.
    #[inline(always)]
    pub fn queue(&self, key: Key) -> Option<(&Queue, &'static Entry)> {
        let queue = &self.queues[key.place()];
        if queue.is(key) {
            Some((queue, queue.entry.get()?))
        } else {
            self.meet(key)
        }
    }

    /// A queue that is not where it would be at best: further on, or met for the first time.
    #[cold]
    #[inline(never)]
    fn meet(&self, key: Key) -> Option<(&Queue, &'static Entry)> {
        let places = || (0..QUEUES).map(|step| &self.queues[(key.place() + step) % QUEUES]);
        if let Some(known) = places().find(|q| q.is(key)) {
            return Some((known, known.entry.get()?));
        }
        // Ports that were started again have left places behind.
        let queue = places()
            .find(|q| q.is_void())
            .unwrap_or(&self.queues[key.place()]);
        queue.move_in(key);
        let receives = self.queues.iter().filter(|q| q.is_received_now());
        self.receives.set(receives.clone().count() as u32);
        self.full
            .set(receives.filter(|q| q.full.get()).count() as u32);
        // A recorder that came since has to be told anew.
        self.state.set(State::Untold);
        self.pace.force();
        Some((queue, queue.entry.get()?))
    }

    /// A poll found nothing.
    #[inline(always)]
    pub fn empty(&self, queue: &Queue) {
        if queue.full.replace(false) {
            self.full.set(self.full.get() - 1);
        }
        let streak = self.streak.get() + 1;
        self.streak.set(streak);
        if streak > u64::from(self.receives.get()) && self.state.get() != State::Idle && is_on() {
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
        let Some(ring) = own_ring().filter(|ring| ring.room() > 0) else {
            return;
        };
        ring.add(Total::EmptyRounds, self.empties.take());
        let told = tell(&ring, bypassprof_probe::now(), points::IDLE_BEGIN, 0);
        self.state
            .set(if told { State::Idle } else { State::Untold });
        self.pace.force();
        self.streak.set(1);
    }
}

/// An event about rounds; the count is that of empty ones.
pub fn tell(ring: &Ring, stamp: Tsc, point: Point, count: u64) -> bool {
    let high = Flow::from_raw((count >> 32) as u32);
    ring.push_quiet(stamp, [Slot::head(stamp, point, high, count as u32)])
}
