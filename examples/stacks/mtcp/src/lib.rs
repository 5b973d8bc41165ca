//! mTCP's architecture, re-implemented: on each core a stack thread and an application thread, which take turns.
//!
//! In: a [`Device`](stack_netio::Device), calls of an application; out: frames, and batches of events. One [`create`] makes
//! one core's pair: a [`Stack`] whose [`Stack::run_main_loop`] is the stack thread, and an [`MtcpContext`] for the
//! application thread. Nothing is shared between cores.
//!
//! ```text
//! application thread                                              stack thread
//! mtcp_write --> send buffer (spin lock) --------------------->  engine --> frames
//!            \-> sendq, ackq, closeq, resetq, destroyq -------->  handle_application_calls, once a round
//! mtcp_read  <-- receive buffer (spin lock) <------------------  engine <-- frames
//! mtcp_epoll_wait <-- usr_queue (mutex, condvar) <-------------  flush_epoll_events, once a round
//! ```
//!
//! Order of a round, sizes and waits are mTCP's (`docs/design/stacks.md` 5.1): at most 64 frames received, timers on a
//! tick of 1 ms, events handed over, calls taken, then the acknowledgement list before the data list. Its sleep too:
//! after ten polls without a frame the stack waits for one up to 1 ms, and the application cannot wake it.
//!
//! What differs is in `docs/stacks/mtcp.md`. It refuses to know HTTP, how a device is made and which CPUs there are.

mod calls;
mod config;
mod context;
mod epoll;
mod jobs;
mod shared;
mod spin;
mod stack;
mod stream;

pub use config::MtcpConfig;
pub use context::{Accepted, EpollEvent, Interest, MtcpContext, Refused, SockId, Source};
pub use shared::Totals;
pub use stack::{Stack, Watch, create};
