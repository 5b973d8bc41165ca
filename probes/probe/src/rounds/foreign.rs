//! What the C interface needs from inside: the fields of a loop by offset, and the slow ways of its rounds and of events.
//!
//! The hot ways are written again in `bypassprof.h`; what is rare, and what decides, is called here, so that it exists once.

use super::{PollLoop, Stage};
use crate::hot;
use bypassprof_wire::{Slot, Tsc};
use core::mem::offset_of;

pub use crate::runtime::attach;
pub use crate::thread::{Thread, switch, thread};

/// A field of [`PollLoop`] as C sees it: name, C type, how many of them, offset.
pub type Field = (&'static str, &'static str, usize, usize);

macro_rules! fields {
    ($($($name:ident).+ : $c_type:literal $count:literal),*) => {
        &[$((concat!($("_", stringify!($name)),+), $c_type, $count, offset_of!(PollLoop, $($name).+))),*]
    };
}

/// Every field of a loop, in the order of memory.
pub const FIELDS: &[Field] = fields![
    stamped: "uint8_t" 1,
    on: "uint8_t" 1,
    worked: "uint8_t" 1,
    received: "uint8_t" 1,
    sampling: "uint8_t" 1,
    state: "uint8_t" 1,
    countdown: "uint32_t" 1,
    random: "uint32_t" 1,
    start: "uint64_t" 1,
    seen: "uint64_t" 1,
    seen_quiet: "uint64_t" 1,
    idle_from: "uint64_t" 1,
    sample.mark: "uint64_t" 1,
    sample.stages: "uint32_t" 5,
    sample.rx: "uint32_t" 1,
    sample.tx: "uint32_t" 1,
    sample.events: "uint32_t" 1
];

/// Numbers of a loop's states: untold, working, idle.
pub const STATES: [u8; 3] = [
    super::State::Untold as u8,
    super::State::Working as u8,
    super::State::Idle as u8,
];

/// An event that the hot way could not write.
pub fn push(stamp: Tsc, slots: &[Slot]) {
    if let Some(ring) = hot::own_ring() {
        ring.push_slowly(stamp, slots);
    }
}

/// The first round of the loop since the points were switched on.
pub fn switched_on(rounds: &mut PollLoop) {
    rounds.switched_on();
}

/// The points were switched off since the loop's last round.
pub fn switched_off(rounds: &mut PollLoop) {
    rounds.switched_off();
}

/// The countdown has run out.
pub fn start_sample(rounds: &mut PollLoop) {
    rounds.start_sample();
}

/// A sampled round has done with a stage; a number that is none is taken for the application.
pub fn note_stage(rounds: &mut PollLoop, stage: u32) {
    const STAGES: [Stage; 4] = [Stage::Nic, Stage::Rings, Stage::Timers, Stage::Side];
    rounds.note_stage(STAGES.get(stage as usize).copied().unwrap_or(Stage::App));
}

/// The first work of a round whose loop is not known to work.
pub fn tell_work(rounds: &mut PollLoop) {
    if let Some(ring) = hot::own_ring() {
        rounds.tell_work(&ring);
    }
}

/// The end of a round that worked, or in which the ring moved.
pub fn end_of_work(rounds: &mut PollLoop) {
    if let Some(ring) = hot::own_ring() {
        rounds.end_of_work(&ring);
    }
}

/// The end of an empty round that has to be told; it is counted already.
pub fn end_of_nothing(rounds: &mut PollLoop) {
    if let Some(ring) = hot::own_ring() {
        rounds.end_of_nothing(&ring);
    }
}
