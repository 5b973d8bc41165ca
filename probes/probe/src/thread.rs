//! The calling thread's ring and the switch, as hot paths see them.
//!
//! In: nothing; out: a ring if a recorder listens. Both live in symbols of the C file, so that C, Rust and loaded
//! libraries share them.
#![allow(unsafe_code)]

use bypassprof_ring::{AtomicU64, Control, Header, Ordering, Ring};
use bypassprof_wire::layout::SWITCH_OFF;
use core::cell::Cell;
use core::mem::offset_of;

/// Thread-local words; zero at first.
#[derive(Debug)]
#[repr(C)]
pub struct Thread {
    /// The ring's header; null for a thread that has none.
    pub ring: Cell<*const Header>,
    /// Slots of the ring less one.
    pub mask: Cell<u64>,
    /// 1 + the session in which the thread got no ring.
    pub refused: Cell<u64>,
    /// The thread's name, if the program gave one.
    pub name: Cell<[u64; 4]>,
}

/// What the first page of the control file is mapped over.
#[repr(C)]
#[cfg_attr(target_arch = "aarch64", repr(align(65536)))]
#[cfg_attr(not(target_arch = "aarch64"), repr(align(4096)))]
pub struct SwitchPage([AtomicU64; PAGE_BYTES / 8]);

/// Alignment and size of the switch page, and the largest page size of a kernel that the probes work on.
pub const PAGE_BYTES: usize = if cfg!(target_arch = "aarch64") {
    65536
} else {
    4096
};

unsafe extern "C" {
    static bypassprof_switch_v1: SwitchPage;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn bypassprof_thread_address_v1() -> *const Thread;
}

/// The word at a byte offset of the control file's first page.
#[inline(always)]
fn page_word(offset: usize) -> &'static AtomicU64 {
    // SAFETY: the C file defines the symbol with this size and alignment; it is always mapped and made of atomic words.
    unsafe { &bypassprof_switch_v1.0[offset / 8] }
}

/// The switch.
#[inline(always)]
pub fn switch() -> &'static AtomicU64 {
    page_word(offset_of!(Control, switch) + offset_of!(bypassprof_wire::layout::Switch<u64>, state))
}

/// One in how many bursts is to have its frames looked at; 0 for none.
#[inline(always)]
pub fn looks_at_frames() -> u64 {
    let offset = offset_of!(bypassprof_wire::layout::Switch<u64>, frames);
    page_word(offset_of!(Control, switch) + offset).load(Ordering::Relaxed)
}

/// Where the switch page is.
pub fn switch_page() -> *mut core::ffi::c_void {
    core::ptr::from_ref(page_word(0)).cast_mut().cast()
}

/// Whether points write events, or do not know yet.
#[inline(always)]
pub fn is_on() -> bool {
    // Relaxed: a point that sees the change late is a point that was reached earlier.
    switch().load(Ordering::Relaxed) != SWITCH_OFF
}

/// The calling thread's words.
#[inline(always)]
pub fn thread() -> &'static Thread {
    // SAFETY: the C file defines the symbol so; the function has no preconditions.
    let address: *const Thread =
        unsafe { crate::thread_word!("bypassprof_thread_v1", bypassprof_thread_address_v1()) };
    // SAFETY: the storage lives as long as the thread, only this thread uses it, and all of it is cells. The lifetime is
    // the thread's; no caller in this crate lets the reference leave the thread.
    unsafe { &*address }
}

/// The calling thread's ring; on its first event this makes one. `None` when switched off or there is none to be had.
#[inline(always)]
pub fn ring() -> Option<Ring> {
    if !is_on() {
        return None;
    }
    own_ring()
}

/// The same for callers that have looked at the switch.
#[inline(always)]
pub fn own_ring() -> Option<Ring> {
    let thread = thread();
    let header = thread.ring.get();
    if header.is_null() {
        return crate::runtime::attach();
    }
    // SAFETY: `attach` stored a mapping of a ring with this mask, which is never unmapped, only replaced in place.
    Some(unsafe { Ring::from_raw(header, thread.mask.get()) })
}
