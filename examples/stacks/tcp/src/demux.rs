//! Frames in: whose they are.
//!
//! In: an Ethernet frame; out: a segment for the connection it belongs to, a new connection, or an answer to a stranger.
//! It refuses to judge segments of connections: that is [`crate::input`].

use crate::conn::State;
use crate::cookie;
use crate::core::Core;
use crate::engine::Engine;
use crate::input::After;
use crate::seq::Seq;
use crate::sink::{FrameMeta, FrameSink};
use crate::table::Key;
use crate::time::Time;
use crate::wire::icmp::{Icmp, Problem, Quoted};
use crate::wire::ipv4::{self, Packet};
use crate::wire::tcp::{Options, Segment, flags};
use crate::wire::{BROADCAST, ETHERNET, Reject, TYPE_ARP, TYPE_IPV4, arp, ethernet};
use bypassprof_probe::{self as probe, Flow, points};
use std::time::Duration;

/// How long a cookie may take to come back: as long as [`cookie::check`] knows it.
const COOKIES_COME_BACK: Duration = Duration::from_secs(128);
/// How far a new incarnation's numbers begin behind the old one's last: more than a window that is not scaled
/// (RFC 1122 4.2.2.13).
const BETWEEN_INCARNATIONS: u32 = 1 << 16;

impl Engine {
    /// Takes one Ethernet frame.
    pub fn input(&mut self, now: Time, frame: &[u8], meta: FrameMeta, out: &mut impl FrameSink) {
        self.core.counters.frames_in += 1;
        let Some((to, from, kind)) = ethernet(frame) else {
            return self.reject(Reject::Malformed);
        };
        let rest = &frame[ETHERNET..];
        match kind {
            // What no single host can have sent is nobody's to answer.
            _ if from[0] & 1 != 0 => self.core.counters.drop_not_ours += 1,
            TYPE_ARP if to == self.core.config.mac || to == BROADCAST => {
                self.arp_input(rest, now, out);
            }
            TYPE_IPV4 if to == self.core.config.mac => {
                match Packet::parse(rest, !meta.checksum_ok) {
                    Ok(packet) if self.is_for_us(&packet) => match packet.protocol {
                        ipv4::TCP => self.segment(&packet, from, &meta, now, out),
                        ipv4::ICMP => self.icmp_input(&packet, from, now, out),
                        other => self.unknown_protocol(other, &packet, from, now, out),
                    },
                    Ok(_) => self.core.counters.drop_not_ours += 1,
                    Err(why) => self.reject(why),
                }
            }
            _ => self.core.counters.drop_not_ours += 1,
        }
    }

    /// To us, and from an address that a single other host can have (RFC 1122 3.2.1.3).
    fn is_for_us(&self, packet: &Packet<'_>) -> bool {
        let ours = self.core.ip;
        let first = packet.source >> 24;
        packet.destination == ours && packet.source != ours && first != 0 && first < 224
    }

    fn reject(&mut self, why: Reject) {
        let counters = &mut self.core.counters;
        let reason = match why {
            Reject::Malformed => {
                counters.drop_malformed += 1;
                1
            }
            Reject::Checksum => {
                counters.drop_checksum += 1;
                2
            }
            Reject::Fragment => {
                counters.drop_fragment += 1;
                3
            }
        };
        probe::emit(points::DROP, Flow::NONE, (3 << 24) | reason);
    }

    fn unknown_protocol(
        &mut self,
        protocol: u8,
        packet: &Packet<'_>,
        from: [u8; 6],
        now: Time,
        out: &mut impl FrameSink,
    ) {
        const UDP: u8 = 17;
        self.core.counters.drop_not_ours += 1;
        if self.core.answers_stranger(now) {
            // Port or protocol unreachable.
            let code = if protocol == UDP { 3 } else { 2 };
            self.core.unreachable(code, packet, from, out);
        }
    }

