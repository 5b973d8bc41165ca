//! The Rust half of `tests/programs/mixed.c`: a static library with the probes in it, for Rust and C code alike.
#![allow(unsafe_code)]

use bypassprof_probe::{self as probe, Flow, PollLoop, Stage, points};

// Brings in the functions that bypassprof.h calls.
extern crate bypassprof_capi;

/// One event from Rust.
#[unsafe(no_mangle)]
pub extern "C" fn rust_turn(number: u32) {
    probe::emit(points::TIMER, Flow::from_raw(2), number);
}

/// The script of `c_rounds` in mixed.c.
#[unsafe(no_mangle)]
pub extern "C" fn rust_rounds() {
    let flow = Flow::from_raw(7);
    let mut loops = [PollLoop::new(), PollLoop::unstamped()];
    let mut random = 1u32;
    probe::emit(points::TIMER, Flow::NONE, 0);
    for round in 0..400u32 {
        let rounds = &mut loops[round as usize / 200];
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let what = (random >> 24) % 16;
        let frames = if what == 0 {
            5000
        } else {
            u32::from(what == 1)
        };
        rounds.begin();
        let burst = rounds.rx_burst(1, frames, 32, round);
        rounds.stage(Stage::Nic);
        match what {
            1 | 2 => burst.emit_with(points::TCP_IN, flow, round, [1, 2, 3]),
            3 => rounds.worked(2),
            4 => probe::emit(points::APP_END, flow, round),
            5 => probe::emit(points::SLEEP, Flow::NONE, round),
            6 => probe::emit_with6(points::TCP_OUT, flow, round, [1, 2, 3, 4, 5, 6]),
            _ => {}
        }
        if what <= 1 {
            rounds.rx_burst(2, 1, 32, round);
        }
        rounds.tx_burst_aged(1, if what == 7 { 3 } else { 0 }, 2, round, 9, 1);
        rounds.tx_burst(1, u32::from(what == 8), 1, round);
        rounds.stage(Stage::App);
        rounds.end();
    }
    probe::count_rx_bytes(10);
    probe::count_tx_bytes(20);
}
