//! `bypassprof`: profiling and tracing for kernel-bypass TCP stacks.
//!
//! ```text
//!  probes in the target --shared memory--> collect --> trace ----> resolve --> analyse --> present
//!  perf events, /proc, clocks ----------------^      (the recording)  names     answers     tables, pictures
//! ```
//!
//! | arrow | what is passed |
//! |---|---|
//! | collect -> trace | [`trace::record`]: samples, switches, mappings, ring blocks, clock pairs |
//! | trace -> resolve | the same records, read back from untrusted bytes |
//! | resolve -> analyse | frames with names, or a reason why there is none |
//! | analyse -> present | trees, tables and the trust record, in units of [`units`] |
//!
//! Imports run against the flow and never in circles; only [`cmd`] joins stages. `tests/tidy.rs` holds them to it.

pub mod analyse;
pub mod cmd;
pub mod collect;
pub mod present;
pub mod resolve;
pub mod trace;
pub mod units;