    fn arp_input(&mut self, bytes: &[u8], now: Time, out: &mut impl FrameSink) {
        let Some(packet) = arp::Arp::parse(bytes) else {
            return self.reject(Reject::Malformed);
        };
        let (ip, mac) = packet.sender;
        let to_us = packet.target.0 == self.core.ip;
        if mac[0] & 1 != 0 || ip == self.core.ip {
            // No host's address, or our own in someone else's mouth: not to be believed.
            self.core.counters.drop_not_ours += 1;
            return;
        }
        if to_us && packet.request {
            self.core.answer(packet.sender, out);
        }
        // A sender without an address (0.0.0.0) only asks whether ours is taken (RFC 5227).
        let waited = if ip == 0 {
            Default::default()
        } else {
            self.core.neighbours.heard(ip, mac, to_us, now)
        };
        for id in waited {
            self.with(id, |core, conn| {
                conn.awaits_neighbour = false;
                let waits = conn.mac.is_none() && conn.state != State::Closed;
                conn.mac = Some(mac);
                if waits {
                    core.handshake(id, conn, now, out);
                }
            });
        }
    }

    fn icmp_input(
        &mut self,
        packet: &Packet<'_>,
        from: [u8; 6],
        now: Time,
        out: &mut impl FrameSink,
    ) {
        match Icmp::parse(packet.payload) {
            Ok(Icmp::Echo) => {
                if self.core.answers_stranger(now) {
                    self.core.echo(packet, from, out);
                }
            }
            Ok(Icmp::Lost(quoted, problem)) => self.lost(quoted, problem, now, out),
            Ok(Icmp::Other) => {}
            Err(why) => self.reject(why),
        }
    }

    fn lost(&mut self, quoted: Quoted, problem: Problem, now: Time, out: &mut impl FrameSink) {
        let (peer, theirs, ours) = (
            quoted.destination,
            quoted.destination_port,
            quoted.source_port,
        );
        let found = self.table.find(Key::new(peer, theirs, ours));
        let believed = found
            .filter(|_| quoted.source == self.core.ip)
            .and_then(|id| {
                self.with(id, |core, conn| {
                    core.icmp_error(id, conn, quoted.seq, problem, now, out)
                })
            });
        self.core.counters.drop_icmp += u64::from(believed != Some(true));
    }

    fn segment(
        &mut self,
        packet: &Packet<'_>,
        from: [u8; 6],
        meta: &FrameMeta,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let verify = self.core.config.policy.verify_checksums && !meta.checksum_ok;
        let ends = verify.then_some((packet.source, packet.destination));
        let mut segment = match Segment::parse(packet.payload, ends) {
            Ok(segment) => segment,
            Err(why) => return self.reject(why),
        };
        segment.marked = packet.marked;
        self.core.counters.marks_in += u64::from(packet.marked);
        let key = Key::new(packet.source, segment.source_port, segment.destination_port);
        let mut behind = None;
        if let Some(id) = self.table.find(key) {
            self.core.counters.segments_in += 1;
            let after = self.with(id, |core, conn| {
                conn.came_from = from;
                core.tcp_input(id, conn, &segment, meta, now, out)
            });
            match after {
                Some(After::Replace(last)) => behind = Some(last),
                Some(After::Refuse) => {
                    if self.core.answers_stranger(now) {
                        self.core.refuse(packet, &segment, from, out);
                    }
                    return;
                }
                Some(After::Keep) | None => return,
            }
            // The application may still hold the old one; it has been told that it is over.
            self.forget(id);
        }
        let stranger = Stranger {
            packet,
            segment: &segment,
            from,
            meta,
        };
        self.stranger(&stranger, behind, now, out);
    }

    /// A segment for no connection; a new one's numbers are to lie behind `behind`.
    fn stranger(
        &mut self,
        stranger: &Stranger<'_>,
        behind: Option<Seq>,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let segment = stranger.segment;
        if segment.has(flags::RST) {
            self.core.counters.drop_no_port += 1;
            return;
        }
        let port = segment.destination_port;
        let handshake = segment.flags & (flags::SYN | flags::ACK);
        match self.listeners.get(&port).copied() {
            Some(listener) if handshake == flags::SYN => {
                if self.table.is_full() {
                    self.evict();
                }
                if self.table.is_full() {
                    self.drop_syn();
                } else if listener.half_open < listener.backlog {
                    self.open(stranger, behind, now, out);
                } else if self.core.config.policy.syn_cookies {
                    if let Some(listener) = self.listeners.get_mut(&port) {
                        listener.cookies_until = now + COOKIES_COME_BACK;
                    }
                    let Stranger { packet, from, .. } = *stranger;
                    self.core.send_cookie(packet, segment, from, now, out);
                } else {
                    self.drop_syn();
                }
            }
            Some(listener)
                if handshake == flags::ACK
                    && now < listener.cookies_until
                    && self.cookie_came_back(stranger, now, out) => {}
            _ => {
                self.core.counters.drop_no_port += 1;
                if self.core.answers_stranger(now) {
                    let Stranger { packet, from, .. } = *stranger;
                    self.core.refuse(packet, segment, from, out);
                }
            }
        }
    }

