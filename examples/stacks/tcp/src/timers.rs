//! When to look at which connection again.
//!
//! In: deadlines that move, mostly later; out: names of connections whose time has come. A connection stands here at
//! most once at its earliest promise; a deadline that moved later is found out when the old one comes.

use crate::event::ConnId;
use crate::time::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Promises, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, ConnId)>>,
}

impl Timers {
    /// Makes sure that the connection is looked at by `at`; `armed` is what it was promised before.
    pub fn arm(&mut self, conn: ConnId, at: Time, armed: &mut Option<Time>) {
        if armed.is_none_or(|promised| at < promised) {
            *armed = Some(at);
            self.heap.push(Reverse((at, conn)));
        }
    }

    /// The earliest promise.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next connection whose time has come, with the promise that was made.
    pub fn due(&mut self, now: Time) -> Option<(ConnId, Time)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, conn))| (conn, at))
    }
}
