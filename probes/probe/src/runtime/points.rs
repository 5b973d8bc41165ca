//! The program's own points: a table in the control file, copied into every ring, so that a ring explains itself.
#![allow(unsafe_code)]

use super::sys::KeepErrno;
use super::{process, rings};
use bypassprof_ring::{AtomicU64, Control, Header, Ordering};
use bypassprof_wire::Point;
use bypassprof_wire::layout::{MAX_RINGS, NAME_BYTES, NAME_WORDS, name_words};
use bypassprof_wire::points::FIRST_OWN;

/// Registers a point; the same name gives the same number. Point 0 if there is no room, no name or no control file.
pub fn register(name: &str) -> Point {
    let none = Point::from_id(0);
    // The last byte stays zero, so that a name ends inside of its words.
    let name = name.as_bytes();
    let words = name_words(&name[..name.len().min(NAME_BYTES - 1)]);
    if words[0] & 0xff == 0 {
        return none;
    }
    let _errno = KeepErrno::new();
    let Some(control) = process::control() else {
        return none;
    };
    let Some(index) = find_or_add(control, words) else {
        return none;
    };
    for ring in (0..MAX_RINGS).filter_map(rings::known) {
        store(&ring.header().own_points[index], words);
    }
    Point::from_id(FIRST_OWN + index as u16)
}

fn find_or_add(control: &Control, words: [u64; NAME_WORDS]) -> Option<usize> {
    let lock = &control.census.points_lock;
    let mut patience = 100_000;
    // Acquire `points_lock`: pairs with the Release below: the entries before ours are whole.
    while lock
        .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        patience -= 1;
        if patience == 0 {
            return None;
        }
        // SAFETY: no arguments.
        unsafe { libc::sched_yield() };
    }
    let free_or_same = control.own_points.iter().position(|entry| {
        let there = load(entry);
        there == words || there[0] == 0
    });
    if let Some(index) = free_or_same {
        store(&control.own_points[index], words);
    }
    // Release `points_lock`.
    lock.store(0, Ordering::Release);
    free_or_same
}

/// Fills a new ring's table.
pub fn copy(control: &Control, header: &Header) {
    for (from, to) in control.own_points.iter().zip(&header.own_points) {
        store(to, load(from));
    }
}

/// Copies all of the table.
pub fn load_all(control: &Control, into: impl Fn(usize, [u64; NAME_WORDS])) {
    for (index, entry) in control.own_points.iter().enumerate() {
        into(index, load(entry));
    }
}

fn load(entry: &[AtomicU64; NAME_WORDS]) -> [u64; NAME_WORDS] {
    // Acquire first word: pairs with the Release in `store`: the others are there.
    let first = entry[0].load(Ordering::Acquire);
    let rest = |at: usize| entry[at].load(Ordering::Relaxed);
    [first, rest(1), rest(2), rest(3)]
}

pub fn store(entry: &[AtomicU64; NAME_WORDS], words: [u64; NAME_WORDS]) {
    for at in 1..NAME_WORDS {
        entry[at].store(words[at], Ordering::Relaxed);
    }
    // Release first word: publishes the others.
    entry[0].store(words[0], Ordering::Release);
}
