//! TAS's architecture, re-implemented: TCP as a service on cores of its own, applications in other processes.
//!
//! ```text
//!  application                          service
//!  thread, Context  --ATX: bumps-->   fast path (a thread a queue) <--> device
//!   |  ^            <--ARX: bumps--    |  ^  rx, ARX, qman, tx
//!   |  '-- payload rings of a flow ----'  |
//!   '--- kernel queues (64 bytes) --->  slow path (a thread): handshake, rates, timeouts, teardown
//! ```
//!
//! In: devices of `stack-netio` and a Unix socket for the service, the socket's address for applications; out: flows.
//! Threads, queues, entries, sizes and the order of a round are TAS's (`docs/design/stacks.md` 8); `docs/stacks/tas.md`
//! says what differs and what was seen. Each context is one memory file of fixed size; neither side believes what the
//! other writes there. An application's death resets its own flows and frees its memory; the service's ends the
//! connections of all with an error. It refuses to know HTTP and how a device is made.

mod attach;
mod client;
mod clock;
mod config;
mod entry;
mod fast;
mod flow;
mod frame;
#[cfg(test)]
mod hostile;
mod service;
mod shared;
mod shm;
mod slow;
mod table;

pub use client::Totals;
pub use client::{
    Address, AttachError, ConnId, Context, ContextConfig, Event, Gone, Listening, NotOpen, listen,
};
pub use config::{RateControl, ServiceConfig};
pub use service::{Service, ServiceError, Stopper};
