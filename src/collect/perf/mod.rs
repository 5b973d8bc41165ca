//! perf_event_open: samples, switches, mappings and thread names of what is recorded, from the kernel.
//!
//! In: processes and a rate; out: records. One ring per CPU takes the events of every thread. It refuses to know files
//! and probes.

pub mod attr;
pub mod group;
mod grouping;
mod options;
pub mod ring;
mod rings;
pub mod stacks;
mod sys;
mod tellers;
mod threads;
pub mod watch;

pub use attr::{Plan, PlanError};
pub use group::Events;
pub use ring::Batch;
pub use stacks::StackSource;
pub use watch::Watch;
