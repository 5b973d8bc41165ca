//! Segments out: what windows, losses and policy allow now.
//!
//! In: a connection whose state has changed; out: frames in the sink. It refuses to judge what came in.

use crate::config::{AckPolicy, OutputMode};
use crate::conn::{Conn, Recovering, State, Waiting};
use crate::core::Core;
use crate::event::ConnId;
use crate::seq::Seq;
use crate::sink::{FrameSink, TxFrame, TxHints};
use crate::time::Time;
use crate::wire::tcp::{self, Header, Options, SACK_BLOCKS, flags};
use crate::wire::{ETHERNET, TYPE_IPV4, arp, ipv4, write_ethernet};
use bypassprof_probe::{self as probe, points};
use std::time::Duration;

/// What a segment is for: the codes of `tcp_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data = 0,
    Ack = 1,
    Again = 2,
    Probe = 3,
    Control = 4,
}

/// What keeps more from being sent: the codes of `tcp_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    None = 0,
    App = 1,
    Cwnd = 2,
    Peer = 3,
    Pace = 5,
}

/// What a segment carries besides what the connection says of itself.
struct Carries {
    seq: Seq,
    len: u32,
    flags: u8,
    kind: Kind,
    limit: Limit,
}

impl Core {
    /// Sends what may be sent, or keeps it for the lists in deferred mode.
    pub fn send_or_list(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        if self.config.policy.output == OutputMode::Immediate || !conn.state.is_synchronized() {
            self.output(id, conn, now, out);
            return;
        }
        if conn.ack_now && !conn.on_ack_list {
            conn.on_ack_list = true;
            self.acks.push_back(id);
        }
        if (conn.unsent() > 0 || conn.fin_due() || conn.resend) && !conn.on_data_list {
            conn.on_data_list = true;
            self.data.push_back(id);
        }
    }

    /// Sends what windows and policy allow; an acknowledgement that is due rides along or goes alone.
    #[inline(never)]
    pub fn output(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        if conn.mac.is_none() {
            return;
        }
        while let Some(carries) = self.next_segment(conn, now) {
            if !self.segment(id, conn, &carries, now, out) {
                return;
            }
            self.sent(conn, &carries, now);
        }
        if conn.ack_now {
            self.acknowledge(id, conn, now, out);
        }
        self.watch_window(conn, now);
    }

    /// What to send next; `None` when nothing may.
    fn next_segment(&mut self, conn: &mut Conn, now: Time) -> Option<Carries> {
        if !conn.state.sends() {
            return None;
        }
        if let Some(again) = hole(conn) {
            return Some(again);
        }
        let avail = conn.unsent();
        let fin = conn.fin_due();
        if avail == 0 && !fin {
            return None;
        }
        if conn.pace_due.is_some_and(|due| due > now) {
            return None;
        }
        let flight = conn.in_flight();
        let cwnd = conn.window.bytes().saturating_add(conn.inflated);
        let by_cwnd = cwnd.saturating_sub(flight);
        let by_peer = conn.una.plus(conn.peer_window).since(conn.next);
        let len = avail.min(conn.mss).min(by_cwnd).min(by_peer);
        let last = len == avail;
        let with_fin = fin && last;
        if len == 0 && !(with_fin && avail == 0) {
            return None;
        }
        // Silly windows (RFC 9293 3.8.6.2.1): a piece that windows cut short waits for a better one.
        let cut = len < conn.mss && !last;
        if cut && !(flight == 0 && len >= conn.largest_window / 2) {
            return None;
        }
        let nagle = self.config.policy.nagle && !conn.fin_wanted;
        if nagle && len < conn.mss && flight > 0 {
            return None;
        }
        let limit = match () {
            () if last => Limit::App,
            () if by_peer.min(by_cwnd) > len + conn.mss => Limit::None,
            () if by_peer < by_cwnd => Limit::Peer,
            () => Limit::Cwnd,
        };
        let mut bits = flags::ACK;
        if last && len > 0 {
            bits |= flags::PSH;
        }
        if with_fin {
            bits |= flags::FIN;
        }
        Some(Carries {
            seq: conn.next,
            len,
            flags: bits,
            kind: match () {
                () if conn.next.before(conn.max) => Kind::Again,
                () if len == 0 => Kind::Control,
                () => Kind::Data,
            },
            limit: if conn.rate > 0 { Limit::Pace } else { limit },
        })
    }

