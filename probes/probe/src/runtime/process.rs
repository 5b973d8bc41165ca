//! The process's control file: made or found at the first probe, mapped over the switch.
#![allow(unsafe_code)]

use super::sys::{self, Fd, KeepErrno};
use super::{directory, flight, fork, rings, sweep};
use crate::thread::{PAGE_BYTES, switch, switch_page};
use bypassprof_ring::mapping::{Mapping, Populate};
use bypassprof_ring::{AtomicU64, Control, Ordering, guard};
use bypassprof_wire::layout::{
    CONTROL_BYTES, CONTROL_MAGIC, Identity, SWITCH_OFF, SWITCH_UNSET, Switch, VERSION_WORD,
    is_readable, name_words,
};
use bypassprof_wire::names::{FileKind, ProcessKey};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32};

static CONTROL: AtomicPtr<Control> = AtomicPtr::new(core::ptr::null_mut());
static STATE: AtomicU32 = AtomicU32::new(NEW);
const NEW: u32 = 0;
const AT_WORK: u32 = 1;
const DONE: u32 = 2;

static START_TIME: AtomicU64 = AtomicU64::new(0);
/// Bytes that a flight recorder may still take in the directory.
static BYTES_LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
/// Things that are done once per process image, and are still there in a forked child.
static HOOKED: AtomicBool = AtomicBool::new(false);

/// The control file; made on the first call. `None` when the process has to do without.
pub fn control() -> Option<&'static Control> {
    let mut patience = 10_000;
    loop {
        match STATE.compare_exchange(NEW, AT_WORK, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => break,
            Err(DONE) => return mapped(),
            // Another thread is at it. A signal handler that interrupted that very thread must not wait for ever.
            Err(_) if patience == 0 => return None,
            Err(_) => {
                patience -= 1;
                // SAFETY: no arguments.
                unsafe { libc::sched_yield() };
            }
        }
    }
    let _errno = KeepErrno::new();
    if let Some(control) = set_up() {
        CONTROL.store(control.cast_mut(), Ordering::Release);
    } else {
        // Whoever could switch us on cannot find us.
        switch().store(SWITCH_OFF, Ordering::Relaxed);
    }
    STATE.store(DONE, Ordering::Release);
    mapped()
}

/// The control file if it has been mapped.
pub fn mapped() -> Option<&'static Control> {
    // SAFETY: what is stored there is a mapping of a whole control file that is never unmapped, only replaced in place.
    unsafe { CONTROL.load(Ordering::Acquire).as_ref() }
}

/// Bytes that a flight recorder may take: what dead processes left there counts too.
pub fn bytes_left() -> u64 {
    BYTES_LEFT.load(Ordering::Relaxed)
}

/// Forgets the control file: a forked child needs its own.
pub fn forget() {
    CONTROL.store(core::ptr::null_mut(), Ordering::Relaxed);
    switch().store(SWITCH_UNSET, Ordering::Relaxed);
    STATE.store(NEW, Ordering::Release);
}

/// Who this process is in the names of its files.
pub fn key() -> ProcessKey {
    ProcessKey {
        // SAFETY: no arguments.
        pid: unsafe { libc::getpid() } as u32,
        start_time: START_TIME.load(Ordering::Relaxed),
    }
}

fn set_up() -> Option<*const Control> {
    // SAFETY: no memory is involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    if page > PAGE_BYTES {
        return None;
    }
    if !HOOKED.swap(true, Ordering::AcqRel) {
        sys::pin();
        fork::hook();
        rings::hook();
        if !sys::no_signal_handler() {
            guard::install();
        }
        let state = offset_of!(Control, switch) + offset_of!(Switch<u64>, state);
        guard::guard(switch_page() as usize, page, state, SWITCH_OFF as usize)?;
        // SAFETY: the handler takes and returns nothing and cannot unwind.
        unsafe { libc::atexit(leave) };
    }
    let started = start_time(c"/proc/self/stat").unwrap_or_else(sys::monotonic_raw);
    START_TIME.store(started, Ordering::Relaxed);
    let fd = open_or_create()?;
    if sys::stat_of(fd.0)?.st_size < CONTROL_BYTES as i64 {
        return None;
    }
    let mapping = rings::map(fd.0, CONTROL_BYTES, Populate::Yes)?;
    let control: *const Control = mapping.as_ptr();
    // SAFETY: the file is as long as a control file, and the mapping stays.
    let words = unsafe { &*control };
    // Acquire `magic`: pairs with the Release of the copy of this runtime that made the file.
    if words.identity.magic.load(Ordering::Acquire) != CONTROL_MAGIC
        || !is_readable(words.identity.version.load(Ordering::Relaxed))
    {
        return None;
    }
    // SAFETY: the page is ours alone (size and alignment in the C file), all of it is atomic words, and the file is longer
    // than it or ends inside of it on kernels with large pages.
    let over = unsafe {
        libc::mmap(
            switch_page(),
            page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE,
            fd.0,
            0,
        )
    };
    if over == libc::MAP_FAILED {
        return None;
    }
    Some(mapping.leak())
}

