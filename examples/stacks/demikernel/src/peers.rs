//! All peers of one port of ours: those whose handshakes are under way, and those the application has accepted.
//!
//! In: the headers of segments in both directions, ticks; out: what becomes of each segment ([`peer`](crate::peer)), whose
//! streams have news that the stack does not tell, and in whose name it has to be told something.

use crate::frames::{self, HEADERS, Way};
use crate::peer::{Peer, Verdict};
use crate::tokens::Whose;
use crc::{CRC_32_CKSUM, Crc};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use stack_border::{Segment, flags};
use std::collections::HashMap;
use std::net::SocketAddrV4;

/// A handshake under way.
#[derive(Debug)]
struct Opening {
    peer: Peer,
    /// Ticks until it is given up, or forgotten once it is complete.
    ticks: u32,
    /// The peer's acknowledgement was shown, its own or one in its name.
    complete: bool,
    /// The stack's SYN as it was sent.
    answer: Vec<u8>,
}

/// A connection that the application has accepted.
#[derive(Debug)]
struct Known {
    peer: Peer,
    whose: Whose,
    /// Ticks since the stack was shown something of it.
    silent: u32,
    /// Our FIN as it was sent, and ticks since it was.
    fin: Vec<u8>,
    unanswered: u32,
}

/// What becomes of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syn<'a> {
    /// The stack sees it.
    Shown,
    /// Too many handshakes are under way: it may ask again.
    Kept,
    /// There is no room for one more connection.
    Refused,
    /// It is repeated, and so is the answer, if there was one.
    Again(&'a [u8]),
}

/// What the ticks bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A handshake is given up: the stack forgets only a connection that was closed, so that it is completed in the peer's
    /// name, to be closed when it is accepted.
    Complete(SocketAddrV4),
    /// The stack ends a connection on which it is shown nothing for two minutes.
    Waken(SocketAddrV4),
    /// Our FIN is not acknowledged, and the coroutine that would repeat it may have ended.
    Repeat(SocketAddrV4),
}

/// What the stack does not tell of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Nobody is there any more.
    pub gone: bool,
    /// Bytes of the peer's stream, once it has ended.
    pub length: Option<u32>,
}

/// All peers of one port of ours.
#[derive(Debug)]
pub struct Peers {
    known: HashMap<SocketAddrV4, Known>,
    /// Handshakes that are not accepted yet.
    opening: HashMap<SocketAddrV4, Opening>,
    /// Those of them that the peer has not completed.
    half_open: usize,
    news: Vec<Whose>,
    /// Connections on which all has been said, which the stack has not ended yet.
    parted: usize,
    /// Most connections, these left out.
    limit: usize,
    /// Most bytes of a push.
    piece: u32,
}

/// Ticks of the loop, ten a second, after which a handshake is given up.
const HANDSHAKE_TICKS: u32 = 20;
/// Ticks after which a complete handshake that was not accepted is forgotten.
const ACCEPT_TICKS: u32 = 180;
/// Ticks of silence after which the stack is shown something.
const SILENT_TICKS: u32 = 600;
/// Ticks after which a FIN is sent again.
const FIN_TICKS: u32 = 10;
/// The sum that the stack's numbers begin with.
const SUM: Crc<u32> = Crc::<u32>::new(&CRC_32_CKSUM);
/// How many times the limit of connections those that are over may be.
const PARTED: usize = 4;
/// Most half-open handshakes.
const HALF_OPEN: usize = 64;

impl Peers {
    /// Nobody yet; there is room for `limit` connections, with pushes of at most `piece` bytes.
    pub fn new(limit: usize, piece: usize) -> Peers {
        Peers {
            known: HashMap::new(),
            opening: HashMap::new(),
            half_open: 0,
            news: Vec::new(),
            parted: 0,
            limit,
            piece: piece as u32,
        }
    }