    /// Takes note of a segment that is on its way.
    fn sent(&mut self, conn: &mut Conn, carries: &Carries, now: Time) {
        let end = carries
            .seq
            .plus(carries.len + u32::from(carries.flags & flags::FIN != 0));
        if carries.flags & flags::FIN != 0 {
            conn.state = match conn.state {
                State::Established => State::FinWait1,
                State::CloseWait => State::LastAck,
                other => other,
            };
        }
        if carries.kind == Kind::Again {
            self.counters.retransmits += 1;
            conn.retransmits = conn.retransmits.saturating_add(1);
            // Karn: what was sent twice measures nothing.
            conn.timed = None;
        } else {
            self.counters.bytes_out += u64::from(carries.len);
            if conn.timed.is_none() && end.after(carries.seq) {
                conn.timed = Some((end, now));
            }
        }
        conn.resend = false;
        match &mut conn.recovering {
            Recovering::Fast { again, .. } if carries.seq.before(conn.next) => *again = end,
            _ => conn.next = conn.next.max(end),
        }
        conn.max = conn.max.max(conn.next);
        if conn.rto_due.is_none() || conn.waiting == Waiting::Window {
            conn.waiting = Waiting::Ack;
            conn.rto_due = Some(now + self.timeout(conn));
        }
        if conn.rate > 0 {
            let bits = u128::from(carries.len) * 1_000_000_000;
            let gap = Duration::from_nanos((bits / u128::from(conn.rate)) as u64);
            conn.pace_due = Some(conn.pace_due.map_or(now, |due| due.max(now)) + gap);
        }
    }

    /// Data that waits for a window with nothing on its way has to ask (RFC 9293 3.8.6.1).
    fn watch_window(&mut self, conn: &mut Conn, now: Time) {
        let waits = conn.state.sends()
            && conn.all_acknowledged()
            && (conn.unsent() > 0 || conn.fin_due())
            && conn.pace_due.is_none();
        if waits && conn.rto_due.is_none() {
            conn.waiting = Waiting::Window;
            conn.rto_due = Some(now + self.timeout(conn));
        }
    }

    /// One byte beyond the window, so that the peer tells its window again.
    pub fn probe_window(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let len = conn.unsent().min(1);
        let fin = len == 0 && conn.fin_due();
        let carries = Carries {
            seq: conn.next,
            len,
            flags: flags::ACK | if fin { flags::FIN } else { 0 },
            kind: Kind::Probe,
            limit: Limit::Peer,
        };
        self.counters.window_probes += 1;
        if self.segment(id, conn, &carries, now, out) {
            conn.max = conn.max.max(carries.seq.plus(len + u32::from(fin)));
        }
    }

    /// A byte before the window, so that the peer says whether it is there (RFC 9293 3.8.4).
    pub fn probe_alive(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let carries = Carries {
            seq: conn.una.plus(u32::MAX),
            len: 0,
            flags: flags::ACK,
            kind: Kind::Probe,
            limit: Limit::None,
        };
        self.counters.keepalive_probes += 1;
        self.segment(id, conn, &carries, now, out);
    }

    /// A segment that only acknowledges.
    pub fn acknowledge(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let carries = Carries {
            seq: conn.next,
            len: 0,
            flags: flags::ACK,
            kind: Kind::Ack,
            limit: Limit::None,
        };
        if self.segment(id, conn, &carries, now, out) {
            self.counters.pure_acks += 1;
        }
    }

    /// SYN or SYN-ACK.
    pub fn handshake(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let answers = conn.state == State::SynReceived;
        let again = conn.max.after(conn.iss);
        let carries = Carries {
            seq: conn.iss,
            len: 0,
            flags: flags::SYN | if answers { flags::ACK } else { 0 },
            kind: Kind::Control,
            limit: Limit::None,
        };
        // Without the neighbour's address, or room in the sink, nothing has been sent yet.
        if self.segment(id, conn, &carries, now, out) {
            self.counters.retransmits += u64::from(again);
            conn.next = conn.iss.plus(1);
            conn.max = conn.next;
            conn.timed = (!again).then_some((conn.next, now));
        }
        conn.rto_due = Some(now + self.timeout(conn));
        conn.waiting = Waiting::Ack;
    }

