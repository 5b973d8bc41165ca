//! IPv4 headers (RFC 791) and their two bits for congestion (RFC 3168).

use super::checksum::{finish, sum};
use super::{Reject, be16, be32};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Congestion bits of a sender that understands marks, and of a packet that was marked.
pub const CAPABLE: u8 = 2;
const MARKED: u8 = 3;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;

/// A packet whose header is sound.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// From.
    pub source: u32,
    /// To.
    pub destination: u32,
    /// What is in it.
    pub protocol: u8,
    /// A router was congested and said so instead of dropping it.
    pub marked: bool,
    /// Header and what follows it.
    pub whole: &'a [u8],
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks the bytes after the Ethernet header. Padding behind the packet is left out.
    pub fn parse(bytes: &'a [u8], verify: bool) -> Result<Packet<'a>, Reject> {
        if bytes.len() < HEADER || bytes[0] >> 4 != 4 {
            return Err(Reject::Malformed);
        }
        let header = usize::from(bytes[0] & 15) * 4;
        let total = usize::from(be16(bytes, 2));
        if header < HEADER || total < header || bytes.len() < total {
            return Err(Reject::Malformed);
        }
        if verify && finish(sum(&bytes[..header], 0)) != 0 {
            return Err(Reject::Checksum);
        }
        // More fragments to come, or an offset.
        if be16(bytes, 6) & 0x3fff != 0 {
            return Err(Reject::Fragment);
        }
        Ok(Packet {
            source: be32(bytes, 12),
            destination: be32(bytes, 16),
            protocol: bytes[9],
            marked: bytes[1] & 3 == MARKED,
            whole: &bytes[..total],
            payload: &bytes[header..total],
        })
    }
}

/// Everything in a header to write.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// From.
    pub source: u32,
    /// To.
    pub destination: u32,
    /// What is in it.
    pub protocol: u8,
    /// Bytes of the packet, header included.
    pub total: usize,
    /// Identification.
    pub id: u16,
    /// Congestion bits.
    pub congestion: u8,
}

impl Header {
    /// Writes it with its checksum.
    pub fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&[0x45, self.congestion]);
        bytes[2..4].copy_from_slice(&(self.total as u16).to_be_bytes());
        bytes[4..6].copy_from_slice(&self.id.to_be_bytes());
        // Do not fragment; 64 hops.
        bytes[6..12].copy_from_slice(&[0x40, 0, 64, self.protocol, 0, 0]);
        bytes[12..16].copy_from_slice(&self.source.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.destination.to_be_bytes());
        let check = finish(sum(&bytes[..HEADER], 0));
        bytes[10..12].copy_from_slice(&check.to_be_bytes());
    }
}
