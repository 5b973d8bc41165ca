//! ARP for Ethernet and IPv4 (RFC 826).

use super::{BROADCAST, ETHERNET, TYPE_ARP, be16, be32, write_ethernet};

/// Bytes of a frame with an ARP packet.
pub const FRAME: usize = ETHERNET + 28;

/// A request or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Asks rather than answers.
    pub request: bool,
    /// Who says it.
    pub sender: (u32, [u8; 6]),
    /// Whom it is about.
    pub target: (u32, [u8; 6]),
}

impl Arp {
    /// What the bytes after the Ethernet header say; `None` if it is not ARP for Ethernet and IPv4.
    pub fn parse(bytes: &[u8]) -> Option<Arp> {
        if bytes.len() < 28 || be32(bytes, 0) != 0x0001_0800 || be16(bytes, 4) != 0x0604 {
            return None;
        }
        let end = |at: usize| {
            let mut mac = [0; 6];
            mac.copy_from_slice(&bytes[at..at + 6]);
            (be32(bytes, at + 6), mac)
        };
        let request = match be16(bytes, 6) {
            1 => true,
            2 => false,
            _ => return None,
        };
        Some(Arp {
            request,
            sender: end(8),
            target: end(18),
        })
    }

    /// Writes the whole frame, [`FRAME`] bytes.
    pub fn write(&self, frame: &mut [u8]) {
        let to = if self.request {
            BROADCAST
        } else {
            self.target.1
        };
        write_ethernet(frame, to, self.sender.1, TYPE_ARP);
        let bytes = &mut frame[ETHERNET..];
        bytes[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        bytes[6..8].copy_from_slice(&if self.request { [0, 1] } else { [0, 2] });
        for (at, (ip, mac)) in [(8, self.sender), (18, self.target)] {
            bytes[at..at + 6].copy_from_slice(&mac);
            bytes[at + 6..at + 10].copy_from_slice(&ip.to_be_bytes());
        }
    }
}
