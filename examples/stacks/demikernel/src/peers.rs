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
    /// Its handshake was ended in its name: it is nobody's, and nothing more of it is shown.
    given_up: bool,
}

/// A handshake under way.
#[derive(Clone, Copy, Debug)]
struct Opening {
    peer: Peer,
    /// Ticks until it is given up, or forgotten once it is complete.
    ticks: u32,
    /// The peer's acknowledgement was shown, its own or one in its name.
    complete: bool,
}

/// What becomes of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syn {
    /// The stack sees it.
    Shown,
    /// Too many handshakes are under way, or the stack has this peer already: it may ask again.
    Kept,
    /// There is no room for one more connection.
    Refused,
}

/// All peers of one port of ours.
#[derive(Debug, Default)]
pub struct Peers {
    known: HashMap<SocketAddrV4, Peer>,
    /// Handshakes that are not accepted yet.
    opening: HashMap<SocketAddrV4, Opening>,
    /// Those of them that the peer has not completed.
    half_open: usize,
}

/// Ticks of the loop, ten a second, after which a handshake is given up.
const HANDSHAKE_TICKS: u32 = 20;
/// Ticks after which a complete handshake that was not accepted is forgotten.
const ACCEPT_TICKS: u32 = 180;
/// Most half-open handshakes.
const HALF_OPEN: usize = 64;
/// How far from where a stream is a number may lie: more than any window here.
const REACH: u32 = 1 << 20;

impl Peers {
    /// A segment without SYN and RST came; whether the stack may see it. Kept from it is what ends it by `unreachable!`:
    /// a FIN that does not acknowledge ours (its close takes any segment for that acknowledgement, and sends the FIN
    /// again in a state that may not; the peer repeats its own later), and segments without ACK or with one of what was
    /// never sent; what lies far from both streams; and what would make a handshake fail, which it never forgets.
    pub fn note(&mut self, segment: &Segment) -> bool {
        if !segment.has(flags::ACK) {
            return false;
        }
        if let Some(opening) = self.opening.get_mut(&segment.from) {
            let peer = &opening.peer;
            let fits =
                !peer.given_up && peer.sent == Some(segment.ack) && peer.is_near(segment.seq);
            if fits && !opening.complete {
                (opening.complete, opening.ticks) = (true, ACCEPT_TICKS);
                self.half_open -= 1;
            }
            return fits;
        }
        let Some(peer) = self.known.get_mut(&segment.from) else {
            return true;
        };
        if peer.given_up || !peer.is_near(segment.seq) {
            return false;
        }
        if let Some(sent) = peer.sent {
            let behind = sent.wrapping_sub(segment.ack);
            if behind > REACH || (behind > 0 && peer.sent_fin && segment.has(flags::FIN)) {
                return false;
            }
        }
        let end = segment.seq.wrapping_add(segment.span());
        if end.wrapping_sub(peer.seq) as i32 > 0 {
            peer.seq = end;
        }
        if peer.sent.is_none() || segment.ack.wrapping_sub(peer.acked) as i32 > 0 {
            peer.acked = segment.ack;
        }
        peer.shown_fin |= segment.has(flags::FIN);
        true
    }

    /// Whether the stack has a connection with this peer, or may get one.
    pub fn has(&self, address: SocketAddrV4) -> bool {
        self.known.contains_key(&address) || self.opening.contains_key(&address)
    }

    /// A RST came; whether it is the peer's own, by its number (RFC 5961, section 3.2). A handshake is given up with it.
    pub fn is_reset(&mut self, segment: &Segment) -> bool {
        if let Some(opening) = self.opening.get_mut(&segment.from) {
            if opening.peer.seq == segment.seq && !opening.complete {
                opening.ticks = 0;
            }
            return false;
        }
        let peer = self.known.get(&segment.from);
        peer.is_some_and(|peer| !peer.given_up && peer.seq == segment.seq)
    }

    /// A SYN came. There is room for `limit` connections, those under way counted with the others. A repeated one is kept
    /// from the stack, which would take it for a wrong acknowledgement; it repeats its own answer.
    pub fn open(&mut self, syn: &Segment, limit: usize) -> Syn {
        if self.has(syn.from) || self.half_open >= HALF_OPEN {
            return Syn::Kept;
        }
        if self.known.len() + self.opening.len() >= limit {
            return Syn::Refused;
        }
        let peer = Peer {
            seq: syn.seq.wrapping_add(1),
            ..Peer::default()
        };
        let opening = Opening {
            peer,
            ticks: HANDSHAKE_TICKS,
            complete: false,
        };
        self.opening.insert(syn.from, opening);
        self.half_open += 1;
        Syn::Shown
    }

