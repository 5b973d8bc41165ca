//! F-Stack's architecture, re-implemented: one thread runs device, TCP and application to completion in one loop.
//!
//! In: a [`Device`](stack_netio::Device), an [`App`]; out: frames, and the application's callback once per burst or tick.
//! The order of a round, the sizes and the delays are those of F-Stack 1.22 (`docs/design/stacks.md` 6.1): TCP's clock
//! every 10 ms, transmit drain every [`FstackConfig::tx_delay`] or at 32 frames, the side ring (off by default), the
//! dispatch rings, at most 32 received frames each taken through TCP, the message ring, the callback.
//!
//! On several cores each [`Stack`] has a thread and a queue of its own and shares nothing but rings: [`connect`] gives it
//! one from each other core, for frames that came to a queue whose core does not own their flow ([`Dispatch`]).
//!
//! What differs: the engine is `stack-tcp`, not FreeBSD's; a frame is copied out of the device's ring before TCP sees it
//! (F-Stack attaches the mbuf); frames that the device does not take stay queued (F-Stack frees them). It refuses to know
//! HTTP and how a device is made.

mod config;
mod dispatch;
mod kqueue;
mod main_loop;
mod rings;
mod sockets;

pub use config::FstackConfig;
pub use dispatch::{Dispatch, Owner};
pub use kqueue::{Kevent, Kqueue};
pub use main_loop::{App, Stack, Totals, connect};
pub use rings::{Controller, Injector};
pub use sockets::Sockets;
