//! A profile as a flame graph: the thread's state at the root, then the thread, then its functions.

use super::style::printable;
use super::table::headline;
use crate::analyse::{Profile, Root};
use flamegraphs::{DrawError, Picture, Tree};
use std::collections::BTreeMap;
use std::io::Write;

/// The stacks of a profile, outermost first, below the state and the thread they were sampled in.
pub fn tree(profile: &Profile) -> Tree {
    let mut tree = Tree::new();
    for (&(thread, root, node), weight) in &profile.weights {
        let mut frames: Vec<_> = profile.stacks.innermost_first(node).collect();
        frames.reverse();
        let thread = printable(&profile.threads[thread].name);
        let functions = frames.iter().map(|&f| profile.stacks.get(f).name.as_str());
        let stack = [root.name(), &thread].into_iter().chain(functions);
        tree.add(stack, weight.weight);
    }
    tree
}

/// Each function's phase. One that works for several, as a clock does, has that in which it was sampled most, or none
/// if that was mostly in no phase of its own.
pub(super) fn colours(profile: &Profile) -> BTreeMap<String, String> {
    let mut weights: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for (&(_, _, node), weight) in &profile.weights {
        for frame in profile.stacks.innermost_first(node) {
            let sum = all.entry(&profile.stacks.get(frame).name).or_default();
            *sum = sum.saturating_add(weight.weight);
        }
        for (frame, phase) in profile.stacks.own_phases(node) {
            let name = profile.stacks.get(frame).name.as_str();
            let sum = weights.entry((name, phase)).or_default();
            *sum = sum.saturating_add(weight.weight);
        }
    }
    let mut heaviest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for ((name, phase), weight) in weights {
        let best = heaviest.entry(name).or_insert((weight, phase));
        if weight > best.0 {
            *best = (weight, phase);
        }
    }
    let owned = heaviest.into_iter();
    owned
        .filter(|(name, (weight, _))| *weight >= all[name] / 2)
        .map(|(name, (_, phase))| (name.to_owned(), phase.to_owned()))
        .collect()
}

/// Draws the flame graph. The subtitle is the line of trust.
pub fn draw(profile: &Profile, out: impl Write) -> Result<(), DrawError> {
    let mut phases = colours(profile);
    for root in [Root::EmptyPolling, Root::EmptyPollingEstimated] {
        phases.insert(root.name().to_owned(), "poll".to_owned());
    }
    let picture = Picture {
        title: headline(profile),
        subtitle: profile.trust.line(),
        unit: if profile.is_time() {
            "ms".to_owned()
        } else {
            profile.event.clone()
        },
        factor: if profile.is_time() { 1e-6 } else { 1.0 },
        phases,
    };
    flamegraphs::draw(&tree(profile), &picture, out)
}
