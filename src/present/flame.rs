//! A profile as a flame graph: the thread's state at the root, then the thread, then its functions.

use super::style::printable;
use super::table::headline;
use crate::analyse::compare::{Key, Side, Unit, side::NO_WORK};
use crate::analyse::stacks::NodeId;
use crate::analyse::{Profile, Root, ThreadRow};
use flamegraphs::{Diff, DrawError, Picture, Tree};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// The stacks of a profile, outermost first, below the state and the thread they were sampled in.
pub fn tree(profile: &Profile) -> Tree {
    // Threads of one name are one frame: a stack that many of them have is walked once.
    let names: Vec<String> = profile.threads.iter().map(|t| printable(&t.name)).collect();
    let mut stacks: HashMap<(Root, &str, NodeId), u64, RandomState> = HashMap::default();
    for (&(thread, root, node), weight) in &profile.weights {
        let sum = stacks.entry((root, &names[thread], node)).or_default();
        *sum = sum.saturating_add(weight.weight);
    }
    let mut tree = Tree::new();
    let mut frames = Vec::new();
    for ((root, thread, node), weight) in stacks {
        frames.clear();
        frames.extend(profile.stacks.innermost_first(node));
        let functions = frames.iter().rev();
        let functions = functions.map(|&f| profile.stacks.get(f).name.as_str());
        tree.add([root.name(), thread].into_iter().chain(functions), weight);
    }
    tree
}

/// Each function's phase. One that works for several, as a clock does, has that in which it was sampled most, or none
/// if that was mostly in no phase of its own.
pub(super) fn colours(profile: &Profile) -> BTreeMap<String, String> {
    let mut weights: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    let own = profile.weights.iter();
    let below = profile
        .stacks
        .with_callees(own.map(|(&(_, _, node), w)| (node, w.weight)));
    for (node, &weight) in below.iter().enumerate().skip(1).filter(|(_, w)| **w > 0) {
        let (_, frame) = profile.stacks.parts(node as NodeId);
        let name = profile.stacks.get(frame).name.as_str();
        let sum = all.entry(name).or_default();
        *sum = sum.saturating_add(weight);
        if let Some(phase) = profile.stacks.own_phase(node as NodeId) {
            let sum = weights.entry((name, phase)).or_default();
            *sum = sum.saturating_add(weight);
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
        ..Picture::default()
    };
    flamegraphs::draw(&tree(profile), &picture, out)
}

/// Weights of a difference are whole numbers: so many of them are a nanosecond.
const PARTS: f64 = 1000.0;
/// Or so many of them all of a recording's work.
const ALL: f64 = 1e6;

/// Draws what `after` does for a request beside what `before` does: what both do, what is more, what is less, in the
/// same unit as `compare`; without requests as shares of the work. The subtitle is the line of trust of both.
pub fn draw_difference(before: &Side, after: &Side, out: impl Write) -> Result<(), DrawError> {
    let per_request = before.unit == Unit::PerRequest && after.unit == Unit::PerRequest;
    let tree = |side: &Side| {
        let all = if per_request {
            side.value(Key::Work).value * PARTS
        } else {
            ALL
        };
        work(&side.profile, all)
    };
    let (was, is) = (tree(before), tree(after));
    let total = |tree: &Tree| {
        if per_request {
            format!("{:.0} ns of work a request", tree.total() as f64 / PARTS)
        } else {
            "all work is 100 %".to_owned()
        }
    };
    let trust = after.profile.trust.with(&before.profile.trust);
    let picture = Picture {
        title: format!(
            "{}, {}, beside {}, {}",
            short(after),
            total(&is),
            short(before),
            total(&was)
        ),
        subtitle: trust.line(),
        unit: if per_request { "ns a request" } else { "%" }.to_owned(),
        factor: if per_request {
            1.0 / PARTS
        } else {
            100.0 / ALL
        },
        ..Picture::default()
    };
    let names = ["in both", "more", "less"];
    flamegraphs::draw_parts(&Diff::unscaled(&was, &is), names, &picture, out)
}

/// A recording's name without its folder.
fn short(side: &Side) -> String {
    let name = side.name.rsplit('/').next().unwrap_or_default();
    printable(name)
}

/// Draws what a recording does for a request, in the unit of `compare`. The subtitle is the line of trust.
pub fn draw_per_request(side: &Side, out: impl Write) -> Result<(), DrawError> {
    let all = side.value(Key::Work).value;
    let mut phases = colours(&side.profile);
    for row in &side.profile.threads {
        // Roles and threads carry no colour of a phase, also where a function is called like one.
        phases.remove(thread_of(row).as_str());
    }
    let picture = Picture {
        title: format!("{}: {all:.0} ns of work a request", short(side)),
        subtitle: side.profile.trust.line(),
        unit: "ns a request".to_owned(),
        factor: 1.0 / PARTS,
        // About two pixels.
        narrowest: 0.2,
        phases,
    };
    flamegraphs::draw(&work(&side.profile, all * PARTS), &picture, out)
}

/// The role of a thread, or its name.
fn thread_of(row: &ThreadRow) -> String {
    printable(if row.role.is_empty() {
        &row.name
    } else {
        &row.role
    })
}

/// The stacks in which a profile's work was sampled, below the role or the name of their thread, together `all`.
fn work(profile: &Profile, all: f64) -> Tree {
    let works = |&(thread, root, node): &(usize, Root, u32)| {
        let empty = matches!(root, Root::EmptyPolling | Root::EmptyPollingEstimated);
        !empty && !NO_WORK.contains(&profile.phase(thread, root, node))
    };
    let own = || profile.weights.iter().filter(|(key, _)| works(key));
    let weight: u64 = own().map(|(_, w)| w.weight).sum();
    let scale = all / weight.max(1) as f64;
    let mut tree = Tree::new();
    for (&(thread, _, node), weight) in own() {
        let mut frames: Vec<_> = profile.stacks.innermost_first(node).collect();
        frames.reverse();
        let thread = thread_of(&profile.threads[thread]);
        let functions = frames.iter().map(|&f| profile.stacks.get(f).name.as_str());
        let stack = std::iter::once(thread.as_str()).chain(functions);
        tree.add(stack, (weight.weight as f64 * scale).round() as u64);
    }
    tree
}
