//! One connection's two streams as they cross the border, and where the stack is shown them otherwise than they came.
//!
//! In: the headers of segments in both directions; out: the same, changed where the stack would not get on with them, and
//! whether they cross at all. `docs/reference/third-party-stacks.md` says for each change what the stack does without it.
//!
//! - The peer's FIN is kept back until the application has closed: the stack ends its coroutines with it, and no more of a
//!   reply would be sent. The border acknowledges it once the stack has all that came before it.
//! - A window of less than the next push is shown with one byte less acknowledged, and the next one with that byte: the
//!   stack takes a window only from what acknowledges something, and would never learn that there is room again.
//! - The peer's numbers are shown so that they follow the stack's own first one: it compares the two where it should
//!   compare the peer's with the peer's, and else takes no window at all after the first.
//! - A window of none is shown as one of one unit: the stack would close without a FIN, or probe ever more seldom.
//! - The stack's own window is told one byte smaller than it is: a FIN behind a full one overflows what it computes.
//! - A connection that is closed with bytes unread, or on which bytes come afterwards, is reset (RFC 9293, 3.6.1).

use stack_border::{Segment, flags};

/// How far from where a stream is a number may lie: more than any window here.
pub const REACH: u32 = 1 << 20;
/// How far the peer's numbers are shown behind the stack's first: later by any count of bytes that a peer sends.
const BEHIND: u32 = 1 << 30;

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stack sees it, as it is now.
    Shown,
    /// It is dropped.
    Kept,
    /// The border answers it with the acknowledgement of all that the peer has sent, which is over.
    Acknowledged,
    /// The border answers it with a reset.
    Refused,
}

/// Where a peer is in its stream, and we in ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Its first byte, and the next one, FIN included.
    first: u32,
    pub seq: u32,
    /// What its numbers are shown greater by.
    shift: u32,
    /// The number of its FIN.
    end: Option<u32>,
    /// What the stack has acknowledged of it, and what it lets come.
    taken: u32,
    edge: u32,
    /// Our next byte; `None` before our first segment.
    pub sent: Option<u32>,
    /// Our first byte.
    base: u32,
    /// What the peer has acknowledged.
    acked: u32,
    /// Shift of its windows, and the largest one so far.
    scale: u8,
    largest: u32,
    /// Most bytes of a push.
    most: u32,
    /// The application has closed; without having read all that came.
    closing: bool,
    unread: bool,
    /// Our FIN was sent.
    pub sent_fin: bool,
    /// The stack was shown the peer's FIN.
    pub shown_fin: bool,
    /// The stack was shown the last acknowledgement.
    pub shown_last: bool,
    /// It reset the connection, or was given up: nothing is sent to it any more.
    pub gone: bool,
}

impl Peer {
    /// A peer whose SYN came, for pushes of at most `most` bytes and a stack whose own numbers will begin at `ours`. The
    /// SYN's window, which is never scaled (RFC 7323, 2.2), becomes one that the stack may scale.
    pub fn of(syn: &mut Segment, most: u32, ours: u32) -> Peer {
        let first = syn.seq.wrapping_add(1);
        let scale = syn.scale.unwrap_or(0);
        let largest = syn.window.into();
        syn.window = (syn.window >> scale).max(1);
        let shift = ours.wrapping_add(BEHIND).wrapping_sub(syn.seq);
        syn.seq = syn.seq.wrapping_add(shift);
        Peer {
            first,
            shift,
            seq: first,
            taken: first,
            edge: first,
            scale,
            largest,
            most,
            ..Peer::default()
        }
    }

    /// One that is not there.
    pub fn nobody() -> Peer {
        Peer {
            gone: true,
            ..Peer::default()
        }
    }

