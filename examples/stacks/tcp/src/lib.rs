//! A TCP/IPv4 engine without I/O: Ethernet frames and time in, Ethernet frames, events and deadlines out.
//!
//! One [`Engine`] serves one core or queue. A stack decides where frames come from, when output is produced and who runs
//! the application; what differs between stacks inside TCP (acknowledgements, windows, timers, congestion control,
//! checksums) is a [`Policy`].
//!
//! ```text
//! frame --> demux, wire (checked once), table --> input --> events --> the stack's application
//!                                               |   ^                         |
//!                                  recovery, congestion, rtt      buffers <-- write/read
//!                                               v                             |
//! frames <-- sink <-- wire <------------- output <-- timers, pending lists
//! ```
//!
//! Clauses kept: RFC 9293 (TCP), 7323 (window scale, timestamps, PAWS), 2018 and 6675 (SACK), 6298 (retransmission
//! timer), 5681, 3042 and 6582 (congestion control, limited transmit, NewReno), 9438 (CUBIC), 3168 and 8257 (congestion
//! marks), 5961 (blind attacks), 1337, 6191 and 1122 (TIME-WAIT and its reuse), 6528 (initial sequence numbers), 4987 (SYN
//! cookies), 1191 and 5927 (path MTU, ICMP errors), 826 (ARP), 792 (ICMP echo, unreachable). Which test holds which, why it
//! is built so and what it costs: `docs/design/tcp-engine.md`.
//!
//! Work per packet does not depend on the number of connections, and in steady state nothing is allocated. Bad input of any
//! kind is counted and dropped; it never panics.

pub mod config;
pub mod event;
pub mod seq;
pub mod sink;
pub mod time;
pub mod wire;

mod buffer;
mod congestion;
mod conn;
mod cookie;
mod core;
mod demux;
mod engine;
mod expiry;
mod input;
mod neighbours;
mod output;
mod path_mtu;
mod recovery;
mod replies;
mod rtt;
mod siphash;
mod table;
mod timers;

pub use config::{
    AckPolicy, Config, Congestion, KeepAlive, OutputMode, Policy, Recovery, RtoPolicy,
};
pub use congestion::RateControl;
pub use engine::Engine;
pub use event::{Closing, ConnId, ConnInfo, Counters, Event, EventKind, ListenerId, TcpError};
pub use sink::{Cut, FrameMeta, FrameSink, TxFrame, TxHints};
pub use time::Time;
