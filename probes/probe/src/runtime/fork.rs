//! A forked child gets its own control file and rings, and never touches its parent's.
//!
//! In: `pthread_atfork`; out: a child whose mappings of the parent's files are private zeros, with the parent's switch
//! and own points waiting to be written into its control file at its first event.
#![allow(unsafe_code)]

use super::{points, process, rings};
use bypassprof_ring::{AtomicU64, Control, Ordering, guard};
use bypassprof_wire::layout::{MAX_OWN_POINTS, NAME_WORDS, SWITCH_ON};

/// What a child takes over: state, mode, session, slots, bytes, flight; all zero in a process that is no such child.
static SWITCH: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];
static POINTS: [[AtomicU64; NAME_WORDS]; MAX_OWN_POINTS] =
    [const { [const { AtomicU64::new(0) }; NAME_WORDS] }; MAX_OWN_POINTS];

/// Asks to be told about forks.
pub fn hook() {
    // SAFETY: the handler stays mapped (`sys::pin`), takes and returns nothing and cannot unwind.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

extern "C" fn in_child() {
    if let Some(control) = process::mapped() {
        for (kept, word) in SWITCH.iter().zip(switch_words(control)) {
            kept.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        points::load_all(control, |index, words| points::store(&POINTS[index], words));
    }
    guard::replace_all();
    rings::forget();
    process::forget();
}

/// Writes what the parent had into a child's new control file.
pub fn inherit(control: &Control) {
    if SWITCH[0].load(Ordering::Relaxed) == SWITCH_ON {
        for (kept, word) in SWITCH.iter().zip(switch_words(control)) {
            word.store(kept.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    for (kept, entry) in POINTS.iter().zip(&control.own_points) {
        let words = [0, 1, 2, 3].map(|at: usize| kept[at].load(Ordering::Relaxed));
        points::store(entry, words);
    }
}

fn switch_words(control: &Control) -> [&AtomicU64; 6] {
    let switch = &control.switch;
    [
        &switch.state,
        &switch.mode,
        &switch.session,
        &switch.ring_slots,
        &switch.ring_bytes,
        &control.census.flight,
    ]
}
