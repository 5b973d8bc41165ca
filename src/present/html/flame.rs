//! The samples of a page: stacks as a tree, and cells that say how much of which stack was sampled when, where, by whom
//! and in which state.
//!
//! In: a profile with cells; out: columns of small numbers. There is an end to both: with more than [`MOST_WINDOWS`]
//! windows two become one, and with more than [`MOST_CELLS`] cells the rarest functions are told as their callers, so
//! that a million samples and a billion need as much room.

use crate::analyse::Profile;
use crate::analyse::profile::{Cell, Weight};
use crate::analyse::stacks::NodeId;
use crate::units::Nanos;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Windows of a page.
const MOST_WINDOWS: u32 = 64;
/// Cells of a page.
const MOST_CELLS: usize = 150_000;
/// Length of a window, as the paper has it.
pub const WINDOW: Nanos = Nanos::from_ns(2_000_000_000);

/// Columns of samples.
#[derive(Default, Serialize)]
pub struct Flame<'a> {
    window_ns: u64,
    windows: u32,
    /// Functions with less than this share of all samples are told as their callers.
    folded: f64,
    frames: Frames<'a>,
    nodes: Nodes,
    cells: Cells,
}

#[derive(Default, Serialize)]
struct Frames<'a> {
    names: Vec<&'a str>,
    module: Vec<usize>,
    modules: Vec<&'a str>,
    /// Place of the phase in the page's list; -1: none.
    phase: Vec<i32>,
    source: Vec<String>,
}

/// A node comes after its caller; the first is the empty stack.
#[derive(Default, Serialize)]
struct Nodes {
    parent: Vec<usize>,
    frame: Vec<usize>,
}

/// Window, thread, CPU, state, node, samples, weight.
#[derive(Default, Serialize)]
struct Cells {
    w: Vec<u32>,
    t: Vec<usize>,
    c: Vec<u32>,
    r: Vec<u8>,
    n: Vec<usize>,
    s: Vec<u64>,
    v: Vec<u64>,
}

type Sums = BTreeMap<Cell, Weight>;

fn add(sums: &mut Sums, cell: Cell, weight: &Weight) {
    sums.entry(cell).or_default().add(weight);
}

/// The columns; `phase` gives a function's place in the page's list of phases.
pub fn of<'a>(profile: &'a Profile, phase: impl Fn(&str) -> i32) -> Flame<'a> {
    let last = profile.cells.iter().map(|(cell, _)| cell.window).max();
    let windows = last.map_or(1, |last| last.saturating_add(1));
    let mut together = 1;
    while windows.div_ceil(together) > MOST_WINDOWS {
        together *= 2;
    }
    let mut sums = Sums::new();
    for (cell, weight) in &profile.cells {
        let window = cell.window / together;
        add(&mut sums, Cell { window, ..*cell }, weight);
    }
    let (sums, folded) = fewer(profile, sums);
    let mut flame = Flame {
        window_ns: WINDOW.ns() * u64::from(together),
        windows: windows.div_ceil(together),
        folded,
        ..Flame::default()
    };
    let mut columns = Columns {
        profile,
        phase,
        nodes: HashMap::from([(0, 0)]),
        frames: HashMap::new(),
        modules: HashMap::new(),
        flame: &mut flame,
    };
    columns.flame.nodes.parent.push(0);
    columns.flame.nodes.frame.push(0);
    for (cell, weight) in sums {
        let node = columns.node(cell.node);
        let cells = &mut columns.flame.cells;
        cells.w.push(cell.window);
        cells.t.push(cell.thread);
        cells.c.push(cell.cpu);
        cells.r.push(cell.root as u8);
        cells.n.push(node);
        cells.s.push(weight.samples);
        cells.v.push(weight.weight);
    }
    flame
}

/// No more cells than a page has room for; and below which share functions went to their callers.
fn fewer(profile: &Profile, mut sums: Sums) -> (Sums, f64) {
    let mut least = 0u64;
    let all: u64 = sums.values().map(|w| w.samples).sum();
    while sums.len() > MOST_CELLS {
        least = (least * 2).max(2);
        let mut totals = vec![0u64; profile.stacks.node_count()];
        for (cell, weight) in &sums {
            totals[cell.node as usize] += weight.samples;
        }
        for node in (1..totals.len()).rev() {
            let (caller, _) = profile.stacks.parts(node as NodeId);
            totals[caller as usize] += totals[node];
        }
        let mut folded = Sums::new();
        for (cell, weight) in &sums {
            let mut node = cell.node;
            while node != 0 && totals[node as usize] < least {
                node = profile.stacks.parts(node).0;
            }
            add(&mut folded, Cell { node, ..*cell }, weight);
        }
        sums = folded;
        if least > all {
            break;
        }
    }
    (sums, least as f64 / all.max(1) as f64)
}

struct Columns<'a, 'f, F> {
    profile: &'a Profile,
    phase: F,
    nodes: HashMap<NodeId, usize>,
    frames: HashMap<u32, usize>,
    modules: HashMap<&'a str, usize>,
    flame: &'f mut Flame<'a>,
}

impl<'a, F: Fn(&str) -> i32> Columns<'a, '_, F> {
    fn node(&mut self, node: NodeId) -> usize {
        let mut missing = Vec::new();
        let mut at = node;
        while !self.nodes.contains_key(&at) {
            missing.push(at);
            at = self.profile.stacks.parts(at).0;
        }
        for node in missing.into_iter().rev() {
            let (caller, frame) = self.profile.stacks.parts(node);
            let (caller, frame) = (self.nodes[&caller], self.frame(frame));
            let nodes = &mut self.flame.nodes;
            self.nodes.insert(node, nodes.parent.len());
            nodes.parent.push(caller);
            nodes.frame.push(frame);
        }
        self.nodes[&node]
    }

    fn frame(&mut self, id: u32) -> usize {
        let frames = &mut self.flame.frames;
        if let Some(&known) = self.frames.get(&id) {
            return known;
        }
        let frame = self.profile.stacks.get(id);
        let module = *self.modules.entry(&frame.module).or_insert_with(|| {
            frames.modules.push(&frame.module);
            frames.modules.len() - 1
        });
        let source = match (frame.file.as_str(), frame.line) {
            ("", _) => String::new(),
            (file, 0) => file.to_owned(),
            (file, line) => format!("{file}:{line}"),
        };
        frames.names.push(&frame.name);
        frames.module.push(module);
        frames.phase.push((self.phase)(&frame.name));
        frames.source.push(source);
        self.frames.insert(id, frames.names.len() - 1);
        frames.names.len() - 1
    }
}
