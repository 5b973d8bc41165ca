//! Whose cycles each stack's are, and why: packs chosen by what is in a recording, then asked frame by frame.
//!
//! In: every distinct stack with its weight, and [`Packs`]; out: a [`Verdict`] for each stack. The order of decisions:
//! a caller that decides for all below it, the innermost function, the nearest caller of which a rule speaks. Code
//! without a name is its module's. It refuses to know threads and states.

use super::estimate::{Estimate, Method, Share, Weighed};
use super::packs::{Asked, Packs, Rules};
use super::phases;
use super::profile::{Profile, Root};
use super::stacks::{Frame, NodeId, Stacks};
use std::collections::BTreeMap;

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// A caller decides for all below it.
    Override,
    /// The innermost function.
    Leaf,
    /// The nearest caller that a rule speaks about.
    Caller,
    /// No rule speaks about any frame.
    Nothing,
}

/// The phase of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The phase.
    pub phase: &'static str,
    /// What decided.
    pub by: By,
    /// Whether the innermost named function is one that is sampled when nothing is to be done.
    pub polls: bool,
    /// Whether every round spends the same there.
    pub steady: bool,
}

impl Verdict {
    /// No rule spoke.
    pub const NONE: Verdict = Verdict {
        phase: phases::UNKNOWN,
        by: By::Nothing,
        polls: false,
        steady: false,
    };
}

/// Packs are recognised from this share of the weight on; less may be a neighbour's.
const RECOGNISED: f64 = 0.001;

/// Chooses packs for a profile, and decides with them about its stacks, threads and states.
pub fn classify(profile: &mut Profile, packs: &Packs) {
    // Foreign threads must not choose packs; who is foreign only base packs say.
    let base = packs.rules(&[]);
    for thread in &mut profile.threads {
        thread.foreign = base.is_foreign(&thread.name);
    }
    let threads = &profile.threads;
    let own = profile
        .weights
        .iter()
        .filter(|((t, _, _), _)| !threads[*t].foreign);
    let rules = choose(
        packs,
        &profile.stacks,
        own.map(|((_, _, node), w)| (*node, w.weight)),
    );
    profile.stacks.decide(verdicts(&rules, &profile.stacks));
    profile.packs.clone_from(&rules.packs);
    profile.architecture = architecture(profile, &rules);
    give_roles(profile, &rules);
    estimate_states(profile);
}

/// The published stack that the one recorded works like: itself if its pack comes first, or the one whose functions were
/// sampled most.
fn architecture(profile: &Profile, rules: &Rules) -> String {
    let mut best = (0, None);
    for architecture in &rules.architectures {
        let shows = |f: &Frame| architecture.symbols.iter().any(|g| fits_frame(g, f));
        let seen = profile.stacks.nodes_with(shows);
        let own = (profile.weights.iter()).filter(|((_, _, node), _)| seen[*node as usize]);
        let weight: u64 = own.map(|(_, w)| w.weight).sum();
        if weight > best.0 {
            best = (weight, Some(&architecture.name));
        }
    }
    let first = rules.packs.first();
    let of_first = first.filter(|first| !rules.has_architectures(first));
    of_first.or(best.1).or(first).cloned().unwrap_or_default()
}

/// Every thread's role: the first that its name and its stacks fit.
fn give_roles(profile: &mut Profile, rules: &Rules) {
    let mut open: Vec<usize> = Vec::new();
    for (at, thread) in profile.threads.iter_mut().enumerate() {
        if thread.foreign {
            "foreign".clone_into(&mut thread.role);
        } else {
            open.push(at);
        }
    }
    for role in &rules.roles {
        let below = profile
            .stacks
            .nodes_with(|f| role.below.iter().any(|g| fits_frame(g, f)));
        let mut has = vec![role.below.is_empty(); profile.threads.len()];
        for &(thread, _, node) in profile.weights.keys() {
            has[thread] |= below[node as usize];
        }
        open.retain(|&at| {
            let thread = &mut profile.threads[at];
            let named =
                role.threads.is_empty() || role.threads.iter().any(|g| g.fits(&thread.name));
            if named && has[at] {
                thread.role.clone_from(&role.name);
            }
            !(named && has[at])
        });
    }
}

