//! Answers that need no connection: resets, SYN cookies, ICMP, ARP.
//!
//! In: what came; out: frames in the sink, as many a second as strangers are owed. It refuses to remember whom it answered.

use crate::cookie;
use crate::core::Core;
use crate::seq::Seq;
use crate::sink::{FrameSink, TxFrame, TxHints};
use crate::time::Time;
use crate::wire::ipv4::{self, Packet};
use crate::wire::tcp::{self, Header, Options, Segment, flags};
use crate::wire::{ETHERNET, TYPE_IPV4, arp, icmp, write_ethernet};

impl Core {
    /// RST for a segment that belongs to nothing (RFC 9293 3.10.7.1).
    pub fn refuse(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        to: [u8; 6],
        out: &mut impl FrameSink,
    ) {
        let acked = segment.has(flags::ACK);
        let header = Header {
            source_port: segment.destination_port,
            destination_port: segment.source_port,
            seq: if acked { segment.ack } else { Seq(0) },
            ack: if acked {
                Seq(0)
            } else {
                segment.seq.plus(segment.len())
            },
            flags: if acked {
                flags::RST
            } else {
                flags::RST | flags::ACK
            },
            window: 0,
            options: Options::default(),
        };
        if self.bare(&header, packet.source, to, out) {
            self.counters.resets_out += 1;
        }
    }

    /// SYN-ACK whose sequence number stands for the connection that is not kept (see [`cookie`]).
    pub fn send_cookie(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        to: [u8; 6],
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let policy = &self.config.policy;
        let mut offered = segment.options;
        // Scale and SACK come back with the timestamps or not at all.
        let stamped = policy.timestamps && offered.timestamps.is_some();
        offered.scale = offered.scale.filter(|_| stamped && policy.window_scaling);
        offered.sack_permitted &= stamped && policy.sack;
        let ends = cookie::Ends {
            peer: (packet.source, segment.source_port),
            local_port: segment.destination_port,
            irs: segment.seq,
        };
        let clock = cookie::timestamp(Core::timestamp(now), &offered);
        let stamps = offered.timestamps.map(|(theirs, _)| (clock, theirs));
        let header = Header {
            source_port: segment.destination_port,
            destination_port: segment.source_port,
            seq: cookie::number(self.cookie_key, ends, &offered, now),
            ack: segment.seq.plus(1),
            flags: flags::SYN | flags::ACK,
            window: self.first_window() as u16,
            options: Options {
                mss: Some(self.own_mss()),
                scale: offered.scale.map(|_| self.own_scale()),
                sack_permitted: offered.sack_permitted,
                timestamps: stamps.filter(|_| stamped),
                ..Options::default()
            },
        };
        if self.bare(&header, packet.source, to, out) {
            self.counters.cookies_sent += 1;
        }
    }

    /// A segment without payload and connection; false if the sink is full.
    fn bare(
        &mut self,
        header: &Header,
        destination: u32,
        to: [u8; 6],
        out: &mut impl FrameSink,
    ) -> bool {
        let total = ipv4::HEADER + tcp::HEADER + header.options.len();
        let offload = self.config.policy.offload_checksums;
        let hints = TxHints {
            checksum: offload.then_some(((ETHERNET + ipv4::HEADER) as u16, 16)),
            cut: None,
        };
        let source = self.ip;
        let write = |bytes: &mut [u8]| header.write(bytes, source, destination, offload);
        self.packet(ipv4::TCP, destination, to, total, hints, out, write)
    }

    /// The same back (RFC 792).
    pub fn echo(&mut self, packet: &Packet<'_>, to: [u8; 6], out: &mut impl FrameSink) {
        let total = ipv4::HEADER + packet.payload.len();
        if total > usize::from(self.config.mtu) {
            // It came in pieces that someone joined; we cut none.
            return;
        }
        let write = |bytes: &mut [u8]| icmp::write_echo(bytes, packet.payload);
        let hints = TxHints::default();
        self.packet(ipv4::ICMP, packet.source, to, total, hints, out, write);
    }

    /// "Destination unreachable" for a protocol or port that nobody serves (RFC 1122 3.2.2.1).
    pub fn unreachable(
        &mut self,
        code: u8,
        packet: &Packet<'_>,
        to: [u8; 6],
        out: &mut impl FrameSink,
    ) {
        let header = packet.whole.len() - packet.payload.len();
        let quoted = packet.whole.len().min(header + icmp::QUOTED);
        let total = ipv4::HEADER + icmp::HEADER + quoted;
        let write = |bytes: &mut [u8]| icmp::write_unreachable(bytes, code, packet.whole);
        let hints = TxHints::default();
        self.packet(ipv4::ICMP, packet.source, to, total, hints, out, write);
    }

    #[allow(clippy::too_many_arguments)]
    fn packet(
        &mut self,
        protocol: u8,
        destination: u32,
        to: [u8; 6],
        total: usize,
        hints: TxHints,
        out: &mut impl FrameSink,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some(TxFrame { bytes, .. }) = out.frame(ETHERNET + total, hints) else {
            self.counters.sink_full += 1;
            return false;
        };
        write_ethernet(bytes, to, self.config.mac, TYPE_IPV4);
        self.packet_id = self.packet_id.wrapping_add(1);
        let (ip, rest) = bytes[ETHERNET..].split_at_mut(ipv4::HEADER);
        let header = ipv4::Header {
            source: self.ip,
            destination,
            protocol,
            total,
            id: self.packet_id,
            congestion: 0,
        };
        header.write(ip);
        write(rest);
        self.counters.frames_out += 1;
        true
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
