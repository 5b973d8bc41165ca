//! The device side of stacks that nobody here wrote, with the probes that a stack of ours has inside.
//!
//! In: a [`Device`](stack_netio::Device), frames on their way into and out of a stack that cannot be changed; out: bursts,
//! and for each TCP segment that crosses the border what it says: [`Port`]. A [`Watch`] remembers enough of each
//! connection to tell bytes newly acknowledged, bytes in flight, retransmissions and pure ACKs apart.
//!
//! What stays inside of the stack stays unknown: events have 0 for the congestion window. Frames are changed only where
//! a stack asks for it: their TCP checksum is completed ([`checksum`]), or a field is shown otherwise than it came
//! ([`shown`]). What a stack would not survive is kept from it by [`fit`].

mod app;
pub mod checksum;
pub mod fit;
mod port;
mod segment;
pub mod shown;
mod tally;
mod watch;

pub use app::{App, Connection};
pub use port::Port;
pub use segment::{Segment, flags};
pub use stack_port::Trigger;
pub use tally::Tally;
pub use watch::{Kind, Sent, Watch};
