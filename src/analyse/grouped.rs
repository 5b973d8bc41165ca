//! What the counters of the sampled group counted, by the samples that told it.
//!
//! In: what each sample stands for and the running totals that it carries; out: for each thread, state and stack, what
//! was counted since the thread's sample before on that CPU. A count is told to the sample that follows it: where phases alternate faster than samples
//! come, those of one phase are spread over its neighbours. It refuses to know phases.

use super::profile::Root;
use super::stacks::NodeId;
use std::collections::BTreeMap;

/// Counts of a group's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouped {
    /// Names of the members, the sampled one first; empty without others.
    pub names: Vec<String>,
    /// For each thread's stacks by state, a count for each member. The first number is the thread's place.
    pub counts: BTreeMap<(usize, Root, NodeId), Vec<u64>>,
}

/// Running totals of one thread on one CPU.
#[derive(Clone, Debug, Default)]
pub struct Totals(Vec<u64>);

impl Totals {
    /// What was counted since the totals before. Totals only grow: those that come in another order than they were
    /// read in count nothing, and nothing twice.
    pub fn advance(&mut self, totals: &[u64]) -> Box<[u64]> {
        self.0.resize(totals.len(), 0);
        let since = self.0.iter_mut().zip(totals).map(|(last, &now)| {
            let before = std::mem::replace(last, now.max(*last));
            now.saturating_sub(before)
        });
        since.collect()
    }
}

/// Adds counts to others.
pub fn add(sums: &mut Vec<u64>, counts: &[u64]) {
    sums.resize(counts.len().max(sums.len()), 0);
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(*count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each count is told once, however samples of two CPUs are mixed up in the file.
    #[test]
    fn told_once() {
        let mut totals = Totals::default();
        let told = [[3, 10], [9, 12], [7, 11], [20, 12]].map(|t| totals.advance(&t));
        assert_eq!(told.map(Vec::from), [[3, 10], [6, 2], [0, 0], [11, 0]]);
        let mut sums = Vec::new();
        add(&mut sums, &[1, 2]);
        add(&mut sums, &[u64::MAX, 2]);
        assert_eq!(sums, [u64::MAX, 4]);
    }
}
