//! Events: how users write them, which this machine has, and what the kernel is asked for.
//!
//! In: text in perf's notation, `/sys`, tracefs; out: [`Encoded`] events, or a sentence on why there are none. It
//! refuses to know processes and rings.

pub mod available;
pub mod encode;
pub mod generic;
pub mod grammar;
pub mod machine;
pub mod modifiers;
mod near;
pub mod pmu;
pub mod refusal;
mod registered;
pub mod uprobe;

pub use encode::{Encoded, Group};
pub use machine::{EventError, Machine};
