//! Blocks of many records as columns of small differences: what the compressor sees instead of plain structures.
//!
//! In: records; out: bytes, and records back from untrusted bytes. A block is `kind, count, columns`, each column with
//! its length in front. It refuses to know files, compression and clocks. Decoding allocates at most what [`MAX_BLOCK`]
//! records need.

mod numbers;
mod samples;
mod slots;
mod switches;

use super::format::MAX_BLOCK;
use numbers::Bytes;
pub use samples::{decode_samples, encode_samples};
pub use slots::{SlotEncoder, SlotHeader, decode_slots, peek_slots};
pub use switches::{decode_switches, encode_switches};

/// First byte of a block of slots.
pub(super) const KIND_SLOTS: u8 = 1;
/// First byte of a block of samples.
pub(super) const KIND_SAMPLES: u8 = 2;
/// First byte of a block of switches.
pub(super) const KIND_SWITCHES: u8 = 3;
/// Deepest stack that a sample may carry.
pub const MAX_FRAMES: usize = 1024;
/// Most group values that a sample may carry.
pub const MAX_GROUP: usize = 64;
/// Most bytes that a sample's tracepoint may carry: the kernel's own limit.
pub const MAX_RAW: usize = 8192;

/// A block that is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It ends inside a number or a column.
    #[error("the block is cut short")]
    Short,
    /// It is of another kind than its channel.
    #[error("the block is of kind {0}, which does not belong here")]
    Kind(u8),
    /// A number is larger than its field or the bound allows.
    #[error("a {0} in the block is out of range")]
    Range(&'static str),
}

/// How many records a sample or switch block says it holds.
pub fn peek_count(block: &[u8]) -> Result<usize, BlockError> {
    let mut bytes = Bytes(block);
    bytes.byte()?;
    bytes.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Random bytes never panic and never make more records than the bound.
        #[test]
        fn random_bytes(kind in 0u8..5, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let block: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
            let (mut slots, mut samples, mut switches) = (Vec::new(), Vec::new(), Vec::new());
            let outcomes = [
                decode_slots(&block, &mut slots).is_ok(),
                decode_samples(&block, &mut Vec::new(), &mut samples).is_ok(),
                decode_switches(&block, &mut switches).is_ok(),
            ];
            prop_assert!(outcomes.iter().filter(|&&ok| ok).count() <= 1);
            prop_assert!(slots.len() + samples.len() + switches.len() <= MAX_BLOCK);
        }
    }
}