    /// Tells the peer that the connection is no more.
    pub fn reset(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        if conn.state == State::SynSent || conn.mac.is_none() {
            return;
        }
        let carries = Carries {
            seq: conn.next,
            len: 0,
            flags: flags::RST | flags::ACK,
            kind: Kind::Control,
            limit: Limit::None,
        };
        if self.segment(id, conn, &carries, now, out) {
            self.counters.resets_out += 1;
        }
    }

    /// Notes that data came which is to be acknowledged, now or soon.
    pub fn owe_ack(&mut self, conn: &mut Conn, now: Time) {
        match self.config.policy.ack {
            AckPolicy::Immediate => conn.ack_now = true,
            AckPolicy::Delayed { timeout, every } => {
                conn.unacked_segments = conn.unacked_segments.saturating_add(1);
                if conn.unacked_segments >= every {
                    conn.ack_now = true;
                } else if conn.ack_due.is_none() {
                    conn.ack_due = Some(now + timeout);
                }
            }
        }
    }

    /// Builds one segment in the sink. False if the sink is full: the connection then has its turn again.
    fn segment(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        carries: &Carries,
        now: Time,
        out: &mut impl FrameSink,
    ) -> bool {
        let Some(mac) = conn.mac else {
            self.counters.unresolved += 1;
            return false;
        };
        let syn = carries.flags & flags::SYN != 0;
        let options = self.options(conn, carries, now);
        let head = ETHERNET + ipv4::HEADER + tcp::HEADER + options.len();
        let offload = self.config.policy.offload_checksums;
        let hints = TxHints {
            checksum: offload.then_some(((ETHERNET + ipv4::HEADER) as u16, 16)),
        };
        let Some(TxFrame { bytes, number }) = out.frame(head + carries.len as usize, hints) else {
            self.counters.sink_full += 1;
            if self.refused.last() != Some(&id) {
                self.refused.push(id);
            }
            return false;
        };
        let acks = carries.flags & flags::ACK != 0;
        let window = if acks {
            self.window_to_tell(conn, syn)
        } else {
            self.config.policy.receive_buffer.min(0xffff) as u16
        };
        let (ip, segment) = bytes[ETHERNET..].split_at_mut(ipv4::HEADER);
        if carries.len > 0 {
            let offset = carries.seq.since(conn.una) as usize;
            let at = tcp::HEADER + options.len();
            conn.send.copy(offset, &mut segment[at..]);
        }
        let header = Header {
            source_port: conn.local_port,
            destination_port: conn.peer.1,
            seq: carries.seq,
            ack: if acks { conn.rcv_next } else { Seq(0) },
            flags: carries.flags,
            window,
            options,
        };
        header.write(segment, self.ip, conn.peer.0, offload);
        self.packet_id = self.packet_id.wrapping_add(1);
        let total = ipv4::HEADER + segment.len();
        ipv4::write(ip, self.ip, conn.peer.0, ipv4::TCP, total, self.packet_id);
        write_ethernet(bytes, mac, self.config.mac, TYPE_IPV4);
        self.counters.frames_out += 1;
        self.counters.segments_out += 1;
        if acks {
            conn.last_ack = conn.rcv_next;
            conn.unacked_segments = 0;
            conn.ack_now = false;
            conn.ack_due = None;
        }
        let kind = ((carries.kind as u32) << 24) | carries.len.min(0xff_ffff);
        probe::emit_with6(
            points::TCP_OUT,
            conn.flow,
            number,
            [
                kind,
                conn.next.since(conn.una),
                conn.window.bytes(),
                conn.peer_window,
                carries.limit as u32,
                0,
            ],
        );
        true
    }

    fn options(&self, conn: &Conn, carries: &Carries, now: Time) -> Options {
        let policy = &self.config.policy;
        let stamps = (Core::timestamp(now), conn.ts_recent);
        if carries.flags & flags::SYN != 0 {
            let answers = conn.state == State::SynReceived;
            let offers = |ours: bool, both: bool| if answers { both } else { ours };
            return Options {
                mss: Some(self.own_mss()),
                scale: offers(policy.window_scaling, conn.scale > 0 || conn.peer_scale > 0)
                    .then_some(self.own_scale()),
                sack_permitted: offers(policy.sack, conn.sack),
                timestamps: offers(policy.timestamps, conn.timestamps).then_some(stamps),
                ..Options::default()
            };
        }
        let most = if conn.timestamps {
            SACK_BLOCKS
        } else {
            SACK_BLOCKS + 1
        };
        let tells = conn.sack && conn.recv.has_early();
        Options {
            timestamps: conn.timestamps.then_some(stamps),
            sack: if tells && carries.len == 0 {
                conn.recv.blocks(most)
            } else {
                [None; SACK_BLOCKS + 1]
            },
            ..Options::default()
        }
    }

