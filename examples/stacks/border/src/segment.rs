//! A TCP segment inside an Ethernet frame, as far as probes and demultiplexing need it.
//!
//! In: a frame's bytes, from anyone; out: the fields of its headers, or `None` for what is no whole TCP segment over IPv4
//! (RFC 791, RFC 9293 section 3.1). It refuses to judge checksums.

use bypassprof_probe::Flow;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// Bits of [`Segment::flags`].
pub mod flags {
    /// No more data follows.
    pub const FIN: u8 = 0x01;
    /// The first segment of a connection.
    pub const SYN: u8 = 0x02;
    /// The connection is no more.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number means something.
    pub const ACK: u8 = 0x10;
}

/// A segment's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// Sequence number of its first byte.
    pub seq: u32,
    /// The byte expected next from the other side.
    pub ack: u32,
    /// See [`flags`].
    pub flags: u8,
    /// The window field, not scaled.
    pub window: u16,
    /// Bytes of payload.
    pub len: u32,
    /// Shift of the window scale option (RFC 7323), if there is one.
    pub scale: Option<u8>,
}

impl Segment {
    /// The segment in this frame.
    #[inline]
    pub fn of(frame: &[u8]) -> Option<Segment> {
        let (ip, tcp) = parts(frame)?;
        let header = usize::from(tcp[12] >> 4) * 4;
        let len = tcp.len().checked_sub(header)? as u32;
        let flags = tcp[13];
        let options = tcp.get(20..header)?;
        Some(Segment {
            from: SocketAddrV4::new(address(&ip[12..16]), u16_at(tcp, 0)),
            to: SocketAddrV4::new(address(&ip[16..20]), u16_at(tcp, 2)),
            seq: u32_at(tcp, 4),
            ack: u32_at(tcp, 8),
            flags,
            window: u16_at(tcp, 14),
            len,
            scale: match flags & flags::SYN {
                0 => None,
                _ => window_scale(options),
            },
        })
    }

    /// Whether all of these flags are set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The connection's label in events.
    #[inline]
    pub fn flow(&self) -> Flow {
        let end = |end: SocketAddrV4| (u32::from(*end.ip()), end.port());
        let ((a, a_port), (b, b_port)) = (end(self.from), end(self.to));
        Flow::ipv4(a, a_port, b, b_port)
    }

    /// How far the segment moves the sequence number: its bytes, SYN and FIN.
    #[inline]
    pub fn span(&self) -> u32 {
        let control = self.flags & (flags::SYN | flags::FIN);
        self.len + control.count_ones()
    }
}

/// The IPv4 header and the TCP segment of a frame, each of them whole and without padding.
#[inline]
pub(crate) fn parts(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let ip = frame.get(ETHERNET..)?;
    if ip.len() < 20 || frame[12..14] != [8, 0] || ip[0] >> 4 != 4 || ip[9] != 6 {
        return None;
    }
    // More fragments, or not the first one: the TCP header is not whole or not here.
    if u16_at(ip, 6) & 0x3fff != 0 {
        return None;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let tcp = ip.get(header..usize::from(u16_at(ip, 2)))?;
    (header >= 20 && tcp.len() >= 20).then_some((&ip[..header], tcp))
}

fn window_scale(mut options: &[u8]) -> Option<u8> {
    while let [kind, rest @ ..] = options {
        let len = match (kind, rest) {
            (0, _) => return None,
            (1, _) => 1,
            (3, [3, shift, ..]) => return Some((*shift).min(14)),
            (_, [len, ..]) if *len >= 2 => usize::from(*len),
            _ => return None,
        };
        options = options.get(len..)?;
    }
    None
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    (u32::from(u16_at(bytes, at)) << 16) | u32::from(u16_at(bytes, at + 2))
}

pub(crate) fn address(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame from 10.123.0.1:40000 to 10.123.0.2:8080; checksums are zero.
    pub fn frame(seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        assert_eq!(options.len() % 4, 0);
        let tcp = 20 + options.len();
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let total = (20 + tcp + payload.len()) as u16;
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 123, 0, 1, 10, 123, 0, 2]);
        frame.extend([0x9c, 0x40, 0x1f, 0x90]);
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        frame.extend([(tcp as u8 / 4) << 4, flags, 0x10, 0, 0, 0, 0, 0]);
        frame.extend(options);
        frame.extend(payload);
        frame
    }

    /// All fields are found, behind options and before padding.
    #[test]
    fn fields_are_found() {
        let options = [2, 4, 5, 0xb4, 1, 3, 3, 7];
        let mut bytes = frame(7, 9, flags::SYN, &options, b"abc");
        bytes.extend([0; 6]);
        let segment = Segment::of(&bytes).unwrap();
        assert_eq!(segment.from, "10.123.0.1:40000".parse().unwrap());
        assert_eq!(segment.to, "10.123.0.2:8080".parse().unwrap());
        assert_eq!((segment.seq, segment.ack, segment.window), (7, 9, 4096));
        assert_eq!((segment.len, segment.scale), (3, Some(7)));
        assert_eq!(segment.span(), 4);
        assert_eq!(
            segment.flow(),
            Flow::ipv4(0x0a7b_0001, 40_000, 0x0a7b_0002, 8080)
        );
    }

    /// Fragments, other protocols and cut frames are no segments.
    #[test]
    fn others_are_none() {
        let whole = frame(1, 1, flags::ACK, &[], b"x");
        for (at, value) in [
            (12, 9),
            (14, 0x65),
            (20, 0x20),
            (23, 17),
            (14, 0x44),
            (46, 0xf0),
        ] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            assert_eq!(Segment::of(&bytes), None, "byte {at} = {value:#x}");
        }
        for len in 0..whole.len() {
            assert_eq!(Segment::of(&whole[..len]), None);
        }
    }

    proptest! {
        /// Nothing that a peer sends makes it panic.
        #[test]
        fn any_bytes_are_taken(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), like_tcp in any::<bool>()) {
            if like_tcp && bytes.len() > 40 {
                bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
                bytes[20] = 0;
                bytes[23] = 6;
                bytes[16] = 0;
            }
            let _ = Segment::of(&bytes);
        }
    }
}
