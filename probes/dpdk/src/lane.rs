//! One thread's way through its bursts: counts for every one, events for some, idle or not.
//!
//! In: what a driver's function was asked and answered; out: counts in the queue file and events in the thread's ring.
//! Most bursts go the quick way: a place at a fixed distance from the thread's own words says all of the queue, one count
//! of its entry, and these lines here. The rest, stamped ones and those of idle threads, go the way of `slow.rs`. A thread
//! is idle only when the last polls of all its queues were empty, and nothing was sent, for a whole turn over them.

use crate::counts::{self, Entry, add};
use crate::pace::Pace;
use crate::ports::PORTS;
use crate::queue::{Key, OTHERS, Queue};
use crate::voice::Voice;
use bypassprof_probe::thread::{is_on, own_ring};
use bypassprof_probe::{Flow, Point, Tsc, points};
use bypassprof_ring::{AtomicU64, Ring, Total};
use bypassprof_wire::Slot;
use bypassprof_wire::queues::{EXACT_SIZES, is_exact, size_class};
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
    /// Whether the thread's ring is for this library to write.
    voice: Voice,
    /// The first queue of each port and direction, where it is found without a search.
    homes: [[Queue; 2]; PORTS],
    /// All others.
    others: [Queue; OTHERS],
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
            voice: Voice::new(),
            homes: [const { [const { Queue::new() }; 2] }; PORTS],
            others: [const { Queue::new() }; OTHERS],
        }
    }; LANES],
);
static TAKEN: AtomicUsize = AtomicUsize::new(0);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe extern "C" {
    fn bypassprof_dpdk_lane_address_v1() -> *const Cell<*const Lane>;
}

/// The calling thread's lane, if it has one.
#[inline(always)]
fn current() -> Option<&'static Lane> {
    // SAFETY: `lane.c` defines the symbol so; it is null, or the lane that `take` stored there.
    unsafe {
        let lane: *const Lane = bypassprof_probe::thread_value!(
            "bypassprof_dpdk_lane_v1",
            bypassprof_dpdk_lane_address_v1()
        );
        lane.as_ref()
    }
}

fn set_current(lane: &'static Lane) {
    // SAFETY: `lane.c` defines the symbol so; the storage lives as long as the thread and is used by it alone.
    unsafe {
        let address: *const Cell<*const Lane> = bypassprof_probe::thread_word!(
            "bypassprof_dpdk_lane_v1",
            bypassprof_dpdk_lane_address_v1()
        );
        (*address).set(lane);
    }
}

/// A thread's place for a queue, through which one burst goes the quick way.
#[derive(Clone, Copy)]
pub struct Place {
    lane: &'static Lane,
    queue: &'static Queue,
}

/// The calling thread's place for a queue, if it is the first that it met of the port and direction, and its next burst
/// may go the quick way: `key` says the same as `port` and `direction`, which a caller may know beforehand.
#[inline(always)]
pub fn at_home(key: Key, port: usize, direction: Direction) -> Option<Place> {
    let lane = current()?;
    let queue = &lane.homes[port][direction as usize];
    (queue.is(key) && lane.pace.takes_one()).then_some(Place { lane, queue })
}

/// The same for any other queue that the thread has met.
pub fn elsewhere(key: Key) -> Option<Place> {
    // One that is at home comes here to be stamped, and is not looked for.
    let lane = current().filter(|lane| lane.pace.is_quick())?;
    let queue = lane.others(key).find(|q| q.is(key))?;
    lane.pace.takes_one().then_some(Place { lane, queue })
}

/// The calling thread's lane, taken if it has none yet; `None` if there is none left.
pub fn own() -> Option<&'static Lane> {
    current().or_else(take)
}

#[cold]
fn take() -> Option<&'static Lane> {
    let at = TAKEN.fetch_add(1, Ordering::Relaxed);
    let Some(lane) = POOL.0.get(at) else {
        // Stays above the bound for as long as the program can count.
        TAKEN.fetch_sub(1, Ordering::Relaxed);
        return None;
    };
    set_current(lane);
    lane.pace.begin(bypassprof_probe::now().raw());
    if let Some(number) = crate::dpdk::lcore() {
        bypassprof_probe::name_thread(&format!("lcore {number}"));
    }
    Some(lane)
}

/// Counts a call.
pub fn count(entry: &Entry, moved: u16) {
    let class = size_class(moved);
    add(&entry.sizes[class], 1);
    if !is_exact(class) {
        add(&entry.more_frames, u64::from(moved));
    }
}

