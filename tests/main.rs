//! The integration tests: one binary, a module per question.

mod foreign;
mod names;
mod pollmix;
mod python;
mod record;
mod refusals;
mod report;
mod support;
mod tidy;
