//! The recording: records in, a file out, and back. The waist of the flow: what is left of it writes records, what is
//! right of it reads them.

mod ahead;
pub mod block;
mod container;
pub mod feed;
pub mod file;
pub mod folded;
pub mod format;
mod lines;
pub mod perfdata;
pub mod perfscript;
pub mod reader;
pub mod record;
mod redact;
mod resync;
pub mod summary;
mod tail;
pub mod tracepoint;
mod walk;
pub mod writer;

pub use feed::{Feed, Piece};
pub use reader::{Message, ReadError, Reader, Record, SlotBlock, Spare};
pub use record::Damage;
pub use redact::Redactor;
pub use summary::Summary;
pub use writer::{WriteError, Writer};

use bypassprof_wire::Slot;
use record::{Meta, Sample, Switch, Symbols};

/// Gives names to what was sampled while the files it came from are still there. `resolve` implements it; the recorder
/// only ever sees this trait.
pub trait Symbolizer {
    /// Takes note of a mapping, a thread or an exec, in the order they are recorded.
    fn meta(&mut self, meta: &Meta);
    /// Takes note of a sample's addresses.
    fn sample(&mut self, sample: &Sample);
    /// Walks the user's part of a sample's stack from what was copied of it, when all mappings before it are noted.
    /// Without, it stays what the kernel walked.
    fn walk(&mut self, _sample: &mut Sample, _copy: &StackCopy) {}
    /// Names for everything noted since the last time, one record per file.
    fn finish(&mut self) -> Vec<Symbols>;
}

/// Registers that a stack is walked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Return address of the innermost function, where the processor has a register for it.
    pub lr: u64,
}

/// What came with a sample for walking its user stack: registers, and the innermost part of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackCopy {
    /// The user's registers.
    pub registers: Registers,
    /// Memory from the stack pointer on.
    pub bytes: Vec<u8>,
}

impl Memory for StackCopy {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let read = || {
            let from = usize::try_from(address.checked_sub(self.registers.sp)?).ok()?;
            self.bytes.get(from..from.checked_add(bytes.len())?)
        };
        let Some(copied) = read() else {
            return false;
        };
        bytes.copy_from_slice(copied);
        true
    }
}

/// What is left of the memory of a process that runs no more.
pub trait Memory {
    /// Reads all of `bytes` from an address; false if a part of it is not there.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;
}

/// Where the contents of rings go: into a recording, or into a sum.
pub trait RingSink {
    /// Takes slots of a ring, the first of them at position `first` of all it ever had.
    fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) -> Result<(), WriteError>;
    /// Takes a description of a ring or its totals.
    fn meta(&mut self, meta: &Meta) -> Result<(), WriteError>;
}

/// Where all that a recorder takes goes: into a recording, or to someone who looks at it at once.
pub trait RecordSink: RingSink {
    /// Takes samples.
    fn samples(&mut self, samples: &[Sample]) -> Result<(), WriteError>;
    /// Takes switch records.
    fn switches(&mut self, switches: &[Switch]) -> Result<(), WriteError>;
    /// Makes everything taken so far safe from the recorder's death.
    fn flush(&mut self) -> Result<(), WriteError>;
    /// Nothing more comes.
    fn finish(&mut self) -> Result<(), WriteError>;
}

impl RecordSink for Writer {
    fn samples(&mut self, samples: &[Sample]) -> Result<(), WriteError> {
        Writer::samples(self, samples)
    }

    fn switches(&mut self, switches: &[Switch]) -> Result<(), WriteError> {
        Writer::switches(self, switches)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Writer::flush(self)
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        Writer::finish(self)
    }
}

impl RingSink for Writer {
    fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) -> Result<(), WriteError> {
        Writer::slots(self, ring, first, slots)
    }

    fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        Writer::meta(self, meta)
    }
}

#[cfg(test)]
mod tests;
