//! The integration tests: one binary, a module per question.

mod counters;
mod foreign;
mod ledger;
mod names;
mod paper;
mod pollmix;
mod python;
mod record;
mod refusals;
mod report;
mod rings;
mod support;
mod tidy;
