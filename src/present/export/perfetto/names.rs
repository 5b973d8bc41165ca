//! Names and stacks of a trace, each written once: packets that come later carry their numbers.
//!
//! In: stacks by their numbers in the profile; out: what a viewer does not know of them yet. It refuses to know packets'
//! order.

use super::packets::{CallStack, Frame, Interned, InternedText, Mapping};
use crate::analyse::Profile;
use crate::analyse::stacks::NodeId;
use std::collections::{HashMap, HashSet};

/// What was written already.
#[derive(Default)]
pub struct Names {
    frames: HashSet<u32>,
    mappings: HashMap<String, u64>,
    stacks: HashSet<NodeId>,
}

impl Names {
    /// What has to be known of a stack and was not written yet.
    pub fn interned(&mut self, node: NodeId, profile: &Profile) -> Option<Interned> {
        if !self.stacks.insert(node) {
            return None;
        }
        let mut interned = Interned::default();
        let mut frames: Vec<_> = profile.stacks.innermost_first(node).collect();
        frames.reverse();
        for &frame in &frames {
            if !self.frames.insert(frame) {
                continue;
            }
            let iid = u64::from(frame) + 1;
            let frame = profile.stacks.get(frame);
            let next = self.mappings.len() as u64 + 1;
            let mapping = *self.mappings.entry(frame.module.clone()).or_insert(next);
            if mapping == next {
                interned
                    .paths
                    .push(InternedText::of(mapping, &frame.module));
                interned.mappings.push(Mapping {
                    iid: mapping,
                    path: vec![mapping],
                });
            }
            interned.functions.push(InternedText::of(iid, &frame.name));
            interned.frames.push(Frame {
                iid,
                function: iid,
                mapping,
            });
        }
        interned.stacks.push(CallStack {
            iid: u64::from(node) + 1,
            frames: frames.iter().map(|&f| u64::from(f) + 1).collect(),
        });
        Some(interned)
    }
}
