//! IPv4 headers (RFC 791) and the two ICMP messages we care about (RFC 792).

use super::checksum::{finish, sum};
use super::{Reject, be16, be32};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
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
            payload: &bytes[header..total],
        })
    }
}

/// Writes a header with its checksum; `total` counts it too.
pub fn write(bytes: &mut [u8], source: u32, destination: u32, protocol: u8, total: usize, id: u16) {
    bytes[..2].copy_from_slice(&[0x45, 0]);
    bytes[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    // Do not fragment; 64 hops.
    bytes[6..12].copy_from_slice(&[0x40, 0, 64, protocol, 0, 0]);
    bytes[12..16].copy_from_slice(&source.to_be_bytes());
    bytes[16..20].copy_from_slice(&destination.to_be_bytes());
    let check = finish(sum(&bytes[..HEADER], 0));
    bytes[10..12].copy_from_slice(&check.to_be_bytes());
}

/// What an ICMP message asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// Send the same back.
    Echo,
    /// A TCP segment of ours from port to (address, port) did not arrive, for good.
    Unreachable(u16, u32, u16),
    /// Nothing.
    Other,
}

impl Icmp {
    /// What the payload of an ICMP packet says.
    pub fn parse(bytes: &[u8]) -> Result<Icmp, Reject> {
        if bytes.len() < 8 {
            return Err(Reject::Malformed);
        }
        if finish(sum(bytes, 0)) != 0 {
            return Err(Reject::Checksum);
        }
        match (bytes[0], bytes[1]) {
            (8, 0) => Ok(Icmp::Echo),
            (3, code) if code != 4 => {
                let quoted = &bytes[8..];
                let header = quoted.first().map_or(0, |b| usize::from(b & 15) * 4);
                if header < HEADER || quoted.len() < header + 4 || quoted[9] != TCP {
                    return Ok(Icmp::Other);
                }
                let ports = (be16(quoted, header), be16(quoted, header + 2));
                Ok(Icmp::Unreachable(ports.0, be32(quoted, 16), ports.1))
            }
            _ => Ok(Icmp::Other),
        }
    }
}
