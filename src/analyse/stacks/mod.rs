//! The call tree: every distinct stack once, as a path of functions from the outermost in.
//!
//! In: samples and the [`Names`] of their addresses; out: a node for each stack. A function is the same wherever it was
//! inlined; an address without a name is a frame of its own with the reason. It refuses to know weights.

mod frame;
mod numbers;
mod seen;

use super::classify::{By, Verdict};
use foldhash::fast::RandomState;
pub use frame::Frame;
pub use numbers::StackNumbers;
use seen::Seen;
use std::collections::HashMap;

/// Number of a [`Frame`].
pub type FrameId = u32;

/// Number of a stack; 0 is the empty one.
pub type NodeId = u32;

/// Stacks that are remembered whole, at most: thousands are usual. Beyond this it begins anew.
const MOST_KNOWN: usize = 1 << 16;

/// A map with a secret of this process.
type Map<K, V> = HashMap<K, V, RandomState>;

/// All distinct stacks of a recording.
#[derive(Clone, Debug)]
pub struct Stacks {
    frames: Vec<Frame>,
    frame_ids: Map<(String, String), FrameId>,
    nodes: Vec<(NodeId, FrameId)>,
    node_ids: Map<(NodeId, FrameId), NodeId>,
    seen: Seen,
    /// By node, once they are known.
    verdicts: Vec<Verdict>,
}

impl Default for Stacks {
    fn default() -> Stacks {
        Stacks {
            frames: Vec::new(),
            frame_ids: Map::default(),
            nodes: vec![(0, FrameId::MAX)],
            node_ids: Map::default(),
            seen: Seen::default(),
            verdicts: Vec::new(),
        }
    }
}

impl Stacks {
    fn frame(&mut self, frame: Frame) -> FrameId {
        let key = (frame.name.clone(), frame.module.clone());
        *self.frame_ids.entry(key).or_insert_with(|| {
            self.frames.push(frame);
            self.frames.len() as FrameId - 1
        })
    }

    fn child(&mut self, node: NodeId, name: &str) -> NodeId {
        let frame = self.frame(Frame::mark(name));
        self.node(node, frame)
    }

    fn node(&mut self, parent: NodeId, frame: FrameId) -> NodeId {
        *self.node_ids.entry((parent, frame)).or_insert_with(|| {
            self.nodes.push((parent, frame));
            self.nodes.len() as NodeId - 1
        })
    }

    /// The function or address with a number.
    pub fn get(&self, frame: FrameId) -> &Frame {
        &self.frames[frame as usize]
    }

    /// The frames of a stack, innermost first.
    pub fn innermost_first(&self, node: NodeId) -> impl Iterator<Item = FrameId> + '_ {
        let mut node = node;
        std::iter::from_fn(move || {
            let (parent, frame) = *self.nodes.get(node as usize).filter(|_| node != 0)?;
            node = parent;
            Some(frame)
        })
    }

    /// All functions and addresses.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// How many nodes there are, the empty one included. A node comes after its caller.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A node's caller and its own frame; not for node 0.
    pub fn parts(&self, node: NodeId) -> (NodeId, FrameId) {
        self.nodes[node as usize]
    }

    /// Whether each frame fits.
    pub fn frames_that(&self, fits: impl Fn(&Frame) -> bool) -> Vec<bool> {
        self.frames.iter().map(fits).collect()
    }

    /// Whether each node has a frame that fits.
    pub fn nodes_with(&self, fits: impl Fn(&Frame) -> bool) -> Vec<bool> {
        let frames = self.frames_that(fits);
        let mut nodes = vec![false; self.nodes.len()];
        for (node, &(parent, frame)) in self.nodes.iter().enumerate().skip(1) {
            nodes[node] = nodes[parent as usize] || frames[frame as usize];
        }
        nodes
    }

    /// Keeps what was decided about every node.
    pub fn decide(&mut self, verdicts: Vec<Verdict>) {
        self.verdicts = verdicts;
    }

    /// What was decided about a stack.
    pub fn verdict(&self, node: NodeId) -> Verdict {
        let verdict = self.verdicts.get(node as usize).copied();
        verdict.unwrap_or(Verdict::NONE)
    }

    /// The phase that a stack's innermost frame decided about itself.
    pub fn own_phase(&self, node: NodeId) -> Option<&'static str> {
        let verdict = self.verdict(node);
        matches!(verdict.by, By::Leaf | By::Override).then_some(verdict.phase)
    }

    /// By node, the weight of the stacks that pass or end there.
    pub fn with_callees(&self, own: impl Iterator<Item = (NodeId, u64)>) -> Vec<u64> {
        let mut weights = vec![0u64; self.nodes.len()];
        for (node, weight) in own {
            let sum = &mut weights[node as usize];
            *sum = sum.saturating_add(weight);
        }
        for (node, &(parent, _)) in self.nodes.iter().enumerate().skip(1).rev() {
            let of_node = weights[node];
            let sum = &mut weights[parent as usize];
            *sum = sum.saturating_add(of_node);
        }
        weights
    }

    /// A stack of functions by name, outermost first: what tests are made of.
    #[cfg(test)]
    pub fn add_named<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> NodeId {
        names.into_iter().fold(0, |node, name| {
            let frame = self.frame(Frame::called(name, ""));
            self.node(node, frame)
        })
    }
}