/// Threads without probes that were sampled in poll symbols get their states from them.
pub(super) fn estimate_states(profile: &mut Profile) {
    let mut sums: BTreeMap<usize, (Weighed, f64)> = BTreeMap::new();
    for (&(thread, root, node), weight) in &profile.weights {
        if root == Root::NoProbes && !profile.threads[thread].foreign {
            let (all, polls) = sums.entry(thread).or_default();
            all.add_squares(weight.weight as f64, weight.squares);
            let verdict = profile.stacks.verdict(node);
            if verdict.polls && verdict.phase != "idle" {
                *polls += weight.weight as f64;
            }
        }
    }
    for (thread, (all, polls)) in sums {
        if polls > 0.0 {
            profile.threads[thread].estimate = Some(Estimate {
                empty: Share::sampled(polls, all.sum, all.effective()),
                method: Method::PollSymbols,
            });
        }
    }
    let (threads, stacks) = (&profile.threads, &profile.stacks);
    let state = |thread: usize, root, node| {
        let estimated = root == Root::NoProbes && threads[thread].estimate.is_some();
        match (estimated, stacks.verdict(node).polls) {
            (false, _) => root,
            (true, true) => Root::EmptyPollingEstimated,
            (true, false) => Root::UsefulEstimated,
        }
    };
    for (cell, _) in &mut profile.cells {
        cell.root = state(cell.thread, cell.root, cell.node);
    }
    let states = std::mem::take(&mut profile.weights).into_iter();
    let states =
        states.map(|((thread, root, node), w)| ((thread, state(thread, root, node), node), w));
    profile.weights = states.collect();
}

/// The rules of the packs that fit: `weights` are the stacks of threads that are not foreign.
pub fn choose(
    packs: &Packs,
    stacks: &Stacks,
    weights: impl Iterator<Item = (NodeId, u64)>,
) -> Rules {
    let mut of_node = vec![0u64; stacks.node_count()];
    let mut all = 0u64;
    for (node, weight) in weights {
        of_node[node as usize] += weight;
        all += weight;
    }
    let mut scores: Vec<(u64, usize)> = Vec::new();
    for (place, pack) in packs.all().iter().enumerate() {
        if packs.is_named(place) {
            continue;
        }
        let shows = |frame: &Frame| {
            let name = frame.plain();
            let bare = name.trim_start_matches('<');
            pack.symbols.iter().any(|g| g.fits(name) || g.fits(bare))
        };
        let seen = stacks.nodes_with(shows);
        let score = of_node
            .iter()
            .zip(&seen)
            .filter(|(_, s)| **s)
            .map(|(w, _)| w);
        let score: u64 = score.sum();
        if score > 0 && score as f64 >= RECOGNISED * all as f64 {
            scores.push((score, place));
        }
    }
    scores.sort_by_key(|&(score, place)| (std::cmp::Reverse(score), place));
    let recognised: Vec<_> = scores.into_iter().map(|s| s.1).collect();
    packs.rules(&recognised)
}

/// The verdict on every stack, by its number.
pub fn verdicts(rules: &Rules, stacks: &Stacks) -> Vec<Verdict> {
    let hits: Vec<_> = stacks
        .frames()
        .iter()
        .map(|f| rules.of_function(asked(f)))
        .collect();
    let overrides = overrides(rules, stacks);
    let mut verdicts = vec![Verdict::NONE; stacks.node_count()];
    for node in 1..stacks.node_count() {
        let (parent, frame) = stacks.parts(node as NodeId);
        let above = verdicts[parent as usize];
        let unnamed = stacks.get(frame).is_unnamed();
        verdicts[node] = match (overrides[node], hits[frame as usize]) {
            (Some(rule), _) => Verdict {
                phase: rules.callers[rule].phase,
                by: By::Override,
                polls: false,
                steady: false,
            },
            (None, Some(hit)) => Verdict {
                phase: hit.phase,
                by: By::Leaf,
                polls: hit.polls,
                steady: hit.steady,
            },
            (None, None) => Verdict {
                by: if above.by == By::Nothing {
                    By::Nothing
                } else {
                    By::Caller
                },
                // A function that no rule knows may do anything; one without a name is taken for its caller's part.
                polls: above.polls && unnamed,
                steady: above.steady && unnamed,
                ..above
            },
        };
    }
    verdicts
}

fn asked(frame: &Frame) -> Asked<'_> {
    let name = match &frame.why {
        Some(_) => frame.module_in_brackets.as_str(),
        None => frame.name.as_str(),
    };
    Asked::named(name, frame.kernel)
}

