//! Bursts that do not go the quick way: stamped ones, those whose frames are looked at, and polls of an idle thread.
//!
//! In: the driver's function and its arguments; out: what it answered, counts, and events stamped before it was called.
//! Frames that are sent belong to the device afterwards, so that they are looked at before. Bursts of a queue that is not
//! its port's first come by here, too, on the way to the quick one.

use crate::counts::{self, Entry, add};
use crate::frames::{self, Looked};
use crate::lane::{self, Direction, Lane, State};
use crate::ports;
use crate::queue::{Key, Queue};
use bypassprof_probe::thread::looks_at_frames;
use bypassprof_probe::{Flow, Tsc, points};
use bypassprof_ring::{Ring, Total};
use bypassprof_wire::Slot;
use core::ffi::c_void;
use core::sync::atomic::Ordering;

/// Of a ring's slots, one part in so many stays free of frames: what is lost of rounds is worse.
const KEPT_FREE: u64 = 4;

/// A receive call.
///
/// # Safety
/// As of the driver's function with these arguments; the key must be of the table.
#[inline(never)]
pub unsafe extern "C" fn receive(key: Key, frames: *mut *mut c_void, most: u16) -> u16 {
    let driver = ports::driver(key.of().0, Direction::Receive);
    if let Some(place) = lane::elsewhere(key) {
        // SAFETY: the caller's promise.
        let received = unsafe { driver(key.data(), frames, most) };
        place.received(received);
        return received;
    }
    let stamp = bypassprof_probe::now();
    // SAFETY: the caller's promise.
    let received = unsafe { driver(key.data(), frames, most) };
    // SAFETY: the driver has just stored so many frames there, which are the caller's now.
    unsafe { received_by(key, stamp, frames, received, most) };
    received
}

/// What is to be done after a receive call.
///
/// # Safety
/// `received` frames must stand there.
pub unsafe fn received_by(
    key: Key,
    stamp: Tsc,
    frames: *mut *mut c_void,
    received: u16,
    most: u16,
) {
    let Some((lane, queue, entry)) = met(key) else {
        return;
    };
    lane::count(entry, received);
    if received == 0 {
        lane.empties.set(lane.empties.get() + 1);
        if let Some(ring) = lane.ring() {
            ring.add(Total::EmptyRounds, lane.empties.take());
            lane.has_told(&ring);
        }
        lane.empty(queue);
        return;
    }
    lane.full(queue);
    lane.pace.force();
    let looks = lane.pace.looks(looks_at_frames());
    let looked = looks.then(|| {
        // SAFETY: the caller's promise.
        unsafe { frames::look(frames, received) }
    });
    let burst = Said {
        stamp,
        direction: Direction::Receive,
        high: most,
        low: received,
        moved: received,
    };
    stamped(lane, queue, entry, &burst, looked.as_ref());
}

/// A transmit call.
///
/// # Safety
/// As of the driver's function with these arguments; the key must be of the table.
#[inline(never)]
pub unsafe extern "C" fn transmit(key: Key, frames: *mut *mut c_void, asked: u16) -> u16 {
    let driver = ports::driver(key.of().0, Direction::Transmit);
    if let Some(place) = lane::elsewhere(key) {
        // SAFETY: the caller's promise.
        let accepted = unsafe { driver(key.data(), frames, asked) };
        place.sent(accepted, asked);
        return accepted;
    }
    let stamp = bypassprof_probe::now();
    // SAFETY: the frames are the caller's until the driver takes them.
    let looked = unsafe { looked_before(frames, asked) };
    // SAFETY: the caller's promise.
    let accepted = unsafe { driver(key.data(), frames, asked) };
    sent_by(key, stamp, looked.as_ref(), accepted, asked);
    accepted
}

