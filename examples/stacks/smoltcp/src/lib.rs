//! smoltcp, a TCP/IP stack written by others, over our packet I/O and with probes at its borders.
//!
//! In: a [`Device`](stack_netio::Device), an [`App`](stack_border::App); out: frames, and the application's turn on each connection that has
//! news. smoltcp scans the whole socket set it is given for every frame and every transmission, so each connection has
//! a set of its own here, found by our own table from the frame's addresses before smoltcp sees it.
//!
//! smoltcp has no backlog and no accept: a listening socket becomes the connection. A SYN gets one from a pool, which
//! grows up to [`SmoltcpConfig::sockets`] and is never given back to the system. Probes: bursts, segments in and out at
//! the device; `deliver`, `send_call` at its calls; `timer` where its own deadline made it send. It refuses to know HTTP
//! and how a device is made.

mod buffers;
mod conns;
mod deadlines;
mod phy;
mod resets;
mod stack;

pub use stack::{SmoltcpConfig, Stack};
