//! A comparison as tables, and as JSON.

pub mod document;
pub mod json;
pub mod table;

use crate::analyse::compare::workload::Remark;
use crate::analyse::compare::{Comparison, Side};

/// A recording and what others are compared with it.
pub struct Pairs {
    /// The first.
    pub first: Side,
    /// The others, each with what must be said about the comparison.
    pub others: Vec<(Comparison, Side, Vec<Remark>)>,
}
