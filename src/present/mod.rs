//! Answers into something to look at: tables for terminals, JSON for machines, flame graphs.
//!
//! In: a [`crate::analyse::Profile`]; out: text. Every output carries the line of trust. It refuses to compute: what is
//! shown here was decided in `analyse`.

pub mod compare;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod flame;
pub mod html;
pub mod json;
pub mod latency;
pub mod ledger;
pub mod list;
pub mod packs;
pub mod postmortem;
pub mod queues;
pub mod recover;
pub mod spans;
pub mod stat;
pub mod style;
pub mod table;
pub mod top;
