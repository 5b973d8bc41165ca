//! The reader's half: sessions, control files and rings of programs that may be hostile.
//!
//! In: a directory and what programs put there; out: slots as a private copy, totals, and every slot that is missing
//! counted. Nothing read from a program is used as an address or a length before it was checked against the mapping;
//! no input makes this panic, loop or allocate beyond what the caller asked for.

#[cfg(not(loom))]
mod checked;
#[cfg(not(loom))]
mod control;
mod cursor;
mod drained;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
mod look;
#[cfg(not(loom))]
mod queues;
#[cfg(not(loom))]
mod session;

#[cfg(not(loom))]
pub use control::{ControlHandle, Facts, RingPlace};
pub use cursor::{Cursor, Taken};
pub use drained::Drained;
#[cfg(not(loom))]
pub use file::{OwnerView, RingFile, Totals};
#[cfg(not(loom))]
pub use look::RingLook;
#[cfg(not(loom))]
pub use queues::{PoolUse, QueueCounts, QueueFile, QueuesState};
#[cfg(not(loom))]
pub use session::SessionDir;

use std::io;
use std::path::PathBuf;

/// Whether a program can still write what is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// It runs.
    Goes,
    /// It is gone, or this is a copy.
    Over,
}

/// Why something in a session directory cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The kernel refused.
    #[error("cannot open {path}: {source}")]
    Open {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It belongs to someone else, or others may write it.
    #[error("{path} is not safe to use: {why}")]
    Unsafe {
        /// What.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is not what its name says, or from an incompatible version.
    #[error("{path} is not a file of this version: {why}")]
    Format {
        /// What.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It was good once, and something that no probe does happened to it.
    #[error("{path} was cut short or overwritten while it was read")]
    Spoilt {
        /// What.
        path: PathBuf,
    },
}
