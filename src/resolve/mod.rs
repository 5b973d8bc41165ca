//! Addresses into names: which file was mapped where and when, and what its symbols say.
//!
//! In: [`crate::trace::record`] records; out: a [`Place`] for every address, which may say "unknown" with the reason.
//! While recording, [`SampledAddresses`] gathers what has to be named and [`LocalSymbols`] names it from the files of
//! this machine; later [`Names`] reads those names back and opens a file only when its build id is the recorded one.
//! It refuses to know what a sample weighs or which thread it belongs to.

mod files;
mod kernel;
mod mapping;
mod names;
mod program;
mod sampled;
mod space;
mod symbol;
mod unwind;

pub use files::{FileError, Folders, MappedFiles};
pub use kernel::KernelSymbols;
pub use names::{AddressKind, Names, Place};
pub use program::{Dpdk, dpdk_of};
pub use sampled::SampledAddresses;
pub use space::{AddressSpaces, Epoch};
pub use symbol::{LocalSymbols, PerfMap};
pub use unwind::{FileTables, StackCopies, StackWalker, keeps_frame_pointers};
