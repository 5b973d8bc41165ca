//! What happens once per process and once per thread: control file, rings, fork, thread exit.
//!
//! In: a thread without a ring; out: its ring, or a silent refusal that is counted. Nothing here can fail loudly, keeps
//! a lock, or changes `errno`. Several copies of this runtime may be at work in one process: what they share lies in the
//! control file, and each maps it for itself.
#![allow(unsafe_code)]

mod beside;
mod directory;
mod flight;
mod fork;
mod points;
mod process;
mod rings;
mod sweep;
mod sys;

pub use beside::{is_listened_to, is_ready, queue_file};
pub use flight::{flight, trigger};
pub use points::register;
pub use rings::{attach, name_thread};
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use sys::monotonic_raw;
