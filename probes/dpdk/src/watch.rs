//! When burst functions are wrapped: while a recorder wants it, and not a tenth of a second longer.
//!
//! In: the process's switch, and whether anyone holds the control file; out: functions in the table or out of it. A thread
//! of our own looks ten times a second, on the CPUs that the program had before DPDK pinned its threads, with all signals
//! blocked; it also finds ports that were started, or whose driver changed its functions, without our seeing it.

use crate::{callbacks, dpdk, frames, pools, ports};
use bypassprof_probe::{runtime, thread};
use bypassprof_wire::layout::{SWITCH_OFF, SWITCH_UNSET};
use bypassprof_wire::names::SESSION_VARIABLE;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(100);
/// Memory pools are looked at once in so many turns.
const POOLS_EVERY: u32 = 10;

/// CPUs before DPDK was started.
static CPUS: OnceLock<libc::cpu_set_t> = OnceLock::new();
/// Whether a recorder has ever listened: before, one that made the session is expected.
static LISTENED: AtomicBool = AtomicBool::new(false);
static STARTED: AtomicBool = AtomicBool::new(false);
/// DPDK takes its memory down, or has: what reads it must not be called any more.
static LEFT: AtomicBool = AtomicBool::new(false);
/// One look at a time.
static LOOKING: Mutex<()> = Mutex::new(());

/// Remembers where the program may run.
pub fn note_cpus() {
    CPUS.get_or_init(|| {
        // SAFETY: a set of CPUs is plain bits, and the kernel fills it.
        unsafe {
            let mut cpus: libc::cpu_set_t = core::mem::zeroed();
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut cpus);
            cpus
        }
    });
}

/// A port was given its numbers of queues.
pub fn configured(port: u16, receive: u16, transmit: u16) {
    if let Some(_looking) = looking() {
        callbacks::configured(port, receive, transmit);
    }
}

/// A port was started.
pub fn started(port: u16) {
    if let Some(_looking) = looking() {
        callbacks::started(port);
    }
    look();
}

/// No look is under way from here on, and none begins.
pub fn leave() {
    let _looking = looking();
    LEFT.store(true, Ordering::Relaxed);
}

/// Looks now: something about a port has changed.
pub fn look() {
    if dpdk::table().is_none() && !dpdk::has_callbacks_only() {
        return;
    }
    turn();
    if !STARTED.swap(true, Ordering::AcqRel) {
        start();
    }
}

fn start() {
    note_cpus();
    // SAFETY: sets of signals are plain bits that the first call fills; the mask is put back.
    unsafe {
        let mut all: libc::sigset_t = core::mem::zeroed();
        let mut before: libc::sigset_t = core::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        // Without it the wrapping stays as it is: nothing that the program would notice.
        let _ = std::thread::Builder::new()
            .name("bypassprof".to_string())
            .stack_size(64 << 10)
            .spawn(watch);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, core::ptr::null_mut());
    }
}

fn watch() {
    if let Some(cpus) = CPUS.get() {
        // SAFETY: the set is as long as the kernel is told.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), cpus) };
    }
    for turns in 0u32.. {
        std::thread::sleep(EVERY);
        // With a port that has been started, DPDK's memory is there.
        if turn() > 0
            && turns.is_multiple_of(POOLS_EVERY)
            && let Some(_looking) = looking()
            && !LEFT.load(Ordering::Relaxed)
        {
            pools::look();
        }
    }
}

/// A child that was forked in the middle of a look finds it locked for ever: it goes on as it is.
fn looking() -> Option<MutexGuard<'static, ()>> {
    (0..1000).find_map(|_| {
        LOOKING.try_lock().ok().or_else(|| {
            std::thread::yield_now();
            None
        })
    })
}

/// Returns the ports whose bursts are seen now, one bit each.
fn turn() -> u64 {
    let Some(_looking) = looking() else {
        return 0;
    };
    // Relaxed: it is written with the lock held.
    if LEFT.load(Ordering::Relaxed) {
        return 0;
    }
    if !is_wanted() {
        match dpdk::table() {
            Some(table) => ports::unwrap(table),
            None => callbacks::take_off(),
        }
        return 0;
    }
    let seen = match dpdk::table() {
        Some(table) => ports::wrap(table).0,
        None => callbacks::hang(),
    };
    if thread::looks_at_frames() > 0 {
        frames::find_stamps();
    }
    seen
}

fn is_wanted() -> bool {
    if !runtime::is_ready() {
        return false;
    }
    match thread::switch().load(Ordering::Relaxed) {
        SWITCH_UNSET => false,
        SWITCH_OFF => {
            !LISTENED.load(Ordering::Relaxed) && std::env::var_os(SESSION_VARIABLE).is_some()
        }
        _ => {
            let listened = runtime::is_listened_to();
            if listened {
                LISTENED.store(true, Ordering::Relaxed);
            }
            listened
        }
    }
}
