//! Memory that two processes share, neither of which trusts the other.
//!
//! In: a length, or a descriptor that came from elsewhere; out: words, payload rings and queues whose every position is
//! checked against what this side knows by itself. Nothing that is read here is used as an address or a length before
//! it was checked. It refuses to know what entries mean.

mod layout;
mod queue;
mod region;
mod ring;

pub use layout::{Layout, MAX_CORES, MAX_SLOTS, Sizes};
pub use queue::{Consumer, Corrupt, Place, Producer};
pub use region::Region;
pub use ring::ByteRing;
