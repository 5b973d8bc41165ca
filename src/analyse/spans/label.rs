//! A quick hash for flow labels, which are hashes already.
//!
//! In: 32 bits; out: 64 bits that differ from process to process, so that no recording can be made to collide on purpose.
//! It refuses to hash anything but one number.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes labels with a secret of this process.
#[derive(Clone, Debug)]
pub struct LabelHash(u64);

impl Default for LabelHash {
    fn default() -> LabelHash {
        LabelHash(RandomState::new().hash_one(0u32))
    }
}

impl BuildHasher for LabelHash {
    type Hasher = Folded;
    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Both halves of a product with an odd constant, as wyhash does.
#[derive(Clone, Copy, Debug)]
pub struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u32(u32::from(b)));
    }

    fn write_u32(&mut self, label: u32) {
        let product = u128::from(self.0 ^ u64::from(label)) * 0x9e37_79b9_7f4a_7c15_u128;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels that follow each other, or differ in their high bits only, spread over the low bits and over the high ones.
    #[test]
    fn spreads() {
        let hash = LabelHash::default();
        for shift in [0, 20] {
            let labels = (0..4096u32).map(|n| hash.hash_one(n << shift));
            let (mut low, mut high): (Vec<_>, Vec<_>) =
                labels.map(|h| (h & 0xfff, h >> 52)).unzip();
            for places in [&mut low, &mut high] {
                places.sort_unstable();
                places.dedup();
                // Chance fills 63 % of the places.
                assert!(places.len() > 2200, "{} places", places.len());
            }
        }
    }
}
