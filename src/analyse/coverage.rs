//! How much of a recording the rules of packs speak about, and what they miss.
//!
//! In: a classified [`Profile`]; out: shares of weight by what decided, and the heaviest functions that no rule names.

use super::classify::By;
use super::profile::Profile;
use std::collections::BTreeMap;

/// What decided about the weight of all samples, in shares of 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// The process is foreign, a caller decides for all below it, or the innermost function.
    pub leaf: f64,
    /// The nearest caller.
    pub caller: f64,
    /// Nothing.
    pub nothing: f64,
    /// Innermost functions that no rule names, with their share, the heaviest first.
    pub missed: Vec<(String, f64)>,
}

/// The coverage of a profile.
pub fn coverage(profile: &Profile) -> Coverage {
    let all = profile.total_weight().max(1) as f64;
    let mut coverage = Coverage::default();
    let mut missed: BTreeMap<&str, u64> = BTreeMap::new();
    for (&(thread, _, node), weight) in &profile.weights {
        let share = weight.weight as f64 / all;
        let by = profile.stacks.verdict(node).by;
        match by {
            _ if profile.threads[thread].foreign => coverage.leaf += share,
            By::Leaf | By::Override => coverage.leaf += share,
            By::Caller => coverage.caller += share,
            By::Nothing => coverage.nothing += share,
        }
        let decided = profile.threads[thread].foreign || matches!(by, By::Leaf | By::Override);
        let leaf = profile.stacks.innermost_first(node).next();
        if let (false, Some(leaf)) = (decided, leaf) {
            *missed.entry(&profile.stacks.get(leaf).name).or_default() += weight.weight;
        }
    }
    let missed = missed
        .into_iter()
        .map(|(name, w)| (name.to_owned(), w as f64 / all));
    coverage.missed = missed.collect();
    coverage.missed.sort_by(|a, b| b.1.total_cmp(&a.1));
    coverage
}
