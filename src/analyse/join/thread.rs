//! One thread in the pass: its streams that wait, and what its samples weigh.
//!
//! In: time up to which all is settled; out: its row, weights by state and stack, and the same for each slice. It refuses
//! to know other threads.

use super::super::grouped::{self, Totals};
use super::super::pollstate::PollState;
use super::super::profile::{Root, ThreadRow, Weight};
use super::super::stacks::NodeId;
use super::super::timeline::{Cpu, Shares, Timeline};
use crate::trace::record::{Pid, Tid};
use crate::units::Nanos;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};

#[derive(Clone)]
pub struct Pending {
    pub node: NodeId,
    pub period: u64,
    pub time: Nanos,
    pub cpu: u32,
    /// `period`, and what the other counters of its group counted since the thread's sample before; empty without any.
    pub counted: Box<[u64]>,
}

pub struct Thread {
    pub name: String,
    pub probes: bool,
    pub seen_running: bool,
    /// Whether the filter lets it pass.
    pub wanted: bool,
    /// Where it was last seen to run.
    pub cpu: Option<u32>,
    pub timeline: Timeline<Pending>,
    /// By CPU.
    pub totals: BTreeMap<u32, Totals>,
    pub sums: Sums,
    /// Weights of each slice that is over.
    pub slices: Vec<Weights>,
}

pub type Weights = HashMap<(Root, NodeId), Weight, RandomState>;
/// By member of the group.
pub type Counts = BTreeMap<(Root, NodeId), Vec<u64>>;
/// By window, CPU, state and stack.
pub type Cells = BTreeMap<(u32, u32, Root, NodeId), Weight>;

/// What a thread's samples add up to.
#[derive(Default)]
pub struct Sums {
    pub weights: Weights,
    /// What was counted, likewise.
    pub counts: Counts,
    /// If they are asked for: the length of a window, and weights in windows.
    pub cells: Option<(Nanos, Cells)>,
}

/// What the rest of the recording takes from a thread.
pub struct Finished {
    pub row: ThreadRow,
    pub sums: Sums,
    pub slices: Vec<(Shares, Weights)>,
}

impl Thread {
    /// A sample at `tsc`: if its state cannot be known it need not wait for one.
    pub fn sample(&mut self, tsc: u64, pending: Pending, waits: bool) {
        if self.probes || waits {
            self.timeline.sample(tsc, pending);
        } else {
            add(&mut self.sums, false, PollState::Unknown, &pending);
        }
    }

    pub fn settle(&mut self, until: u64, edges: &[u64]) {
        let (probes, sums) = (self.probes, &mut self.sums);
        while let Some(&edge) = edges.get(self.slices.len()).filter(|&&e| e <= until) {
            self.timeline.cut(edge, &mut |state, pending| {
                add(sums, probes, state, &pending);
            });
            self.slices.push(std::mem::take(&mut sums.weights));
        }
        self.timeline.sweep(until, &mut |state, pending| {
            add(sums, probes, state, &pending);
        });
    }

    pub fn finish(
        mut self,
        pid: Pid,
        tid: Tid,
        end: u64,
        never_switched: Cpu,
        edges: &[u64],
    ) -> Finished {
        self.settle(end, edges);
        let (probes, mut sums) = (self.probes, self.sums);
        let timeline = self.timeline.ending(end);
        let (shares, of_slices) = timeline.finish_cut(never_switched, &mut |state, pending| {
            add(&mut sums, probes, state, &pending);
        });
        for (key, weight) in self.slices.iter().flatten() {
            sums.weights.entry(*key).or_default().add(weight);
        }
        let row = ThreadRow {
            pid,
            tid,
            name: self.name,
            probes,
            role: String::new(),
            foreign: false,
            estimate: None,
            shares,
            samples: sums.weights.values().map(|w| w.samples).sum(),
        };
        Finished {
            row,
            sums,
            slices: of_slices.into_iter().zip(self.slices).collect(),
        }
    }
}

fn add(sums: &mut Sums, probes: bool, state: PollState, pending: &Pending) {
    let root = match (probes, state) {
        (false, _) => Root::NoProbes,
        (true, PollState::Working) => Root::Useful,
        (true, PollState::EmptyPolling) => Root::EmptyPolling,
        (true, PollState::Unknown) => Root::Unknown,
    };
    let more = Weight {
        samples: 1,
        weight: pending.period,
        squares: pending.period as f64 * pending.period as f64,
    };
    let weight = sums.weights.entry((root, pending.node)).or_default();
    weight.add(&more);
    if !pending.counted.is_empty() {
        let counts = sums.counts.entry((root, pending.node)).or_default();
        grouped::add(counts, &pending.counted);
    }
    if let Some((window, cells)) = &mut sums.cells {
        let window = pending.time.ns() / window.ns().max(1);
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        let cell = cells.entry((window, pending.cpu, root, pending.node));
        cell.or_default().add(&more);
    }
}