/// The caller's rule that decides for each stack, if one does.
fn overrides(rules: &Rules, stacks: &Stacks) -> Vec<Option<usize>> {
    let fits: Vec<Vec<Vec<bool>>> = (rules.callers.iter())
        .map(|caller| {
            let chain = caller.chain.iter();
            chain
                .map(|glob| stacks.frames_that(|f| fits_frame(glob, f)))
                .collect()
        })
        .collect();
    let off: Vec<Vec<bool>> = (rules.callers.iter())
        .map(|c| stacks.frames_that(|f| c.unless_below.iter().any(|g| fits_frame(g, f))))
        .collect();
    let mut disabled = vec![false; rules.callers.len()];
    loop {
        let mut of_node = vec![None; stacks.node_count()];
        let mut again = false;
        for node in 1..stacks.node_count() {
            let (parent, frame) = stacks.parts(node as NodeId);
            let begins = || {
                (0..rules.callers.len())
                    .find(|&r| !disabled[r] && ends_chain(stacks, node as NodeId, &fits[r]))
            };
            let rule = of_node[parent as usize].or_else(begins);
            if let Some(rule) = rule
                && off[rule][frame as usize]
            {
                disabled[rule] = true;
                again = true;
            }
            of_node[node] = rule;
        }
        if !again {
            return of_node;
        }
    }
}

fn fits_frame(glob: &super::packs::glob::Glob, frame: &Frame) -> bool {
    glob.fits(frame.plain())
}

/// Whether a chain of callers ends at a stack's innermost frame; frames without a name in between do not count.
fn ends_chain(stacks: &Stacks, node: NodeId, chain: &[Vec<bool>]) -> bool {
    let mut frames = stacks.innermost_first(node);
    let Some((last, before)) = chain.split_last() else {
        return false;
    };
    let Some(leaf) = frames.next() else {
        return false;
    };
    if !last[leaf as usize] {
        return false;
    }
    let mut named = frames.filter(|&f| !stacks.get(f).is_unnamed());
    before
        .iter()
        .rev()
        .all(|link| named.next().is_some_and(|f| link[f as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::packs::Pack;

    fn stacks(lines: &[&str]) -> (Stacks, Vec<NodeId>) {
        let mut stacks = Stacks::default();
        let nodes = lines
            .iter()
            .map(|l| stacks.add_named(l.split(';')))
            .collect();
        (stacks, nodes)
    }

    fn rules(text: &str) -> Rules {
        let head = "name = \"x\"\nabout = \"\"\n";
        Rules::of(&[&Pack::parse("x.toml", &format!("{head}{text}")).unwrap()])
    }

    const RULES: &str = r#"
symbols = ["loop"]
caller = [{ phase = "ack_only", chain = ["segment", "output"], unless_below = ["data_copy"] }]
rule = [
  { phase = "poll", polls = true, symbols = ["loop"] },
  { phase = "tcp_tx", symbols = ["output"] },
  { phase = "tcp_rx", symbols = ["segment"] },
  { phase = "copy", symbols = ["memcpy", "data_copy"] },
]
"#;

    /// The innermost function decides, else the nearest caller; only what has no name inherits polling.
    #[test]
    fn leaf_then_caller() {
        let (stacks, nodes) = stacks(&[
            "loop",
            "loop;[lib.so]",
            "loop;helper",
            "loop;segment;helper;memcpy",
            "main;x",
        ]);
        let verdicts = verdicts(&rules(RULES), &stacks);
        let of = |n: usize| {
            let v = verdicts[nodes[n] as usize];
            (v.phase, v.by, v.polls)
        };
        assert_eq!(of(0), ("poll", By::Leaf, true));
        assert_eq!(of(1), ("poll", By::Caller, true));
        assert_eq!(of(2), ("poll", By::Caller, false));
        assert_eq!(of(3), ("copy", By::Leaf, false));
        assert_eq!(of(4), ("unknown", By::Nothing, false));
    }

    /// A chain decides for all below it, unless something below shows that it means something else.
    #[test]
    fn callers_override() {
        let acks = [
            "loop;segment;output",
            "loop;segment;[x];output;memcpy",
            "loop;send;output",
            "loop;segment;y;output",
        ];
        let (small, nodes) = stacks(&acks);
        let rules = rules(RULES);
        let verdicts_small = verdicts(&rules, &small);
        let phase = |n: usize| verdicts_small[nodes[n] as usize].phase;
        assert_eq!([phase(0), phase(1)], ["ack_only"; 2]);
        assert_eq!([phase(2), phase(3)], ["tcp_tx"; 2]);
        let (bulk, nodes) = stacks(&["loop;segment;output", "loop;segment;output;data_copy"]);
        let verdicts = verdicts(&rules, &bulk);
        assert_eq!(verdicts[nodes[0] as usize].phase, "tcp_tx");
        assert_eq!(verdicts[nodes[1] as usize].phase, "copy");
    }
}
