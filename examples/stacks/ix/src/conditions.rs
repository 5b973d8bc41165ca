//! The array of event conditions (IX's `usys`): what TCP tells the application, in the order it happened.
//!
//! In: events with the stamp of the burst that caused them; out: conditions, each with a `deliver` event of the array's depth and its
//! age. It refuses to know who handles them.

use bypassprof_probe::{self as probe, Flow, Tsc, points};
use stack_tcp::{Closing, ConnId};
use std::collections::VecDeque;

/// One event condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Of which connection.
    pub conn: ConnId,
    /// What is told.
    pub what: What,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A connection is there; `accept` takes it, `close` refuses it. Nothing else is told before it is accepted.
    Knock,
    /// So many bytes more have been received.
    Recv(usize),
    /// So many bytes more are acknowledged: their memory is the application's again, and there is room for as many.
    Sent(usize),
    /// The peer sends no more; sending goes on. IX tells `dead` for this, too; half-closed clients need it apart.
    Ended,
    /// The connection is over.
    Dead(Closing),
}

/// Codes of `deliver`'s last argument.
const DATA: u32 = 0;
const ACKNOWLEDGED: u32 = 1;
const CONNECTION: u32 = 2;

/// The conditions of a round.
#[derive(Debug)]
pub struct Conditions {
    array: VecDeque<Condition>,
    capacity: usize,
}

impl Conditions {
    /// An array for `capacity` conditions.
    pub fn new(capacity: usize) -> Conditions {
        Conditions {
            array: VecDeque::new(),
            capacity,
        }
    }

    /// Whether TCP has to keep its events for the next round. What calls cause comes in all the same: there are never
    /// more of those than calls.
    pub fn is_full(&self) -> bool {
        self.array.len() >= self.capacity
    }

    /// The array's size.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The next condition.
    pub fn pop(&mut self) -> Option<Condition> {
        self.array.pop_front()
    }

    /// A connection knocks.
    pub fn usys_tcp_knock(&mut self, conn: ConnId, flow: Flow, burst: Option<Tsc>) {
        self.tell(conn, What::Knock, flow, burst);
    }

    /// Bytes have been received.
    pub fn usys_tcp_recv(&mut self, conn: ConnId, bytes: usize, flow: Flow, burst: Option<Tsc>) {
        self.tell(conn, What::Recv(bytes), flow, burst);
    }

    /// Bytes are acknowledged.
    pub fn usys_tcp_sent(&mut self, conn: ConnId, bytes: usize, flow: Flow, burst: Option<Tsc>) {
        self.tell(conn, What::Sent(bytes), flow, burst);
    }

    /// The peer sends no more.
    pub fn usys_tcp_ended(&mut self, conn: ConnId, flow: Flow, burst: Option<Tsc>) {
        self.tell(conn, What::Ended, flow, burst);
    }

    /// The connection is over.
    pub fn usys_tcp_dead(&mut self, conn: ConnId, why: Closing, flow: Flow, burst: Option<Tsc>) {
        self.tell(conn, What::Dead(why), flow, burst);
    }

    fn tell(&mut self, conn: ConnId, what: What, flow: Flow, burst: Option<Tsc>) {
        self.array.push_back(Condition { conn, what });
        if probe::enabled() {
            let (bytes, kind) = match what {
                What::Recv(bytes) => (bytes, DATA),
                What::Sent(bytes) => (bytes, ACKNOWLEDGED),
                What::Knock | What::Ended | What::Dead(_) => (0, CONNECTION),
            };
            // Without a burst a call or a timer is the cause; without a stamp nobody listened when it came.
            let since = burst.filter(|stamp| stamp.raw() != 0);
            let age = since.map_or(0, |stamp| probe::now().since(stamp).ticks());
            let age = age.min(u64::from(u32::MAX)) as u32;
            let depth = self.array.len() as u32;
            probe::emit_with(points::DELIVER, flow, bytes as u32, [depth, age, kind]);
        }
    }
}
