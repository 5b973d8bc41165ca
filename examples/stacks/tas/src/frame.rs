//! Frames: what comes in is checked once, what goes out is written into the room it gets.
//!
//! In: bytes that may be anything; out: a segment of ours with its key, or what else it is. It refuses to know flows.

use crate::flow::Key;
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::{Header, Options, Segment};
use stack_tcp::wire::{self, ETHERNET, TYPE_ARP, TYPE_IPV4, ipv4};

/// A frame that is for us.
pub enum Incoming<'a> {
    /// TCP.
    Tcp {
        /// Whose.
        key: Key,
        /// Who sent the frame.
        mac: [u8; 6],
        /// The segment.
        segment: Segment<'a>,
    },
    /// ARP, or ICMP to us.
    Other,
}

/// Why a frame is dropped: layer and reason as `drop` events name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Not for us, or of a protocol that we do not speak.
    NotOurs = 0x0200_0001,
    /// Contradicts itself, is a fragment, or has a wrong sum.
    Ip = 0x0300_0001,
    /// The same of a segment.
    Tcp = 0x0400_0001,
}

/// Looks at a frame.
#[inline(never)]
pub fn fast_flows_packet_parse(
    frame: &[u8],
    (mac, ip): ([u8; 6], u32),
    checksum_ok: bool,
) -> Result<Incoming<'_>, Reject> {
    let (to, from, kind) = wire::ethernet(frame).ok_or(Reject::NotOurs)?;
    if to != mac && to != wire::BROADCAST {
        return Err(Reject::NotOurs);
    }
    if kind == TYPE_ARP {
        return Ok(Incoming::Other);
    }
    if kind != TYPE_IPV4 || to != mac {
        return Err(Reject::NotOurs);
    }
    let packet = ipv4::Packet::parse(&frame[ETHERNET..], !checksum_ok).map_err(|_| Reject::Ip)?;
    if packet.destination != ip {
        return Err(Reject::NotOurs);
    }
    match packet.protocol {
        ipv4::ICMP => Ok(Incoming::Other),
        ipv4::TCP => {
            let addresses = (!checksum_ok).then_some((packet.source, packet.destination));
            let segment = Segment::parse(packet.payload, addresses).map_err(|_| Reject::Tcp)?;
            let key = Key {
                peer: packet.source,
                peer_port: segment.source_port,
                port: segment.destination_port,
            };
            Ok(Incoming::Tcp {
                key,
                mac: from,
                segment,
            })
        }
        _ => Err(Reject::NotOurs),
    }
}

/// What a device sums of a segment's frame: from where, and where the checksum goes from there.
pub const SUMMED: (u16, u16) = ((ETHERNET + ipv4::HEADER) as u16, 16);

/// A segment to be written.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// To whom.
    pub key: Key,
    /// The next hop's Ethernet address.
    pub mac: [u8; 6],
    /// First byte's number.
    pub seq: Seq,
    /// Next byte expected.
    pub ack: Seq,
    /// Control bits.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Options.
    pub options: Options,
    /// Payload bytes.
    pub payload: usize,
}

impl Outline {
    /// Bytes before the payload.
    pub fn headers(&self) -> usize {
        ETHERNET + ipv4::HEADER + wire::tcp::HEADER + self.options.len()
    }

    /// Bytes of the frame.
    pub fn len(&self) -> usize {
        self.headers() + self.payload
    }

    /// Writes the headers; the payload is in its place already. `offload`: the device sums the segment ([`SUMMED`]).
    pub fn write(&self, frame: &mut [u8], (mac, ip): ([u8; 6], u32), id: u16, offload: bool) {
        wire::write_ethernet(frame, self.mac, mac, TYPE_IPV4);
        let total = frame.len() - ETHERNET;
        let packet = &mut frame[ETHERNET..];
        let around = ipv4::Header {
            source: ip,
            destination: self.key.peer,
            protocol: ipv4::TCP,
            total,
            id,
            congestion: 0,
        };
        around.write(packet);
        let header = Header {
            source_port: self.key.port,
            destination_port: self.key.peer_port,
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            options: self.options,
        };
        header.write(&mut packet[ipv4::HEADER..], ip, self.key.peer, offload);
    }

    /// The frame of a segment without payload.
    pub fn to_frame(self, ends: ([u8; 6], u32)) -> Vec<u8> {
        let mut frame = vec![0; self.len()];
        self.write(&mut frame, ends, 0, false);
        frame
    }
}
