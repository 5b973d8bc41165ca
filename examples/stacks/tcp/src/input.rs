//! Segments in: what a connection learns from one (RFC 9293 3.10.7).
//!
//! In: a connection and a segment whose header is sound; out: changed state, events, and answers in the sink. It refuses
//! to know frames and other connections.

mod acks;
mod data;

use crate::congestion::Window;
use crate::conn::{Conn, Recovering, State};
use crate::core::Core;
use crate::event::{Closing, ConnId, EventKind, ListenerId};
use crate::output::LEAST_MSS;
use crate::seq::Seq;
use crate::sink::{FrameMeta, FrameSink};
use crate::time::Time;
use crate::wire::icmp::Problem;
use crate::wire::ipv4;
use crate::wire::tcp::{self, Segment, flags};
use bypassprof_probe::points;
use std::time::Duration;

/// A timestamp that is older says nothing about what is new: its clock may have wrapped (RFC 7323 5.5).
const TIMESTAMPS_AGE: Duration = Duration::from_secs(24 * 24 * 3600);

/// What is to be done with the connection afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It stays.
    Keep,
    /// It stays, and the segment is answered with a RST: it acknowledges what was never sent, so its sender holds a
    /// connection of an earlier life.
    Refuse,
    /// The SYN that came makes a new connection in its place, whose numbers begin behind this one.
    Replace(Seq),
}

/// Where a segment lies (RFC 9293 3.10.7.4, first check).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the window.
    Window,
    /// Outside, or an old duplicate by its timestamp: to be answered.
    Outside,
    /// Without the timestamp that was agreed on: not to be looked at (RFC 7323 3.2).
    Unstamped,
}