    /// Whether this number of the peer's is one that its stream may have now.
    fn is_near(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.seq).wrapping_add(REACH) <= 2 * REACH
    }

    /// A segment of the peer's came, without SYN and RST. Kept from the stack is what ends it by `unreachable!` (segments
    /// without ACK, or with one of what was never sent), and what lies far from both streams or beyond its window.
    pub fn arrives(&mut self, segment: &mut Segment) -> Verdict {
        let Some(sent) = self.sent else {
            return Verdict::Kept;
        };
        let near = self.is_near(segment.seq) && sent.wrapping_sub(segment.ack) <= REACH;
        if self.gone || !near || !segment.has(flags::ACK) {
            return Verdict::Kept;
        }
        let end = segment.seq.wrapping_add(segment.len);
        if segment.len > 0 && self.closing && is_after(end, self.taken) {
            self.gone = true;
            return Verdict::Refused;
        }
        if segment.len > 0 && is_after(end, self.edge) {
            return Verdict::Kept;
        }
        if self.shown_fin {
            return match segment.span() {
                0 => Verdict::Kept,
                _ => Verdict::Acknowledged,
            };
        }
        let next = segment.seq.wrapping_add(segment.span());
        if is_after(next, self.seq) {
            self.seq = next;
        }
        if is_after(segment.ack, self.acked) {
            self.acked = segment.ack;
        }
        self.keep_fin(segment, end, sent);
        self.show_window(segment, sent);
        segment.seq = segment.seq.wrapping_add(self.shift);
        Verdict::Shown
    }

    /// Takes the FIN out of a segment that ends at `end`, and puts it into the one that acknowledges ours.
    fn keep_fin(&mut self, segment: &mut Segment, end: u32, sent: u32) {
        if segment.has(flags::FIN) {
            self.end.get_or_insert(end);
            segment.flags &= !flags::FIN;
        }
        let Some(fin) = self.end else {
            return;
        };
        if segment.seq == fin.wrapping_add(1) {
            segment.seq = fin;
        }
        if self.sent_fin && segment.ack == sent {
            segment.flags |= flags::FIN;
            self.shown_fin = true;
        }
    }

    fn show_window(&mut self, segment: &mut Segment, sent: u32) {
        let window = u32::from(segment.window) << self.scale;
        self.largest = self.largest.max(window);
        let all = segment.ack == sent && sent != self.base;
        if all && !self.sent_fin && window <= self.piece() {
            segment.ack = sent.wrapping_sub(1);
        }
        segment.window = segment.window.max(1);
    }

    /// Most bytes of a push to this peer. One has to fit into half of its largest window, more than which a receiver with
    /// little room need not tell again (RFC 1122, 4.2.3.3), and the stack sends only what leaves room in a window.
    pub fn piece(&self) -> u32 {
        self.most.min(self.largest / 4).max(1)
    }

    /// A segment of ours leaves; whether it is sent.
    pub fn leaves(&mut self, segment: &mut Segment) -> bool {
        let next = segment.seq.wrapping_add(segment.span());
        segment.ack = segment.ack.wrapping_sub(self.shift);
        if segment.has(flags::SYN) {
            (self.base, self.acked) = (next, next);
        }
        if self.sent.is_none_or(|sent| is_after(next, sent)) {
            self.sent = Some(next);
        }
        self.sent_fin |= segment.has(flags::FIN);
        if self.gone {
            return false;
        }
        if is_after(segment.ack, self.taken) && !self.shown_fin {
            self.taken = segment.ack;
        }
        segment.window = segment.window.saturating_sub(1);
        let edge = segment.ack.wrapping_add(segment.window.into());
        if is_after(edge, self.edge) {
            self.edge = edge;
        }
        match self.end {
            Some(fin) if self.shown_fin || segment.ack == fin => segment.ack = fin.wrapping_add(1),
            _ => {}
        }
        if self.unread && segment.has(flags::FIN) {
            segment.flags = flags::RST | flags::ACK;
            self.gone = true;
        }
        true
    }

    /// The application closes: it has taken `popped` bytes, and left some of them unread or not.
    pub fn close(&mut self, popped: u32, unread: bool) {
        self.closing = true;
        self.unread = unread || is_after(self.taken.wrapping_sub(self.first), popped);
    }

    /// How many bytes the peer's stream has, once it has ended.
    pub fn length(&self) -> Option<u32> {
        self.end.map(|end| end.wrapping_sub(self.first))
    }

    /// Whether the peer has acknowledged as many bytes of the application's as this.
    pub fn has_all(&self, bytes: u32) -> bool {
        self.acked.wrapping_sub(self.base) == bytes
    }

    /// Whether our FIN was sent and not acknowledged.
    pub fn lacks_fin(&self) -> bool {
        self.sent_fin && !self.gone && self.sent != Some(self.acked)
    }

    /// The numbers, as the stack is shown them, of a segment of the peer's that says nothing new; all we sent is acknowledged.
    pub fn numbers(&self) -> (u32, u32) {
        let seq = self.end.unwrap_or(self.seq);
        (
            seq.wrapping_add(self.shift),
            self.sent.unwrap_or(self.acked),
        )
    }

    /// The numbers of the acknowledgement of all that the peer has sent.
    pub fn acknowledgement(&self) -> (u32, u32) {
        (self.sent.unwrap_or(self.acked), self.seq)
    }
}

