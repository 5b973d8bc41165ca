//! What has to be known of each peer to hang up in its name: a frame that ends its stream and acknowledges all of ours.
//!
//! In: the headers of its segments; out: such a frame, for the stack's own use, never sent. The stack's close waits for
//! the peer's last acknowledgement for ever, and it overlooks resets: without this each peer that vanishes would keep
//! its coroutines.

use stack_border::{Segment, checksum, flags};
use std::collections::HashMap;
use std::net::SocketAddrV4;

/// Ethernet, IPv4 and TCP headers without options.
pub const HEADERS: usize = 14 + 20 + 20;

/// Where a peer is in its stream, and we in ours.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// The peer's next byte.
    seq: u32,
    /// What it has acknowledged.
    acked: u32,
    /// Our next byte; `None` before our first segment.
    sent: Option<u32>,
    /// Our FIN was sent.
    sent_fin: bool,
}

/// All peers of one port of ours.
#[derive(Debug, Default)]
pub struct Peers {
    known: HashMap<SocketAddrV4, Peer>,
}

impl Peers {
    /// A segment came; whether the stack may see it. Kept from it is what ends it by `unreachable!`: a FIN that does not
    /// acknowledge ours (its close takes any segment for that acknowledgement, and sends the FIN again in a state that
    /// may not; the peer repeats its own later), and segments without ACK or with one of what was never sent.
    pub fn note(&mut self, segment: &Segment) -> bool {
        if segment.has(flags::SYN) {
            return true;
        }
        if !segment.has(flags::ACK) {
            return false;
        }
        let Some(peer) = self.known.get_mut(&segment.from) else {
            return true;
        };
        if let Some(sent) = peer.sent {
            let beyond = segment.ack.wrapping_sub(sent) as i32;
            if beyond > 0 || (beyond < 0 && peer.sent_fin && segment.has(flags::FIN)) {
                return false;
            }
        }
        peer.seq = segment.seq.wrapping_add(segment.span());
        peer.acked = segment.ack;
        true
    }

    /// A segment of ours leaves.
    pub fn note_sent(&mut self, segment: &Segment) {
        if let Some(peer) = self.known.get_mut(&segment.to) {
            let end = segment.seq.wrapping_add(segment.span());
            if peer
                .sent
                .is_none_or(|sent| end.wrapping_sub(sent) as i32 > 0)
            {
                peer.sent = Some(end);
            }
            peer.sent_fin |= segment.has(flags::FIN);
        }
    }

    /// The application has accepted this peer's connection.
    pub fn add(&mut self, address: SocketAddrV4) {
        self.known.entry(address).or_default();
    }

    /// The connection is no more.
    pub fn remove(&mut self, address: SocketAddrV4) {
        self.known.remove(&address);
    }

    /// A segment of the peer's that ends its stream, from `seq` on if that is known better.
    pub fn farewell(
        &self,
        from: SocketAddrV4,
        to: SocketAddrV4,
        mac: [u8; 6],
        seq: Option<u32>,
    ) -> Option<[u8; HEADERS]> {
        let peer = self.known.get(&from)?;
        let mut frame = [0; HEADERS];
        // The stack looks at the destination only.
        frame[..6].copy_from_slice(&mac);
        frame[12] = 8;
        let ip = &mut frame[14..34];
        ip[0] = 0x45;
        ip[3] = (HEADERS - 14) as u8;
        (ip[8], ip[9]) = (64, 6);
        ip[12..16].copy_from_slice(&from.ip().octets());
        ip[16..20].copy_from_slice(&to.ip().octets());
        let sum = ip
            .chunks_exact(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = sum.sum();
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let tcp = &mut frame[34..];
        tcp[..2].copy_from_slice(&from.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&seq.unwrap_or(peer.seq).to_be_bytes());
        tcp[8..12].copy_from_slice(&peer.sent.unwrap_or(peer.acked).to_be_bytes());
        (tcp[12], tcp[13]) = (5 << 4, flags::FIN | flags::ACK);
        tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        checksum::make_right(&mut frame);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 1), 40_000);
    const OURS: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 2), 8080);

    fn segment(from: SocketAddrV4, (seq, ack): (u32, u32), flags: u8, len: u32) -> Segment {
        Segment {
            from,
            to: if from == PEER { OURS } else { PEER },
            seq,
            ack,
            flags,
            window: 9,
            len,
            scale: None,
        }
    }

    /// A farewell stands where the peer's stream does and acknowledges all we sent; strangers get none.
    #[test]
    fn a_farewell_fits_the_streams() {
        let mut peers = Peers::default();
        let came = segment(PEER, (100, 777), flags::ACK, 20);
        assert!(peers.note(&came));
        assert_eq!(peers.farewell(PEER, OURS, [2; 6], None), None);
        peers.add(PEER);
        assert!(peers.note(&came));
        peers.note_sent(&segment(OURS, (777, 120), flags::ACK | flags::FIN, 50));
        let frame = peers.farewell(PEER, OURS, [2; 6], None).unwrap();
        assert!(checksum::is_right(&frame));
        let said = Segment::of(&frame).unwrap();
        assert_eq!((said.from, said.to), (PEER, OURS));
        assert_eq!((said.seq, said.ack, said.len), (120, 828, 0));
        assert!(said.has(flags::FIN | flags::ACK) && !said.has(flags::RST));
        peers.remove(PEER);
        assert_eq!(peers.farewell(PEER, OURS, [2; 6], None), None);
    }

    /// What the stack would not survive is kept from it; the same is let through once it fits.
    #[test]
    fn what_ends_the_stack_is_kept_from_it() {
        let mut peers = Peers::default();
        peers.add(PEER);
        peers.note_sent(&segment(OURS, (500, 100), flags::ACK | flags::FIN, 0));
        assert!(!peers.note(&segment(PEER, (100, 0), 0, 1)));
        assert!(!peers.note(&segment(PEER, (100, 502), flags::ACK, 1)));
        assert!(peers.note(&segment(PEER, (100, 500), flags::ACK, 1)));
        assert!(!peers.note(&segment(PEER, (101, 500), flags::ACK | flags::FIN, 0)));
        assert!(peers.note(&segment(PEER, (101, 501), flags::ACK | flags::FIN, 0)));
    }
}
