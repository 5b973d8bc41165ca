//! What one request's threads did in each of its stages.
//!
//! In: its [`Way`], what was [`Sampled`], and the names of stacks; out: for each stage how long its thread was off CPU and
//! in which functions it was sampled. Most stages of most requests hold no sample at all; the slowest hold many.

use super::Sampled;
use crate::analyse::spans::PARTS;
use crate::analyse::spans::way::Way;
use crate::analyse::stacks::Stacks;
use std::collections::BTreeMap;

/// Functions that are named for each stage.
const MOST: usize = 3;

/// A stage of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Its thread's name.
    pub thread: String,
    /// Ticks of it in which the thread was on no CPU.
    pub off_cpu: u64,
    /// Functions that the thread was sampled in, how often, the most first; never more than a few.
    pub functions: Vec<(String, u64)>,
}

/// What there is to say of each of a request's stages, by their places in [`crate::analyse::spans::STAGES`].
pub fn moments(way: &Way, sampled: &Sampled, stacks: &Stacks) -> [Moment; PARTS] {
    let mut moments: [Moment; PARTS] = Default::default();
    for stretch in way.stretches() {
        let Some(thread) = stretch.ring.and_then(|ring| sampled.of_ring(ring)) else {
            continue;
        };
        let mut functions: BTreeMap<&str, u64> = BTreeMap::new();
        for &(_, node, _) in sampled.within(thread, stretch.from, stretch.to) {
            if let Some(frame) = stacks.innermost_first(node).next() {
                *functions.entry(&stacks.get(frame).name).or_default() += 1;
            }
        }
        let mut functions: Vec<_> = (functions.into_iter())
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        functions.sort_by_key(|f| std::cmp::Reverse(f.1));
        functions.truncate(MOST);
        moments[stretch.stage] = Moment {
            thread: sampled.name(thread).to_owned(),
            off_cpu: sampled.off_cpu(thread, stretch.from, stretch.to),
            functions,
        };
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::latency::tests::sampled;
    use crate::analyse::spans::WAIT_APP;

    /// The functions sampled in a stage, the most first, and the thread's absence in it.
    #[test]
    fn in_its_stages() {
        let mut stacks = Stacks::default();
        let nodes = ["main;work", "main;copy"].map(|s| stacks.add_named(s.split(';')));
        let samples = [(115, nodes[0]), (116, nodes[1]), (118, nodes[1])];
        let sampled = sampled(&samples, &[(105, 112)]);
        let mut ends = [None; PARTS];
        (ends[WAIT_APP], ends[WAIT_APP + 1]) = (Some(110), Some(120));
        let way = Way::new(1, 100, ends, [Some(0); 3], [0; 3]);
        let moments = moments(&way, &sampled, &stacks);
        let [waited, app] = [&moments[WAIT_APP], &moments[WAIT_APP + 1]];
        assert_eq!((waited.off_cpu, app.off_cpu), (5, 2));
        assert!(waited.functions.is_empty());
        let functions = [("copy".to_owned(), 2), ("work".to_owned(), 1)];
        assert_eq!(app.functions, functions);
    }
}
