//! The array of batched calls (IX's `bsys`): what the application wants, run at the start of the next round.
//!
//! In: calls in the order they were made; out: the same. It refuses to know what they do.

use stack_tcp::ConnId;

/// One batched call. What it works on is in the connection's entry (see [`crate::pcbs`]), so that a connection has at
/// most one call of each kind in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Takes a connection that knocked.
    Accept(ConnId),
    /// Sends the pieces that were put down.
    Sendv(ConnId),
    /// Gives received bytes back.
    RecvDone(ConnId),
    /// Sends FIN; reading goes on. Not among IX's calls: it closes in both directions only.
    Shutdown(ConnId),
    /// Gives the connection back.
    Close(ConnId),
}

/// Kinds of calls: what one connection may add to the array at most.
const KINDS: usize = 5;

/// The calls of a round.
#[derive(Debug)]
pub struct Calls {
    pub array: Vec<Call>,
    capacity: usize,
}

impl Calls {
    /// An array for `capacity` calls.
    pub fn new(capacity: usize) -> Calls {
        Calls {
            array: Vec::new(),
            capacity: capacity.max(KINDS),
        }
    }

    /// Whether whatever the handler of one condition does still fits.
    pub fn has_room(&self) -> bool {
        self.array.len() + KINDS <= self.capacity
    }

    /// The array's size.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}
