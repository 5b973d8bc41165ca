//! Segments in: what a connection learns from one (RFC 9293 3.10.7).
//!
//! In: a connection and a segment whose header is sound; out: changed state, events, and answers in the sink. It refuses
//! to know frames and other connections.

use crate::config::Recovery;
use crate::conn::{Conn, Recovering, State};
use crate::core::Core;
use crate::event::{Closing, ConnId, EventKind, ListenerId};
use crate::recovery::DUPLICATES;
use crate::seq::Seq;
use crate::sink::{FrameMeta, FrameSink};
use crate::time::Time;
use crate::wire::tcp::{Segment, flags};
use bypassprof_probe::{self as probe, points};

/// What is to be done with the connection afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It stays.
    Keep,
    /// It stays, and the segment is answered with a RST: it acknowledges what was never sent, so its sender holds a
    /// connection of an earlier life.
    Refuse,
    /// The SYN that came makes a new connection in its place.
    Replace,
}

/// No RST answers a RST.
fn refused(segment: &Segment<'_>) -> After {
    if segment.has(flags::RST) {
        After::Keep
    } else {
        After::Refuse
    }
}

impl Core {
    /// Takes one segment of a connection.
    #[inline(never)]
    pub fn tcp_input(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        meta: &FrameMeta,
        now: Time,
        out: &mut impl FrameSink,
    ) -> After {
        let una = conn.una;
        let after = match conn.state {
            State::Closed => After::Keep,
            State::SynSent => self.in_syn_sent(id, conn, segment, now, out),
            _ => self.in_any_other(id, conn, segment, meta, now, out),
        };
        let kind = (u32::from(segment.flags) << 24) | segment.payload.len() as u32;
        let acked = if conn.state == State::SynSent {
            0
        } else {
            conn.una.since(una)
        };
        meta.burst.emit_with(
            points::TCP_IN,
            conn.flow,
            meta.frame_no,
            [kind, acked, conn.peer_window],
        );
        if conn.state != State::Closed {
            self.send_or_list(id, conn, now, out);
        }
        after
    }

    fn in_syn_sent(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        now: Time,
        out: &mut impl FrameSink,
    ) -> After {
        let acks = segment.has(flags::ACK);
        let acceptable = acks && segment.ack == conn.iss.plus(1);
        if acks && !acceptable {
            self.counters.drop_window += 1;
            return refused(segment);
        }
        if segment.has(flags::RST) {
            if acceptable {
                self.counters.resets_in += 1;
                self.over(id, conn, Closing::Reset);
            }
            return After::Keep;
        }
        if !segment.has(flags::SYN) {
            return After::Keep;
        }
        self.learn_syn(conn, segment);
        if acceptable {
            conn.una = segment.ack;
            conn.next = conn.una;
            conn.max = conn.una;
            conn.rto_due = None;
            conn.unanswered = 0;
            self.measure(conn, now);
            self.learn_window(conn, segment);
            conn.state = State::Established;
            conn.ack_now = true;
            self.counters.connected += 1;
            self.keep_alive(conn, now);
            self.tell(id, conn, EventKind::Connected);
        } else {
            // Both sides opened at once.
            conn.state = State::SynReceived;
            self.handshake(id, conn, now, out);
        }
        After::Keep
    }

    /// What a SYN tells: the peer's first number and what it understands.
    pub fn learn_syn(&mut self, conn: &mut Conn, segment: &Segment<'_>) {
        let policy = &self.config.policy;
        let options = &segment.options;
        conn.irs = segment.seq;
        conn.rcv_next = segment.seq.plus(1);
        conn.rcv_edge = conn.rcv_next;
        conn.last_ack = conn.rcv_next;
        conn.timestamps = policy.timestamps && options.timestamps.is_some();
        conn.sack = policy.sack && options.sack_permitted;
        if let Some((value, _)) = options.timestamps {
            conn.ts_recent = value;
        }
        if policy.window_scaling
            && let Some(scale) = options.scale
        {
            conn.peer_scale = scale;
            conn.scale = self.own_scale();
        }
        let theirs = options.mss.unwrap_or(536).max(64);
        let room = u32::from(theirs.min(self.own_mss()));
        conn.mss = room - if conn.timestamps { 12 } else { 0 };
        conn.window = crate::congestion::Window::new(policy, conn.mss);
        conn.peer_window = u32::from(segment.window);
        conn.largest_window = conn.peer_window;
        conn.window_seq = segment.seq;
        conn.window_ack = segment.ack;
    }

