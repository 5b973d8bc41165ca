//! Frames: bytes checked once into values, values written into bytes.
//!
//! In: a frame's bytes, which may be anything; out: headers whose lengths are true, or a reason to drop the frame. It
//! refuses to know connections.

pub mod arp;
pub(crate) mod checksum;
pub mod icmp;
pub mod ipv4;
pub mod tcp;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// Everybody's address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Headers contradict themselves or the frame's length.
    Malformed,
    /// A checksum is wrong.
    Checksum,
    /// A piece of a larger packet.
    Fragment,
}

/// Two bytes, big end first; the caller has checked the length.
#[inline(always)]
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes, big end first; the caller has checked the length.
#[inline(always)]
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Destination, source and type of a frame that is long enough to have them.
pub fn ethernet(frame: &[u8]) -> Option<([u8; 6], [u8; 6], u16)> {
    let head = frame.first_chunk::<ETHERNET>()?;
    let mac = |at: usize| {
        let mut mac = [0; 6];
        mac.copy_from_slice(&head[at..at + 6]);
        mac
    };
    Some((mac(0), mac(6), be16(head, 12)))
}

/// Writes an Ethernet header into the first bytes of a frame.
pub fn write_ethernet(frame: &mut [u8], to: [u8; 6], from: [u8; 6], kind: u16) {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
}
