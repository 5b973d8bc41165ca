//! The live view: a screen for a terminal, a page of text and JSON for scripts.
//!
//! In: a [`View`] of an interval and the functions of its samples; out: cells of a screen, text. What a key means is said
//! here, what it does is not. It refuses to compute: sums, rates and order come from `analyse::live`.

mod cells;
pub mod json;
pub mod screen;
pub mod text;

use crate::analyse::live::functions::Functions;
use crate::analyse::live::view::View;

pub use screen::{Action, Screen};

/// Everything that is shown of an interval.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// What is looked at: a command, or processes.
    pub what: String,
    /// The interval.
    pub view: View,
    /// The functions of the newest interval whose samples have names.
    pub functions: Functions,
    /// The event that is sampled, and its rate.
    pub sampled: (String, u64),
    /// What the user should know: an identifier and a sentence.
    pub notices: Vec<(String, String)>,
}
