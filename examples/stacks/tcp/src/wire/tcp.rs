//! TCP segments (RFC 9293 3.1) and their options (RFC 7323, 2018).

use super::checksum::{finish, pseudo, sum};
use super::{Reject, be16, be32};
use crate::seq::Seq;

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Most SACK blocks that fit beside timestamps.
pub const SACK_BLOCKS: usize = 3;

/// Control bits.
pub mod flags {
    /// The sender sends no more.
    pub const FIN: u8 = 1;
    /// The first segment of a connection.
    pub const SYN: u8 = 2;
    /// There is no such connection.
    pub const RST: u8 = 4;
    /// Hand over at once.
    pub const PSH: u8 = 8;
    /// The acknowledgement means something.
    pub const ACK: u8 = 16;
    /// The sender has seen congestion marks (RFC 3168); on a SYN with CWR: it would tell.
    pub const ECE: u8 = 64;
    /// The sender has slowed down because of that.
    pub const CWR: u8 = 128;
}

/// Options that we understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Largest payload the sender takes.
    pub mss: Option<u16>,
    /// Shift of the sender's window.
    pub scale: Option<u8>,
    /// SACK is understood.
    pub sack_permitted: bool,
    /// The sender's clock, and ours as it saw it last.
    pub timestamps: Option<(u32, u32)>,
    /// Data received out of order: first byte, byte after the last.
    pub sack: [Option<(Seq, Seq)>; SACK_BLOCKS + 1],
}

/// A segment whose header is sound.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// From.
    pub source_port: u16,
    /// To.
    pub destination_port: u16,
    /// First byte's number.
    pub seq: Seq,
    /// Next byte expected, if `flags` has ACK.
    pub ack: Seq,
    /// Control bits.
    pub flags: u8,
    /// Window, as it stands in the header.
    pub window: u16,
    /// Options.
    pub options: Options,
    /// The packet that brought it was marked by a congested router.
    pub marked: bool,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Checks a segment; `verify` sums it with the pseudo header of these addresses.
    pub fn parse(bytes: &'a [u8], verify: Option<(u32, u32)>) -> Result<Segment<'a>, Reject> {
        if bytes.len() < HEADER {
            return Err(Reject::Malformed);
        }
        let header = usize::from(bytes[12] >> 4) * 4;
        if header < HEADER || bytes.len() < header {
            return Err(Reject::Malformed);
        }
        if let Some((source, destination)) = verify
            && finish(sum(bytes, pseudo(source, destination, bytes.len()))) != 0
        {
            return Err(Reject::Checksum);
        }
        Ok(Segment {
            source_port: be16(bytes, 0),
            destination_port: be16(bytes, 2),
            seq: Seq(be32(bytes, 4)),
            ack: Seq(be32(bytes, 8)),
            flags: bytes[13],
            window: be16(bytes, 14),
            options: options(&bytes[HEADER..header]),
            marked: false,
            payload: &bytes[header..],
        })
    }

    /// Whether all of these flags are set.
    #[inline(always)]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sequence numbers that the segment takes up.
    #[expect(clippy::len_without_is_empty, reason = "a distance, not a container")]
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.payload.len() as u32
            + u32::from(self.has(flags::SYN))
            + u32::from(self.has(flags::FIN))
    }
}

/// Options as far as they are well-formed; what follows the first broken one is not looked at.
fn options(mut bytes: &[u8]) -> Options {
    let mut found = Options::default();
    while let [kind, rest @ ..] = bytes {
        match kind {
            0 => break,
            1 => {
                bytes = rest;
                continue;
            }
            _ => {}
        }
        let Some(&len) = rest.first() else { break };
        let len = usize::from(len);
        if len < 2 || len > bytes.len() {
            break;
        }
        let value = &bytes[2..len];
        match (kind, value.len()) {
            (2, 2) => found.mss = Some(be16(value, 0)),
            (3, 1) => found.scale = Some(value[0].min(14)),
            (4, 0) => found.sack_permitted = true,
            (5, 8 | 16 | 24 | 32) => {
                for (block, pair) in found.sack.iter_mut().zip(value.chunks(8)) {
                    *block = Some((Seq(be32(pair, 0)), Seq(be32(pair, 4))));
                }
            }
            (8, 8) => found.timestamps = Some((be32(value, 0), be32(value, 4))),
            _ => {}
        }
        bytes = &bytes[len..];
    }
    found
}

