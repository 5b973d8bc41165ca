//! Mapped files that someone else may cut short: a SIGBUS in one of them gets fresh pages instead of ending the process.
//!
//! In: address ranges of our own mappings; out: a chained signal handler that acts on these ranges alone and passes
//! everything else on to whoever was there before. Once a range was hit, all of it is private zeros: a writer goes on
//! into memory that nobody reads, a reader finds a ring without magic. The same replacement takes inherited mappings
//! away from a forked child. It refuses to know what is in the ranges.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

/// Ranges that can be guarded at a time.
pub const MAX_RANGES: usize = 4096;

#[derive(Debug)]
struct Range {
    /// First address; 0 when the entry is free, 1 while it is being filled.
    start: AtomicUsize,
    len: AtomicUsize,
    /// 1 when the range was replaced.
    hit: AtomicUsize,
    /// Offset of a word that becomes `value` in the fresh pages; 0 for none.
    word: AtomicUsize,
    value: AtomicUsize,
}

#[allow(clippy::declare_interior_mutable_const)]
const FREE: Range = Range {
    start: AtomicUsize::new(0),
    len: AtomicUsize::new(0),
    hit: AtomicUsize::new(0),
    word: AtomicUsize::new(0),
    value: AtomicUsize::new(0),
};

static RANGES: [Range; MAX_RANGES] = [FREE; MAX_RANGES];
/// Entries from here on were never used.
static USED: AtomicUsize = AtomicUsize::new(0);

const UNINSTALLED: usize = 0;
const INSTALLING: usize = 1;
const INSTALLED: usize = 2;
static STATE: AtomicUsize = AtomicUsize::new(UNINSTALLED);

struct Previous(UnsafeCell<libc::sigaction>);
// SAFETY: written once, by the thread that moved STATE to INSTALLING; the handler reads it after STATE is INSTALLED.
unsafe impl Sync for Previous {}
// SAFETY: an all-zero sigaction is a valid value (SIG_DFL, no flags).
static PREVIOUS: Previous = Previous(UnsafeCell::new(unsafe { core::mem::zeroed() }));

/// A guarded range. Given back by [`Guarded::release`] when its memory is unmapped.
#[derive(Debug)]
pub struct Guarded(&'static Range);

/// Guards `len` bytes from `start` on; `None` when there is no entry left. `word`, if not 0, is the offset of a
/// machine word that is set to `value` in the fresh pages.
pub fn guard(start: usize, len: usize, word: usize, value: usize) -> Option<Guarded> {
    for (index, range) in RANGES.iter().enumerate() {
        let free = range.start.load(Ordering::Relaxed) == 0;
        if free
            && range
                .start
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            range.len.store(len, Ordering::Relaxed);
            range.hit.store(0, Ordering::Relaxed);
            range.word.store(word, Ordering::Relaxed);
            range.value.store(value, Ordering::Relaxed);
            range.start.store(start, Ordering::Release);
            USED.fetch_max(index + 1, Ordering::AcqRel);
            return Some(Guarded(range));
        }
    }
    None
}

impl Guarded {
    /// Whether the range was replaced.
    #[inline]
    pub fn is_hit(&self) -> bool {
        // The handler runs on the thread that read the missing page: program order is enough, the compiler's included.
        fence(Ordering::Acquire);
        self.0.hit.load(Ordering::Relaxed) != 0
    }

    /// Stops guarding; call before unmapping.
    pub fn release(self) {
        self.0.start.store(0, Ordering::Release);
    }
}

/// Puts the handler in, once per process; again does nothing.
pub fn install() {
    if STATE
        .compare_exchange(UNINSTALLED, INSTALLING, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        return;
    }
    // SAFETY: `action` is fully set; PREVIOUS is written by this thread alone (see its Sync) and the handler that reads
    // it does nothing but chain before STATE says INSTALLED.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        if libc::sigaction(libc::SIGBUS, &action, PREVIOUS.0.get()) == 0 {
            STATE.store(INSTALLED, Ordering::Release);
        }
    }
}

/// Replaces every guarded range by private zeros, in a child that must not touch its parent's files.
pub fn replace_all() {
    for range in &RANGES[..USED.load(Ordering::Acquire)] {
        if range.start.load(Ordering::Acquire) > 1 {
            replace(range);
        }
    }
}

/// Calls nothing but mmap: runs in a signal handler.
fn replace(range: &Range) -> bool {
    let start = range.start.load(Ordering::Acquire);
    let len = range.len.load(Ordering::Relaxed);
    // SAFETY: the range is a mapping of ours and stays one until it is released; replacing it in place keeps every
    // pointer into it valid, and all that is kept there are atomic words for which any value is fine.
    unsafe {
        let fresh = libc::mmap(
            start as *mut c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        );
        if fresh == libc::MAP_FAILED {
            return false;
        }
        let word = range.word.load(Ordering::Relaxed);
        if word != 0 {
            let word = (start + word) as *const AtomicUsize;
            (*word).store(range.value.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    range.hit.store(1, Ordering::Release);
    true
}

extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid siginfo with SA_SIGINFO, and si_addr is set for SIGBUS.
    let address = unsafe { (*info).si_addr() } as usize;
    let ours = RANGES[..USED.load(Ordering::Acquire)].iter().find(|range| {
        let start = range.start.load(Ordering::Acquire);
        start > 1 && address.wrapping_sub(start) < range.len.load(Ordering::Relaxed)
    });
    // SAFETY: errno is thread-local and the interrupted code may be about to read it: mmap must not show there.
    let errno = unsafe { *libc::__errno_location() };
    let handled = ours.is_some_and(replace);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if !handled {
        pass_on(signal, info, context);
    }
}

fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: PREVIOUS is not written after installation; the function pointer in it was given to the kernel as a
    // handler of the kind that its flags name, and is called as the kernel would call it.
    unsafe {
        let previous = &*PREVIOUS.0.get();
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                // The fault repeats when this handler returns, and then ends the process as it would have without us.
                let mut default: libc::sigaction = core::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, core::ptr::null_mut());
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) =
                    core::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(i32) = core::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
