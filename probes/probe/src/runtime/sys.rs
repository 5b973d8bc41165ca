//! The system calls that the runtime makes, without allocation.
#![allow(unsafe_code)]

use core::ffi::CStr;

/// Restores `errno` when dropped: the program must not see ours.
pub struct KeepErrno(i32);

impl KeepErrno {
    pub fn new() -> KeepErrno {
        KeepErrno(errno())
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        // SAFETY: errno's location is valid for the thread's life.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

pub fn errno() -> i32 {
    // SAFETY: errno's location is valid for the thread's life.
    unsafe { *libc::__errno_location() }
}

/// An open file.
#[derive(Debug)]
pub struct Fd(pub i32);

impl Fd {
    /// `None` for a failed call, whose errno stays: no `Fd` may be made of it, since dropping that would close it.
    pub fn new(fd: i32) -> Option<Fd> {
        if fd < 0 { None } else { Some(Fd(fd)) }
    }

    /// Gives the descriptor up without closing it.
    pub fn keep(self) -> i32 {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }

    /// Moves the descriptor out of the range that programs look at: they select() on, count and close small ones.
    pub fn high(self) -> Fd {
        // SAFETY: no memory is involved.
        let high = unsafe { libc::fcntl(self.0, libc::F_DUPFD_CLOEXEC, 500) };
        Fd::new(high).unwrap_or(self)
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(self.0) };
    }
}

pub fn open_at(dir: i32, name: &CStr, flags: i32) -> Option<Fd> {
    // SAFETY: the name ends with a zero byte.
    Fd::new(unsafe { libc::openat(dir, name.as_ptr(), flags | libc::O_CLOEXEC, 0o600) })
}

/// The start of a file.
pub fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let fd = open_at(libc::AT_FDCWD, path, libc::O_RDONLY)?;
    // SAFETY: the buffer is as long as the kernel is told.
    let len = unsafe { libc::read(fd.0, buffer.as_mut_ptr().cast(), buffer.len()) };
    buffer.get(..usize::try_from(len).ok()?)
}

pub fn stat_of(fd: i32) -> Option<libc::stat> {
    // SAFETY: stat is plain numbers, for which zero is valid, and the kernel fills it.
    unsafe {
        let mut stat = core::mem::zeroed();
        (libc::fstat(fd, &mut stat) == 0).then_some(stat)
    }
}

pub fn unlink_at(dir: i32, name: &CStr) {
    // SAFETY: the name ends with a zero byte.
    unsafe { libc::unlinkat(dir, name.as_ptr(), 0) };
}

/// Gives a new file its length and its memory: later stores must not find the file system full.
pub fn allocate(fd: i32, len: u64) -> bool {
    // SAFETY: no memory is involved.
    unsafe {
        libc::fallocate(fd, 0, 0, len as libc::off_t) == 0
            || (errno() == libc::EOPNOTSUPP && libc::ftruncate(fd, len as libc::off_t) == 0)
    }
}

pub fn thread_id() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether a thread of this process is there.
pub fn has_thread(tid: u32) -> bool {
    // SAFETY: signal 0 only checks.
    unsafe {
        libc::syscall(libc::SYS_tgkill, libc::getpid(), tid as i32, 0) == 0
            || errno() != libc::ESRCH
    }
}

/// The kernel's name of the calling thread.
pub fn kernel_name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

pub fn monotonic_raw() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// An environment variable; empty ones and those of a program with raised privileges count as missing.
pub fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the environment is read once, at the first probe; programs that change it at that very moment from
    // another thread have that race with every getenv.
    unsafe {
        if libc::getauxval(libc::AT_SECURE) != 0 {
            return None;
        }
        let value = libc::getenv(name.as_ptr());
        (!value.is_null() && *value != 0).then(|| CStr::from_ptr(value))
    }
}

/// A number in the environment.
pub fn number(name: &CStr) -> Option<u64> {
    variable(name)?.to_str().ok()?.parse().ok()
}

/// A number of bytes in the environment, with K, M or G behind it.
pub fn size(name: &CStr) -> Option<u64> {
    let text = variable(name)?.to_str().ok()?;
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Seconds since 1970.
pub fn wall_seconds() -> i64 {
    // SAFETY: a null pointer asks for the return value alone.
    unsafe { libc::time(core::ptr::null_mut()) }
}

/// Removes a directory if it is empty.
pub fn remove_dir(path: &CStr) {
    // SAFETY: the path ends with a zero byte.
    unsafe { libc::rmdir(path.as_ptr()) };
}

/// Inode of the PID namespace; 0 if not known.
pub fn pid_namespace() -> u64 {
    // SAFETY: stat is plain numbers, for which zero is valid, and the kernel fills it.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        libc::stat(c"/proc/self/ns/pid".as_ptr(), &mut stat);
        stat.st_ino
    }
}

/// Whether the program's user wants no SIGBUS handler of ours.
pub fn no_signal_handler() -> bool {
    variable(c"BYPASSPROF_NO_SIGBUS").is_some()
}

/// Keeps this code mapped: handlers of threads, forks and signals point here after a `dlclose`.
pub fn pin() {
    // SAFETY: dladdr fills the structure with names that live as long as the object; NOLOAD opens nothing new.
    unsafe {
        let mut info: libc::Dl_info = core::mem::zeroed();
        if libc::dladdr(pin as *const libc::c_void, &mut info) != 0 && !info.dli_fname.is_null() {
            let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            libc::dlopen(info.dli_fname, flags);
        }
    }
}

/// A file without a name, for a ring.
pub fn memory_file() -> Option<Fd> {
    // SAFETY: the name ends with a zero byte.
    Fd::new(unsafe { libc::memfd_create(c"bypassprof-ring".as_ptr(), libc::MFD_CLOEXEC) })
}
