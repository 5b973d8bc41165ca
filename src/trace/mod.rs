//! The recording: records in, a file out, and back. The waist of the flow: what is left of it writes records, what is
//! right of it reads them.

pub mod block;
mod container;
pub mod folded;
pub mod format;
pub mod perfdata;
pub mod perfscript;
pub mod reader;
pub mod record;
mod resync;
pub mod summary;
mod walk;
pub mod writer;

pub use reader::{Message, ReadError, Reader, Record, SlotBlock};
pub use record::Damage;
pub use summary::Summary;
pub use writer::{WriteError, Writer};

use record::{Meta, Sample, Symbols};

/// Gives names to what was sampled while the files it came from are still there. `resolve` implements it; the recorder
/// only ever sees this trait.
pub trait Symbolizer {
    /// Takes note of a mapping, a thread or an exec, in the order they are recorded.
    fn meta(&mut self, meta: &Meta);
    /// Takes note of a sample's addresses.
    fn sample(&mut self, sample: &Sample);
    /// Names for everything noted, one record per file.
    fn finish(&mut self) -> Vec<Symbols>;
}

#[cfg(test)]
mod tests;