/// Counts what a device did not take.
pub fn count_refused(entry: &Entry, accepted: u16, asked: u16) {
    if accepted < asked {
        add(&entry.refused, u64::from(asked - accepted));
    }
}

impl Place {
    /// The receive call came back.
    #[inline(always)]
    pub fn received(self, frames: u16) {
        match self.usual(frames) {
            Some(count) => {
                add(count, 1);
                self.lane.full(self.queue);
                self.lane.streak.set(0);
            }
            // All else is one call away, so that the usual way keeps no more in registers than it needs.
            None => self.received_otherwise(frames),
        }
    }

    #[inline(never)]
    fn received_otherwise(self, frames: u16) {
        let Some(entry) = self.queue.entry.get() else {
            counts::uncounted();
            return;
        };
        count(entry, frames);
        if frames == 0 {
            self.lane.pace.takes_back();
            self.lane.empties.set(self.lane.empties.get() + 1);
            self.lane.empty(self.queue);
        } else {
            self.lane.full(self.queue);
            self.lane.streak.set(0);
        }
    }

    /// The transmit call came back.
    #[inline(always)]
    pub fn sent(self, accepted: u16, asked: u16) {
        match self.usual(accepted).filter(|_| accepted == asked) {
            Some(count) => {
                add(count, 1);
                self.lane.streak.set(0);
            }
            None => self.sent_otherwise(accepted, asked),
        }
    }

    #[inline(never)]
    fn sent_otherwise(self, accepted: u16, asked: u16) {
        let Some(entry) = self.queue.entry.get() else {
            counts::uncounted();
            return;
        };
        count(entry, accepted);
        count_refused(entry, accepted, asked);
        if asked == 0 {
            self.lane.pace.takes_back();
        } else {
            self.lane.streak.set(0);
        }
    }

    /// Where calls that moved so many frames are counted, if that is all there is to count.
    #[inline(always)]
    fn usual(self, moved: u16) -> Option<&'static AtomicU64> {
        let entry = self.queue.entry.get()?;
        let count = entry.sizes[..EXACT_SIZES].get(usize::from(moved))?;
        (moved > 0).then_some(count)
    }
}

impl Lane {
    /// The thread's ring, if this library is to write there now.
    pub fn ring(&self) -> Option<Ring> {
        own_ring().filter(|ring| is_on() && self.voice.is_ours(ring))
    }

    /// The ring's totals were brought up to now.
    pub fn has_told(&self, ring: &Ring) {
        self.voice.has_told(ring);
    }

    /// All places.
    fn queues(&self) -> impl Iterator<Item = &Queue> + Clone {
        self.homes.as_flattened().iter().chain(&self.others)
    }

    /// Places that are nobody's home, from where a queue would be at best.
    fn others(&self, key: Key) -> impl Iterator<Item = &Queue> + Clone {
        let from = key.place();
        (0..OTHERS).map(move |step| &self.others[(from + step) % OTHERS])
    }

    /// A receive queue's last poll found frames.
    #[inline(always)]
    pub fn full(&self, queue: &Queue) {
        if !queue.full.get() {
            queue.full.set(true);
            self.full.set(self.full.get() + 1);
        }
    }

    /// The place of a queue that may not have been met, and its entry; `None` where there is no entry left.
    pub fn meet(&self, key: Key) -> Option<(&Queue, &'static Entry)> {
        let (port, direction) = key.of();
        let home = &self.homes[port][direction as usize];
        let mut places = core::iter::once(home).chain(self.others(key));
        if let Some(known) = places.clone().find(|q| q.is(key)) {
            return Some((known, known.entry.get()?));
        }
        // Ports that were started again have left places behind.
        let queue = places
            .find(|q| q.is_void())
            .unwrap_or(&self.others[key.place()]);
        queue.move_in(key);
        let receives = self.queues().filter(|q| q.is_received_now());
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
            self.queues().for_each(|q| q.full.set(false));
            self.full.set(0);
        }
        let ring = self.ring().filter(|ring| ring.room() > 0);
        if self.voice.is_silent() {
            // Whatever it does, this library says nothing of it.
            self.state.set(State::Idle);
        }
        let Some(ring) = ring else {
            return;
        };
        ring.add(Total::EmptyRounds, self.empties.take());
        self.has_told(&ring);
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
