//! The slowest part of the requests, picked while they go by.
//!
//! In: requests that are over, and which part of them is asked for; out: from which length on requests are in it, and
//! these, in the order in which they came. How long the slowest are is known at the end only, so the longest so far are
//! kept, up to [`MOST`]; where more are in the part that is asked for it says so, and another pass is needed.

use super::lengths::Lengths;
use crate::analyse::spans::answer::slowest_from;
use crate::analyse::spans::flow::Request;
use crate::analyse::spans::stages::{BEHIND, PARTS};
use crate::analyse::spans::stamp::Stamp;
use crate::analyse::spans::way::Way;
use crate::units::Nanos;

/// Requests that are kept, and a quarter more until the shortest of them are left out: 50 MiB.
const MOST: usize = 1 << 18;

/// A request that is over, as much of it as is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Over {
    start: u64,
    ends: [Stamp; PARTS],
    behind: [u64; BEHIND.len()],
    flow: u32,
    /// Places of the rings of the threads that received, handled and sent it.
    pub rings: [Option<u32>; 3],
    /// End of the request of its flow before it.
    pub before: Stamp,
    /// Data segments of the reply, and ACKs on their own.
    pub segments: (u32, u32),
    /// See [`Request`].
    pub pipelined: bool,
    /// Likewise.
    pub split: bool,
}

impl Over {
    /// A request, and its way.
    pub fn new(request: &Request, way: &Way) -> Over {
        Over {
            start: way.start,
            ends: way.ends.map(Stamp::from),
            behind: way.behind,
            flow: way.flow,
            rings: request.rings(),
            before: request.before,
            segments: (request.segments, request.acks),
            pipelined: request.pipelined,
            split: request.split,
        }
    }

    /// Its way; `numbers` are those of its rings.
    pub fn way(&self, numbers: [Option<u32>; 3]) -> Way {
        let ends = self.ends.map(Stamp::get);
        Way::new(self.flow, self.start, ends, numbers, self.behind)
    }
}

/// From which length on requests are among the slowest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// They took so long, or longer.
    pub least: Nanos,
    /// How many requests there are, fast and slow.
    pub of: u64,
    /// The slowest are told. Otherwise they are too many to be kept, and have to be told by a pass of its own.
    pub told: bool,
}

/// The longest requests so far.
#[derive(Debug)]
pub struct Slowest {
    share: f64,
    lengths: Lengths,
    kept: Vec<(u64, Over)>,
    most: usize,
    /// The longest that was not kept.
    left_out: Option<u64>,
}

impl Slowest {
    /// The slowest `share`.
    pub fn new(share: f64) -> Slowest {
        Slowest {
            share,
            lengths: Lengths::default(),
            kept: Vec::new(),
            most: MOST,
            left_out: None,
        }
    }

    /// A request of this length is over.
    pub fn add(&mut self, length: u64, over: impl FnOnce() -> Over) {
        self.lengths.record(length);
        if self.left_out.is_some_and(|longest| length <= longest) {
            return;
        }
        self.kept.push((length, over()));
        if self.kept.len() > self.most + self.most / 4 {
            let mut lengths: Vec<u64> = self.kept.iter().map(|(length, _)| *length).collect();
            let at = lengths.len() - self.most;
            let (_, &mut longest, _) = lengths.select_nth_unstable(at - 1);
            self.left_out = Some(longest);
            self.kept.retain(|(length, _)| *length > longest);
        }
    }

    /// All are over: from which length on they are among the slowest, and these if they were all kept; `None` if there
    /// were none.
    pub fn pick(self) -> Option<(Threshold, Vec<(u64, Over)>)> {
        let lengths = self.lengths.histogram();
        let least = slowest_from(&lengths, self.share)?;
        let told = self.left_out.is_none_or(|longest| longest < least.ns());
        let mut kept = self.kept;
        kept.retain(|(length, _)| told && *length >= least.ns());
        let threshold = Threshold {
            least,
            of: lengths.len(),
            told,
        };
        Some((threshold, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The slowest are told in the order in which they came, or it is said that they are too many; what is kept has
        /// an end.
        #[test]
        fn all_or_none(lengths in proptest::collection::vec(0u64..50, 0..300), percent in 1u32..40) {
            let share = f64::from(percent) / 100.0;
            let mut slowest = Slowest { most: 40, ..Slowest::new(share) };
            let over = |at: usize| {
                let way = Way::new(at as u32, 0, [None; 9], [None; 3], [0; 3]);
                Over::new(&Request::default(), &way)
            };
            for (at, &length) in lengths.iter().enumerate() {
                slowest.add(length, || over(at));
                prop_assert!(slowest.kept.len() <= 50);
            }
            let Some((threshold, told)) = slowest.pick() else {
                prop_assert!(lengths.is_empty());
                return Ok(());
            };
            prop_assert_eq!(threshold.of, lengths.len() as u64);
            let slow = lengths.iter().enumerate();
            let slow = slow.filter(|(_, length)| **length >= threshold.least.ns());
            let slow: Vec<_> = slow.map(|(at, &length)| (length, over(at))).collect();
            prop_assert!(slow.len() as f64 + 1.0 >= share * lengths.len() as f64);
            // Where few are asked for they are kept.
            prop_assert!(threshold.told || slow.len() > 40);
            prop_assert_eq!(told, if threshold.told { slow } else { Vec::new() });
        }
    }
}
