//! What any trace has to do at least, and a session of one's own to measure probes in.
//!
//! Unsafe code is fenced in here: the floor's own counter reading.
#![allow(unsafe_code)]
#![allow(
    dead_code,
    reason = "each benchmark uses what the other leaves out of it"
)]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where probes find the session.
pub const SESSION: &str = "BYPASSPROF_SESSION";

/// The counter, as cheaply as it can be read.
#[inline(always)]
pub fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction; it touches no memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks;
        // SAFETY: reads a register that user code may read; it touches no memory.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        ticks
    }
}

/// A private ring to store into. Its position lies in memory, since events come from functions that know nothing of each
/// other.
pub struct Floor {
    words: Box<[AtomicU64]>,
    at: AtomicU64,
    /// A switch.
    pub on: AtomicU64,
}

impl Floor {
    /// With room for so many slots, a power of two.
    pub fn new(slots: usize) -> Floor {
        Floor {
            words: (0..2 * slots).map(|_| AtomicU64::new(1)).collect(),
            at: AtomicU64::new(0),
            on: AtomicU64::new(0),
        }
    }

    /// Stores one slot.
    #[inline(always)]
    pub fn store(&self, first: u64, second: u64) {
        // Relaxed: nobody else reads them.
        let at = self.at.load(Ordering::Relaxed);
        let slot = at as usize & (self.words.len() - 2);
        self.words[slot].store(first, Ordering::Relaxed);
        self.words[slot + 1].store(second, Ordering::Relaxed);
        self.at.store(at + 2, Ordering::Relaxed);
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs a benchmark in a session: probes take it from the environment, so this program is started again with one, and
/// with what is to be in its environment besides.
pub fn in_a_session(environment: &[(&str, &str)], measure: fn() -> Outcome) -> ExitCode {
    let outcome = match std::env::var_os(SESSION) {
        Some(_) => measure().map(|()| ExitCode::SUCCESS),
        None => again(environment),
    };
    outcome.unwrap_or_else(|e| {
        eprintln!("{e}");
        ExitCode::FAILURE
    })
}

fn again(environment: &[(&str, &str)]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in("/dev/shm")?;
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700))?;
    let status = Command::new(std::env::current_exe()?)
        .env(SESSION, dir.path())
        .envs(environment.iter().copied())
        .status()?;
    Ok(ExitCode::from(u8::from(!status.success())))
}
