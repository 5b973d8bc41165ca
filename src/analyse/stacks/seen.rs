//! Samples into nodes: what was seen before is found again, the rest is looked up once.
//!
//! In: samples and the [`Names`] of their addresses; out: the node of each. Programs are sampled in the same stacks over and
//! over, stacks that differ share their outer part, and processes that differ run the same files: each is asked for before
//! anything is named. It refuses to know weights.

use super::frame::Frame;
use super::{FrameId, MOST_KNOWN, Map, NodeId, Stacks};
use crate::resolve::{AddressKind, Epoch, Names, Place};
use crate::trace::record::{AddressNames, Mapping, Sample, StackEnd};
use std::rc::Rc;

type AddressKey = (u32, usize, u64, AddressKind);
/// Where names and the name of their module lie, and whether they are the kernel's.
type PlaceKey = (*const AddressNames, *const u8, bool);

/// What tells a stack apart besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Where {
    pid: u32,
    /// Changes of what was mapped, of the process and of the kernel.
    changes: (usize, usize),
    kernel_frames: u16,
    end: StackEnd,
}

/// An address of a stack, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    address: u64,
    kind: AddressKind,
    kernel: bool,
}

/// The last stack that was walked: where, and the node that each step led to.
#[derive(Clone, Debug, Default)]
struct Path {
    place: Option<Where>,
    steps: Vec<(Step, NodeId)>,
}

/// What was seen of a recording's stacks.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    at_address: Map<AddressKey, Rc<[FrameId]>>,
    /// By what is at an address: many processes have the same. It is held, so that nothing else gets its place.
    at_place: Map<PlaceKey, (Place, Rc<[FrameId]>)>,
    /// By [`Sample::stack_number`] and what tells it apart besides.
    known: Map<(u64, Where), NodeId>,
    path: Path,
    /// The epochs of the last sample, of its process and of the kernel.
    epochs: Option<(Epoch, Epoch)>,
}

impl Stacks {
    /// The node of a sample's stack. A stack whose outer part is missing begins with a frame that says so.
    pub fn add(&mut self, sample: &Sample, names: &mut Names) -> NodeId {
        let place = Where {
            pid: sample.pid,
            changes: self.changes(sample, names),
            kernel_frames: sample.kernel_frames,
            end: sample.stack,
        };
        let key = (sample.stack_number, place);
        if let Some(&node) = self.seen.known.get(&key) {
            return node;
        }
        let node = self.walk(sample, names, place);
        if sample.stack_number > 0 {
            if self.seen.known.len() >= MOST_KNOWN {
                self.seen.known.clear();
            }
            self.seen.known.insert(key, node);
        }
        node
    }

    /// How often what is mapped in a sample's process, and in the kernel, had changed before it.
    fn changes(&mut self, sample: &Sample, names: &Names) -> (usize, usize) {
        let (pid, time) = (sample.pid, sample.time);
        let epochs = match self.seen.epochs {
            Some(epochs) if epochs.0.holds(pid, time) && epochs.1.holds(Mapping::KERNEL, time) => {
                epochs
            }
            _ => (names.epoch(pid, time), names.epoch(Mapping::KERNEL, time)),
        };
        self.seen.epochs = Some(epochs);
        (epochs.0.number, epochs.1.number)
    }

    /// The same, with the stack's addresses and what is at each, innermost first.
    pub fn add_with(
        &mut self,
        sample: &Sample,
        names: &mut Names,
    ) -> (NodeId, Vec<(u64, FrameId)>) {
        let (mut node, mut addresses) = (0, Vec::new());
        for mark in marks(sample) {
            node = self.child(node, mark);
            addresses.push((0, self.parts(node).1));
        }
        for step in steps(sample) {
            for &frame in &*self.frames_of_step(step, sample, names) {
                addresses.push((step.address, frame));
                node = self.node(node, frame);
            }
        }
        addresses.reverse();
        (node, addresses)
    }

    /// The node of a stack that is not known. What it shares with the last one is not looked up again.
    fn walk(&mut self, sample: &Sample, names: &mut Names, place: Where) -> NodeId {
        let mut path = std::mem::take(&mut self.seen.path);
        // How many of the frames are the kernel's each step says itself.
        let place = Where {
            kernel_frames: 0,
            ..place
        };
        if path.place != Some(place) {
            path.place = Some(place);
            path.steps.clear();
        }
        let steps = steps(sample);
        let pairs = steps.clone().zip(&path.steps);
        let shared = pairs.take_while(|(step, last)| *step == last.0).count();
        path.steps.truncate(shared);
        let mut node = match path.steps.last() {
            Some(last) => last.1,
            None => {
                let marks = marks(sample);
                marks.fold(0, |node, mark| self.child(node, mark))
            }
        };
        for step in steps.skip(shared) {
            for &frame in &*self.frames_of_step(step, sample, names) {
                node = self.node(node, frame);
            }
            path.steps.push((step, node));
        }
        self.seen.path = path;
        node
    }

    /// The frames at a step's address, outermost first.
    fn frames_of_step(&mut self, step: Step, sample: &Sample, names: &mut Names) -> Rc<[FrameId]> {
        let (changes, kernel_changes) = self.changes(sample, names);
        let Step {
            address,
            kind,
            kernel,
        } = step;
        let key = if kernel {
            (Mapping::KERNEL, kernel_changes, address, kind)
        } else {
            (sample.pid, changes, address, kind)
        };
        if let Some(frames) = self.seen.at_address.get(&key) {
            return Rc::clone(frames);
        }
        let place = names.look_up(sample.pid, sample.time, address, kind, kernel);
        let frames = self.frames_at(place, kernel);
        self.seen.at_address.insert(key, Rc::clone(&frames));
        frames
    }

    /// The frames at one address, outermost first.
    fn frames_at(&mut self, place: Place, kernel: bool) -> Rc<[FrameId]> {
        let names = Rc::as_ptr(&place.names);
        let key = (names, Rc::as_ptr(&place.module).cast(), kernel);
        if let Some((_, frames)) = self.seen.at_place.get(&key) {
            return Rc::clone(frames);
        }
        let frames = self.frames_of(&place, kernel);
        self.seen.at_place.insert(key, (place, Rc::clone(&frames)));
        frames
    }

    fn frames_of(&mut self, place: &Place, kernel: bool) -> Rc<[FrameId]> {
        let names = &place.names;
        if names.frames.is_empty() {
            return Rc::from([self.frame(Frame::unnamed(place, kernel))]);
        }
        let outermost_first = names.frames.iter().rev();
        let frames = outermost_first.map(|named| self.frame(Frame::named(named, place, kernel)));
        frames.collect()
    }
}

/// Frames that say what is wrong with a stack, outermost of all.
fn marks(sample: &Sample) -> impl Iterator<Item = &'static str> {
    let mark = match sample.stack {
        StackEnd::Whole | StackEnd::KernelOnly => None,
        StackEnd::Truncated => Some("[stack truncated]"),
        StackEnd::Broken => Some("[stack broken]"),
    };
    let none = sample.frames.is_empty().then_some("[no stack]");
    [mark, none].into_iter().flatten()
}

/// A stack's addresses, outermost first.
fn steps(sample: &Sample) -> impl Iterator<Item = Step> + Clone {
    let kernel_frames = usize::from(sample.kernel_frames).min(sample.frames.len());
    let innermost_first = sample.frames.iter().enumerate();
    innermost_first.rev().map(move |(at, &address)| Step {
        address,
        kind: AddressKind::of_frame(at, kernel_frames),
        kernel: at < kernel_frames,
    })
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
                stack_number: 1,
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
