//! The functions that an interval's samples were in.
//!
//! In: samples with what their threads were doing, names of addresses; out: a row for each function, the most first. It
//! refuses to know threads.

use super::super::profile::Root;
use super::super::stacks::{FrameId, Stacks};
use crate::resolve::Names;
use crate::trace::record::{Sample, StackEnd};
use std::collections::{BTreeMap, BTreeSet};

/// A sample and what its thread was doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Work, empty polling, or what is not known.
    pub root: Root,
    /// The sample.
    pub sample: Sample,
}

/// A function's shares of the weight of all samples.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionView {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub module: String,
    /// Samples in itself.
    pub self_share: f64,
    /// Samples in itself or what it called.
    pub total_share: f64,
    /// Samples in itself while its thread worked.
    pub useful_share: f64,
    /// Samples in itself while its thread polled for nothing.
    pub empty_poll_share: f64,
}

/// Functions, and what could not be told of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Functions {
    /// By the weight of samples in themselves.
    pub rows: Vec<FunctionView>,
    /// Share of weight whose stacks lack their outer part.
    pub truncated_share: f64,
    /// Share of weight whose innermost frame belongs to no known function.
    pub unknown_share: f64,
    /// Share of weight whose innermost function has no symbol.
    pub without_symbol_share: f64,
}

#[derive(Default)]
struct Sums {
    own: u64,
    total: u64,
    useful: u64,
    empty: u64,
}

/// The functions of samples.
pub fn of(samples: &[Placed], names: &mut Names) -> Functions {
    let mut stacks = Stacks::default();
    let mut sums: BTreeMap<FrameId, Sums> = BTreeMap::new();
    let (mut all, mut truncated, mut unknown, mut without_symbol) = (0, 0, 0, 0);
    for Placed { root, sample } in samples {
        let node = stacks.add(sample, names);
        let weight = sample.period.max(1);
        all += weight;
        if matches!(sample.stack, StackEnd::Truncated | StackEnd::Broken) {
            truncated += weight;
        }
        let frames: Vec<FrameId> = stacks.innermost_first(node).collect();
        let leaf = frames.first().copied();
        if leaf.is_none_or(|f| stacks.get(f).is_unknown()) {
            unknown += weight;
        }
        if leaf.is_some_and(|f| stacks.get(f).made) {
            without_symbol += weight;
        }
        if let Some(leaf) = leaf {
            let sum = sums.entry(leaf).or_default();
            sum.own += weight;
            match root {
                Root::Useful => sum.useful += weight,
                Root::EmptyPolling => sum.empty += weight,
                _ => {}
            }
        }
        // A function that calls itself is in the stack once.
        let once: BTreeSet<FrameId> = frames.into_iter().collect();
        for frame in once {
            sums.entry(frame).or_default().total += weight;
        }
    }
    let share = |weight: u64| weight as f64 / all.max(1) as f64;
    let row = |(id, sum): (FrameId, Sums)| {
        let frame = stacks.get(id);
        FunctionView {
            name: frame.name.clone(),
            module: frame.module.clone(),
            self_share: share(sum.own),
            total_share: share(sum.total),
            useful_share: share(sum.useful),
            empty_poll_share: share(sum.empty),
        }
    };
    let mut rows: Vec<FunctionView> = sums.into_iter().map(row).collect();
    rows.sort_by(|a, b| {
        let by_share = b.self_share.total_cmp(&a.self_share);
        by_share.then(b.total_share.total_cmp(&a.total_share))
    });
    Functions {
        rows,
        truncated_share: share(truncated),
        unknown_share: share(unknown),
        without_symbol_share: share(without_symbol),
    }
}