/// The frames of a call that is about to be made, if they are to be looked at.
///
/// # Safety
/// `asked` frames must stand there.
pub unsafe fn looked_before(frames: *mut *mut c_void, asked: u16) -> Option<Looked> {
    let wanted = looks_at_frames();
    let looks = asked > 0
        && lane::own().is_some_and(|lane| {
            lane.pace.force();
            lane.pace.looks(wanted)
        });
    // SAFETY: the caller's promise.
    looks.then(|| unsafe { frames::look(frames, asked) })
}

/// What is to be done after a transmit call.
pub fn sent_by(key: Key, stamp: Tsc, looked: Option<&Looked>, accepted: u16, asked: u16) {
    let Some((lane, queue, entry)) = met(key) else {
        return;
    };
    lane::count(entry, accepted);
    lane::count_refused(entry, accepted, asked);
    if asked > 0 {
        let burst = Said {
            stamp,
            direction: Direction::Transmit,
            high: accepted,
            low: asked,
            moved: accepted,
        };
        stamped(lane, queue, entry, &burst, looked);
    }
}

fn met(key: Key) -> Option<(&'static Lane, &'static Queue, &'static Entry)> {
    let met = lane::own().and_then(|lane| Some((lane, lane.meet(key)?)));
    let Some((lane, (queue, entry))) = met else {
        counts::uncounted();
        return None;
    };
    Some((lane, queue, entry))
}

/// What the event of a burst says.
struct Said {
    stamp: Tsc,
    direction: Direction,
    high: u16,
    low: u16,
    moved: u16,
}

fn stamped(lane: &Lane, queue: &Queue, entry: &Entry, burst: &Said, looked: Option<&Looked>) {
    let streak = lane.streak.replace(0);
    if let Some(ring) = lane.ring() {
        let frames = queue.settle(entry, &ring, burst.direction);
        let first = (frames as u32).wrapping_sub(u32::from(burst.moved));
        ring.add(Total::EmptyRounds, lane.empties.take());
        lane.has_told(&ring);
        if lane.state.get() != State::Working {
            let rounds = if lane.state.get() == State::Idle {
                streak
            } else {
                0
            };
            let told = lane::tell(&ring, burst.stamp, points::IDLE_END, rounds);
            lane.state
                .set(if told { State::Working } else { State::Untold });
        }
        let bits = |n: u16| u32::from(n.min(0xfff));
        let field =
            (u32::from(queue.number.get()) << 24) | (bits(burst.high) << 12) | bits(burst.low);
        let point = match burst.direction {
            Direction::Receive => points::RX_BURST,
            Direction::Transmit => points::TX_BURST,
        };
        let head = Slot::head(burst.stamp, point, Flow::from_raw(field), first);
        ring.push(burst.stamp, [head]);
        if let Some(looked) = looked {
            tell_frames(&ring, entry, burst, first, looked);
        }
    } else if looked.is_some() {
        add(&entry.unlooked, u64::from(burst.moved));
    }
    let one_in = lane.pace.choose_next(burst.stamp.raw(), looked.is_some());
    entry.sampled.store(one_in, Ordering::Relaxed);
}

fn tell_frames(ring: &Ring, entry: &Entry, burst: &Said, first: u32, looked: &Looked) {
    let point = match burst.direction {
        Direction::Receive => points::FRAME_IN,
        Direction::Transmit => points::FRAME_OUT,
    };
    let frames = looked.frames().iter().take(usize::from(burst.moved));
    let mut told = 0;
    for (at, frame) in frames.enumerate() {
        if ring.room() < ring.capacity() / KEPT_FREE {
            break;
        }
        let number = first.wrapping_add(at as u32);
        let slots = [
            Slot::head(burst.stamp, point, frame.flow, number),
            Slot::cont(frame.flags_and_bytes(), frame.sequence, frame.age),
        ];
        if ring.push(burst.stamp, slots) {
            told += 1;
            add(&entry.bytes, u64::from(frame.bytes));
            add(&entry.bytes_of, 1);
        }
    }
    add(&entry.unlooked, u64::from(burst.moved) - told);
}