    /// Most connections.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A segment without SYN and RST came; what becomes of it, and how it is shown. `None`: of no connection.
    pub fn arrives(&mut self, segment: &mut Segment) -> Option<Verdict> {
        if let Some(opening) = self.opening.get_mut(&segment.from) {
            // A wrong acknowledgement would make the handshake fail, which the stack never forgets.
            if opening.peer.sent != Some(segment.ack) {
                return Some(Verdict::Kept);
            }
            let verdict = opening.peer.arrives(segment);
            if verdict == Verdict::Shown && !opening.complete {
                (opening.complete, opening.ticks) = (true, ACCEPT_TICKS);
                self.half_open -= 1;
            }
            return Some(verdict);
        }
        let known = self.known.get_mut(&segment.from)?;
        let fate = known.fate();
        let verdict = known.peer.arrives(segment);
        if verdict == Verdict::Shown {
            known.silent = 0;
        }
        if known.fate() != fate {
            self.news.push(known.whose);
        }
        Some(verdict)
    }

    /// A RST came; it counts if it is the peer's own, by its number (RFC 5961, section 3.2).
    pub fn reset(&mut self, segment: &Segment) {
        if let Some(opening) = self.opening.get_mut(&segment.from) {
            if opening.peer.seq == segment.seq {
                match opening.complete {
                    true => opening.peer.gone = true,
                    false => opening.ticks = 0,
                }
            }
        } else if let Some(known) = self.known.get_mut(&segment.from)
            && known.peer.seq == segment.seq
        {
            known.peer.gone = true;
            self.news.push(known.whose);
        }
    }