/// Whether one number follows the other.
fn is_after(number: u32, other: u32) -> bool {
    number.wrapping_sub(other) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    /// Where the stack's numbers begin if a peer's that begin at 99 are to be shown as they are.
    const UNSHIFTED: u32 = 99u32.wrapping_sub(BEHIND);
    const END: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);

    /// A segment with a window of 9000.
    fn segment((seq, ack): (u32, u32), flags: u8, len: u32) -> Segment {
        Segment {
            from: END,
            to: END,
            seq,
            ack,
            flags,
            window: 9000,
            len,
            scale: None,
        }
    }

    /// A connection after its handshake: the peer's first byte is 100, ours 500, and it may send up to 8999.
    fn peer() -> Peer {
        let mut peer = Peer::of(&mut segment((99, 0), flags::SYN, 0), 1460, UNSHIFTED);
        assert!(peer.leaves(&mut segment((499, 100), flags::SYN | flags::ACK, 0)));
        peer
    }

    /// How a segment of the peer's is shown.
    fn shown(peer: &mut Peer, numbers: (u32, u32), flags: u8, len: u32) -> Segment {
        let mut came = segment(numbers, flags, len);
        assert_eq!(peer.arrives(&mut came), Verdict::Shown);
        came
    }

    /// What becomes of one.
    fn verdict(peer: &mut Peer, numbers: (u32, u32), flags: u8, len: u32) -> Verdict {
        peer.arrives(&mut segment(numbers, flags, len))
    }

    /// How a segment of the stack's leaves.
    fn left(peer: &mut Peer, numbers: (u32, u32), flags: u8, len: u32) -> Segment {
        let mut leaves = segment(numbers, flags, len);
        assert!(peer.leaves(&mut leaves));
        leaves
    }

    /// The peer ends, gets its reply and our end, and the stack sees the peer's end with the acknowledgement of ours.
    #[test]
    fn an_end_is_kept_until_the_application_closes() {
        let mut peer = peer();
        let came = shown(&mut peer, (100, 500), flags::ACK | flags::FIN, 10);
        assert_eq!((came.seq, came.flags), (100, flags::ACK));
        assert_eq!(peer.length(), Some(10));
        // The stack has all that came before the end, and then the border says that it has the end.
        assert_eq!(left(&mut peer, (500, 105), flags::ACK, 20).ack, 105);
        assert_eq!(left(&mut peer, (520, 110), flags::ACK, 20).ack, 111);
        assert_eq!(shown(&mut peer, (111, 540), flags::ACK, 0).seq, 110);
        assert!(peer.has_all(40));

        peer.close(10, false);
        let last = left(&mut peer, (540, 110), flags::ACK | flags::FIN, 0);
        assert_eq!(last.flags, flags::ACK | flags::FIN);
        assert!(peer.lacks_fin() && !peer.shown_fin);
        let came = shown(&mut peer, (111, 541), flags::ACK, 0);
        assert_eq!(came.flags, flags::ACK | flags::FIN);
        assert!(!peer.lacks_fin() && peer.shown_fin);
        // The stack counts the end on its own from here on; what the peer repeats is answered without it.
        assert_eq!(left(&mut peer, (541, 111), flags::ACK, 0).ack, 111);
        let again = verdict(&mut peer, (110, 541), flags::ACK | flags::FIN, 0);
        assert_eq!(again, Verdict::Acknowledged);
        assert_eq!(peer.acknowledgement(), (541, 111));
        let silent = verdict(&mut peer, (111, 541), flags::ACK, 0);
        assert_eq!(silent, Verdict::Kept);
    }

    /// A window that the next push does not fit into is shown with a byte owed, which the next window pays.
    #[test]
    fn a_small_window_is_shown_with_a_byte_owed() {
        let mut peer = peer();
        left(&mut peer, (500, 100), flags::ACK, 1460);
        let small = |window, ack| Segment {
            window,
            ..segment((100, ack), flags::ACK, 0)
        };
        let mut came = small(0, 1960);
        assert_eq!(peer.arrives(&mut came), Verdict::Shown);
        assert_eq!((came.ack, came.window), (1959, 1));
        assert!(peer.has_all(1460));
        let mut came = small(1460, 1960);
        peer.arrives(&mut came);
        assert_eq!((came.ack, came.window), (1959, 1460));
        let mut came = small(1461, 1960);
        peer.arrives(&mut came);
        assert_eq!((came.ack, came.window), (1960, 1461));
        // Of what is still under way there will be another acknowledgement.
        left(&mut peer, (1960, 100), flags::ACK, 1460);
        let mut came = small(3, 1970);
        peer.arrives(&mut came);
        assert_eq!((came.ack, came.window), (1970, 3));
        // Our end is acknowledged whatever the window.
        left(&mut peer, (3420, 100), flags::ACK | flags::FIN, 0);
        let mut came = small(0, 3421);
        peer.arrives(&mut came);
        assert_eq!(came.ack, 3421);
    }

    /// Pushes fit four times into the largest window that was ever told, scaled as the handshake says.
    #[test]
    fn pushes_fit_the_window() {
        let syn = |window, scale| Segment {
            window,
            scale,
            ..segment((99, 0), flags::SYN, 0)
        };
        let mut first = syn(1152, None);
        let mut peer = Peer::of(&mut first, 1460, UNSHIFTED);
        assert_eq!((first.window, peer.piece()), (1152, 288));
        peer.leaves(&mut segment((499, 100), flags::SYN | flags::ACK, 0));
        shown(&mut peer, (100, 500), flags::ACK, 1);
        assert_eq!(peer.piece(), 1460);

        let mut first = syn(64_240, Some(7));
        let mut peer = Peer::of(&mut first, 1460, UNSHIFTED);
        assert_eq!((first.window, peer.piece()), (501, 1460));
        peer.leaves(&mut segment((499, 100), flags::SYN | flags::ACK, 0));
        left(&mut peer, (500, 100), flags::ACK, 1);
        let mut came = Segment {
            window: 12,
            ..segment((100, 501), flags::ACK, 0)
        };
        peer.arrives(&mut came);
        assert_eq!((came.ack, came.window), (501, 12));
    }

    /// The stack sees numbers that follow its own, the peer its own again.
    #[test]
    fn numbers_are_shown_behind_our_own() {
        let mut syn = segment((99, 0), flags::SYN, 0);
        let mut peer = Peer::of(&mut syn, 1460, 499);
        assert_eq!(syn.seq, 499 + BEHIND);
        let first = left(&mut peer, (499, 500 + BEHIND), flags::SYN | flags::ACK, 0);
        assert_eq!((first.seq, first.ack), (499, 100));
        let came = shown(&mut peer, (100, 500), flags::ACK, 10);
        assert_eq!((came.seq, came.ack), (500 + BEHIND, 500));
        assert_eq!(peer.numbers(), (510 + BEHIND, 500));
        assert_eq!(peer.acknowledgement(), (500, 110));
    }

    /// The stack's window is told smaller than it is, and nothing is let through behind what was told.
    #[test]
    fn nothing_comes_behind_the_window() {
        let mut peer = peer();
        assert_eq!(left(&mut peer, (500, 100), flags::ACK, 0).window, 8999);
        let beyond = verdict(&mut peer, (100, 500), flags::ACK, 9000);
        assert_eq!(beyond, Verdict::Kept);
        shown(&mut peer, (100, 500), flags::ACK | flags::FIN, 8999);
        let mut none = Segment {
            window: 0,
            ..segment((500, 9099), flags::ACK, 0)
        };
        assert!(peer.leaves(&mut none));
        assert_eq!((none.window, none.ack), (0, 9100));
    }

    /// Whoever is closed with bytes unread, or sends more, is reset, and nothing is sent to it from then on.
    #[test]
    fn a_close_with_bytes_unread_is_a_reset() {
        let mut unread = peer();
        shown(&mut unread, (100, 500), flags::ACK, 10);
        left(&mut unread, (500, 110), flags::ACK, 5);
        unread.close(9, false);
        let last = left(&mut unread, (505, 110), flags::ACK | flags::FIN, 0);
        assert_eq!(last.flags, flags::RST | flags::ACK);
        assert!(unread.gone && !unread.leaves(&mut segment((505, 110), flags::ACK, 0)));
        let late = verdict(&mut unread, (110, 505), flags::ACK, 0);
        assert_eq!(late, Verdict::Kept);

        let mut talking = peer();
        shown(&mut talking, (100, 500), flags::ACK, 10);
        left(&mut talking, (500, 110), flags::ACK, 5);
        talking.close(10, false);
        let old = verdict(&mut talking, (100, 505), flags::ACK, 10);
        assert_eq!(old, Verdict::Shown);
        let more = verdict(&mut talking, (110, 505), flags::ACK, 1);
        assert_eq!((more, talking.gone), (Verdict::Refused, true));
    }

    /// What the stack would not survive, and what is no part of these streams, is kept from it.
    #[test]
    fn what_ends_the_stack_is_kept_from_it() {
        let mut peer = peer();
        let kept = [
            ((100, 500), 0, 1),
            ((100, 501), flags::ACK, 1),
            ((100 + 2 * REACH, 500), flags::ACK, 10),
        ];
        for (numbers, flags, len) in kept {
            assert_eq!(verdict(&mut peer, numbers, flags, len), Verdict::Kept);
        }
        shown(&mut peer, (100, 500), flags::ACK, 1);
        assert_eq!(peer.numbers(), (101, 500));
    }
}
