//! Two trees side by side: what each stack weighed before and after.
//!
//! In: two trees; out: every stack of either with both weights: as they are where they have one unit, or the first scaled
//! to the second's total so that a longer run does not look slower. It refuses to say whether a difference means
//! anything.

use crate::fold::{Tree, push_stack};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What marks a frame that grew, and one that shrank.
pub(crate) const MORE: &str = "+ ";
pub(crate) const LESS: &str = "- ";

/// Every stack of two trees with both weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    stacks: BTreeMap<Vec<String>, (u64, u64)>,
}

impl Diff {
    /// The difference from `before` to `after`, with `before` scaled to the total of `after`.
    pub fn new(before: &Tree, after: &Tree) -> Diff {
        let mut stacks: BTreeMap<Vec<String>, (u64, u64)> = BTreeMap::new();
        let owned = |stack: &[&str]| stack.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let (from, to) = (u128::from(before.total()), u128::from(after.total()));
        before.each(&mut |stack, weight| {
            let scaled = if from == 0 || to == 0 {
                u128::from(weight)
            } else {
                (u128::from(weight) * to + from / 2) / from
            };
            stacks.entry(owned(stack)).or_default().0 = u64::try_from(scaled).unwrap_or(u64::MAX);
        });
        after.each(&mut |stack, weight| stacks.entry(owned(stack)).or_default().1 = weight);
        Diff { stacks }
    }

    /// The difference between trees whose weights have the same unit: nothing is scaled.
    pub fn unscaled(before: &Tree, after: &Tree) -> Diff {
        let mut diff = Diff::default();
        let owned = |stack: &[&str]| stack.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        before.each(&mut |stack, weight| diff.stacks.entry(owned(stack)).or_default().0 = weight);
        after.each(&mut |stack, weight| diff.stacks.entry(owned(stack)).or_default().1 = weight);
        diff
    }

    /// Both trees as one, below three roots: what both have, what the second has more of and what it has less of. The
    /// first two are the second tree, the first and the last are the first: nothing of either is hidden. Frames below the
    /// last two are marked with `+` and `-`.
    pub fn parts(&self, roots: [&str; 3]) -> Tree {
        let mut tree = Tree::new();
        for (stack, &(before, after)) in &self.stacks {
            let (more, less) = (after.saturating_sub(before), before.saturating_sub(after));
            let parts = [("", before.min(after)), (MORE, more), (LESS, less)];
            for (root, (mark, weight)) in roots.into_iter().zip(parts) {
                let marked = stack.iter().map(|frame| format!("{mark}{frame}"));
                let whole: Vec<String> = std::iter::once(root.to_owned()).chain(marked).collect();
                tree.add(whole.iter().map(String::as_str), weight);
            }
        }
        tree
    }

    /// Folded text with two weights a line, before and after.
    pub fn to_folded(&self) -> String {
        let mut text = String::new();
        for (stack, (before, after)) in &self.stacks {
            let stack: Vec<&str> = stack.iter().map(String::as_str).collect();
            push_stack(&mut text, &stack);
            let _ = writeln!(text, " {before} {after}");
        }
        text
    }

    /// Stacks with their weights before and after.
    pub fn stacks(&self) -> impl Iterator<Item = (&[String], u64, u64)> {
        self.stacks.iter().map(|(s, &(a, b))| (s.as_slice(), a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shorter run is scaled up; a stack of one side only has 0 on the other.
    #[test]
    fn scales_and_joins() {
        let before = Tree::from_folded("main;a 10\nmain;b 10").unwrap();
        let after = Tree::from_folded("main;a 30\nmain;c 10").unwrap();
        let diff = Diff::new(&before, &after);
        assert_eq!(diff.to_folded(), "main;a 20 30\nmain;b 20 0\nmain;c 0 10\n");
        assert_eq!(diff.stacks().count(), 3);
    }

    /// What both have, what is more, what is less: each stack once on each side, nothing scaled.
    #[test]
    fn three_parts() {
        let before = Tree::from_folded("main;a 10\nmain;b 10").unwrap();
        let after = Tree::from_folded("main;a 30\nmain;c 10").unwrap();
        let parts = Diff::unscaled(&before, &after).parts(["both", "more", "less"]);
        assert_eq!(
            parts.to_folded(),
            "both;main;a 10\nless;- main;- b 10\nmore;+ main;+ a 20\nmore;+ main;+ c 10\n"
        );
    }
}
