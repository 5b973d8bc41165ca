//! Programs with probes and a recorder that reads them, in processes of their own.
//!
//! Each test starts this very binary again as the traced program: the ignored test `program` runs the part that the
//! environment names, and talks to its parent by lines.
#![cfg(feature = "enable")]

mod basics;
mod flight;
mod harness;
mod parts;
mod threads;
mod trouble;

/// The traced program. Does nothing unless a test started it.
#[test]
#[ignore = "started by the other tests as a program of its own"]
fn program() {
    parts::run();
}
