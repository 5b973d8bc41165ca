//! IX's architecture, re-implemented: one elastic thread a core runs device, TCP and application to completion, in
//! batches that are as large as what has arrived and never larger than 64 packets.
//!
//! In: a [`Device`](stack_netio::Device) that is one queue of an interface, an [`App`]; out: frames, and the
//! application's handler once per event condition. Application and TCP meet in two arrays only: [`Condition`]s go up,
//! batched calls (made through [`Net`]) come down and run in the next round. What is sent stays in the application's
//! memory and is its own to keep until a `Sent` condition gives it back; what is received lies in the connection's
//! receive buffer until `recv_done` gives it back.
//!
//! ```text
//! bsys: calls of the last round -> timers -> receive (<= 64), TCP in -> transmit -> usys: conditions -> application
//!   ^                                                                                                      |
//!   +----------------------------------------- batched calls -----------------------------------------------+
//! ```
//!
//! Order, sizes and constants are those of the ReFlex variant of IX (`docs/design/stacks.md` 7.1); `docs/stacks/ix.md`
//! says what differs and which published properties were seen. It refuses to know HTTP, threads and how a device is made.

mod calls;
mod conditions;
mod config;
mod elastic;
mod handles;
mod meter;
mod net;
mod pcbs;
mod side;

pub use conditions::{Condition, What};
pub use config::{IxConfig, SidePoll};
pub use elastic::{App, Stack};
pub use meter::{Meter, Totals};
pub use net::{Net, Piece};
pub use side::TokenState;
