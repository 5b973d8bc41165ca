//! Rings: how a thread gets one, and how it leaves it to the next.
//!
//! In: a thread's first event, its end, its name; out: one ring per thread, whichever copies of this runtime it uses, all
//! of them together within a bound. A thread that finds no room is counted, once, and tries again with the next recorder.
#![allow(unsafe_code)]

use super::sys::{self, Fd, KeepErrno};
use super::{directory, flight, process};
use crate::thread::{self, is_on};
use bypassprof_ring::mapping::{Mapping, Populate};
use bypassprof_ring::{Control, Header, Ordering, Ring};
use bypassprof_wire::event::SLOT_BYTES;
use bypassprof_wire::layout::{
    Entry, EntryState, MAX_CAPACITY, MAX_RINGS, MIN_CAPACITY, Mode, RING_HEADER_BYTES, name_words,
    ring_file_bytes,
};
use bypassprof_wire::names::FileKind;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

/// Slots of a ring (1 MiB) while there is plenty of room.
const USUAL_SLOTS: u64 = 1 << 16;
/// Fewest slots of a ring when there is not.
const FEWEST_SLOTS: u64 = 1 << 10;
/// Bytes of all rings of a process together.
const USUAL_BYTES: u64 = 64 << 20;

/// This copy's mapping of each ring.
struct Mapped {
    header: AtomicPtr<Header>,
    mask: AtomicU64,
}

static MAPPED: [Mapped; MAX_RINGS] = [const {
    Mapped {
        header: AtomicPtr::new(core::ptr::null_mut()),
        mask: AtomicU64::new(0),
    }
}; MAX_RINGS];

/// The key whose destructor runs at thread exit, plus 1.
static KEY: AtomicU32 = AtomicU32::new(0);

/// Asks to be told when threads end.
pub fn hook() {
    let mut key = 0;
    // SAFETY: the key is ours, and the destructor stays mapped (`sys::pin`).
    if unsafe { libc::pthread_key_create(&mut key, Some(thread_ends)) } == 0 {
        KEY.store(key + 1, Ordering::Release);
    }
}

/// Maps a file with a guard, or without if the user said so.
pub fn map(fd: i32, len: usize, populate: Populate) -> Option<Mapping> {
    if sys::no_signal_handler() {
        Mapping::unguarded(fd, len, populate)
    } else {
        Mapping::new(fd, len, populate)
    }
}

/// The calling thread's ring, got now. `None` if there is none to be had.
#[cold]
#[inline(never)]
pub fn attach() -> Option<Ring> {
    let _errno = KeepErrno::new();
    let control = process::control()?;
    if !is_on() {
        return None;
    }
    flight::take_back(control);
    let thread = thread::thread();
    let session = control.switch.session.load(Ordering::Acquire);
    let refused = session.wrapping_add(1);
    if thread.refused.get() == refused {
        return None;
    }
    let tid = sys::thread_id();
    let found = own(control, tid)
        .or_else(|| left_behind(control, tid))
        .or_else(|| make(control, tid))
        .or_else(|| {
            sweep_ended(control);
            left_behind(control, tid).or_else(|| abandoned(control, tid))
        });
    let Some((index, ring)) = found else {
        control.census.unreached.fetch_add(1, Ordering::Relaxed);
        thread.refused.set(refused);
        return None;
    };
    let key = KEY.load(Ordering::Acquire);
    if key > 0 {
        // SAFETY: the key exists; the value is not a pointer but the ring's number, never 0.
        unsafe { libc::pthread_setspecific(key - 1, (index + 1) as *const c_void) };
    }
    thread.mask.set(ring.mask());
    thread.ring.set(ring.as_ptr());
    Some(ring)
}

/// A ring that this thread writes already, through another copy of this runtime or before an exec.
fn own(control: &Control, tid: u32) -> Option<(usize, Ring)> {
    let index = entries(control)
        .find(|(_, entry)| entry.state == EntryState::Live && entry.tid == tid)?
        .0;
    let ring = mapped(control, index)?;
    let word = &control.rings[index];
    let entry = Entry::from_word(word.load(Ordering::Acquire));
    let copies = entry.copies.saturating_add(1);
    // No other thread changes the entry of a live thread.
    word.store(Entry { copies, ..entry }.word(), Ordering::Release);
    if thread::thread().name.get() != [0; 4] {
        ring.set_name(thread::thread().name.get());
    }
    Some((index, ring))
}

