//! The C interface of the probes: what `bypassprof.h` calls when its inline hot path cannot go on.
//!
//! In: the calling thread, words and names from C; out: the same as in Rust, by `bypassprof-probe`. The number at the end
//! of the names is that of the C ABI (docs/reference/c-abi.md): functions of one number never change, so that a program
//! and a library that do not fit do not link. Nothing here can panic or print.
#![allow(unsafe_code)]

use bypassprof_probe::{PollLoop, Tsc, foreign};
use bypassprof_wire::event::MAX_SLOTS;
use bypassprof_wire::{Slot, layout};
use core::ffi::{CStr, c_char};

/// The C ABI that these functions serve.
pub const ABI_VERSION: u32 = 1;
/// The oldest C ABI whose programs they serve too.
pub const ABI_OLDEST_COMPATIBLE: u32 = 1;
/// Bytes that C programs give a loop: more than it has, so that it can grow.
pub const LOOP_BYTES: usize = 128;

// The hot path in programs writes this layout: one that they do not know needs new names here and in shared.c.
const _: () = assert!(layout::OLDEST_COMPATIBLE == 1);
const _: () = assert!(size_of::<PollLoop>() <= LOOP_BYTES && align_of::<PollLoop>() <= 8);

/// `[version:32 | oldest compatible:32]`, for who loads the library by hand.
#[unsafe(no_mangle)]
pub extern "C" fn bypassprof_abi() -> u64 {
    (u64::from(ABI_VERSION) << 32) | u64::from(ABI_OLDEST_COMPATIBLE)
}

/// Gets the calling thread a ring, if there is one to be had.
#[unsafe(no_mangle)]
pub extern "C" fn bypassprof_attach_v1() {
    foreign::attach();
}

/// Writes one event, with what has to stand in front of it; or counts it as lost.
///
/// # Safety
/// `slots` must point to `count` slots, or `count` be 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bypassprof_push_v1(stamp: u64, slots: *const Slot, count: u64) {
    let slots = match count as usize {
        0 => &[][..],
        // SAFETY: the caller promises so many slots; Slot is `repr(C)`, two words.
        count => unsafe { core::slice::from_raw_parts(slots, count.min(MAX_SLOTS)) },
    };
    foreign::push(Tsc::from_raw(stamp), slots);
}

/// Registers a point of the program's own; 0 when all are taken.
///
/// # Safety
/// `name` must be null or end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bypassprof_register_v1(name: *const c_char) -> u16 {
    // SAFETY: the caller's promise.
    bypassprof_probe::register(unsafe { text(name) }).id()
}

/// Names the calling thread.
///
/// # Safety
/// `name` must be null or end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bypassprof_name_thread_v1(name: *const c_char) {
    // SAFETY: the caller's promise.
    bypassprof_probe::name_thread(unsafe { text(name) });
}

/// Starts the flight recorder with so many bytes, or ends it with 0; 0 if the program has to do without.
#[unsafe(no_mangle)]
pub extern "C" fn bypassprof_flight_v1(bytes: u64) -> u32 {
    u32::from(bypassprof_probe::flight(bytes))
}

/// Asks whoever waits for it to save what led to this moment.
#[unsafe(no_mangle)]
pub extern "C" fn bypassprof_trigger_v1(why: u32) {
    bypassprof_probe::trigger(why);
}

/// The part of a C string before its first bad UTF-8.
///
/// # Safety
/// `name` must be null or end with a zero byte, and live as long as the result is used.
unsafe fn text<'a>(name: *const c_char) -> &'a str {
    if name.is_null() {
        return "";
    }
    // SAFETY: not null, and ends with a zero byte by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes();
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}

/// The CPU's counter, for machines that the header does not know.
#[unsafe(no_mangle)]
pub extern "C" fn bypassprof_now_v1() -> u64 {
    bypassprof_probe::now().raw()
}

/// The calling thread's words: a shared library does not hand out thread-local symbols of C code inside of it.
#[unsafe(no_mangle)]
pub extern "C" fn bypassprof_thread_of_library_v1() -> *const foreign::Thread {
    core::ptr::from_ref(foreign::thread())
}

/// The switch: as above.
#[unsafe(no_mangle)]
pub extern "C" fn bypassprof_switch_of_library_v1() -> *const u64 {
    core::ptr::from_ref(foreign::switch()).cast()
}

macro_rules! slow_ways_of_a_round {
    ($($what:literal $name:ident => $call:ident;)*) => {$(
        #[doc = $what]
        ///
        /// # Safety
        /// `rounds` must point to a loop that was made by the header and that no one else uses now.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(rounds: *mut PollLoop) {
            // SAFETY: the caller's promise; the header writes 0 or 1 into flags and leaves the state to us.
            foreign::$call(unsafe { &mut *rounds });
        }
    )*};
}

slow_ways_of_a_round! {
    "The first round since the points were switched on." bypassprof_loop_switched_on_v1 => switched_on;
    "The points were switched off since the last round." bypassprof_loop_switched_off_v1 => switched_off;
    "The countdown to the next sampled round has run out." bypassprof_loop_start_sample_v1 => start_sample;
    "The first work of a round whose loop is not known to work." bypassprof_loop_tell_work_v1 => tell_work;
    "The end of a round that worked, or in which the ring moved." bypassprof_loop_end_of_work_v1 => end_of_work;
    "The end of an empty round that has to be told." bypassprof_loop_end_of_nothing_v1 => end_of_nothing;
}

/// A sampled round has done with a stage.
///
/// # Safety
/// `rounds` must point to a loop that was made by the header and that no one else uses now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bypassprof_loop_note_stage_v1(rounds: *mut PollLoop, stage: u32) {
    // SAFETY: the caller's promise.
    foreign::note_stage(unsafe { &mut *rounds }, stage);
}

/// The examples of the guide, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/probes-rust.md")]
pub struct Guide;