/// Bytes of IPv4 and TCP headers without options.
const HEADERS: u16 = (ipv4::HEADER + tcp::HEADER) as u16;

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
        if let Some(planted) = self.config.policy.planted
            && !segment.payload.is_empty()
        {
            planted();
        }
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
        self.learn_syn(conn, segment, now);
        if acceptable {
            conn.next = segment.ack;
            conn.max = segment.ack;
            conn.ack_now = true;
            self.established(id, conn, segment, now);
            self.keep_alive(conn, now);
        } else {
            // Both sides opened at once.
            conn.state = State::SynReceived;
            self.handshake(id, conn, now, out);
        }
        After::Keep
    }

    /// What a SYN tells: the peer's first number and what it understands.
    pub fn learn_syn(&mut self, conn: &mut Conn, segment: &Segment<'_>, now: Time) {
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
            conn.ts_recent_at = now;
        }
        // A SYN that would tell of marks has both bits, its answer only the one (RFC 3168 6.1.1).
        let told = segment.flags & (flags::ECE | flags::CWR);
        let agreed = if segment.has(flags::ACK) {
            flags::ECE
        } else {
            flags::ECE | flags::CWR
        };
        conn.ecn = policy.ecn && told == agreed;
        if policy.window_scaling
            && let Some(scale) = options.scale
        {
            conn.peer_scale = scale;
            conn.scale = self.own_scale();
        }
        let theirs = options.mss.unwrap_or(536).max(LEAST_MSS);
        let mut room = theirs.min(self.own_mss());
        if let Some(path) = self.paths.get(conn.peer.0, now) {
            room = room.min(path - HEADERS);
        }
        conn.mss = u32::from(room) - conn.stamp_bytes();
        conn.window = Window::new(policy, conn.mss, policy.initial_window);
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
        if conn.state == State::TimeWait && may_reuse(conn, segment) {
            self.counters.time_wait_reused += 1;
            return After::Replace(conn.max);
        }
        if conn.state == State::SynReceived {
            // Where a half-open connection's answers go is only known from what came.
            conn.mac = Some(conn.came_from);
        }
        let syn = segment.flags & (flags::SYN | flags::ACK | flags::RST);
        if conn.state == State::SynReceived && segment.seq == conn.irs {
            if syn == flags::SYN {
                if self.may_answer_stray(conn, false, now) {
                    self.handshake(id, conn, now, out);
                }
                return After::Keep;
            }
            // Both sides opened at once, and this is the answer to our SYN (RFC 9293 figure 8).
            if syn == flags::SYN | flags::ACK && segment.ack == conn.iss.plus(1) {
                self.established(id, conn, segment, now);
                return After::Keep;
            }
        }
        match self.place(conn, segment, now) {
            Place::Window => {}
            Place::Unstamped => {
                self.counters.drop_window += 1;
                return After::Keep;
            }
            Place::Outside => {
                self.counters.drop_window += 1;
                if !segment.has(flags::RST) {
                    self.stray(id, conn, segment, now, out);
                }
                return After::Keep;
            }
        }
        if segment.has(flags::RST) {
            self.reset_came(id, conn, segment, now, out);
            return After::Keep;
        }
        if segment.has(flags::SYN) {
            if self.may_answer_stray(conn, false, now) && self.may_challenge(now) {
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
            let asks = !segment.payload.is_empty();
            if self.may_answer_stray(conn, asks, now) && self.may_challenge(now) {
                self.acknowledge(id, conn, now, out);
            }
            return After::Keep;
        }
        if conn.timestamps
            && let Some((value, _)) = segment.options.timestamps
            && !segment.seq.after(conn.last_ack)
        {
            conn.ts_recent = value;
            conn.ts_recent_at = now;
        }
        self.keep_alive(conn, now);
        self.acknowledged(id, conn, segment, now);
        if conn.state == State::Closed {
            return After::Keep;
        }
        if conn.ecn {
            self.hear_marks(conn, segment);
        }
        self.take_data(id, conn, segment, meta, now, out);
        After::Keep
    }

    /// A segment from outside the window: its sender learns where we are.
    fn stray(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        if conn.state == State::TimeWait && segment.has(flags::FIN) {
            self.time_wait(id, conn, now);
        }
        // Whoever repeats what we have may not hear us: the answer goes back the way this came.
        conn.mac = Some(conn.came_from);
        // What does not fit into a closed window may still acknowledge and open the peer's.
        let closed = conn.rcv_edge == conn.rcv_next && segment.seq == conn.rcv_next;
        if closed && conn.state.is_synchronized() && self.is_ack_of_ours(conn, segment) {
            self.keep_alive(conn, now);
            self.acknowledged(id, conn, segment, now);
        }
        let asks = segment.len() > 0 && !segment.has(flags::SYN);
        if conn.state != State::Closed && self.may_answer_stray(conn, asks, now) {
            self.acknowledge(id, conn, now, out);
        }
    }

    /// RST in the window (RFC 9293 3.10.7.4, RFC 5961 3.2, RFC 1337).
    fn reset_came(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        if conn.state == State::TimeWait {
            // An old one must not cut the quiet time short.
            return;
        }
        if segment.seq == conn.rcv_next {
            self.counters.resets_in += 1;
            // Whoever has got all and sends no more may well be gone.
            let all = matches!(conn.state, State::Closing | State::LastAck) && conn.send.len() == 0;
            let why = if all { Closing::Done } else { Closing::Reset };
            self.over(id, conn, why);
        } else if self.may_challenge(now) {
            self.acknowledge(id, conn, now, out);
        }
    }

    /// What the network says about a segment of ours; false if we have none like it on its way (RFC 5927 4.1).
    pub fn icmp_error(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        seq: Seq,
        problem: Problem,
        now: Time,
        out: &mut impl FrameSink,
    ) -> bool {
        let on_its_way = !seq.before(conn.una) && seq.before(conn.max);
        if !on_its_way || conn.state == State::Closed {
            return false;
        }
        match problem {
            Problem::Refused if conn.state == State::SynSent => {
                self.over(id, conn, Closing::Unreachable);
            }
            // It may pass: the segment is sent again (RFC 5927 5.2), and this is the reason if nothing helps.
            Problem::Refused | Problem::Unreachable => conn.unreachable = true,
            Problem::TooLarge(told, length) => {
                let size = crate::path_mtu::PathMtu::reported(told, length);
                let mss = u32::from(size - HEADERS) - conn.stamp_bytes();
                if mss >= conn.mss {
                    return false;
                }
                self.paths.remember(conn.peer.0, size, now);
                self.counters.paths_narrowed += 1;
                conn.mss = mss;
                conn.window.segment_size(mss);
                if conn.state.is_synchronized() && !conn.all_acknowledged() {
                    // What was too large is sent again in smaller pieces; the path is not congested (RFC 1191 6.5).
                    conn.recovering = Recovering::GoBack { until: conn.max };
                    conn.board.clear();
                    conn.next = conn.una;
                    conn.timed = None;
                    self.send_or_list(id, conn, now, out);
                }
            }
        }
        true
    }

    /// Whether the segment acknowledges something we may have sent (RFC 5961 5).
    fn is_ack_of_ours(&self, conn: &Conn, segment: &Segment<'_>) -> bool {
        let oldest = Seq(conn.una.0.wrapping_sub(conn.largest_window));
        segment.has(flags::ACK) && !segment.ack.after(conn.max) && !segment.ack.before(oldest)
    }

    /// Where the segment lies (RFC 9293 3.4, RFC 7323 5).
    fn place(&self, conn: &Conn, segment: &Segment<'_>, now: Time) -> Place {
        if conn.timestamps && !segment.has(flags::RST) {
            let Some((value, _)) = segment.options.timestamps else {
                return Place::Unstamped;
            };
            let old = Seq(value).before(Seq(conn.ts_recent));
            if old && now.since(conn.ts_recent_at) <= TIMESTAMPS_AGE {
                return Place::Outside;
            }
        }
        let (start, end) = (segment.seq, segment.seq.plus(segment.len()));
        let edge = conn.rcv_edge.max(conn.rcv_next);
        let inside = if segment.len() == 0 {
            !start.before(conn.rcv_next) && !start.after(edge)
        } else {
            start.before(edge) && end.after(conn.rcv_next)
        };
        if inside {
            Place::Window
        } else {
            Place::Outside
        }
    }

    fn established(&mut self, id: ConnId, conn: &mut Conn, segment: &Segment<'_>, now: Time) {
        conn.state = State::Established;
        conn.una = segment.ack;
        conn.rto_due = None;
        conn.unanswered = 0;
        conn.unreachable = false;
        let again = conn.retransmits > 0;
        self.measure(conn, now);
        conn.rtt.handshake_over(again);
        if again {
            // A path that loses handshakes is begun with one segment (RFC 5681 3.1).
            conn.window = Window::new(&self.config.policy, conn.mss, 1);
        }
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

    /// The peer is there.
    fn keep_alive(&self, conn: &mut Conn, now: Time) {
        conn.unanswered = 0;
        if conn.state != State::TimeWait {
            conn.keepalive_due = self.config.policy.keepalive.map(|k| now + k.idle);
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
}

/// RFC 6191 2: a SYN may take the place of a connection in TIME-WAIT if it is clearly newer.
fn may_reuse(conn: &Conn, segment: &Segment<'_>) -> bool {
    let syn = segment.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN;
    let further = !segment.seq.before(conn.rcv_next);
    let newer = match segment.options.timestamps {
        Some((value, _)) if conn.timestamps => {
            let (theirs, last) = (Seq(value), Seq(conn.ts_recent));
            theirs.after(last) || (theirs == last && further)
        }
        Some(_) => true,
        None => further,
    };
    syn && newer
}
