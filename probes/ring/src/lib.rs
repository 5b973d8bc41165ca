//! One thread's events in shared memory: a ring with a single writer and 64-bit positions that only grow.
//!
//! In: slots from one thread of a traced program; out: the same slots, in order, as a private checked copy in another
//! process, with every missing slot counted. The writer's half ([`Ring`]) needs no allocation and never waits. The
//! reader's half (feature `reader`) treats what it maps as bytes that a hostile process is writing: positions and
//! lengths are checked against the mapping, nothing is dereferenced from it, and a file that is cut short under it is
//! an error and not a signal ([`guard`]). Which store publishes what is in `docs/design/ring.md`. The crate refuses to
//! know points, clocks and threads: it moves slots.
//!
//! A recorder's way through the reader:
//!
//! ```
//! # #[cfg(feature = "reader")] {
//! use bypassprof_ring::reader::{Drained, SessionDir};
//! # let dir = tempfile::tempdir().unwrap();
//! # std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
//! # let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path()).unwrap());
//! let session = SessionDir::open(dir.path(), uid)?;
//! let mut drained = Drained::with_capacity(1 << 16);
//! for key in session.processes()? {
//!     let control = session.control(key)?;
//!     control.switch_on(Default::default());
//!     for place in control.rings() {
//!         let mut ring = session.ring(&control, place)?;
//!         while ring.drain(&mut drained)?.slots > 0 {
//!             println!("{} slots of thread {}", drained.slots().len(), ring.owner().tid);
//!             drained.clear();
//!         }
//!     }
//! }
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(any(test, loom, feature = "reader")), no_std)]

mod atomics;
pub mod guard;
pub mod mapping;
mod memory;
#[cfg(all(test, loom))]
mod models;
#[cfg(feature = "reader")]
pub mod reader;
mod writer;

pub use atomics::{AtomicU64, Ordering};
pub use memory::{Control, Header, Ring, SharedSlot};
pub use writer::Total;
