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
    /// Where our stream began, as far as the application's bytes go.
    base: u32,
    /// Our FIN was sent.
    sent_fin: bool,
    /// The stack was shown the peer's FIN.
    shown_fin: bool,
    /// The application closed before it learned of the peer's end.
    closed_first: bool,
    /// The stack was shown the last acknowledgement.
    shown_last: bool,
}

/// All peers of one port of ours.
#[derive(Debug, Default)]
pub struct Peers {
    known: HashMap<SocketAddrV4, Peer>,
    /// Handshakes under way, and ticks until they are forgotten.
    opening: HashMap<SocketAddrV4, u32>,
}

/// Ticks of the loop after which the stack has given a handshake up: six tries of 3 s, at ten a second.
const HANDSHAKE_TICKS: u32 = 180;

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
        peer.shown_fin |= segment.has(flags::FIN);
        true
    }

    /// A SYN came; whether there is room for its connection among `limit`, those under way counted with the others.
    pub fn may_open(&mut self, address: SocketAddrV4, limit: usize) -> bool {
        let again = self.opening.contains_key(&address) || self.known.contains_key(&address);
        if !again && self.known.len() + self.opening.len() >= limit {
            return false;
        }
        if !again {
            self.opening.insert(address, HANDSHAKE_TICKS);
        }
        true
    }

    /// Time goes on.
    pub fn tick(&mut self) {
        self.opening.retain(|_, ticks| {
            *ticks -= 1;
            *ticks > 0
        });
    }

    /// Whether the peer has acknowledged as many bytes of the application's as this.
    pub fn has_all(&self, address: SocketAddrV4, bytes: u32) -> bool {
        let has = |peer: &Peer| peer.sent.is_some() && peer.acked.wrapping_sub(peer.base) == bytes;
        self.known.get(&address).is_some_and(has)
    }

    /// A segment of ours leaves.
    pub fn note_sent(&mut self, segment: &Segment) {
        if let Some(peer) = self.known.get_mut(&segment.to) {
            let end = segment.seq.wrapping_add(segment.span());
            if peer.sent.is_none() {
                peer.base = segment.seq;
            }
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
        self.opening.remove(&address);
        self.known.entry(address).or_default();
    }

    /// The application closes a connection whose peer has not ended, as far as it knows.
    pub fn close_first(&mut self, address: SocketAddrV4) {
        if let Some(peer) = self.known.get_mut(&address) {
            peer.closed_first = true;
        }
    }

    /// The connection is no more.
    pub fn remove(&mut self, address: SocketAddrV4) {
        self.known.remove(&address);
    }

    /// A segment of the peer's that ends its stream, from `seq` on if that is known better.
    pub fn farewell(&mut self, way: Way, seq: Option<u32>) -> Option<[u8; HEADERS]> {
        let peer = self.known.get_mut(&way.from)?;
        peer.seq = seq.unwrap_or(peer.seq);
        let frame = peer.segment(way, flags::FIN | flags::ACK);
        (peer.seq, peer.shown_fin) = (peer.seq.wrapping_add(1), true);
        Some(frame)
    }

    /// One more acknowledgement of the peer's, once after both have ended where the application closed first. The
    /// stack's close takes no notice of what its receiving coroutine waits for: without another segment that one stays
    /// for ever, and sends a FIN again that was not acknowledged yet when the close was over, which is `unreachable!`.
    pub fn last_word(&mut self, way: Way) -> Option<[u8; HEADERS]> {
        let peer = self.known.get_mut(&way.from)?;
        let due = peer.closed_first && peer.sent_fin && peer.shown_fin && !peer.shown_last;
        peer.shown_last |= due;
        due.then(|| peer.segment(way, flags::ACK))
    }
}

/// From a peer to us, by addresses and our Ethernet address.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub mac: [u8; 6],
}

impl Peer {
    /// A segment without data where the peer's stream is, that acknowledges all we sent.
    fn segment(&self, way: Way, flags: u8) -> [u8; HEADERS] {
        let mut frame = [0; HEADERS];
        // The stack looks at the destination only.
        frame[..6].copy_from_slice(&way.mac);
        frame[12] = 8;
        let ip = &mut frame[14..34];
        ip[0] = 0x45;
        ip[3] = (HEADERS - 14) as u8;
        (ip[8], ip[9]) = (64, 6);
        ip[12..16].copy_from_slice(&way.from.ip().octets());
        ip[16..20].copy_from_slice(&way.to.ip().octets());
        let words = ip.chunks_exact(2);
        let sum: u32 = words
            .map(|w| (u32::from(w[0]) << 8) | u32::from(w[1]))
            .sum();
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let tcp = &mut frame[34..];
        tcp[..2].copy_from_slice(&way.from.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&way.to.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.sent.unwrap_or(self.acked).to_be_bytes());
        (tcp[12], tcp[13]) = (5 << 4, flags);
        tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        checksum::make_header_right(&mut frame);
        checksum::make_right(&mut frame);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 1), 40_000);
    const OURS: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 2), 8080);

    const WAY: Way = Way {
        from: PEER,
        to: OURS,
        mac: [2; 6],
    };

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
        assert_eq!(peers.farewell(WAY, None), None);
        peers.add(PEER);
        assert!(peers.note(&came));
        peers.note_sent(&segment(OURS, (777, 120), flags::ACK | flags::FIN, 50));
        let frame = peers.farewell(WAY, None).unwrap();
        assert!(checksum::is_right(&frame));
        let said = Segment::of(&frame).unwrap();
        assert_eq!((said.from, said.to), (PEER, OURS));
        assert_eq!((said.seq, said.ack, said.len), (120, 828, 0));
        assert!(said.has(flags::FIN | flags::ACK) && !said.has(flags::RST));
        // Who closed second needs no last word; who closed first gets one.
        assert_eq!(peers.last_word(WAY), None);
        peers.close_first(PEER);
        let last = Segment::of(&peers.last_word(WAY).unwrap()).unwrap();
        assert_eq!((last.seq, last.ack, last.flags), (121, 828, flags::ACK));
        assert_eq!(peers.last_word(WAY), None);
        peers.remove(PEER);
        assert_eq!(peers.farewell(WAY, None), None);
    }

    /// There is room for so many, those under way with them; who asks again is not counted twice.
    #[test]
    fn handshakes_take_room() {
        let mut peers = Peers::default();
        let peer = |port| SocketAddrV4::new(*PEER.ip(), port);
        assert!(peers.may_open(peer(1), 2) && peers.may_open(peer(2), 2));
        assert!(peers.may_open(peer(1), 2) && !peers.may_open(peer(3), 2));
        peers.add(peer(1));
        for _ in 0..HANDSHAKE_TICKS {
            peers.tick();
        }
        assert!(peers.may_open(peer(3), 2) && !peers.may_open(peer(4), 2));
        peers.remove(peer(1));
        assert!(peers.may_open(peer(4), 2));
    }

    /// All bytes are with the peer when it has acknowledged them, whatever the stack says of its pushes.
    #[test]
    fn acknowledged_bytes_are_counted() {
        let mut peers = Peers::default();
        peers.add(PEER);
        assert!(!peers.has_all(PEER, 0));
        peers.note_sent(&segment(OURS, (u32::MAX, 1), flags::ACK, 100));
        assert!(!peers.has_all(PEER, 100));
        assert!(peers.note(&segment(PEER, (1, 99), flags::ACK, 0)));
        assert!(peers.has_all(PEER, 100));
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