    #[allow(clippy::too_many_lines)]
    fn in_any_other(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        meta: &FrameMeta,
        now: Time,
        out: &mut impl FrameSink,
    ) -> After {
        if conn.state == State::TimeWait && self.may_reuse(conn, segment) {
            self.counters.time_wait_reused += 1;
            return After::Replace;
        }
        if conn.state == State::SynReceived
            && segment.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN
            && segment.seq == conn.irs
        {
            self.handshake(id, conn, now, out);
            return After::Keep;
        }
        if !self.is_new(conn, segment) {
            self.counters.drop_window += 1;
            if !segment.has(flags::RST) {
                conn.ack_now = true;
                if conn.state == State::TimeWait && segment.has(flags::FIN) {
                    self.time_wait(id, conn, now);
                }
                // What does not fit into a closed window may still acknowledge and open the peer's.
                let closed = conn.rcv_edge == conn.rcv_next && segment.seq == conn.rcv_next;
                if closed && conn.state.is_synchronized() && self.is_ack_of_ours(conn, segment) {
                    self.acknowledged(id, conn, segment, now);
                }
                if conn.state != State::Closed {
                    self.acknowledge(id, conn, now, out);
                }
            }
            return After::Keep;
        }
        if segment.has(flags::RST) {
            if segment.seq == conn.rcv_next {
                self.counters.resets_in += 1;
                self.over(id, conn, Closing::Reset);
            } else if self.may_challenge(now) {
                self.acknowledge(id, conn, now, out);
            }
            return After::Keep;
        }
        if segment.has(flags::SYN) {
            if self.may_challenge(now) {
                self.acknowledge(id, conn, now, out);
            }
            return After::Keep;
        }
        if !segment.has(flags::ACK) {
            return After::Keep;
        }
        if conn.state == State::SynReceived {
            if segment.ack != conn.iss.plus(1) {
                self.counters.drop_window += 1;
                return refused(segment);
            }
            self.established(id, conn, segment, now);
        }
        if !self.is_ack_of_ours(conn, segment) {
            self.counters.drop_window += 1;
            if self.may_challenge(now) {
                self.acknowledge(id, conn, now, out);
            }
            return After::Keep;
        }
        if conn.timestamps
            && let Some((value, _)) = segment.options.timestamps
            && !segment.seq.after(conn.last_ack)
        {
            conn.ts_recent = value;
        }
        self.keep_alive(conn, now);
        self.acknowledged(id, conn, segment, now);
        if conn.state == State::Closed {
            return After::Keep;
        }
        self.take_data(id, conn, segment, meta, now, out);
        After::Keep
    }

    /// RFC 6191: a SYN may take the place of a connection in TIME-WAIT if it is clearly newer.
    fn may_reuse(&self, conn: &Conn, segment: &Segment<'_>) -> bool {
        let syn = segment.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN;
        let newer = match segment.options.timestamps {
            Some((value, _)) if conn.timestamps => {
                Seq(value).after(Seq(conn.ts_recent)) || segment.seq.after(conn.rcv_next)
            }
            _ => segment.seq.after(conn.rcv_next),
        };
        syn && newer
    }

    /// Whether the segment acknowledges something we may have sent (RFC 5961 5).
    fn is_ack_of_ours(&self, conn: &Conn, segment: &Segment<'_>) -> bool {
        let oldest = Seq(conn.una.0.wrapping_sub(conn.largest_window));
        segment.has(flags::ACK) && !segment.ack.after(conn.max) && !segment.ack.before(oldest)
    }