impl Options {
    /// Bytes that they take, a multiple of four.
    #[expect(
        clippy::len_without_is_empty,
        reason = "bytes on the wire, not entries"
    )]
    pub fn len(&self) -> usize {
        let blocks = self.sack.iter().flatten().count();
        let sack = if blocks > 0 { 4 + 8 * blocks } else { 0 };
        4 * usize::from(self.mss.is_some())
            + 4 * usize::from(self.scale.is_some())
            + 4 * usize::from(self.sack_permitted)
            + 12 * usize::from(self.timestamps.is_some())
            + sack
    }

    /// Writes them; `bytes` is as long as [`Options::len`] says.
    fn write(&self, bytes: &mut [u8]) {
        let mut at = 0;
        let mut put = |value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
            at += value.len();
        };
        if let Some(mss) = self.mss {
            put(&[2, 4]);
            put(&mss.to_be_bytes());
        }
        if let Some(scale) = self.scale {
            put(&[1, 3, 3, scale]);
        }
        if self.sack_permitted {
            put(&[1, 1, 4, 2]);
        }
        if let Some((value, echo)) = self.timestamps {
            put(&[1, 1, 8, 10]);
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        }
        let blocks = self.sack.iter().flatten().count();
        if blocks > 0 {
            put(&[1, 1, 5, 2 + 8 * blocks as u8]);
            for (start, end) in self.sack.iter().flatten() {
                put(&start.0.to_be_bytes());
                put(&end.0.to_be_bytes());
            }
        }
    }
}

/// Everything in a header to write.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// From.
    pub source_port: u16,
    /// To.
    pub destination_port: u16,
    /// First byte's number.
    pub seq: Seq,
    /// Next byte expected, if `flags` has ACK.
    pub ack: Seq,
    /// Control bits.
    pub flags: u8,
    /// Window, as it stands in the header.
    pub window: u16,
    /// Options.
    pub options: Options,
}

impl Header {
    /// Writes header and options; the payload is in its place behind them already. With `addresses` the checksum is
    /// summed, else only the pseudo header's part is stored for the device.
    pub fn write(&self, bytes: &mut [u8], source: u32, destination: u32, offload: bool) {
        let header = HEADER + self.options.len();
        bytes[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        bytes[12] = (header as u8 / 4) << 4;
        bytes[13] = self.flags;
        bytes[14..16].copy_from_slice(&self.window.to_be_bytes());
        bytes[16..20].fill(0);
        self.options.write(&mut bytes[HEADER..header]);
        let pseudo = pseudo(source, destination, bytes.len());
        let check = if offload {
            !finish(pseudo)
        } else {
            finish(sum(bytes, pseudo))
        };
        bytes[16..18].copy_from_slice(&check.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is what is read, options included, and the checksum holds.
    #[test]
    fn round_trip() {
        let options = Options {
            mss: Some(1460),
            scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 2)),
            ..Options::default()
        };
        let header = Header {
            source_port: 8080,
            destination_port: 40_000,
            seq: Seq(7),
            ack: Seq(9),
            flags: flags::SYN | flags::ACK,
            window: 512,
            options,
        };
        let mut bytes = vec![0; HEADER + options.len() + 3];
        let end = bytes.len();
        bytes[end - 3..].copy_from_slice(b"abc");
        header.write(&mut bytes, 1, 2, false);
        let segment = Segment::parse(&bytes, Some((1, 2))).unwrap();
        assert_eq!(segment.options, options);
        assert_eq!(
            (segment.payload, segment.seq, segment.len()),
            (&b"abc"[..], Seq(7), 4)
        );
        bytes[end - 1] ^= 1;
        assert_eq!(
            Segment::parse(&bytes, Some((1, 2))).err(),
            Some(Reject::Checksum)
        );
    }

    /// Options that lie about their length end the list and nothing else.
    #[test]
    fn broken_options() {
        assert_eq!(options(&[2, 4, 5, 0xb4, 3]).mss, Some(1460));
        assert_eq!(options(&[8, 0, 1, 2, 3, 4, 5, 6, 7, 8]), Options::default());
        assert_eq!(options(&[3, 3, 200, 0]).scale, Some(14));
    }
}
