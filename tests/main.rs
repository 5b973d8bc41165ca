//! The integration tests: one binary, a module per question. What is timed has the machine to itself in `measured`.

mod attacks;
mod clocks;
mod compare;
mod counters;
mod dpdk;
mod events;
mod exchange;
mod filters;
mod flight;
mod foreign;
mod golden;
mod heldout;
mod latency;
mod ledger;
mod names;
mod page;
mod paper;
mod postmortem;
mod python;
mod ranking;
mod record;
mod recover;
mod refusals;
mod report;
mod rings;
mod stacks;
mod stat;
mod support;
mod symbols;
mod targets;
mod tidy;
mod top;
mod tracepoints;
#[path = "../benches/traffic.rs"]
mod traffic;
mod unprivileged;
