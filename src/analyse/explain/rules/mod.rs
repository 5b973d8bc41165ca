//! The rules of one recording, a table for each stack and two for all of them.
//!
//! In: [`super::Facts`]; out: findings. Rules with an id of design/stacks.md section 10 say what is written there, with
//! the thresholds at which the paper's own profiles show it; `S` rules read requests, `H` rules what limits the rate and
//! how much room is left.

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

/// Tables in the order in which their findings are told.
const TABLES: &[(Order, &[Rule])] = &[
    (Order::Limit, room::LIMITS),
    (Order::Cause, requests::RULES),
    (Order::Cause, linux::RULES),
    (Order::Cause, mtcp::RULES),
    (Order::Cause, fstack::RULES),
    (Order::Cause, ix::RULES),
    (Order::Cause, tas::RULES),
    (Order::Cause, demikernel::RULES),
    (Order::Cause, room::RULES),
    (Order::Room, room::ROOM),
];

/// What findings say; what comes first here is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// What limits the rate.
    Limit,
    /// What takes time.
    Cause,
    /// How much room is left.
    Room,
    /// What takes so little time that it limits nothing.
    Little,
}

/// All rules, and what each speaks about.
pub fn rules() -> impl Iterator<Item = (Order, &'static Rule)> {
    let tables = TABLES.iter();
    tables.flat_map(|(order, rules)| rules.iter().map(|rule| (*order, rule)))
}

#[cfg(test)]
mod tests;