    /// Whether the segment lies in the window and is no old duplicate (RFC 9293 3.4, RFC 7323 5).
    fn is_new(&self, conn: &Conn, segment: &Segment<'_>) -> bool {
        if conn.timestamps && !segment.has(flags::RST) {
            match segment.options.timestamps {
                Some((value, _)) if !Seq(value).before(Seq(conn.ts_recent)) => {}
                _ => return false,
            }
        }
        let (start, end) = (segment.seq, segment.seq.plus(segment.len()));
        let edge = conn.rcv_edge.max(conn.rcv_next);
        if segment.is_empty() {
            return !start.before(conn.rcv_next) && !start.after(edge);
        }
        start.before(edge) && end.after(conn.rcv_next)
    }

    fn established(&mut self, id: ConnId, conn: &mut Conn, segment: &Segment<'_>, now: Time) {
        conn.state = State::Established;
        conn.una = segment.ack;
        conn.rto_due = None;
        conn.unanswered = 0;
        self.measure(conn, now);
        conn.window_seq = Seq(segment.seq.0.wrapping_sub(1));
        self.learn_window(conn, segment);
        if let Some(port) = conn.listener.take() {
            conn.held = true;
            self.counters.accepted += 1;
            self.tell(id, conn, EventKind::Accepted(ListenerId(port)));
        } else {
            self.counters.connected += 1;
            self.tell(id, conn, EventKind::Connected);
        }
    }

    /// The timed segment, if there is one, is acknowledged now.
    fn measure(&mut self, conn: &mut Conn, now: Time) {
        if let Some((_, since)) = conn.timed.take() {
            conn.rtt.measured(now.since(since));
        }
    }

    fn keep_alive(&self, conn: &mut Conn, now: Time) {
        conn.unanswered = 0;
        conn.keepalive_due = self.config.policy.keepalive.map(|k| now + k.idle);
    }

    fn learn_window(&mut self, conn: &mut Conn, segment: &Segment<'_>) -> bool {
        let newer = conn.window_seq.before(segment.seq)
            || (conn.window_seq == segment.seq && !segment.ack.before(conn.window_ack));
        if !newer {
            return false;
        }
        let window = u32::from(segment.window) << conn.peer_scale;
        let changed = window != conn.peer_window;
        conn.peer_window = window;
        conn.largest_window = conn.largest_window.max(window);
        conn.window_seq = segment.seq;
        conn.window_ack = segment.ack;
        changed
    }

    fn acknowledged(&mut self, id: ConnId, conn: &mut Conn, segment: &Segment<'_>, now: Time) {
        let mut news = false;
        if conn.sack {
            for block in segment.options.sack.iter().flatten() {
                news |= conn.board.add(*block, segment.ack.max(conn.una), conn.max);
            }
        }
        let changed = self.learn_window(conn, segment);
        if segment.ack.after(conn.una) {
            self.new_ack(id, conn, segment.ack, now);
        } else if segment.ack == conn.una && !conn.all_acknowledged() {
            let duplicate = segment.payload.is_empty() && !segment.has(flags::FIN) && !changed;
            if duplicate || news {
                self.duplicate(conn);
            }
        }
    }

