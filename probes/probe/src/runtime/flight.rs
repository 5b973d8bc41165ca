//! The flight recorder: rings that overwrite their oldest slots from the first event on, whether anyone listens or not.
//!
//! In: a number of bytes from the environment or the program; out: the switch turned on in the control file, which
//! remembers the number, so that a recorder that comes and goes leaves the flight recorder as it was.

use super::beside;
use super::process;
use super::sys;
use bypassprof_ring::{Control, Ordering};
use bypassprof_wire::layout::{Mode, SWITCH_OFF, SWITCH_ON};

/// Starts what `BYPASSPROF_FLIGHT` asks for; `most` bytes are left for it.
pub fn from_environment(control: &Control, most: u64) {
    if let Some(bytes) = sys::size(c"BYPASSPROF_FLIGHT") {
        set(control, bytes.min(most));
    }
}

/// Whether the environment asks for it.
pub fn is_wanted() -> bool {
    sys::size(c"BYPASSPROF_FLIGHT").is_some_and(|bytes| bytes > 0)
}

/// Starts the flight recorder with so many bytes for all threads together, or ends it with 0.
pub fn flight(bytes: u64) -> bool {
    match process::control() {
        Some(control) => {
            set(control, bytes.min(process::bytes_left()));
            true
        }
        None => false,
    }
}

/// Counts that the program asked for a snapshot.
pub fn trigger() {
    if let Some(control) = process::control() {
        control.census.triggers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether no one but the flight recorder listens.
pub fn is_alone(control: &Control) -> bool {
    control.census.flight.load(Ordering::Relaxed) > 0
        && Mode::from_word(control.switch.mode.load(Ordering::Relaxed)) == Mode::Flight
}

fn set(control: &Control, bytes: u64) {
    let switch = &control.switch;
    let recorded = switch.state.load(Ordering::Acquire) == SWITCH_ON && !is_alone(control);
    control.census.flight.store(bytes, Ordering::Relaxed);
    if recorded {
        // The recorder turns back to this when it goes.
        return;
    }
    turn(control, bytes);
}

/// Goes on with the flight recorder if the recorder that came between is gone without a word. Rings find that out by
/// themselves (`ReaderWords::lease`); this is for those that are made from now on.
pub fn take_back(control: &Control) {
    let bytes = control.census.flight.load(Ordering::Relaxed);
    if bytes > 0 && !is_alone(control) && beside::is_held() == Some(false) {
        turn(control, bytes);
    }
}

fn turn(control: &Control, bytes: u64) {
    let switch = &control.switch;
    let state = if bytes > 0 { SWITCH_ON } else { SWITCH_OFF };
    let mode = if bytes > 0 { Mode::Flight } else { Mode::Drain };
    switch.ring_bytes.store(bytes, Ordering::Relaxed);
    switch.mode.store(mode as u64, Ordering::Relaxed);
    // Threads that got no ring before try again.
    switch.session.fetch_add(1, Ordering::Relaxed);
    // Release `state`: mode and session are there before a thread makes its ring.
    switch.state.store(state, Ordering::Release);
}
