//! The slow path's few timers: half-open connections, closings that take long, forgotten addresses, seconds.
//!
//! In: deadlines; out: names whose time has come. A name may be stale by then: whoever takes it looks.

use super::{SlowPath, State};
use crate::entry::FlowId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The third segment has not come.
    Handshake,
    /// The peer has not closed.
    Closing,
}

/// Deadlines in ns and whose they are.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(u64, u32, u16, Kind)>>,
}

impl Timers {
    /// Sets one.
    pub fn set(&mut self, due: u64, id: FlowId, kind: Kind) {
        self.heap
            .push(Reverse((due, id.index, id.generation, kind)));
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due, ..))| *due)
    }

    /// The next one that is due.
    fn pop(&mut self, now: u64) -> Option<(FlowId, Kind)> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, index, generation, kind)) = self.heap.pop()?;
        Some((FlowId { index, generation }, kind))
    }
}

impl SlowPath {
    /// Runs what is due.
    #[inline(never)]
    pub(super) fn util_timeout_poll(&mut self) {
        if self.now >= self.next_second {
            self.next_second = self.now + 1_000_000_000;
            self.strangers = 0;
            self.ended.forget(self.now);
        }
        let mut ran = 0;
        while let Some((id, kind)) = self.timers.pop(self.now) {
            if !self.is(id) {
                continue;
            }
            ran += 1;
            match (kind, self.conns.get(id.index).map(|c| c.state)) {
                (Kind::Handshake, Some(State::SynReceived { tries })) => {
                    self.syn_ack_again(id.index, tries);
                }
                (Kind::Closing, Some(State::Closing)) => self.reset(id.index, true),
                _ => {}
            }
        }
        self.did(ran);
    }
}