    fn new_ack(&mut self, id: ConnId, conn: &mut Conn, ack: Seq, now: Time) {
        let flight = conn.in_flight();
        let newly = ack.since(conn.una);
        let data = (newly as usize).min(conn.send.len());
        let fin = newly as usize > data;
        conn.send.acknowledge(data);
        self.buffered -= data;
        conn.una = ack;
        conn.next = conn.next.max(ack);
        conn.board.acknowledged(ack);
        conn.duplicates = 0;
        if conn.timed.is_some_and(|(seq, _)| !ack.before(seq)) {
            self.measure(conn, now);
        } else {
            conn.rtt.forward();
        }
        match conn.recovering {
            Recovering::Fast { until, .. } if ack.before(until) => {
                if !conn.sack {
                    // RFC 6582 3.2: the next hole is known, the window shrinks by what left.
                    conn.resend = true;
                    conn.inflated = (conn.inflated + conn.mss).saturating_sub(newly);
                }
            }
            Recovering::Fast { .. } => {
                conn.recovering = Recovering::No;
                conn.inflated = 0;
                conn.resend = false;
            }
            Recovering::GoBack { until } => {
                if !ack.before(until) {
                    conn.recovering = Recovering::No;
                }
                conn.window.acknowledged(newly, now, conn.rtt.smoothed());
            }
            Recovering::No => {
                // A window that was not used does not grow (RFC 7661's concern, RFC 9438 5.8).
                if flight.saturating_mul(2) >= conn.window.bytes() {
                    conn.window.acknowledged(newly, now, conn.rtt.smoothed());
                }
            }
        }
        conn.rto_due = if conn.all_acknowledged() {
            None
        } else {
            Some(now + self.timeout(conn))
        };
        if fin {
            self.fin_acknowledged(id, conn, now);
        }
        let room = self
            .config
            .policy
            .send_buffer
            .saturating_sub(conn.send.len());
        if conn.wants_room && room >= (self.config.policy.send_buffer / 4).max(1) {
            conn.wants_room = false;
            self.tell(id, conn, EventKind::Writable);
        }
    }

    fn fin_acknowledged(&mut self, id: ConnId, conn: &mut Conn, now: Time) {
        conn.fin_acked = true;
        match conn.state {
            State::FinWait1 => {
                conn.state = State::FinWait2;
                if !conn.held {
                    // Nobody will read what may still come: the peer has as long as TIME-WAIT lasts.
                    conn.end_due = Some(now + self.config.policy.time_wait);
                }
            }
            State::Closing => self.time_wait(id, conn, now),
            State::LastAck => self.over(id, conn, Closing::Done),
            _ => {}
        }
    }

    fn duplicate(&mut self, conn: &mut Conn) {
        conn.duplicates += 1;
        match conn.recovering {
            Recovering::Fast { .. } => {
                if !conn.sack {
                    conn.inflated += conn.mss;
                }
            }
            Recovering::GoBack { .. } => {}
            Recovering::No => {
                let by_sack = conn.sack && conn.board.sacked() >= conn.loss_distance();
                if conn.duplicates >= DUPLICATES || by_sack {
                    self.recover(conn);
                }
            }
        }
    }

    fn recover(&mut self, conn: &mut Conn) {
        self.counters.fast_recoveries += 1;
        conn.window.lost(conn.in_flight());
        conn.timed = None;
        match self.config.policy.recovery {
            Recovery::Standard => {
                conn.recovering = Recovering::Fast {
                    until: conn.max,
                    again: conn.una,
                };
                conn.resend = true;
                conn.inflated = if conn.sack { 0 } else { DUPLICATES * conn.mss };
            }
            Recovery::GoBackN => {
                conn.recovering = Recovering::GoBack { until: conn.max };
                conn.next = conn.una;
            }
        }
    }

    fn take_data(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        meta: &FrameMeta,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        if !conn.state.receives() {
            if !segment.is_empty() {
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
        if segment.has(flags::FIN) {
            conn.peer_fin = Some(segment.seq.plus(segment.payload.len() as u32));
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

    fn take_payload(
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
                self.owe_ack(conn, now);
            }
            self.tell_readable(id, conn);
            if probe::enabled() {
                let age = probe::now().since(meta.burst.stamp()).ticks();
                let depth = conn.recv.readable() as u32;
                let age = age.min(u64::from(u32::MAX)) as u32;
                probe::emit_with(points::DELIVER, conn.flow, new as u32, [depth, age, 0]);
            }
        } else {
            conn.recv.early(at, data);
            self.counters.out_of_order += 1;
            conn.ack_now = true;
        }
        self.buffered = self.buffered + conn.recv.held() - held;
    }
}