/// A ring whose thread is gone and whose slots were read.
fn left_behind(control: &Control, tid: u32) -> Option<(usize, Ring)> {
    let ended = entries(control).filter(|(_, entry)| entry.state == EntryState::Ended);
    ended
        .into_iter()
        .find_map(|(index, entry)| take_over(control, index, entry, tid, Ring::is_released))
}

/// The ring whose thread has been gone for longest, of those that overwrite old slots and that no one reads.
fn abandoned(control: &Control, tid: u32) -> Option<(usize, Ring)> {
    let ended = entries(control).filter(|(_, entry)| entry.state == EntryState::Ended);
    let since = |index| mapped(control, index)?.abandoned_at();
    let (_, index, entry) = ended
        .filter_map(|(index, entry)| Some((since(index)?, index, entry)))
        .min_by_key(|(since, ..)| *since)?;
    take_over(control, index, entry, tid, |ring| {
        ring.abandoned_at().is_some()
    })
}

/// Moves into a ring that another thread has left, if it may be had.
fn take_over(
    control: &Control,
    index: usize,
    entry: Entry,
    tid: u32,
    may_be_had: impl Fn(&Ring) -> bool,
) -> Option<(usize, Ring)> {
    if !claim(control, index, entry, tid) {
        return None;
    }
    if let Some(ring) = mapped(control, index).filter(may_be_had) {
        return Some(settle(control, index, ring, tid));
    }
    control.rings[index].store(entry.word(), Ordering::Release);
    None
}

/// A new ring.
fn make(control: &Control, tid: u32) -> Option<(usize, Ring)> {
    let slots = reserve(control)?;
    let bytes = ring_file_bytes(slots);
    let made = (0..MAX_RINGS)
        .find(|&index| {
            let entry = Entry::from_word(control.rings[index].load(Ordering::Acquire));
            entry.state == EntryState::Free && claim(control, index, entry, tid)
        })
        .and_then(|index| {
            let ring = create(control, index, slots);
            if ring.is_none() {
                control.rings[index].store(Entry::default().word(), Ordering::Release);
            }
            Some((index, ring?))
        });
    let Some((index, ring)) = made else {
        control.census.ring_bytes.fetch_sub(bytes, Ordering::AcqRel);
        return None;
    };
    let settled = settle(control, index, ring, tid);
    control
        .census
        .rings
        .fetch_max(index as u64 + 1, Ordering::AcqRel);
    Some(settled)
}

fn claim(control: &Control, index: usize, entry: Entry, tid: u32) -> bool {
    let opening = Entry {
        state: EntryState::Opening,
        copies: 1,
        tid,
    };
    control.rings[index]
        .compare_exchange(
            entry.word(),
            opening.word(),
            Ordering::AcqRel,
            Ordering::Acquire,
        )
        .is_ok()
}

/// Moves the calling thread into a ring it has claimed.
fn settle(control: &Control, index: usize, ring: Ring, tid: u32) -> (usize, Ring) {
    let given = thread::thread().name.get();
    let name = if given == [0; 4] {
        name_words(&sys::kernel_name())
    } else {
        given
    };
    let mode = Mode::from_word(control.switch.mode.load(Ordering::Relaxed));
    ring.move_in(tid, name, mode);
    ring.publish();
    let live = Entry {
        state: EntryState::Live,
        copies: 1,
        tid,
    };
    control.rings[index].store(live.word(), Ordering::Release);
    (index, ring)
}

