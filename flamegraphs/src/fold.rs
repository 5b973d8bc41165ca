//! Stacks into a tree of names with weights, and the folded text that other tools read and write.
//!
//! In: stacks, outermost frame first, with weights; out: a tree whose children are in the order of their names. It
//! refuses to know what the weights count.

use std::collections::BTreeMap;
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
            node = node.children.entry(name.to_owned()).or_default();
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

    /// Calls `f` with every stack that has weight of its own, in the order of the names.
    pub fn each<'a>(&'a self, f: &mut impl FnMut(&[&'a str], u64)) {
        let mut pending: Vec<(usize, &'a str, &'a Node)> = Vec::new();
        let mut stack: Vec<&str> = Vec::new();
        if self.root.own > 0 {
            f(&stack, self.root.own);
        }
        pending.extend(
            self.root
                .children
                .iter()
                .rev()
                .map(|(n, c)| (0, n.as_str(), c)),
        );
        while let Some((depth, name, node)) = pending.pop() {
            stack.truncate(depth);
            stack.push(name);
            if node.own > 0 {
                f(&stack, node.own);
            }
            pending.extend(
                node.children
                    .iter()
                    .rev()
                    .map(|(n, c)| (depth + 1, n.as_str(), c)),
            );
        }
    }

    /// The tree as folded text: `frame;frame;frame WEIGHT`, one stack a line. A `;` in a name becomes `:`.
    pub fn to_folded(&self) -> String {
        let mut text = String::new();
        self.each(&mut |stack, weight| {
            push_stack(&mut text, stack);
            let _ = writeln!(text, " {weight}");
        });
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
            '#' if at == 0 && text.is_empty() => '\u{ff03}',
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
            let names = ["f", "g", "h 1", "i"];
            let fill = |tree: &mut Tree, stacks: &[(Vec<u8>, u64)]| {
                for (stack, weight) in stacks {
                    tree.add(std::iter::once("root").chain(stack.iter().map(|&n| names[n as usize])), *weight);
                }
            };
            let (mut both, mut one, mut two) = (Tree::new(), Tree::new(), Tree::new());
            fill(&mut both, &a);
            fill(&mut both, &b);
            fill(&mut one, &a);
            fill(&mut two, &b);
            one.merge(&two);
            prop_assert_eq!(&one, &both);
            let text = both.to_folded();
            prop_assert_eq!(Tree::from_folded(&text).unwrap().to_folded(), text);
        }
    }
}