    /// Largest payload that we take, options not counted (RFC 6691).
    pub fn own_mss(&self) -> u16 {
        let link = self.config.mtu - (ipv4::HEADER + tcp::HEADER) as u16;
        self.config.policy.mss_limit.map_or(link, |m| m.min(link))
    }

    /// How far our window is shifted when both sides scale; at least 1, so that 0 can mean "not".
    pub fn own_scale(&self) -> u8 {
        let buffer = self.config.policy.receive_buffer;
        (1..14).find(|s| buffer >> s <= 0xffff).unwrap_or(14)
    }

    /// The window field of the next segment; remembers the edge that it promises, which never moves back.
    fn window_to_tell(&self, conn: &mut Conn, syn: bool) -> u16 {
        let scale = if syn { 0 } else { conn.scale };
        let free = self.free_room(conn);
        let old = conn.rcv_edge.since(conn.rcv_next);
        let better = free >= old + conn.mss.min(self.config.policy.receive_buffer as u32 / 2);
        let window = if better || free < old {
            free.max(old)
        } else {
            old
        };
        // Rounded up: what was promised stays promised; the few bytes more are kept if they come.
        let field = window.div_ceil(1 << scale).min(0xffff);
        conn.rcv_edge = conn.rcv_edge.max(conn.rcv_next.plus(field << scale));
        field as u16
    }

    fn free_room(&self, conn: &Conn) -> u32 {
        let held = conn.recv.held();
        self.config.policy.receive_buffer.saturating_sub(held) as u32
    }

    /// Whether the application's reading has opened the window enough to tell at once.
    pub fn window_opened(&self, conn: &Conn) -> bool {
        let old = conn.rcv_edge.since(conn.rcv_next);
        let step = (2 * conn.mss).min(self.config.policy.receive_buffer as u32 / 2);
        conn.state.receives() && self.free_room(conn) >= old + step
    }

    /// Asks who has an address.
    pub fn ask(&mut self, ip: u32, out: &mut impl FrameSink) {
        self.send_arp(true, (ip, [0; 6]), out);
    }

    /// Tells who we are.
    pub fn answer(&mut self, to: (u32, [u8; 6]), out: &mut impl FrameSink) {
        self.send_arp(false, to, out);
    }

    fn send_arp(&mut self, request: bool, target: (u32, [u8; 6]), out: &mut impl FrameSink) {
        match out.frame(arp::FRAME, TxHints::default()) {
            Some(TxFrame { bytes, .. }) => {
                let sender = (self.ip, self.config.mac);
                let packet = arp::Arp {
                    request,
                    sender,
                    target,
                };
                packet.write(bytes);
                self.counters.frames_out += 1;
            }
            None => self.counters.sink_full += 1,
        }
    }
}

/// The next piece to send again in fast recovery, if the window has room for it or it is the first.
fn hole(conn: &Conn) -> Option<Carries> {
    let Recovering::Fast { again, .. } = conn.recovering else {
        return None;
    };
    let first = conn.resend;
    let (start, end) = match (first, conn.sack) {
        (true, _) => (conn.una, conn.board.hole(conn.una, 0).map(|h| h.1)),
        (false, true) => {
            let (s, e) = conn.board.hole(again.max(conn.una), conn.loss_distance())?;
            (s, Some(e))
        }
        (false, false) => return None,
    };
    let sent = conn.fin_seq().min(conn.next);
    let len = end.unwrap_or(sent).min(sent).since(start).min(conn.mss);
    let fin =
        conn.fin_wanted && start.plus(len) == conn.fin_seq() && conn.next.after(start.plus(len));
    if len == 0 && !fin {
        return None;
    }
    if !first && conn.in_flight() + len > conn.window.bytes() {
        return None;
    }
    Some(Carries {
        seq: start,
        len,
        flags: flags::ACK | flags::PSH | if fin { flags::FIN } else { 0 },
        kind: Kind::Again,
        limit: Limit::None,
    })
}
