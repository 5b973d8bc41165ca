//! Lengths, counted in the bins of an HDR histogram.
//!
//! In: lengths, a dozen for each request; out: a [`Histogram`] of three digits that says the same of them as one that was
//! told each. Counting is all that is done for each length: what else a histogram keeps is told once, by bin.

use hdrhistogram::Histogram;

/// Lengths below this have a bin each; from there on each doubling has half as many bins.
const EXACT: u64 = 1 << DIGITS;
/// Three decimal digits take eleven binary ones.
const DIGITS: u32 = 11;

/// An empty histogram of lengths.
fn histogram() -> Histogram<u64> {
    // Three digits, as long as need be: the only error is a number of digits that does not exist.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits"))
}

/// Counts of lengths.
#[derive(Clone, Debug, Default)]
pub struct Lengths {
    /// By bin. Tables of more bytes would not stay in the caches.
    counts: Vec<u32>,
    /// Bins whose counts began anew, once for each time.
    full: Vec<usize>,
}

impl Lengths {
    /// Counts a length.
    #[inline]
    pub fn record(&mut self, length: u64) {
        let bin = bin(length);
        match self.counts.get_mut(bin) {
            Some(count) if *count < u32::MAX => *count += 1,
            _ => self.make_room(bin),
        }
    }

    /// Counts the first in a bin that there was no room for, in the table or in its count.
    #[cold]
    fn make_room(&mut self, bin: usize) {
        if bin < self.counts.len() {
            self.counts[bin] = 0;
            self.full.push(bin);
        } else {
            self.counts.resize(bin + 1, 0);
            self.counts[bin] = 1;
        }
    }

    /// All of them.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = histogram();
        let mut add = |bin, count| {
            let length = least(bin);
            // One beyond what a histogram can grow to counts as the longest it has.
            if count > 0 && histogram.record_n(length, count).is_err() {
                histogram.saturating_record_n(length, count);
            }
        };
        for (bin, &count) in self.counts.iter().enumerate() {
            add(bin, u64::from(count));
        }
        for &bin in &self.full {
            add(bin, 1 << u32::BITS);
        }
        histogram
    }
}

fn bin(length: u64) -> usize {
    let shift = u64::BITS - (length | (EXACT - 1)).leading_zeros() - DIGITS;
    shift as usize * (EXACT / 2) as usize + (length >> shift) as usize
}

/// The shortest length of a bin.
fn least(bin: usize) -> u64 {
    let half = (EXACT / 2) as usize;
    let shift = (bin / half).saturating_sub(1);
    ((bin - shift * half) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// More in a bin than its count holds.
    #[test]
    fn full() {
        let mut counted = Lengths::default();
        counted.record(7);
        counted.counts[7] = u32::MAX;
        counted.record(7);
        counted.record(7);
        let made = counted.histogram();
        assert_eq!(
            (made.len(), made.count_at(7)),
            ((1 << 32) + 1, (1 << 32) + 1)
        );
    }

    proptest! {
        /// Short or long, the histogram says what one says that was told each length.
        #[test]
        fn equals_a_histogram(lengths in proptest::collection::vec((any::<u64>(), 0u32..64), 0..200)) {
            let (mut counted, mut plain) = (Lengths::default(), histogram());
            for (length, shift) in lengths {
                counted.record(length >> shift);
                if plain.record(length >> shift).is_err() {
                    plain.saturating_record(length >> shift);
                }
                prop_assert!(least(bin(length >> shift)) <= length >> shift);
            }
            let made = counted.histogram();
            let said = |h: &Histogram<u64>| (h.len(), h.min(), h.max(), h.mean(), h.stdev());
            prop_assert_eq!(said(&made), said(&plain));
            let bins = |h: &Histogram<u64>| -> Vec<_> {
                let bins = h.iter_recorded();
                bins.map(|b| (b.value_iterated_to(), b.count_at_value())).collect()
            };
            prop_assert_eq!(bins(&made), bins(&plain));
            let quantile = |h: &Histogram<u64>| [0.0, 0.5, 0.99, 1.0].map(|q| h.value_at_quantile(q));
            prop_assert_eq!(quantile(&made), quantile(&plain));
        }
    }
}
