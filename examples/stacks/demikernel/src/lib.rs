//! Demikernel's TCP stack and LibOS, written by others, over our packet I/O and with probes at its borders.
//!
//! In: a [`Device`](stack_netio::Device), an [`App`](stack_border::App); out: frames, and the application's turn on each
//! connection one of whose operations is complete. Crate `demikernel` 1.5.13 as published: our packet I/O is its physical
//! layer, above it are its inetstack, its scheduler of coroutines and its LibOS, used by queue tokens as a program of its
//! own would (`accept`, `pop`, `push`, `wait_any`).
//!
//! Where the published stack would hang, lose bytes or end, this border helps and says so ([`layer1`]; for segments its
//! `peer` and `peers`): what is not for it is kept from it, ends and windows are shown to it when it can take them, and the
//! application learns from the border that a peer has ended or reset, of which 1.5.13 tells too little or nothing. Probes: bursts and segments at the device, each frame sent at once as the stack does it; `deliver`
//! when a pop is complete, `send_call` at a push, `stall`, and a point of its own, `wait_any`, with the tokens waited for.
//!
//! **Whoever links this gets mimalloc**: the crate names the program's global allocator. It refuses to know HTTP and how
//! a device is made.

mod conn;
#[cfg(test)]
#[allow(unsafe_code)]
mod defects;
mod frames;
pub mod layer1;
mod peer;
mod peers;
mod stack;
mod tokens;

pub use stack::{DemikernelConfig, DemikernelError, Stack, Wait};