/// Takes a new ring's bytes out of what is left, and says how many slots it may have.
fn reserve(control: &Control) -> Option<u64> {
    let wish = |word: &bypassprof_ring::AtomicU64, name| {
        Some(word.load(Ordering::Relaxed))
            .filter(|&n| n > 0)
            .or_else(|| sys::number(name))
    };
    let flight = control.switch.mode.load(Ordering::Relaxed) == Mode::Flight as u64;
    // What a flight recorder may take it takes: how far back it reaches depends on nothing else.
    let (part, most) = if flight {
        (8, MAX_CAPACITY)
    } else {
        (32, USUAL_SLOTS)
    };
    let bound = wish(&control.switch.ring_bytes, c"BYPASSPROF_RING_BYTES").unwrap_or(USUAL_BYTES);
    let wanted = wish(&control.switch.ring_slots, c"BYPASSPROF_RING_SLOTS")
        .map(|n| n.clamp(MIN_CAPACITY, MAX_CAPACITY))
        .map(|n| {
            if n.is_power_of_two() {
                n
            } else {
                n.next_power_of_two() / 2
            }
        });
    let mut used = control.census.ring_bytes.load(Ordering::Acquire);
    loop {
        let left = bound.saturating_sub(used);
        // Rings get smaller as room gets less, so that many threads have one at all.
        let share = (left / part / SLOT_BYTES as u64).clamp(FEWEST_SLOTS, most);
        let slots = wanted.unwrap_or(1 << share.ilog2());
        let bytes = ring_file_bytes(slots);
        if bytes > left {
            return None;
        }
        let taken = control.census.ring_bytes.compare_exchange(
            used,
            used + bytes,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match taken {
            Ok(_) => return Some(slots),
            Err(now) => used = now,
        }
    }
}

/// Makes a ring's file and maps it.
fn create(control: &Control, index: usize, slots: u64) -> Option<Ring> {
    let bytes = ring_file_bytes(slots);
    let name = FileKind::Ring(process::key(), index as u32).name();
    let dir = directory::get();
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let named = dir.and_then(|dir| {
        sys::open_at(dir, name.as_c_str(), flags).or_else(|| {
            if sys::errno() == libc::EEXIST {
                // From an earlier program of this process, whose entry is free.
                sys::unlink_at(dir, name.as_c_str());
            }
            sys::open_at(dir, name.as_c_str(), flags)
        })
    });
    // After a change of user the directory may be closed to us. Then the ring is a memory file that the recorder, which
    // has more rights, finds by its descriptor.
    let refused = sys::errno() == libc::EACCES || sys::errno() == libc::EPERM || dir.is_none();
    let (fd, has_name) = match named {
        Some(fd) => (fd, true),
        None if refused => (sys::memory_file()?.high(), false),
        None => return None,
    };
    let mapping = if sys::allocate(fd.0, bytes) {
        map(fd.0, bytes as usize, Populate::Yes)
    } else {
        None
    };
    let Some(mapping) = mapping else {
        if let (true, Some(dir)) = (has_name, dir) {
            sys::unlink_at(dir, name.as_c_str());
        }
        return None;
    };
    // SAFETY: the file was just made this long, and the mapping stays for the life of the process.
    let ring = unsafe { Ring::from_raw(mapping.leak(), slots - 1) };
    remember(index, ring);
    let number = if has_name { 0 } else { fd.keep() as u64 + 1 };
    control.ring_fds[index].store(number, Ordering::Relaxed);
    process::describe(&ring.header().identity, RING_HEADER_BYTES as u64, bytes);
    ring.header().capacity.store(slots, Ordering::Relaxed);
    super::points::copy(control, ring.header());
    Some(ring)
}

/// This copy's mapping of a ring that exists.
fn mapped(control: &Control, index: usize) -> Option<Ring> {
    if let Some(ring) = known(index) {
        return Some(ring);
    }
    let number = control.ring_fds[index].load(Ordering::Relaxed);
    let fd = if number == 0 {
        let name = FileKind::Ring(process::key(), index as u32).name();
        sys::open_at(
            directory::get()?,
            name.as_c_str(),
            libc::O_RDWR | libc::O_NOFOLLOW,
        )?
    } else {
        // SAFETY: no memory is involved. A duplicate, so that dropping it leaves the original open.
        Fd::new(unsafe { libc::fcntl(number as i32 - 1, libc::F_DUPFD_CLOEXEC, 0) })?
    };
    let bytes = u64::try_from(sys::stat_of(fd.0)?.st_size).ok()?;
    let slots = bytes.checked_sub(RING_HEADER_BYTES as u64)? / SLOT_BYTES as u64;
    if !slots.is_power_of_two() {
        return None;
    }
    let mapping = map(fd.0, bytes as usize, Populate::Yes)?;
    // SAFETY: the mapping is as long as the file, which has room for these slots, and stays.
    let ring = unsafe { Ring::from_raw(mapping.leak(), slots - 1) };
    remember(index, ring);
    Some(ring)
}

fn remember(index: usize, ring: Ring) {
    MAPPED[index].mask.store(ring.mask(), Ordering::Relaxed);
    let header = ring.as_ptr().cast_mut();
    MAPPED[index].header.store(header, Ordering::Release);
}

/// A ring that this copy has mapped.
pub fn known(index: usize) -> Option<Ring> {
    let header = MAPPED[index].header.load(Ordering::Acquire);
    let mask = MAPPED[index].mask.load(Ordering::Relaxed);
    // SAFETY: `remember` stored a mapping of a ring with this mask that is never unmapped, only replaced in place.
    (!header.is_null()).then(|| unsafe { Ring::from_raw(header, mask) })
}

/// The entries of rings made so far.
fn entries(control: &Control) -> impl Iterator<Item = (usize, Entry)> {
    let count = control
        .census
        .rings
        .load(Ordering::Acquire)
        .min(MAX_RINGS as u64);
    (0..count as usize).map(|index| {
        let word = control.rings[index].load(Ordering::Acquire);
        (index, Entry::from_word(word))
    })
}

/// Threads may end without telling: their rings are marked as left.
fn sweep_ended(control: &Control) {
    for (index, entry) in entries(control) {
        if entry.state == EntryState::Live && !sys::has_thread(entry.tid) {
            let ended = Entry {
                state: EntryState::Ended,
                ..entry
            };
            let word = &control.rings[index];
            let swapped = word.compare_exchange(
                entry.word(),
                ended.word(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if let (Ok(_), Some(ring)) = (swapped, known(index)) {
                ring.end(crate::clock::now());
            }
        }
    }
}

extern "C" fn thread_ends(value: *mut c_void) {
    let _errno = KeepErrno::new();
    let index = (value as usize).wrapping_sub(1);
    let thread = thread::thread();
    thread.ring.set(core::ptr::null());
    let (Some(control), true) = (process::mapped(), index < MAX_RINGS) else {
        return;
    };
    let word = &control.rings[index];
    let entry = Entry::from_word(word.load(Ordering::Acquire));
    if entry.state != EntryState::Live || entry.tid != sys::thread_id() {
        return;
    }
    let copies = entry.copies.saturating_sub(1);
    let state = if copies == 0 {
        if let Some(ring) = known(index) {
            ring.end(crate::clock::now());
        }
        EntryState::Ended
    } else {
        EntryState::Live
    };
    word.store(
        Entry {
            state,
            copies,
            ..entry
        }
        .word(),
        Ordering::Release,
    );
}

/// Names the calling thread.
pub fn name_thread(name: &str) {
    let words = name_words(name.as_bytes());
    let thread = thread::thread();
    thread.name.set(words);
    let header = thread.ring.get();
    if !header.is_null() {
        // SAFETY: as in `thread::own_ring`.
        unsafe { Ring::from_raw(header, thread.mask.get()) }.set_name(words);
    }
}

/// In a forked child: the rings were its parent's.
pub fn forget() {
    for mapped in &MAPPED {
        mapped
            .header
            .store(core::ptr::null_mut(), Ordering::Relaxed);
    }
    let thread = thread::thread();
    thread.ring.set(core::ptr::null());
    thread.refused.set(0);
    let key = KEY.load(Ordering::Acquire);
    if key > 0 {
        // SAFETY: the key exists.
        unsafe { libc::pthread_setspecific(key - 1, core::ptr::null()) };
    }
}
