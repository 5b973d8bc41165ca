//! Readings of the CPU's counter and the kernel's clock, taken together.
//!
//! In: nothing; out: [`ClockPair`]s. Of several tries the one whose two counter readings lie closest together is kept.
//!
//! Unsafe code is fenced in here: the counter's instruction.
#![allow(unsafe_code)]

use crate::units::{ClockPair, Nanos};
use rustix::time::{ClockId, clock_gettime};

/// Now, on the clock of recordings.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::MonotonicRaw);
    Nanos::from_ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The counter as probes read it.
#[cfg(target_arch = "x86_64")]
pub fn counter() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction; it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter as probes read it.
#[cfg(target_arch = "aarch64")]
pub fn counter() -> u64 {
    let ticks;
    // SAFETY: reads a register that user code may read; it touches no memory.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

const TRIES: usize = 7;

/// The tightest of several readings of both clocks.
pub fn pair() -> ClockPair {
    let read = || {
        let tsc_before = counter();
        let time = now();
        ClockPair {
            tsc_before,
            time,
            tsc_after: counter(),
        }
    };
    let width = |p: &ClockPair| p.tsc_after.saturating_sub(p.tsc_before);
    let first = read();
    (1..TRIES).map(|_| read()).fold(first, |best, next| {
        if width(&next) < width(&best) {
            next
        } else {
            best
        }
    })
}
