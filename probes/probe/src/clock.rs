//! The CPU's counter.
#![allow(unsafe_code)]

use bypassprof_wire::Tsc;

/// Reads the counter, unordered with the code around it: an ordered read costs twice as much.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn now() -> Tsc {
    // SAFETY: rdtsc exists on every x86-64 and has no effect but its result.
    Tsc::from_raw(unsafe { core::arch::x86_64::_rdtsc() })
}

/// Reads the counter.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn now() -> Tsc {
    let ticks: u64;
    // SAFETY: Linux lets user space read the virtual counter; reading it has no effect but its result.
    unsafe {
        core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
    }
    Tsc::from_raw(ticks)
}

/// Reads CLOCK_MONOTONIC_RAW in ns where no counter is known.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
pub fn now() -> Tsc {
    Tsc::from_raw(crate::runtime::monotonic_raw())
}
