//! Probes for a DPDK program that has never heard of us: a library to preload.
//!
//! In: a program's own calls of `rte_eth_dev_start` and its fellows; out: this thread's events and each queue's counts in
//! shared memory. DPDK's inline burst calls go through a table of function pointers per port; after each start the two
//! of a port are replaced by ours, which call the driver's and count. Arguments, packets and results pass through
//! unchanged, and the queue's own data stays where it is, so that every other function of the table works as before and
//! a pointer can be put back at any moment. Nothing of DPDK is linked: what is needed is looked up by name in the
//! program, and the layout of the table is that of the version that runs (`dpdk`). Without DPDK in the program nothing
//! here ever runs.
//!
//! Rust and not C, because rings, switch and queue file come from `bypassprof-probe`: a thread has one ring, whoever
//! else in the program writes it.
#![allow(unsafe_code)]

mod callbacks;
mod counts;
mod dpdk;
mod frames;
mod lane;
mod pace;
mod pools;
mod ports;
mod queue;
mod slow;
mod voice;
mod watch;

use core::ffi::{c_char, c_int, c_void};
use dpdk::Real;

static EAL_INIT: Real = Real::new(c"rte_eal_init");
static EAL_CLEANUP: Real = Real::new(c"rte_eal_cleanup");
static CONFIGURE: Real = Real::new(c"rte_eth_dev_configure");
static START: Real = Real::new(c"rte_eth_dev_start");
static STOP: Real = Real::new(c"rte_eth_dev_stop");
static PROBED: Real = Real::new(c"rte_eth_dev_probing_finish");

/// What a function of DPDK's returns when there is none to call: no program gets here that has it.
const NOT_THERE: c_int = -libc::ENOSYS;

/// Runs when the library is loaded. Only a program that has DPDK built in and loads this as one of its drivers
/// (`-d`) is looked at from here: its calls do not come by.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = {
    extern "C" fn loaded() {
        if dpdk::is_built_in() {
            watch::look();
        }
    }
    loaded
};

/// Takes note of the CPUs that the program may use before DPDK pins this thread to one.
///
/// # Safety
/// As of DPDK's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    watch::note_cpus();
    let Some(real) = EAL_INIT.get() else {
        return NOT_THERE;
    };
    // SAFETY: DPDK declares it so in every version; the caller keeps its contract.
    unsafe {
        let real: extern "C" fn(c_int, *mut *mut c_char) -> c_int = core::mem::transmute(real);
        real(argc, argv)
    }
}

/// Lets no recorder and no look of ours ask DPDK anything any more before it takes its memory down.
///
/// # Safety
/// As of DPDK's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rte_eal_cleanup() -> c_int {
    counts::leave();
    watch::leave();
    let Some(real) = EAL_CLEANUP.get() else {
        return NOT_THERE;
    };
    // SAFETY: DPDK declares it so in every version; the caller keeps its contract.
    unsafe {
        let real: extern "C" fn() -> c_int = core::mem::transmute(real);
        real()
    }
}

/// Takes note of how many queues the port has: callbacks are asked for by queue.
///
/// # Safety
/// As of DPDK's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rte_eth_dev_configure(
    port: u16,
    receive: u16,
    transmit: u16,
    settings: *const c_void,
) -> c_int {
    let Some(real) = CONFIGURE.get() else {
        return NOT_THERE;
    };
    // SAFETY: DPDK declares it so in every version; the caller keeps its contract.
    let outcome = unsafe {
        let real: extern "C" fn(u16, u16, u16, *const c_void) -> c_int = core::mem::transmute(real);
        real(port, receive, transmit, settings)
    };
    if outcome == 0 {
        watch::configured(port, receive, transmit);
    }
    outcome
}

/// Starts the port, and sees to it that its bursts are seen.
///
/// # Safety
/// As of DPDK's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rte_eth_dev_start(port: u16) -> c_int {
    // SAFETY: DPDK declares both so in every version that has the table.
    let outcome = unsafe { call(&START, port) };
    if outcome == 0 {
        watch::started(port);
    }
    outcome
}

/// Stops the port; DPDK takes its burst functions out of the table itself.
///
/// # Safety
/// As of DPDK's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rte_eth_dev_stop(port: u16) -> c_int {
    // SAFETY: as above.
    let outcome = unsafe { call(&STOP, port) };
    watch::look();
    outcome
}

/// # Safety
/// The function must take a port and return a number.
unsafe fn call(function: &Real, port: u16) -> c_int {
    let Some(real) = function.get() else {
        return NOT_THERE;
    };
    // SAFETY: the caller's promise.
    unsafe {
        let real: extern "C" fn(u16) -> c_int = core::mem::transmute(real);
        real(port)
    }
}

/// A driver has made a port. In a secondary process, which starts none, its burst functions are in the table now.
///
/// # Safety
/// As of DPDK's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rte_eth_dev_probing_finish(device: *mut c_void) {
    if let Some(real) = PROBED.get() {
        // SAFETY: DPDK declares it so in every version that has the table.
        unsafe {
            let real: extern "C" fn(*mut c_void) = core::mem::transmute(real);
            real(device);
        }
    }
    watch::look();
}
