//! Stacks into a tree of names with weights, and the folded text that other tools read and write.
//!
//! In: stacks, outermost frame first, with weights; out: a tree whose children are in the order of their names. It
//! refuses to know what the weights count.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

/// Frames of a stack that a tree holds: what lies deeper is one more frame of the name [`DEEPER`]. No picture shows as
/// many.
pub const MOST_FRAMES: usize = 4096;
/// The frame that stands for all below [`MOST_FRAMES`].
pub const DEEPER: &str = "(deeper)";

/// A frame of the tree: what ended in it and what it called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Weight of the stacks that end here.
    pub own: u64,
    /// Weight of the stacks that pass or end here.
    pub total: u64,
    /// What was called from here, by name.
    pub children: BTreeMap<String, Node>,
}

impl Node {
    /// What was called from here, the last name first, each with its depth.
    fn last_first(&self, depth: usize) -> impl Iterator<Item = (usize, &str, &Node)> {
        let children = self.children.iter().rev();
        children.map(move |(name, child)| (depth, name.as_str(), child))
    }
}

/// A tree is taken down level by level: as deep as it is, the stack would not be.
impl Drop for Node {
    fn drop(&mut self) {
        if self.children.is_empty() {
            return;
        }
        let mut below = vec![std::mem::take(&mut self.children)];
        while let Some(nodes) = below.pop() {
            let children = |mut node: Node| std::mem::take(&mut node.children);
            below.extend(nodes.into_values().map(children).filter(|c| !c.is_empty()));
        }
    }
}

/// A weighted call tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    root: Node,
}

/// A line that is not folded text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} is no folded stack: it should be `frame;frame;frame NUMBER`")]
pub struct FoldError {
    /// Number of the line, from 1.
    pub line: usize,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Adds a stack, outermost frame first.
    pub fn add<S: AsRef<str>>(&mut self, stack: impl IntoIterator<Item = S>, weight: u64) {
        if weight == 0 {
            return;
        }
        let mut node = &mut self.root;
        node.total = node.total.saturating_add(weight);
        for (depth, name) in stack.into_iter().enumerate() {
            if depth > MOST_FRAMES {
                break;
            }
            let name = if depth == MOST_FRAMES {
                DEEPER
            } else {
                name.as_ref()
            };
            if !node.children.contains_key(name) {
                node.children.insert(name.to_owned(), Node::default());
            }
            let Some(child) = node.children.get_mut(name) else {
                break;
            };
            node = child;
            node.total = node.total.saturating_add(weight);
        }
        node.own = node.own.saturating_add(weight);
    }

    /// Adds all stacks of another tree.
    pub fn merge(&mut self, other: &Tree) {
        other.each(&mut |stack, weight| self.add(stack, weight));
    }

    /// The node above the outermost frames.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Weight of all stacks.
    pub fn total(&self) -> u64 {
        self.root.total
    }

    /// The names of all frames, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names = HashSet::new();
        let mut pending = vec![&self.root];
        while let Some(node) = pending.pop() {
            names.extend(node.children.keys().map(String::as_str));
            pending.extend(node.children.values());
        }
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names
    }

    /// Calls `f` with every stack that has weight of its own, in the order of the names.
    pub fn each<'a>(&'a self, f: &mut impl FnMut(&[&'a str], u64)) {
        let mut pending: Vec<(usize, &'a str, &'a Node)> = Vec::new();
        let mut stack: Vec<&str> = Vec::new();
        if self.root.own > 0 {
            f(&stack, self.root.own);
        }
        pending.extend(self.root.last_first(0));
        while let Some((depth, name, node)) = pending.pop() {
            stack.truncate(depth);
            stack.push(name);
            if node.own > 0 {
                f(&stack, node.own);
            }
            pending.extend(node.last_first(depth + 1));
        }
    }

    /// The tree as folded text: `frame;frame;frame WEIGHT`, one stack a line. A `;` in a name becomes `:`.
    pub fn to_folded(&self) -> String {
        self.to_folded_from(0)
    }

    /// The same, but frames of less than `least` are told without what they called.
    pub fn to_folded_from(&self, least: u64) -> String {
        let mut text = String::new();
        if self.root.own > 0 {
            let _ = writeln!(text, " {}", self.root.own);
        }
        // The line of the frame that is told, and how long it is down to each depth.
        let (mut line, mut ends) = (String::new(), Vec::new());
        let mut pending: Vec<(usize, &str, &Node)> = Vec::new();
        pending.extend(self.root.last_first(0));
        while let Some((depth, name, node)) = pending.pop() {
            ends.truncate(depth);
            line.truncate(ends.last().copied().unwrap_or(0));
            if depth > 0 {
                line.push(';');
            }
            push_name(&mut line, name);
            ends.push(line.len());
            let is_last = node.total < least;
            let own = if is_last { node.total } else { node.own };
            if own > 0 {
                let _ = writeln!(text, "{line} {own}");
            }
            if !is_last {
                pending.extend(node.last_first(depth + 1));
            }
        }
        text
    }

    /// Reads folded text. Empty lines and lines that begin with `#` are skipped.
    pub fn from_folded(text: &str) -> Result<Tree, FoldError> {
        let mut tree = Tree::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parts = line.rsplit_once(' ');
            let stack = parts.and_then(|(s, w)| Some((s.trim_end(), w.parse::<u64>().ok()?)));
            let (stack, weight) = stack.ok_or(FoldError { line: at + 1 })?;
            tree.add(stack.split(';'), weight);
        }
        Ok(tree)
    }
}

