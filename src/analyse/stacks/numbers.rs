//! Numbers for stacks: the same addresses, the same number.
//!
//! In: samples as they are read; out: the same with [`Sample::stack_number`]. It is for whoever takes a file apart beside
//! the analysis, which then need not look at addresses that it knows. It refuses to know what lies at them.

use super::{MOST_KNOWN, Map};
use crate::trace::record::Sample;
use std::hash::BuildHasher;

/// Stacks that were seen.
#[derive(Debug, Default)]
pub struct StackNumbers {
    /// By a hash of the addresses.
    known: Map<u64, (u64, Box<[u64]>)>,
    last: u64,
}

impl StackNumbers {
    /// Numbers a sample's stack.
    pub fn number(&mut self, sample: &mut Sample) {
        let hash = self.known.hasher().hash_one(&sample.frames);
        if let Some((number, addresses)) = self.known.get(&hash)
            && **addresses == *sample.frames
        {
            sample.stack_number = *number;
            return;
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.last += 1;
        sample.stack_number = self.last;
        let addresses = sample.frames.as_slice().into();
        self.known.insert(hash, (self.last, addresses));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same addresses have the same number, others another, and what is forgotten gets a new one.
    #[test]
    fn same_addresses() {
        let mut numbers = StackNumbers::default();
        let mut number = |frames: &[u64]| {
            let mut sample = Sample {
                frames: frames.to_vec(),
                ..Sample::default()
            };
            numbers.number(&mut sample);
            sample.stack_number
        };
        assert_eq!(number(&[1, 2]), 1);
        assert_eq!(number(&[2, 1]), 2);
        assert_eq!(number(&[1, 2]), 1);
        assert_eq!(number(&[]), 3);
        (0..MOST_KNOWN as u64).for_each(|other| assert!(number(&[other]) > 3));
        assert!(number(&[1, 2]) > 3);
    }
}
