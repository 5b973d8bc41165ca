//! The application's side: contexts, sockets, and a loop like epoll's.
//!
//! In: a service's socket; out: one [`Context`] for each thread, connections, events. One poll is: publish what was
//! read and written since the last one, look into the slow path's queue, into every core's queue for up to 16 events,
//! and at the room towards each core. Bytes that are written become visible to the service only with the next poll, so
//! that the replies of one batch leave together, and no sooner. What the service writes is checked like a stranger's
//! word.

mod conn;
mod context;
mod socket;

pub use conn::{ConnId, Event, NotOpen};
pub use context::{AttachError, Context, ContextConfig, Gone, Totals};
pub use socket::{Address, Listening, listen};