    /// A SYN came. There is room for so many connections, those under way counted with the others, those that are over
    /// not, up to a few times as many. A repeated one is kept
    /// from the stack, which would take it for a wrong acknowledgement and repeats its own answer after 3 s only.
    pub fn open(&mut self, syn: &mut Segment) -> Syn<'_> {
        if let Some(opening) = self.opening.get(&syn.from) {
            let same = opening.peer.seq == syn.seq.wrapping_add(1) && !opening.peer.gone;
            return match same && !opening.answer.is_empty() {
                // Borrowed anew: the first borrow would last for the other answers, too.
                true => Syn::Again(&self.opening[&syn.from].answer),
                false => Syn::Kept,
            };
        }
        if self.known.contains_key(&syn.from) || self.half_open >= HALF_OPEN {
            return Syn::Kept;
        }
        let all = self.known.len() + self.opening.len();
        if all - self.parted >= self.limit || self.parted >= PARTED * self.limit {
            return Syn::Refused;
        }
        let opening = Opening {
            peer: Peer::of(syn, self.piece, first_number(syn)),
            ticks: HANDSHAKE_TICKS,
            complete: false,
            answer: Vec::new(),
        };
        self.opening.insert(syn.from, opening);
        self.half_open += 1;
        Syn::Shown
    }

    /// Time goes on.
    pub fn tick(&mut self) -> Vec<Due> {
        let mut due = Vec::new();
        for (address, opening) in &mut self.opening {
            opening.ticks = opening.ticks.saturating_sub(1);
            // Before the stack's own SYN left there is nothing to acknowledge.
            if opening.ticks == 0 && !opening.complete && opening.peer.sent.is_some() {
                opening.peer.gone = true;
                (opening.complete, opening.ticks) = (true, ACCEPT_TICKS);
                self.half_open -= 1;
                due.push(Due::Complete(*address));
            }
        }
        self.opening
            .retain(|_, opening| opening.ticks > 0 || !opening.complete);
        for (address, known) in &mut self.known {
            known.silent += 1;
            if known.silent >= SILENT_TICKS && !known.peer.gone {
                known.silent = 0;
                due.push(Due::Waken(*address));
            }
            if known.peer.lacks_fin() {
                known.unanswered += 1;
                if known.unanswered >= FIN_TICKS {
                    known.unanswered = 0;
                    due.push(Due::Repeat(*address));
                }
            }
        }
        due
    }

    /// Our FIN to this peer as it was sent.
    pub fn fin(&self, address: SocketAddrV4) -> &[u8] {
        self.known.get(&address).map_or(&[], |known| &known.fin)
    }

    /// A segment of the peer's that says nothing but that it has all.
    pub fn nothing(&self, way: Way) -> Option<[u8; HEADERS]> {
        let opening = self.opening.get(&way.from).map(|opening| &opening.peer);
        let peer = opening.or_else(|| self.known.get(&way.from).map(|known| &known.peer))?;
        Some(frames::segment(way, peer.numbers(), flags::ACK))
    }

    /// A segment of ours leaves, in this frame; how, and whether at all.
    pub fn leaves(&mut self, segment: &mut Segment, frame: &[u8]) -> bool {
        if let Some(opening) = self.opening.get_mut(&segment.to) {
            if segment.has(flags::SYN) {
                opening.answer = frame.to_vec();
            }
            return opening.peer.leaves(segment);
        }
        let Some(known) = self.known.get_mut(&segment.to) else {
            return true;
        };
        if segment.has(flags::FIN) && known.fin.is_empty() {
            known.fin = frame.to_vec();
        }
        known.peer.leaves(segment)
    }

    /// The application has accepted this peer's connection.
    pub fn add(&mut self, address: SocketAddrV4, whose: Whose) -> Fate {
        let opening = self.opening.remove(&address);
        if opening.as_ref().is_some_and(|opening| !opening.complete) {
            self.half_open -= 1;
        }
        let known = Known {
            // One that was forgotten meanwhile is nobody's.
            peer: opening.map_or_else(Peer::nobody, |opening| opening.peer),
            whose,
            silent: 0,
            fin: Vec::new(),
            unanswered: 0,
        };
        let fate = known.fate();
        self.known.insert(address, known);
        fate
    }

    /// What the stack does not tell of a connection.
    pub fn fate(&self, address: SocketAddrV4) -> Option<Fate> {
        self.known.get(&address).map(Known::fate)
    }

    /// Whose fate has changed since this was asked last.
    pub fn take_news(&mut self) -> Vec<Whose> {
        std::mem::take(&mut self.news)
    }

    /// Most bytes of a push to this peer.
    pub fn piece(&self, address: SocketAddrV4) -> usize {
        let piece = self.known.get(&address).map(|known| known.peer.piece());
        piece.unwrap_or(self.piece) as usize
    }

    /// Whether the peer has acknowledged as many bytes of the application's as this.
    pub fn has_all(&self, address: SocketAddrV4, bytes: u32) -> bool {
        let known = self.known.get(&address);
        known.is_some_and(|known| known.peer.has_all(bytes))
    }

    /// The application closes a connection of which it has taken `popped` bytes, and left some unread or not.
    pub fn close(&mut self, address: SocketAddrV4, popped: u32, unread: bool) {
        if let Some(known) = self.known.get_mut(&address) {
            known.peer.close(popped, unread);
        }
    }

    /// The peer is given up.
    pub fn give_up(&mut self, address: SocketAddrV4) {
        if let Some(known) = self.known.get_mut(&address) {
            known.peer.gone = true;
        }
    }

    /// The connection is no more.
    pub fn remove(&mut self, address: SocketAddrV4) {
        let known = self.known.remove(&address);
        self.parted -= usize::from(known.is_some_and(|known| known.peer.shown_last));
    }

    /// The numbers of the acknowledgement of all that this peer has sent.
    pub fn acknowledgement(&self, address: SocketAddrV4) -> Option<(u32, u32)> {
        let known = self.known.get(&address)?;
        Some(known.peer.acknowledgement())
    }

    /// What the stack's close waits for and does not get from the peer itself, now or ever: the end of a peer that is gone,
    /// once the close has begun (`begun`, or its FIN was sent). After both have ended one more acknowledgement: the close
    /// takes no notice of what the connection's receiving coroutine waits for, which would stay for ever, and send a FIN
    /// again in a state that may not, which is `unreachable!`.
    pub fn part(&mut self, way: Way, begun: bool) -> [Option<[u8; HEADERS]>; 2] {
        let Some(known) = self.known.get_mut(&way.from) else {
            return [None, None];
        };
        let peer = &mut known.peer;
        let farewell = (peer.gone && (peer.sent_fin || begun) && !peer.shown_fin).then(|| {
            peer.shown_fin = true;
            frames::segment(way, peer.numbers(), flags::FIN | flags::ACK)
        });
        let last = (peer.shown_fin && !peer.shown_last).then(|| {
            peer.shown_last = true;
            self.parted += 1;
            frames::segment(way, peer.numbers(), flags::ACK)
        });
        [farewell, last]
    }
}