    fn drop_syn(&mut self) {
        self.core.counters.drop_backlog += 1;
        probe::emit(points::DROP, Flow::NONE, (4 << 24) | 4);
    }

    /// A SYN makes a half-open connection.
    fn open(
        &mut self,
        stranger: &Stranger<'_>,
        behind: Option<Seq>,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let Stranger { segment, meta, .. } = *stranger;
        let iss = behind.map(|last| last.plus(BETWEEN_INCARNATIONS));
        let mut conn = self.half_open(stranger, now);
        if let Some(least) = iss
            && conn.iss.before(least)
        {
            conn.begin_at(least);
        }
        self.core.counters.segments_in += 1;
        self.core.learn_syn(&mut conn, segment, now);
        let kind = u32::from(segment.flags) << 24;
        let window = conn.peer_window;
        meta.burst
            .emit_with(points::TCP_IN, conn.flow, meta.frame_no, [kind, 0, window]);
        let id = self.table.insert(Box::new(conn));
        self.with(id, |core, conn| core.handshake(id, conn, now, out));
    }

    fn half_open(&mut self, stranger: &Stranger<'_>, now: Time) -> crate::conn::Conn {
        let port = stranger.segment.destination_port;
        let peer = (stranger.packet.source, stranger.segment.source_port);
        let mut conn = self.new_conn(State::SynReceived, port, peer, now);
        conn.mac = Some(stranger.from);
        conn.came_from = stranger.from;
        conn.listener = Some(port);
        if let Some(listener) = self.listeners.get_mut(&port) {
            listener.half_open += 1;
        }
        conn
    }

    /// Takes an acknowledgement for what it is if our cookie is in it: the end of a handshake. Whether it was.
    fn cookie_came_back(
        &mut self,
        stranger: &Stranger<'_>,
        now: Time,
        out: &mut impl FrameSink,
    ) -> bool {
        let Stranger { segment, meta, .. } = *stranger;
        let irs = Seq(segment.seq.0.wrapping_sub(1));
        let iss = Seq(segment.ack.0.wrapping_sub(1));
        let ends = cookie::Ends {
            peer: (stranger.packet.source, segment.source_port),
            local_port: segment.destination_port,
            irs,
        };
        let echo = segment.options.timestamps.map(|(_, echo)| echo);
        let key = self.core.cookie_key;
        let Some(said) = cookie::check(key, ends, iss, echo, now) else {
            return false;
        };
        if self.table.is_full() {
            self.evict();
        }
        if self.table.is_full() {
            // Its sender will try again: it holds a connection.
            self.drop_syn();
            return true;
        }
        let mut conn = self.half_open(stranger, now);
        conn.begin_at(iss);
        conn.next = iss.plus(1);
        conn.max = conn.next;
        let syn = Segment {
            seq: irs,
            flags: flags::SYN,
            options: Options {
                mss: Some(said.mss),
                scale: said.scale,
                sack_permitted: said.sack,
                timestamps: segment.options.timestamps,
                ..Options::default()
            },
            payload: &[],
            ..*segment
        };
        self.core.learn_syn(&mut conn, &syn, now);
        // What the SYN-ACK promised.
        conn.rcv_edge = conn.rcv_next.plus(self.core.first_window());
        conn.rto_due = Some(now + self.core.timeout(&conn));
        self.core.counters.segments_in += 1;
        self.core.counters.cookies_accepted += 1;
        let id = self.table.insert(Box::new(conn));
        self.with(id, |core: &mut Core, conn| {
            core.tcp_input(id, conn, segment, meta, now, out)
        });
        true
    }
}

/// A segment that belongs to no connection, and how it came.
#[derive(Clone, Copy)]
struct Stranger<'a> {
    packet: &'a Packet<'a>,
    segment: &'a Segment<'a>,
    from: [u8; 6],
    meta: &'a FrameMeta,
}
