//! The integration tests: one binary, a module per question.

mod busy;
mod compare;
mod counters;
mod filters;
mod foreign;
mod golden;
mod heldout;
mod latency;
mod ledger;
mod names;
mod paper;
mod pipeline;
mod planted;
mod pollmix;
mod python;
mod record;
mod refusals;
mod report;
mod rings;
mod stages;
mod support;
mod tidy;
#[path = "../benches/traffic.rs"]
mod traffic;