/// The control file of this process. The directory may be removed, by one that was the last to use it, between being
/// opened and being used: then it is made again.
fn open_or_create() -> Option<Fd> {
    let name = FileKind::Control(key()).name();
    for _ in 0..8 {
        let dir = directory::get()?;
        let flags = libc::O_RDWR | libc::O_NOFOLLOW;
        if let Some(fd) = sys::open_at(dir, name.as_c_str(), flags) {
            return Some(fd);
        }
        if directory::is_per_user() || flight::is_wanted() {
            BYTES_LEFT.store(sweep::sweep(dir), Ordering::Relaxed);
        }
        match create(dir) {
            Some(fd) => return Some(fd),
            None if directory::is_removed(dir) => directory::forget(),
            None => return None,
        }
    }
    None
}

/// A new control file under its final name, or the one that another copy of this runtime made in the meantime.
fn create(dir: i32) -> Option<Fd> {
    let name = FileKind::Control(key()).name();
    // A name that is no file of ours, until it is whole.
    let mut draft = name;
    core::fmt::Write::write_str(&mut draft, ".new").ok()?;
    sys::unlink_at(dir, draft.as_c_str());
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let fd = sys::open_at(dir, draft.as_c_str(), flags)?;
    let whole = sys::allocate(fd.0, CONTROL_BYTES as u64) && fill(fd.0);
    // SAFETY: both names end with a zero byte. A link, unlike a rename, never replaces what is there.
    let linked = whole
        && unsafe {
            let (from, to) = (draft.as_c_str().as_ptr(), name.as_c_str().as_ptr());
            libc::linkat(dir, from, dir, to, 0) == 0 || sys::errno() == libc::EEXIST
        };
    sys::unlink_at(dir, draft.as_c_str());
    if !linked {
        return None;
    }
    sys::open_at(dir, name.as_c_str(), libc::O_RDWR | libc::O_NOFOLLOW)
}

fn fill(fd: i32) -> bool {
    let Some(mapping) = Mapping::unguarded(fd, CONTROL_BYTES, Populate::Yes) else {
        return false;
    };
    // SAFETY: the file was just made this long and has no name that others look at.
    let control = unsafe { &*mapping.as_ptr::<Control>() };
    // The first thread's, whichever makes the file.
    let (mut buffer, of_thread) = ([0; 32], sys::kernel_name());
    let process_name = sys::read_file(c"/proc/self/comm", &mut buffer).unwrap_or(&of_thread);
    let process_name = process_name.strip_suffix(b"\n").unwrap_or(process_name);
    for (word, value) in control.census.name.iter().zip(name_words(process_name)) {
        word.store(value, Ordering::Relaxed);
    }
    control.switch.state.store(SWITCH_OFF, Ordering::Relaxed);
    fork::inherit(control);
    flight::from_environment(control, bytes_left());
    describe(
        &control.identity,
        CONTROL_BYTES as u64,
        CONTROL_BYTES as u64,
    );
    // Release `magic`: publishes the description.
    control
        .identity
        .magic
        .store(CONTROL_MAGIC, Ordering::Release);
    true
}

/// Fills in all but the magic number.
pub fn describe(identity: &Identity<AtomicU64>, header_bytes: u64, file_bytes: u64) {
    let boot = boot_id();
    let key = key();
    // SAFETY: no arguments.
    let user = unsafe { libc::geteuid() };
    let words = [
        (&identity.version, VERSION_WORD),
        (&identity.header_bytes, header_bytes),
        (&identity.file_bytes, file_bytes),
        (&identity.pid, u64::from(key.pid)),
        (&identity.pid_namespace, sys::pid_namespace()),
        (&identity.start_time, key.start_time),
        (&identity.uid, u64::from(user)),
        (&identity.boot_id[0], (boot >> 64) as u64),
        (&identity.boot_id[1], boot as u64),
        (&identity.base_tsc, crate::clock::now().raw()),
        (&identity.base_time, sys::monotonic_raw()),
    ];
    for (word, value) in words {
        word.store(value, Ordering::Relaxed);
    }
}

/// Field 22 of a process's stat file; `None` without such a process, or without /proc.
pub fn start_time(stat: &core::ffi::CStr) -> Option<u64> {
    let mut buffer = [0; 1024];
    let text = sys::read_file(stat, &mut buffer)?;
    // The second field, the name, may hold anything, and ends at the last parenthesis.
    let after_name = text.iter().rposition(|&b| b == b')').map_or(0, |at| at + 1);
    let fields = core::str::from_utf8(&text[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The machine's boot, or 0.
pub fn boot_id() -> u128 {
    let mut buffer = [0; 64];
    let text = sys::read_file(c"/proc/sys/kernel/random/boot_id", &mut buffer).unwrap_or(b"");
    let digits = text.iter().filter_map(|&b| char::from(b).to_digit(16));
    digits.fold(0, |id, digit| (id << 4) | u128::from(digit))
}

/// At exit: what nobody listens to leaves nothing behind; a recorder that listens is told that this is no crash.
extern "C" fn leave() {
    let Some(control) = mapped() else { return };
    // Release `left`: the last slots and totals are there.
    control.census.left.store(1, Ordering::Release);
    let alone = flight::is_alone(control);
    let listening = switch().load(Ordering::Relaxed) != SWITCH_OFF && !alone;
    if listening || !(alone || directory::is_per_user()) {
        return;
    }
    let Some(dir) = directory::get() else { return };
    for index in 0..control.census.rings.load(Ordering::Relaxed).min(512) {
        sys::unlink_at(dir, FileKind::Ring(key(), index as u32).name().as_c_str());
    }
    sys::unlink_at(dir, FileKind::Queues(key()).name().as_c_str());
    sys::unlink_at(dir, FileKind::Control(key()).name().as_c_str());
    directory::remove_if_empty();
}