/// Where the stack's numbers will begin for this SYN, but for how many came before it: a sum over addresses, ports and the
/// second number out of a generator that begins the same every time.
pub(crate) fn first_number(syn: &Segment) -> u32 {
    let mut random = SmallRng::from_seed([0; 32]);
    let [_, nonce]: [u32; 2] = random.r#gen();
    let mut digest = SUM.digest();
    for end in [syn.from, syn.to] {
        digest.update(&end.ip().octets());
        digest.update(&end.port().to_be_bytes());
    }
    digest.update(&nonce.to_be_bytes());
    digest.finalize()
}

impl Known {
    fn fate(&self) -> Fate {
        Fate {
            gone: self.peer.gone,
            length: self.peer.length(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 40_000);
    const OURS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 8080);
    const WAY: Way = Way {
        from: PEER,
        to: OURS,
        mac: [2; 6],
    };
    const WHOSE: Whose = Whose { index: 3, life: 7 };

    fn segment(from: SocketAddrV4, (seq, ack): (u32, u32), flags: u8, len: u32) -> Segment {
        Segment {
            from,
            to: if from == OURS { PEER } else { OURS },
            seq,
            ack,
            flags,
            window: 9000,
            len,
            scale: None,
        }
    }

    fn syn(port: u16) -> Segment {
        segment(SocketAddrV4::new(*PEER.ip(), port), (99, 0), flags::SYN, 0)
    }

    /// A peer of this port's whose handshake the stack has answered.
    fn answered() -> Peers {
        let mut peers = Peers::new(9, 1460);
        let mut first = syn(PEER.port());
        assert_eq!(peers.open(&mut first), Syn::Shown);
        let answer = (499, first.seq.wrapping_add(1));
        let mut answer = segment(OURS, answer, flags::SYN | flags::ACK, 0);
        assert!(peers.leaves(&mut answer, b"the answer"));
        assert_eq!(answer.ack, 100);
        peers
    }

    /// The numbers of a pretended segment, as the peer counts; and its flags.
    fn said(frame: Option<[u8; HEADERS]>) -> (u32, u32, u8) {
        let said = Segment::of(&frame.unwrap()).unwrap();
        (said.seq.wrapping_sub(shift()), said.ack, said.flags)
    }

    /// What the peer's numbers are shown greater by.
    fn shift() -> u32 {
        let mut first = syn(PEER.port());
        let seq = first.seq;
        Peers::new(9, 1460).open(&mut first);
        first.seq.wrapping_sub(seq)
    }

    /// The same, complete and accepted.
    fn accepted() -> Peers {
        let mut peers = answered();
        let mut last = segment(PEER, (100, 500), flags::ACK, 0);
        assert_eq!(peers.arrives(&mut last), Some(Verdict::Shown));
        let alive = Fate {
            gone: false,
            length: None,
        };
        assert_eq!(peers.add(PEER, WHOSE), alive);
        peers
    }

    /// There is room for so many connections, and for so many handshakes.
    #[test]
    fn handshakes_take_room() {
        let mut few = Peers::new(2, 1460);
        assert_eq!(few.open(&mut syn(1)), Syn::Shown);
        assert_eq!(few.open(&mut syn(1)), Syn::Kept);
        assert_eq!(few.open(&mut syn(2)), Syn::Shown);
        assert_eq!(few.open(&mut syn(3)), Syn::Refused);
        let mut peers = Peers::new(1000, 1460);
        for port in 1..=HALF_OPEN as u16 {
            assert_eq!(peers.open(&mut syn(port)), Syn::Shown);
        }
        assert_eq!(peers.open(&mut syn(999)), Syn::Kept);
        peers.add(syn(1).from, WHOSE);
        assert_eq!(peers.open(&mut syn(999)), Syn::Shown);
    }

    /// A repeated SYN gets the same answer again; one of another life gets none.
    #[test]
    fn a_repeated_syn_is_answered_again() {
        let mut peers = answered();
        let repeated = Syn::Again(b"the answer");
        assert_eq!(peers.open(&mut syn(PEER.port())), repeated);
        let mut other = segment(PEER, (5, 0), flags::SYN, 0);
        assert_eq!(peers.open(&mut other), Syn::Kept);
    }

    /// A handshake fails by no segment of a stranger's; what is not completed in time is, in its peer's name, for closing.
    #[test]
    fn a_handshake_that_is_not_completed_is_given_up() {
        let mut peers = answered();
        let mut wrong = segment(PEER, (100, 499), flags::ACK, 0);
        assert_eq!(peers.arrives(&mut wrong), Some(Verdict::Kept));
        for _ in 1..HANDSHAKE_TICKS {
            assert!(peers.tick().is_empty());
        }
        assert_eq!(peers.tick(), [Due::Complete(PEER)]);
        assert_eq!(said(peers.nothing(WAY)), (100, 500, flags::ACK));
        let mut late = segment(PEER, (100, 500), flags::ACK, 0);
        assert_eq!(peers.arrives(&mut late), Some(Verdict::Kept));
        assert!(peers.tick().is_empty());
        assert!(peers.add(PEER, WHOSE).gone);
        assert!(peers.add(syn(77).from, WHOSE).gone, "a stranger");
    }

    /// Only a reset with the right number is the peer's, and the application learns of it; the stack is told of the peer's
    /// end once it closes, and of one more acknowledgement.
    #[test]
    fn a_reset_is_news_and_then_an_end() {
        let mut peers = accepted();
        let mut came = segment(PEER, (100, 500), flags::ACK, 10);
        assert_eq!(peers.arrives(&mut came), Some(Verdict::Shown));
        peers.reset(&segment(PEER, (111, 0), flags::RST, 0));
        assert_eq!(peers.take_news(), []);
        peers.reset(&segment(PEER, (110, 0), flags::RST, 0));
        assert_eq!(peers.take_news(), [WHOSE]);
        assert!(peers.fate(PEER).unwrap().gone);
        assert_eq!(peers.part(WAY, false), [None, None]);
        peers.close(PEER, 10, false);
        let mut fin = segment(
            OURS,
            (500, shift().wrapping_add(110)),
            flags::FIN | flags::ACK,
            0,
        );
        assert!(!peers.leaves(&mut fin, b"fin"));
        let parting = peers.part(WAY, false).map(said);
        let bits = [flags::FIN | flags::ACK, flags::ACK];
        assert_eq!(parting, bits.map(|bits| (110, 501, bits)));
        assert_eq!(peers.part(WAY, true), [None, None]);
        // It takes no room from now on, until it is forgotten.
        peers.limit = 1;
        assert_eq!(peers.open(&mut syn(9)), Syn::Shown);
        assert_eq!(peers.open(&mut syn(10)), Syn::Refused);
        peers.remove(PEER);
        assert_eq!(peers.parted, 0);
    }

    /// The end of a peer's stream is news with its length; our FIN is repeated until it is acknowledged; a silent connection
    /// is kept awake.
    #[test]
    fn ends_are_news_and_fins_are_repeated() {
        let mut peers = accepted();
        let mut last = segment(PEER, (100, 500), flags::FIN | flags::ACK, 10);
        peers.arrives(&mut last);
        assert_eq!(peers.take_news(), [WHOSE]);
        assert_eq!(peers.fate(PEER).unwrap().length, Some(10));
        for _ in 1..SILENT_TICKS {
            assert_eq!(peers.tick(), []);
        }
        assert_eq!(peers.tick(), [Due::Waken(PEER)]);
        peers.close(PEER, 10, false);
        let all = shift().wrapping_add(110);
        let mut fin = segment(OURS, (500, all), flags::FIN | flags::ACK, 0);
        assert!(peers.leaves(&mut fin, b"fin"));
        assert_eq!(fin.ack, 111);
        for _ in 1..FIN_TICKS {
            assert_eq!(peers.tick(), []);
        }
        assert_eq!(peers.tick(), [Due::Repeat(PEER)]);
        assert_eq!(peers.fin(PEER), b"fin");
        let mut all = segment(PEER, (111, 501), flags::ACK, 0);
        peers.arrives(&mut all);
        assert!(all.has(flags::FIN));
        for _ in 0..2 * FIN_TICKS {
            assert_eq!(peers.tick(), []);
        }
    }
}
