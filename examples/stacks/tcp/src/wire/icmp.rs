//! The ICMP messages we care about (RFC 792): echo, and errors about our own TCP segments.
//!
//! In: an ICMP packet's bytes, quoted headers included; out: what it asks of us. It refuses to believe: whether the quoted
//! segment is one that we have on its way is for the connection to say (RFC 5927 4).

use super::checksum::{finish, sum};
use super::{Reject, be16, be32, ipv4};
use crate::seq::Seq;

/// Bytes of a header.
pub const HEADER: usize = 8;
/// Bytes of the offending packet's payload that an error quotes at least.
pub const QUOTED: usize = 8;

/// What an ICMP message asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// Send the same back.
    Echo,
    /// A TCP segment of ours did not arrive.
    Lost(Quoted, Problem),
    /// Nothing.
    Other,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The peer has no such port or protocol: for good (RFC 1122 4.2.3.9).
    Refused,
    /// The network cannot bring it there now.
    Unreachable,
    /// It was too large: the next link's size (0: not told) and the packet's own.
    TooLarge(u16, u16),
}

/// The segment that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The sender's address: ours.
    pub source: u32,
    /// Our port.
    pub source_port: u16,
    /// The peer's address.
    pub destination: u32,
    /// The peer's port.
    pub destination_port: u16,
    /// First byte's number.
    pub seq: Seq,
}

impl Icmp {
    /// What the payload of an ICMP packet says.
    pub fn parse(bytes: &[u8]) -> Result<Icmp, Reject> {
        if bytes.len() < HEADER {
            return Err(Reject::Malformed);
        }
        if finish(sum(bytes, 0)) != 0 {
            return Err(Reject::Checksum);
        }
        let quoted = &bytes[HEADER..];
        let problem = match (bytes[0], bytes[1]) {
            (8, 0) => return Ok(Icmp::Echo),
            (3, 2 | 3) => Problem::Refused,
            (3, 4) if quoted.len() >= 4 => Problem::TooLarge(be16(bytes, 6), be16(quoted, 2)),
            // Unreachable for other reasons, out of time, a header that is not understood.
            (3 | 11 | 12, _) => Problem::Unreachable,
            _ => return Ok(Icmp::Other),
        };
        Ok(Quoted::parse(quoted).map_or(Icmp::Other, |quoted| Icmp::Lost(quoted, problem)))
    }
}

impl Quoted {
    fn parse(bytes: &[u8]) -> Option<Quoted> {
        let header = usize::from(bytes.first()? & 15) * 4;
        if header < ipv4::HEADER || bytes.len() < header + QUOTED || bytes[9] != ipv4::TCP {
            return None;
        }
        Some(Quoted {
            source: be32(bytes, 12),
            source_port: be16(bytes, header),
            destination: be32(bytes, 16),
            destination_port: be16(bytes, header + 2),
            seq: Seq(be32(bytes, header + 4)),
        })
    }
}

/// Writes "destination unreachable" with this code about a packet, as much of it as fits.
pub fn write_unreachable(bytes: &mut [u8], code: u8, packet: &[u8]) {
    bytes[..HEADER].copy_from_slice(&[3, code, 0, 0, 0, 0, 0, 0]);
    let quoted = &packet[..bytes.len() - HEADER];
    bytes[HEADER..].copy_from_slice(quoted);
    let check = finish(sum(bytes, 0));
    bytes[2..4].copy_from_slice(&check.to_be_bytes());
}

/// Writes the answer to an echo request.
pub fn write_echo(bytes: &mut [u8], request: &[u8]) {
    bytes.copy_from_slice(request);
    bytes[..4].fill(0);
    let check = finish(sum(bytes, 0));
    bytes[2..4].copy_from_slice(&check.to_be_bytes());
}
