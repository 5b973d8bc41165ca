//! What the two threads of a core share of each stream: its two buffers and the marks of its queues.
//!
//! In: a stream's name when it is accepted; out: places that both threads reach by it. Bytes lie under spin locks, marks
//! are single words. It refuses to know TCP.

use crate::spin::SpinLock;
use bypassprof_probe::Flow;
use stack_tcp::ConnId;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Bits of `interest` and `raised`, and of an event.
pub mod what {
    /// There is something to read, or the end of it.
    pub const READ: u32 = 1;
    /// There is room to write.
    pub const WRITE: u32 = 2;
    /// The stream is over.
    pub const END: u32 = 4;
}

/// Received bytes on their way to the application.
#[derive(Debug, Default)]
pub struct Receive {
    pub bytes: VecDeque<u8>,
    /// The engine has more, for which there was no room.
    pub more: bool,
    /// The peer sends no more after these.
    pub ended: bool,
    /// The stream was reset or given up.
    pub broken: bool,
}

/// Written bytes that the stack has not taken yet.
#[derive(Debug, Default)]
pub struct Send {
    pub bytes: VecDeque<u8>,
    /// A write took less than offered, and the application is to hear of room.
    pub wants_room: bool,
    /// Nothing can be written any more.
    pub closed: bool,
}

/// One stream's place; there are as many as a core may have streams.
#[derive(Debug, Default)]
pub struct Stream {
    /// The connection's name plus 1; 0 before the first one.
    name: AtomicU64,
    flow: AtomicU32,
    /// What the application wants to hear of.
    pub interest: AtomicU32,
    /// Events on their way to the application.
    pub raised: AtomicU32,
    /// A send job waits.
    pub on_sendq: AtomicBool,
    /// An ack job waits.
    pub on_ackq: AtomicBool,
    pub receive: SpinLock<Receive>,
    pub send: SpinLock<Send>,
}

impl Stream {
    /// Gives the place to a connection. The application has let go of the one before, or will find its name gone.
    pub fn open(&self, conn: ConnId, flow: Flow) {
        self.flow.store(flow.raw(), Ordering::Relaxed);
        self.interest.store(0, Ordering::Relaxed);
        self.raised.store(0, Ordering::Relaxed);
        self.on_sendq.store(false, Ordering::Relaxed);
        self.on_ackq.store(false, Ordering::Relaxed);
        let mut receive = self.receive.lock(flow);
        receive.bytes.clear();
        (receive.more, receive.ended, receive.broken) = (false, false, false);
        drop(receive);
        let mut send = self.send.lock(flow);
        send.bytes.clear();
        (send.wants_room, send.closed) = (false, false);
        drop(send);
        // Pairs with the load in `is`: who sees the name sees the place as it was made.
        self.name
            .store(conn.to_raw().wrapping_add(1), Ordering::Release);
    }

    /// Gives the buffers' memory back: a core has far more places than streams.
    pub fn empty(&self) {
        let flow = self.flow();
        self.receive.lock(flow).bytes = VecDeque::new();
        self.send.lock(flow).bytes = VecDeque::new();
    }

    /// Whether the place is this connection's.
    pub fn is(&self, conn: ConnId) -> bool {
        // Pairs with the store in `open`.
        self.name.load(Ordering::Acquire) == conn.to_raw().wrapping_add(1)
    }

    /// The connection's label in events.
    pub fn flow(&self) -> Flow {
        Flow::from_raw(self.flow.load(Ordering::Relaxed))
    }

    /// Takes note that `event` is on its way; whether it was not yet.
    pub fn raise(&self, event: u32) -> bool {
        // Acquire and release in one: pairs with `lower`, so that whoever raises after it does so anew.
        self.raised.fetch_or(event, Ordering::AcqRel) & event == 0
    }

    /// The event has arrived: what happens from here on is told again.
    pub fn lower(&self, event: u32) {
        // Pairs with `raise`.
        self.raised.fetch_and(!event, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that changes hands keeps nothing of its last owner, and its old name is gone.
    #[test]
    fn places_change_hands_clean() {
        let place = Stream::default();
        let (first, second) = (ConnId::from_raw(3), ConnId::from_raw((1 << 32) | 3));
        assert!(!place.is(ConnId::from_raw(0)), "nobody's yet");
        place.open(first, Flow::from_raw(7));
        place.receive.lock(Flow::NONE).bytes.extend(b"left");
        place.send.lock(Flow::NONE).closed = true;
        place.interest.store(what::READ, Ordering::Relaxed);
        assert!(place.raise(what::READ) && !place.raise(what::READ));
        place.open(second, Flow::from_raw(8));
        assert!(place.is(second) && !place.is(first));
        assert!(place.receive.lock(Flow::NONE).bytes.is_empty());
        assert!(!place.send.lock(Flow::NONE).closed);
        assert_eq!(place.interest.load(Ordering::Relaxed), 0);
        assert!(place.raise(what::READ));
        assert_eq!(place.flow(), Flow::from_raw(8));
    }
}
