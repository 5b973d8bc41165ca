//! lwIP, a TCP/IP stack written by others, over our packet I/O and with probes at its borders.
//!
//! In: a [`Device`](stack_netio::Device), an [`App`](stack_border::App); out: frames, and the application's turn on each
//! connection that has news. The library is Debian's `liblwip-dev` as it is built there: threads, sockets and all, of which
//! only the core is used, from one thread, through a small C shim (`shim.c`).
//!
//! Probes: bursts and segments in and out at the device; `deliver` and `send_call` in the shim, through the project's
//! own C header; `timer` for lwIP's cyclic timers. Where the library was not found when this was built, everything
//! compiles and [`Stack::new`] says how to get it. It refuses to know HTTP and how a device is made.

#[cfg(not(has_lwip))]
mod absent;
#[cfg(has_lwip)]
mod ffi;
#[cfg(has_lwip)]
mod stack;

#[cfg(not(has_lwip))]
pub use absent::Stack;
#[cfg(has_lwip)]
pub use stack::Stack;

use std::net::SocketAddrV4;

/// What a stack is made with.
#[derive(Clone, Debug)]
pub struct LwipConfig {
    /// Our address and the port that is listened on.
    pub listen: SocketAddrV4,
    /// Length of the network's prefix.
    pub prefix_len: u8,
    /// Most handshakes under way: the oldest gives way to one more. lwIP by itself would take them all.
    pub half_open: u32,
    /// Seed of lwIP's random numbers.
    pub seed: u32,
}

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LwipError {
    /// The library was not there when this program was built.
    #[error(
        "lwIP was not found when this program was built; apt-get install liblwip-dev, then build it again"
    )]
    NotBuilt,
    /// The library keeps its state in global variables.
    #[error("lwIP can be used once in a process")]
    Taken,
    /// lwIP refused.
    #[error("lwIP does not start: its error {0}")]
    Start(i32),
}
