//! The call tree: every distinct stack once, as a path of functions from the outermost in.
//!
//! In: samples and the [`Names`] of their addresses; out: a node for each stack. A function is the same wherever it was
//! inlined; an address of no known function is a frame of its own with the reason. It refuses to know weights.

use super::classify::{By, Verdict};
use crate::resolve::{AddressKind, Names};
use crate::trace::folded::FOLDED;
use crate::trace::record::{Mapping, Sample, StackEnd};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::rc::Rc;

/// A function or an address without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its name; module and function or position where there is none.
    pub name: String,
    /// The module it lies in.
    pub module: String,
    /// Source file and line first seen; empty if not known.
    pub file: String,
    /// The line.
    pub line: u32,
    /// Whether it is the kernel's; `None` where that was not recorded.
    pub kernel: Option<bool>,
    /// Its module as rules name it: `[libc.so.6]`.
    pub module_in_brackets: String,
    /// Why it has no name.
    pub why: Option<String>,
    /// Whether it is a function that is known by where it begins, and its name made of that.
    pub made: bool,
}

impl Frame {
    /// Whether nothing tells which function it is.
    pub fn is_unknown(&self) -> bool {
        self.is_unnamed() && !self.made
    }

    /// Whether it has no name of its own: `[libc.so.6]`, `[unknown]`.
    pub fn is_unnamed(&self) -> bool {
        self.why.is_some() || (self.name.starts_with('[') && self.name.ends_with(']'))
    }
}

/// Number of a [`Frame`].
pub type FrameId = u32;
/// Number of a stack; 0 is the empty one.
pub type NodeId = u32;

type AddressKey = (u32, usize, u64, AddressKind);

/// Stacks that are remembered whole, at most: thousands are usual. Beyond this it begins anew.
const MOST_KNOWN: usize = 1 << 15;

/// What tells a stack apart besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Where {
    pid: u32,
    /// Changes of what was mapped, of the process and of the kernel.
    changes: (usize, usize),
    kernel_frames: u16,
    end: StackEnd,
}

/// A stack as it was recorded: the same one again is the same node.
#[derive(Clone, Debug)]
struct Known {
    place: Where,
    addresses: Box<[u64]>,
    node: NodeId,
}

/// All distinct stacks of a recording.
#[derive(Clone, Debug)]
pub struct Stacks {
    frames: Vec<Frame>,
    frame_ids: HashMap<(String, String), FrameId>,
    nodes: Vec<(NodeId, FrameId)>,
    node_ids: HashMap<(NodeId, FrameId), NodeId>,
    at_address: HashMap<AddressKey, Rc<[FrameId]>>,
    /// By a hash of all that tells it apart, with a secret of this process.
    known: HashMap<u64, Known, RandomState>,
    /// By node, once they are known.
    verdicts: Vec<Verdict>,
}

impl Default for Stacks {
    fn default() -> Stacks {
        Stacks {
            frames: Vec::new(),
            frame_ids: HashMap::new(),
            nodes: vec![(0, FrameId::MAX)],
            node_ids: HashMap::new(),
            at_address: HashMap::new(),
            known: HashMap::default(),
            verdicts: Vec::new(),
        }
    }
}

impl Stacks {
    /// The node of a sample's stack. A stack whose outer part is missing begins with a frame that says so.
    pub fn add(&mut self, sample: &Sample, names: &mut Names) -> NodeId {
        let changes = |space| names.changes(space, sample.time);
        let place = Where {
            pid: sample.pid,
            changes: (changes(sample.pid), changes(Mapping::KERNEL)),
            kernel_frames: sample.kernel_frames,
            end: sample.stack,
        };
        let hash = self.known.hasher().hash_one((place, &sample.frames));
        if let Some(known) = self.known.get(&hash)
            && (known.place, &*known.addresses) == (place, &*sample.frames)
        {
            return known.node;
        }
        let node = self.walk(sample, names, &mut |_, _| ());
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let known = Known {
            place,
            addresses: sample.frames.as_slice().into(),
            node,
        };
        self.known.insert(hash, known);
        node
    }

    /// The same, with the stack's addresses and what is at each, innermost first.
    pub fn add_with(
        &mut self,
        sample: &Sample,
        names: &mut Names,
    ) -> (NodeId, Vec<(u64, FrameId)>) {
        let mut addresses = Vec::new();
        let node = self.walk(sample, names, &mut |address, frame| {
            addresses.push((address, frame));
        });
        addresses.reverse();
        (node, addresses)
    }

    fn walk(
        &mut self,
        sample: &Sample,
        names: &mut Names,
        each: &mut impl FnMut(u64, FrameId),
    ) -> NodeId {
        let mut node = 0;
        let mark = match sample.stack {
            StackEnd::Whole | StackEnd::KernelOnly => None,
            StackEnd::Truncated => Some("[stack truncated]"),
            StackEnd::Broken => Some("[stack broken]"),
        };
        let none = sample.frames.is_empty().then_some("[no stack]");
        for mark in [mark, none].into_iter().flatten() {
            node = self.child(node, mark);
            each(0, self.parts(node).1);
        }
        let kernel_frames = usize::from(sample.kernel_frames).min(sample.frames.len());
        let changes = |space| names.changes(space, sample.time);
        let (changes, kernel_changes) = (changes(sample.pid), changes(Mapping::KERNEL));
        for (at, &address) in sample.frames.iter().enumerate().rev() {
            let kernel = at < kernel_frames;
            let kind = AddressKind::of_frame(at, kernel_frames);
            let key = if kernel {
                (Mapping::KERNEL, kernel_changes, address, kind)
            } else {
                (sample.pid, changes, address, kind)
            };
            let frames = match self.at_address.get(&key) {
                Some(frames) => Rc::clone(frames),
                None => {
                    let place = names.look_up(sample.pid, sample.time, address, kind, kernel);
                    let frames = self.frames_of(&place, kernel);
                    self.at_address.insert(key, Rc::clone(&frames));
                    frames
                }
            };
            for &frame in &*frames {
                each(address, frame);
                node = self.node(node, frame);
            }
        }
        node
    }