    /// Time goes on. The peers whose handshakes are given up, each with where both streams are: the stack forgets only a
    /// connection that was closed, so that each is completed in the peer's name, to be closed when it is accepted.
    pub fn tick(&mut self) -> Vec<SocketAddrV4> {
        let mut given_up = Vec::new();
        for (address, opening) in &mut self.opening {
            opening.ticks = opening.ticks.saturating_sub(1);
            // Before the stack's own SYN left there is nothing to acknowledge.
            if opening.ticks == 0 && !opening.complete && opening.peer.sent.is_some() {
                opening.peer.given_up = true;
                (opening.complete, opening.ticks) = (true, ACCEPT_TICKS);
                self.half_open -= 1;
                given_up.push(*address);
            }
        }
        self.opening
            .retain(|_, opening| opening.ticks > 0 || !opening.complete);
        given_up
    }

    /// The acknowledgement that completes a handshake in the peer's name.
    pub fn completion(&self, way: Way) -> Option<[u8; HEADERS]> {
        let opening = self.opening.get(&way.from)?;
        Some(opening.peer.segment(way, flags::ACK))
    }

    /// Whether the peer has acknowledged as many bytes of the application's as this.
    pub fn has_all(&self, address: SocketAddrV4, bytes: u32) -> bool {
        let has = |peer: &Peer| peer.sent.is_some() && peer.acked.wrapping_sub(peer.base) == bytes;
        self.known.get(&address).is_some_and(has)
    }

    /// A segment of ours leaves.
    pub fn note_sent(&mut self, segment: &Segment) {
        if segment.has(flags::SYN)
            && let Some(opening) = self.opening.get_mut(&segment.to)
        {
            let next = segment.seq.wrapping_add(1);
            let peer = &mut opening.peer;
            (peer.sent, peer.base, peer.acked) = (Some(next), next, next);
            return;
        }
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

    /// The application has accepted this peer's connection; whether its handshake was its own.
    pub fn add(&mut self, address: SocketAddrV4) -> bool {
        let opening = self.opening.remove(&address);
        if opening.is_some_and(|opening| !opening.complete) {
            self.half_open -= 1;
        }
        let begun = opening.map(|opening| opening.peer).unwrap_or_default();
        !self.known.entry(address).or_insert(begun).given_up
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
    /// Whether this number of the peer's is one that its stream may have now.
    fn is_near(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.seq).wrapping_add(REACH) <= 2 * REACH
    }

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

    fn syn(port: u16) -> Segment {
        let from = SocketAddrV4::new(*PEER.ip(), port);
        Segment {
            from,
            to: OURS,
            ..segment(PEER, (99, 0), flags::SYN, 0)
        }
    }

    /// There is room for so many connections, and for so many handshakes; a repeated SYN is not shown again.
    #[test]
    fn handshakes_take_room() {
        let mut peers = Peers::default();
        assert_eq!(peers.open(&syn(1), 2), Syn::Shown);
        assert_eq!(peers.open(&syn(1), 2), Syn::Kept);
        assert_eq!(peers.open(&syn(2), 2), Syn::Shown);
        assert_eq!(peers.open(&syn(3), 2), Syn::Refused);
        for port in 3..=HALF_OPEN as u16 {
            assert_eq!(peers.open(&syn(port), 1000), Syn::Shown);
        }
        assert_eq!(peers.open(&syn(999), 1000), Syn::Kept);
        assert!(peers.add(syn(1).from));
        assert_eq!(peers.open(&syn(999), 1000), Syn::Shown);
    }

    /// A handshake fails by no segment of a stranger's; what is not completed in time is, in its peer's name, for closing.
    #[test]
    fn a_handshake_that_is_not_completed_is_given_up() {
        let mut peers = Peers::default();
        let from_us = (1000, 100);
        assert_eq!(
            peers.open(&segment(PEER, (99, 0), flags::SYN, 0), 9),
            Syn::Shown
        );
        for _ in 0..HANDSHAKE_TICKS {
            assert!(peers.tick().is_empty());
        }
        peers.note_sent(&segment(OURS, from_us, flags::SYN | flags::ACK, 0));
        assert!(!peers.note(&segment(PEER, (100, 1000), flags::ACK, 0)));
        assert_eq!(peers.tick(), [PEER]);
        let said = Segment::of(&peers.completion(WAY).unwrap()).unwrap();
        assert_eq!((said.seq, said.ack, said.flags), (100, 1001, flags::ACK));
        assert!(!peers.note(&segment(PEER, (100, 1001), flags::ACK, 0)));
        assert!(peers.tick().is_empty());
        assert!(!peers.add(PEER));
    }

    /// Only a reset with the right number is the peer's; a segment far from its stream changes nothing.
    #[test]
    fn strangers_end_no_connection() {
        let mut peers = Peers::default();
        peers.add(PEER);
        assert!(peers.note(&segment(PEER, (100, 500), flags::ACK, 10)));
        assert!(!peers.note(&segment(PEER, (100 + 2 * REACH, 500), flags::ACK, 10)));
        assert!(!peers.is_reset(&segment(PEER, (111, 0), flags::RST, 0)));
        assert!(peers.is_reset(&segment(PEER, (110, 0), flags::RST, 0)));
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
