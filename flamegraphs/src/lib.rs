//! Weighted call trees into pictures: fold stacks, take differences, draw flame graphs as SVG and as pages.
//!
//! In: stacks of names with weights; out: folded text and SVG, byte for byte the same for the same input. It knows
//! nothing of recordings, processes or symbols: names come in ready to print.
//!
//! ```
//! use flamegraphs::{Picture, Tree};
//!
//! let mut tree = Tree::new();
//! tree.add(["useful", "main", "serve"], 30);
//! tree.add(["empty polling", "main", "poll"], 70);
//! let mut svg = Vec::new();
//! let picture = Picture { title: "one thread".into(), ..Picture::default() };
//! flamegraphs::draw(&tree, &picture, &mut svg).unwrap();
//! assert!(String::from_utf8(svg).unwrap().contains("empty polling"));
//! ```

mod diff;
mod fold;
mod page;
mod palette;
mod svg;

pub use diff::Diff;
pub use fold::{DEEPER, FoldError, MOST_FRAMES, Node, Tree};
pub use page::html;
pub use palette::{Rgb, UNKNOWN_COLOUR, colour_of};
pub use svg::{DrawError, Picture, draw, draw_diff, draw_parts};
