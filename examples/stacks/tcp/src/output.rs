//! Segments out: what windows, losses and policy allow now.
//!
//! In: a connection whose state has changed; out: frames in the sink. It refuses to judge what came in.

use crate::config::{AckPolicy, OutputMode};
use crate::conn::{Conn, Recovering, State, Waiting};
use crate::core::Core;
use crate::event::ConnId;
use crate::recovery::DUPLICATES;
use crate::seq::Seq;
use crate::sink::{Cut, FrameSink, TxFrame, TxHints};
use crate::time::Time;
use crate::wire::tcp::{self, Header, Options, SACK_BLOCKS, flags};
use crate::wire::{ETHERNET, TYPE_IPV4, ipv4, write_ethernet};
use bypassprof_probe::{self as probe, points};
use std::time::Duration;

/// Smallest payload that is offered and believed: options must fit beside it.
pub(crate) const LEAST_MSS: u16 = 64;

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
        if conn.ack_now && conn.sack && conn.recv.has_early() {
            // Full segments have no room for what it has to tell.
            self.acknowledge(id, conn, now, out);
        }
        let most = self.largest_payload(conn, out.largest_cut());
        while let Some(carries) = self.next_segment(conn, most, now) {
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

    /// Most payload of one frame: a segment, or as many whole ones as the device cuts out of `cut` bytes.
    fn largest_payload(&self, conn: &Conn, cut: usize) -> u32 {
        let head = ETHERNET + ipv4::HEADER + tcp::HEADER + conn.stamp_bytes() as usize;
        let frame = cut.min(ETHERNET + usize::from(u16::MAX));
        let room = frame.saturating_sub(head) as u32;
        (room - room % conn.mss).max(conn.mss)
    }

    /// What to send next, at most `most` bytes; `None` when nothing may.
    fn next_segment(&mut self, conn: &mut Conn, most: u32, now: Time) -> Option<Carries> {
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
        let mut cwnd = conn.window.bytes().saturating_add(conn.inflated);
        if conn.recovering == Recovering::No {
            // The first duplicates each show a segment that left: new data keeps more of them coming (RFC 3042).
            cwnd = cwnd.saturating_add(conn.duplicates.min(DUPLICATES - 1) * conn.mss);
        }
        let by_cwnd = cwnd.saturating_sub(flight);
        let by_peer = conn.una.plus(conn.peer_window).since(conn.next);
        let mut len = avail.min(most).min(by_cwnd).min(by_peer);
        if len < avail && len > conn.mss {
            // The device cuts whole segments; a rest waits for a better window.
            len -= len % conn.mss;
        }
        let nagle = self.config.policy.nagle && !conn.fin_wanted;
        if nagle && len > conn.mss {
            len -= len % conn.mss;
        }
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
                () if conn.next.before(conn.max) && !conn.probed => Kind::Again,
                () if len == 0 => Kind::Control,
                () => Kind::Data,
            },
            limit: if conn.pace() > 0 { Limit::Pace } else { limit },
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
            let segments = carries.len.div_ceil(conn.mss).max(1);
            self.counters.retransmits += u64::from(segments);
            conn.retransmits = conn.retransmits.saturating_add(segments);
            // Karn: what was sent twice measures nothing.
            conn.timed = None;
        } else {
            self.counters.bytes_out += u64::from(carries.len);
            if conn.timed.is_none() && end.after(carries.seq) {
                conn.timed = Some((end, now));
            }
        }
        conn.resend = false;
        conn.probed = false;
        match &mut conn.recovering {
            Recovering::Fast { again, .. } if carries.seq.before(conn.next) => *again = end,
            _ => conn.next = conn.next.max(end),
        }
        conn.max = conn.max.max(conn.next);
        if conn.rto_due.is_none() || conn.waiting == Waiting::Window {
            conn.waiting = Waiting::Ack;
            conn.rto_due = Some(now + self.timeout(conn));
        }
        let rate = conn.pace();
        if rate > 0 {
            let bytes = u128::from(carries.len) * 1_000_000_000;
            let gap = Duration::from_nanos((bytes / u128::from(rate)) as u64);
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

    /// A byte beyond the window, or what a small window takes, so that the peer tells its window again.
    pub fn probe_window(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        // Beyond a closed window a byte; into one that is open, but was held for too small, what it takes: its time to grow
        // is over (RFC 9293 3.8.6.2.1, the override timeout).
        let room = conn.una.plus(conn.peer_window).since(conn.next);
        let len = conn.unsent().min(room.clamp(1, conn.mss));
        let fin = len == 0 && conn.fin_due();
        let carries = Carries {
            seq: conn.next,
            len,
            flags: flags::ACK | if fin { flags::FIN } else { 0 },
            kind: Kind::Probe,
            limit: Limit::Peer,
        };
        self.counters.window_probes += 1;
        conn.window_probes = conn.window_probes.saturating_add(1);
        if self.segment(id, conn, &carries, now, out) {
            let end = carries.seq.plus(len + u32::from(fin));
            // The byte was sent to be refused: sending it for good is no retransmission.
            conn.probed |= conn.next == conn.max;
            conn.max = conn.max.max(end);
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
        let marks = match (answers, self.config.policy.ecn && !again) {
            (true, _) if conn.ecn => flags::ECE,
            // Sent again without: something on the way may not like it (RFC 3168 6.1.1.1).
            (false, true) => flags::ECE | flags::CWR,
            _ => 0,
        };
        let carries = Carries {
            seq: conn.iss,
            len: 0,
            flags: flags::SYN | if answers { flags::ACK } else { 0 } | marks,
            kind: Kind::Control,
            limit: Limit::None,
        };
        // Without the neighbour's address, or room in the sink, nothing has been sent yet.
        if self.segment(id, conn, &carries, now, out) {
            self.counters.retransmits += u64::from(again);
            conn.retransmits += u32::from(again);
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
    pub fn owe_ack(&mut self, conn: &mut Conn, bytes: u32, now: Time) {
        match self.config.policy.ack {
            AckPolicy::Immediate => conn.ack_now = true,
            AckPolicy::Delayed { timeout, every } => {
                // Someone on the way may have joined several.
                let segments = bytes.div_ceil(conn.mss).min(255) as u8;
                conn.unacked_segments = conn.unacked_segments.saturating_add(segments);
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
        let cut = carries.len > conn.mss;
        let offload = self.config.policy.offload_checksums || cut;
        let hints = TxHints {
            checksum: offload.then_some(((ETHERNET + ipv4::HEADER) as u16, 16)),
            cut: cut.then_some(Cut {
                header: head as u16,
                payload: conn.mss as u16,
            }),
        };
        let Some(TxFrame { bytes, number }) = out.frame(head + carries.len as usize, hints) else {
            self.counters.sink_full += 1;
            if self.refused.back() != Some(&id) {
                self.refused.push_back(id);
            }
            return false;
        };
        let acks = carries.flags & flags::ACK != 0;
        let window = if acks {
            self.window_to_tell(conn, syn)
        } else {
            self.first_window() as u16
        };
        let (ip, segment) = bytes[ETHERNET..].split_at_mut(ipv4::HEADER);
        if carries.len > 0 {
            let offset = carries.seq.since(conn.una) as usize;
            let at = tcp::HEADER + options.len();
            conn.send.copy(offset, &mut segment[at..]);
        }
        let mut bits = carries.flags;
        let mut congestion = 0;
        if conn.ecn && !syn {
            if acks && conn.echo_marks {
                bits |= flags::ECE;
            }
            if carries.kind == Kind::Data && carries.len > 0 {
                congestion = ipv4::CAPABLE;
                if std::mem::take(&mut conn.tell_slower) {
                    bits |= flags::CWR;
                }
            }
        }
        let header = Header {
            source_port: conn.local_port,
            destination_port: conn.peer.1,
            seq: carries.seq,
            ack: if acks { conn.rcv_next } else { Seq(0) },
            flags: bits,
            window,
            options,
        };
        header.write(segment, self.ip, conn.peer.0, offload);
        let segments = carries.len.div_ceil(conn.mss).max(1);
        self.packet_id = self.packet_id.wrapping_add(segments as u16);
        let packet = ipv4::Header {
            source: self.ip,
            destination: conn.peer.0,
            protocol: ipv4::TCP,
            total: ipv4::HEADER + segment.len(),
            id: self.packet_id,
            congestion,
        };
        packet.write(ip);
        write_ethernet(bytes, mac, self.config.mac, TYPE_IPV4);
        self.counters.frames_out += 1;
        self.counters.segments_out += u64::from(segments);
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
        let headers = (ipv4::HEADER + tcp::HEADER) as u16;
        let link = self.config.mtu.saturating_sub(headers).max(LEAST_MSS);
        let limit = self.config.policy.mss_limit.unwrap_or(link);
        limit.clamp(LEAST_MSS, link)
    }

    /// How far our window is shifted when both sides scale; at least 1, so that 0 can mean "not".
    pub fn own_scale(&self) -> u8 {
        let buffer = self.config.policy.receive_buffer;
        (1..14).find(|s| buffer >> s <= 0xffff).unwrap_or(14)
    }

    /// What a handshake promises: an unscaled window.
    pub fn first_window(&self) -> u32 {
        self.config.policy.receive_buffer.min(0xffff) as u32
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
        let free = self.config.policy.receive_buffer.saturating_sub(held);
        // What the field can tell.
        free.min(0xffff << conn.scale) as u32
    }

    /// Whether the application's reading has opened the window enough to tell at once.
    pub fn window_opened(&self, conn: &Conn) -> bool {
        let old = conn.rcv_edge.since(conn.rcv_next);
        let step = (2 * conn.mss).min(self.config.policy.receive_buffer as u32 / 2);
        conn.state.receives() && self.free_room(conn) >= old + step
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
    let push = if start.plus(len) == conn.fin_seq() {
        flags::PSH
    } else {
        0
    };
    Some(Carries {
        seq: start,
        len,
        flags: flags::ACK | push | if fin { flags::FIN } else { 0 },
        kind: Kind::Again,
        limit: Limit::None,
    })
}
