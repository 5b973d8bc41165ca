//! Which RST is the peer's own.
//!
//! In: the segments of one connection's peer; out: whether smoltcp may see them. smoltcp believes any RST within its window;
//! here it has to have the exact number (RFC 5961 section 3.2), which a stranger cannot guess. It refuses to know states.

use stack_border::{Segment, flags};

/// How far ahead of the last one a segment's end may lie: no window here is larger.
const REACH: u32 = 1 << 16;

/// What one peer has sent so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resets {
    /// The number behind all of it.
    end: u32,
}

impl Resets {
    /// A segment came: whether it is no RST, or one that the peer may have sent.
    pub fn note(&mut self, segment: &Segment) -> bool {
        if segment.has(flags::RST) {
            return segment.seq == self.end;
        }
        let bytes = segment.len + u32::from(segment.has(flags::FIN));
        let end = segment.seq.wrapping_add(bytes);
        if segment.has(flags::SYN) {
            self.end = end.wrapping_add(1);
        } else if bytes > 0 && end.wrapping_sub(self.end) <= REACH {
            self.end = end;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn segment(seq: u32, flags: u8, len: u32) -> Segment {
        let end = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        Segment {
            from: end,
            to: end,
            seq,
            ack: 0,
            flags,
            window: 0,
            len,
            scale: None,
        }
    }

    /// Only the number behind all that was sent is right, across the end of the numbers too.
    #[test]
    fn exact_number() {
        let mut resets = Resets::default();
        assert!(resets.note(&segment(u32::MAX, flags::SYN, 0)));
        assert!(resets.note(&segment(0, flags::ACK, 10)));
        // Sent again, and far off: neither moves it.
        assert!(resets.note(&segment(0, flags::ACK, 5)));
        assert!(resets.note(&segment(1 << 20, flags::ACK, 5)));
        for seq in [0, 9, 11, 1 << 20] {
            assert!(!resets.note(&segment(seq, flags::RST, 0)), "{seq}");
        }
        assert!(resets.note(&segment(10, flags::RST, 0)));
        assert!(resets.note(&segment(10, flags::ACK | flags::FIN, 0)));
        assert!(resets.note(&segment(11, flags::RST | flags::ACK, 0)));
    }
}