    /// The frames at one address, outermost first.
    fn frames_of(&mut self, place: &crate::resolve::Place, kernel: bool) -> Rc<[FrameId]> {
        let names = &place.names;
        if names.frames.is_empty() || place.is_made() {
            let why = names
                .why
                .clone()
                .unwrap_or_else(|| "no name was found".into());
            let frame = Frame {
                name: place.anonymous(),
                module: place.module.to_string(),
                module_in_brackets: in_brackets(&place.module),
                file: String::new(),
                line: 0,
                kernel: Some(kernel),
                why: Some(why),
                made: place.is_made(),
            };
            return Rc::from([self.frame(frame)]);
        }
        let outermost_first = names.frames.iter().rev();
        let frames = outermost_first.map(|named| {
            self.frame(Frame {
                kernel: (*place.module != *FOLDED).then_some(kernel),
                name: named.name.clone(),
                module: place.module.to_string(),
                module_in_brackets: in_brackets(&place.module),
                file: named.file.clone(),
                line: named.line,
                why: None,
                made: false,
            })
        });
        frames.collect()
    }

    fn frame(&mut self, frame: Frame) -> FrameId {
        let key = (frame.name.clone(), frame.module.clone());
        *self.frame_ids.entry(key).or_insert_with(|| {
            self.frames.push(frame);
            self.frames.len() as FrameId - 1
        })
    }

    fn child(&mut self, node: NodeId, name: &str) -> NodeId {
        let frame = self.frame(Frame {
            name: name.to_owned(),
            module: "[unknown]".into(),
            module_in_brackets: "[unknown]".into(),
            file: String::new(),
            line: 0,
            kernel: None,
            why: Some(name.trim_matches(['[', ']']).to_owned()),
            made: false,
        });
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

    /// The frames of a stack that decided about a phase themselves, innermost first.
    pub fn own_phases(&self, node: NodeId) -> impl Iterator<Item = (FrameId, &'static str)> + '_ {
        let mut node = node;
        std::iter::from_fn(move || {
            while node != 0 {
                let (parent, frame) = self.parts(node);
                let verdict = self.verdict(node);
                node = parent;
                if matches!(verdict.by, By::Leaf | By::Override) {
                    return Some((frame, verdict.phase));
                }
            }
            None
        })
    }

    /// A stack of functions by name, outermost first: what tests are made of.
    #[cfg(test)]
    pub fn add_named<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> NodeId {
        names.into_iter().fold(0, |node, name| {
            let frame = self.frame(Frame {
                name: name.to_owned(),
                module: String::new(),
                module_in_brackets: String::new(),
                file: String::new(),
                line: 0,
                kernel: None,
                why: None,
                made: false,
            });
            self.node(node, frame)
        })
    }
}

fn in_brackets(module: &str) -> String {
    format!("[{}]", module.trim_matches(['[', ']']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Meta;
    use crate::units::{Avma, Nanos};

    /// The same addresses are the same stack until something else is mapped there, in another process, with another part of them
    /// the kernel's, or with the outer part missing.
    #[test]
    fn same_addresses() {
        let mapping = |pid, time, path: &str| {
            Meta::Mapping(Mapping {
                pid,
                time: Nanos::from_ns(time),
                start: Avma(0x1000),
                len: 0x1000,
                path: path.into(),
                ..Mapping::default()
            })
        };
        let metas = [
            mapping(1, 0, "/gone/one"),
            mapping(1, 10, "/gone/two"),
            mapping(2, 0, "/gone/three"),
            mapping(Mapping::KERNEL, 0, "[kernel]"),
        ];
        let mut names = Names::new(&metas);
        let mut stacks = Stacks::default();
        let mut leaf = |pid, time, kernel_frames, stack| {
            let sample = Sample {
                pid,
                time: Nanos::from_ns(time),
                frames: vec![0x1010, 0x1020],
                kernel_frames,
                stack,
                ..Sample::default()
            };
            let node = stacks.add(&sample, &mut names);
            let module = stacks.get(stacks.parts(node).1).module.clone();
            (node, module)
        };
        let whole = StackEnd::Whole;
        let first = leaf(1, 5, 0, whole);
        assert_eq!(first.1, "one");
        assert_eq!(leaf(1, 6, 0, whole), first);
        assert_eq!(leaf(1, 11, 0, whole).1, "two");
        assert_eq!(leaf(2, 5, 0, whole).1, "three");
        assert_eq!(leaf(1, 5, 1, whole).1, "[kernel]");
        assert_ne!(leaf(1, 5, 0, StackEnd::Truncated).0, first.0);
        assert_eq!(leaf(1, 7, 0, whole), first);
    }
}
