//! What a segment brings: payload in order, payload that came early, the end of the peer's stream.
//!
//! In: segments that are in place; out: bytes for the application, acknowledgements that are due.

use crate::conn::{Conn, State};
use crate::core::Core;
use crate::event::{Closing, ConnId, EventKind};
use crate::sink::{FrameMeta, FrameSink};
use crate::time::Time;
use crate::wire::tcp::{Segment, flags};
use bypassprof_probe::{self as probe, points};

impl Core {
    pub(super) fn take_data(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        meta: &FrameMeta,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        if !conn.state.receives() {
            if segment.len() > 0 {
                conn.ack_now = true;
            }
            return;
        }
        if !segment.payload.is_empty() {
            if !conn.held {
                // The application is gone and data came: it must not be taken for received (RFC 9293 3.10.7.4).
                self.reset(id, conn, now, out);
                self.over(id, conn, Closing::Reset);
                return;
            }
            self.take_payload(id, conn, segment, meta, now);
        }
        let end = segment.seq.plus(segment.payload.len() as u32);
        if segment.has(flags::FIN) && !end.before(conn.rcv_next) {
            conn.peer_fin = Some(end);
        }
        if conn.peer_fin == Some(conn.rcv_next) {
            conn.peer_fin = None;
            conn.rcv_next = conn.rcv_next.plus(1);
            conn.rcv_edge = conn.rcv_edge.max(conn.rcv_next);
            conn.peer_closed = true;
            conn.ack_now = true;
            self.tell(id, conn, EventKind::PeerClosed);
            match conn.state {
                State::Established => conn.state = State::CloseWait,
                State::FinWait1 => conn.state = State::Closing,
                State::FinWait2 => self.time_wait(id, conn, now),
                _ => {}
            }
        }
    }

    pub(super) fn take_payload(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        meta: &FrameMeta,
        now: Time,
    ) {
        let mut at = segment.seq;
        let mut data = segment.payload;
        // What is known already, and what lies beyond the window.
        let known = conn.rcv_next.since(at) as usize;
        data = data.get(known..).unwrap_or(&[]);
        at = at.max(conn.rcv_next);
        let room = conn.rcv_edge.since(at) as usize;
        data = &data[..data.len().min(room)];
        if data.is_empty() {
            conn.ack_now = true;
            return;
        }
        if self.buffered + data.len() > self.config.buffer_memory {
            self.counters.drop_memory += 1;
            probe::emit(points::DROP, conn.flow, (5 << 24) | 1);
            return;
        }
        let held = conn.recv.held();
        if at == conn.rcv_next {
            let gap = conn.recv.has_early();
            let new = conn.recv.in_order(at, data);
            conn.rcv_next = at.plus(new as u32);
            self.counters.bytes_in += new as u64;
            if gap {
                conn.ack_now = true;
            } else {
                self.owe_ack(conn, data.len() as u32, now);
            }
            self.tell_readable(id, conn);
            if self.config.policy.api_probes && probe::enabled() {
                let age = probe::now().since(meta.burst.stamp()).ticks();
                let depth = conn.recv.readable() as u32;
                let age = age.min(u64::from(u32::MAX)) as u32;
                probe::emit_with(points::DELIVER, conn.flow, new as u32, [depth, age, 0]);
            }
        } else {
            conn.ack_now = true;
            if !conn.recv.early(conn.rcv_next, at, data) {
                self.counters.drop_memory += 1;
                return;
            }
            self.counters.out_of_order += 1;
        }
        self.buffered = self.buffered + conn.recv.held() - held;
    }
}