/// Writes the frames joined by `;`, so that no name can be taken for a separator or for the weight behind it.
pub(crate) fn push_stack(text: &mut String, stack: &[&str]) {
    for (at, name) in stack.iter().enumerate() {
        if at > 0 {
            text.push(';');
        }
        push_name(text, name);
    }
}

/// A name as it may stand in folded text.
pub(crate) fn push_name(text: &mut String, name: &str) {
    // What cannot be shown becomes a space, which may be at an end.
    let name: String = name.chars().map(shown).collect();
    let name = name.trim();
    if name.is_empty() {
        text.push('-');
        return;
    }
    // A last word that is a number would be read as a weight: tie it to the word before it.
    let tied = match name.rsplit_once(' ') {
        Some((_, word)) if word.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            name.len() - word.len() - 1
        }
        _ => usize::MAX,
    };
    for (at, c) in name.char_indices() {
        text.push(match c {
            ';' => ':',
            ' ' if at == tied => '\u{a0}',
            '#' if at == 0 => '\u{ff03}',
            c => c,
        });
    }
}

/// A character as it may stand in a picture: none that ends a line or turns its direction, none that XML cannot hold.
pub(crate) fn shown(c: char) -> char {
    match c {
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Weights add up along the stack, and names keep their order.
    #[test]
    fn folds() {
        let mut tree = Tree::new();
        tree.add(["main", "b"], 2);
        tree.add(["main", "a"], 3);
        tree.add(["main"], 5);
        tree.add(["main", "a"], 0);
        assert_eq!(tree.total(), 10);
        assert_eq!(tree.root().children["main"].own, 5);
        assert_eq!(tree.to_folded(), "main 5\nmain;a 3\nmain;b 2\n");
    }

    /// Names that look like separators, comments or weights stay names.
    #[test]
    fn hostile_names() {
        let mut tree = Tree::new();
        tree.add(["# a", "[u8; 8]", "x 12", ""], 7);
        let text = tree.to_folded();
        assert_eq!(text.lines().count(), 1);
        let back = Tree::from_folded(&text).unwrap();
        assert_eq!(back.total(), 7);
        assert_eq!(
            back.to_folded(),
            "\u{ff03} a;[u8: 8];x\u{a0}12;- 7\n",
            "{text}"
        );
        assert_eq!(Tree::from_folded("a;b"), Err(FoldError { line: 1 }));
        // What cannot be shown is trimmed off, whatever it hides.
        let mut tree = Tree::new();
        tree.add(["\0\0# a", "b\0 7\0"], 7);
        assert_eq!(tree.to_folded(), "\u{ff03} a;b \u{a0}7 7\n");
    }

    /// A stack of a million frames is cut where it says so, and taken down again.
    #[test]
    fn very_deep() {
        let line = "f;".repeat(1_000_000) + "leaf 3";
        let tree = Tree::from_folded(&line).unwrap();
        let text = tree.to_folded();
        assert_eq!(text.matches(';').count(), MOST_FRAMES);
        assert!(text.ends_with(";f;(deeper) 3\n"), "{}", &text[..40]);
        assert_eq!(tree.total(), 3);
    }

    proptest! {
        /// Merging is adding, and folded text holds all of the tree.
        #[test]
        fn merge_and_round_trip(
            a in proptest::collection::vec((proptest::collection::vec(0u8..4, 0..5), 1u64..9), 0..20),
            b in proptest::collection::vec((proptest::collection::vec(0u8..4, 0..5), 1u64..9), 0..20),
        ) {
            let names = ["f", "# g", "h 1", "i"];
            let fill = |tree: &mut Tree, stacks: &[(Vec<u8>, u64)]| {
                for (stack, weight) in stacks {
                    let stack = stack.iter().map(|&n| names[n as usize]);
                    tree.add(std::iter::once("# root").chain(stack), *weight);
                }
            };
            let (mut both, mut one, mut two) = (Tree::new(), Tree::new(), Tree::new());
            fill(&mut both, &a);
            fill(&mut both, &b);
            fill(&mut one, &a);
            fill(&mut two, &b);
            one.merge(&two);
            prop_assert_eq!(&one, &both);
            // Names that had to change may stand in another order.
            let sorted = |tree: &Tree| {
                let text = tree.to_folded();
                let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
                lines.sort_unstable();
                lines
            };
            let text = both.to_folded();
            prop_assert_eq!(sorted(&Tree::from_folded(&text).unwrap()), sorted(&both));
            // What is too narrow keeps its width, and is the last of its stack.
            let narrow = Tree::from_folded(&both.to_folded_from(5)).unwrap();
            prop_assert_eq!(narrow.total(), both.total());
            narrow.each(&mut |stack, weight| {
                let whole = stack.iter().try_fold(both.root(), |node, &name| {
                    let name = name.replace('\u{ff03}', "#").replace('\u{a0}', " ");
                    node.children.get(&name)
                });
                let whole = whole.unwrap();
                assert_eq!(weight, if whole.total < 5 { whole.total } else { whole.own });
            });
        }
    }
}
