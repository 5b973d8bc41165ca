//! The rules of one recording, a table for each stack and two for all of them.
//!
//! In: [`super::Facts`]; out: findings. Rules with an id of design/stacks.md section 10 say what is written there, with
//! the thresholds at which the paper's own profiles show it; `S` rules read requests, `H` rules how much room is left.

mod demikernel;
mod evidence;
mod fstack;
mod ix;
mod linux;
mod mtcp;
mod requests;
mod room;
mod tas;

use super::Rule;

const TABLES: &[&[Rule]] = &[
    requests::RULES,
    linux::RULES,
    mtcp::RULES,
    fstack::RULES,
    ix::RULES,
    tas::RULES,
    demikernel::RULES,
    room::RULES,
];

/// All rules.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    TABLES.iter().copied().flatten()
}

#[cfg(test)]
mod tests;
