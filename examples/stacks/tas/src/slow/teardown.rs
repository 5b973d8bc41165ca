//! How connections end: both sides' FINs, resets either way, applications that go, addresses that rest a while.
//!
//! In: what the fast path, the peer, the application or a timer says; out: resets, places and rings that are free
//! again. A ring is given to another flow only when its application has closed the flow: until then it may write to it.

use super::conn::State;
use super::timers::Kind;
use super::{SlowPath, points, probe};
use crate::entry::{FlowId, KernelOut};
use crate::flow::Key;
use crate::frame::Outline;
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::{Options, Segment, flags};
use std::collections::{HashMap, VecDeque};

/// Most addresses remembered.
const MOST_ENDED: usize = 65_536;

/// Addresses of connections that have ended, for a while (RFC 9293 3.6.1): their peer's last FIN may come again.
#[derive(Debug, Default)]
pub struct Ended {
    by_key: HashMap<Key, Rest>,
    order: VecDeque<(u64, Key)>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: u64,
    next: Seq,
    rx_next: Seq,
    options: Options,
}

impl Ended {
    fn insert(&mut self, key: Key, rest: Rest) {
        if self.order.len() < MOST_ENDED {
            self.order.push_back((rest.until, key));
            self.by_key.insert(key, rest);
        }
    }

    /// Forgets those whose time is over.
    pub fn forget(&mut self, now: u64) {
        while let Some(&(until, key)) = self.order.front()
            && until <= now
        {
            self.order.pop_front();
            if self.by_key.get(&key).is_some_and(|r| r.until <= now) {
                self.by_key.remove(&key);
            }
        }
    }

    /// Whether a SYN begins a new connection rather than being a late one: RFC 6191.
    pub fn lets_begin(&mut self, key: Key, segment: &Segment<'_>) -> bool {
        let Some(rest) = self.by_key.get(&key) else {
            return true;
        };
        let clocks = segment.options.timestamps.zip(rest.options.timestamps);
        let later = clocks.is_some_and(|(new, old)| (new.0.wrapping_sub(old.1) as i32) > 0);
        let newer = later || segment.seq.after(rest.rx_next);
        if newer {
            self.by_key.remove(&key);
        }
        newer
    }
}

impl SlowPath {
    /// A segment for an address that rests: its FIN is acknowledged again. Whether there is such an address.
    pub(super) fn late(
        &mut self,
        core: usize,
        key: Key,
        mac: [u8; 6],
        segment: &Segment<'_>,
    ) -> bool {
        let Some(&rest) = self.ended.by_key.get(&key) else {
            return false;
        };
        if segment.len() > 0 && !segment.has(flags::RST) {
            let outline = Outline {
                key,
                mac,
                seq: rest.next,
                ack: rest.rx_next,
                flags: flags::ACK,
                window: 0,
                options: rest.options,
                payload: 0,
            };
            self.send(core, outline);
        }
        true
    }

    /// An application is through with a flow.
    pub(super) fn close(&mut self, context: u8, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id.index) else {
            return;
        };
        if conn.generation != id.generation || conn.context != context {
            return;
        }
        match conn.state {
            State::Open => {
                conn.state = State::Closing;
                let mut finished = false;
                if let Some(mut flow) = self.shared.table.lock(id.index) {
                    flow.app_closed = true;
                    finished = flow.finished();
                }
                if finished {
                    self.finished(id);
                } else {
                    let wait = self.config.fin_wait.as_nanos() as u64;
                    self.timers.set(self.now + wait, id, Kind::Closing);
                }
            }
            State::Dead => self.drop_conn(id.index),
            _ => {}
        }
    }

    /// Both sides have closed, and the application is through.
    pub(super) fn finished(&mut self, id: FlowId) {
        let state = self.conns.get(id.index).map(|c| c.state);
        if !self.is(id) || state != Some(State::Closing) {
            return;
        }
        if let Some(flow) = self.shared.table.lock(id.index) {
            let rest = Rest {
                until: self.now + self.config.time_wait.as_nanos() as u64,
                next: flow.next(),
                rx_next: flow.rx_next_seq,
                options: flow.options(self.now),
            };
            self.ended.insert(flow.key, rest);
        }
        self.drop_conn(id.index);
    }

    /// The peer says that there is no such connection (RFC 5961 3: only the exact number is believed).
    pub(super) fn peer_reset(&mut self, index: u32, segment: &Segment<'_>) {
        let expected = self
            .shared
            .table
            .lock(index)
            .map(|f| (f.rx_next_seq, f.rx_avail));
        let Some((next, room)) = expected else {
            return;
        };
        if segment.seq == next {
            self.end(index, false);
        } else if segment.seq.after(next) && segment.seq.since(next) <= room {
            self.challenge(index);
        }
    }

    /// Resets a connection to its peer and tells its application.
    pub(super) fn reset(&mut self, index: u32, timeout: bool) {
        self.send_reset(index);
        self.end(index, timeout);
    }

    fn send_reset(&mut self, index: u32) {
        let Some(flow) = self.shared.table.lock(index) else {
            return;
        };
        if !flow.open {
            return;
        }
        let outline = Outline {
            key: flow.key,
            mac: flow.mac,
            seq: flow.next(),
            ack: flow.rx_next_seq,
            flags: flags::RST | flags::ACK,
            window: 0,
            options: Options::default(),
            payload: 0,
        };
        let (core, label) = (usize::from(flow.core), flow.label);
        drop(flow);
        probe::emit(points::DROP, label, 0x0500_0002);
        self.send(core, outline);
    }

    /// A connection is no more; its application hears of it, unless it is through already.
    fn end(&mut self, index: u32, timeout: bool) {
        let Some(conn) = self.conns.get_mut(index) else {
            return;
        };
        let (state, context, opaque, key) = (conn.state, conn.context, conn.opaque, conn.syn.key);
        match state {
            State::SynReceived { .. } => self.drop_half_open(index),
            State::Closing => self.drop_conn(index),
            State::Dead => {}
            State::Open => {
                conn.state = State::Dead;
                self.conns.forget_key(key);
                self.shared.table.remove(key, index);
                if let Some(mut flow) = self.shared.table.lock(index) {
                    flow.open = false;
                }
                self.tell_application(context, KernelOut::Reset { opaque, timeout });
            }
        }
    }

    /// Frees a connection's place and rings.
    pub(super) fn drop_conn(&mut self, index: u32) {
        let Some(conn) = self.conns.remove(index) else {
            return;
        };
        self.shared.table.remove(conn.syn.key, index);
        if let Some(mut flow) = self.shared.table.lock(index) {
            flow.clear();
        }
        self.give_slot(conn.context, conn.slot);
    }

    /// Resets and frees whatever a context has.
    pub(super) fn drop_all_of(&mut self, context: u8) {
        for index in self.conns.of_context(context) {
            if let Some(State::SynReceived { .. }) = self.conns.get(index).map(|c| c.state) {
                self.half_open_count -= 1;
            } else {
                self.send_reset(index);
            }
            self.drop_conn(index);
        }
        for listeners in self.listeners.values_mut() {
            listeners.retain(|l| l.context != context);
        }
    }
}
