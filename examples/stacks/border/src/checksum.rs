//! The TCP checksum (RFC 1071, RFC 9293 section 3.1) of a segment in an Ethernet frame.
//!
//! In: a frame; out: whether it is right, or made right. Stacks that trust or leave out checksums are helped here.

use crate::segment::{parts, u16_at};

/// Where the checksum stands in a TCP header.
const FIELD: usize = 16;

/// Whether the frame's TCP checksum is right. Frames without a TCP segment have none to be wrong.
#[inline(never)]
pub fn is_right(frame: &[u8]) -> bool {
    parts(frame).is_none_or(|(ip, tcp)| fold(pseudo(ip, tcp) + sum(tcp)) == 0xffff)
}

/// Writes the right TCP checksum into a frame that has a TCP segment.
#[inline(never)]
pub fn make_right(frame: &mut [u8]) {
    let Some((ip, tcp)) = parts(frame) else {
        return;
    };
    let without = pseudo(ip, tcp) + sum(tcp) + u64::from(!u16_at(tcp, FIELD));
    let at = tcp.as_ptr() as usize - frame.as_ptr() as usize + FIELD;
    frame[at..at + 2].copy_from_slice(&(!fold(without)).to_be_bytes());
}

/// Addresses, protocol and length.
fn pseudo(ip: &[u8], tcp: &[u8]) -> u64 {
    sum(&ip[12..20]) + 6 + tcp.len() as u64
}

/// The sum of all 16-bit words, an odd last byte filled up with zero.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut sum = 0u64;
    // Two words at a time: their halves are folded together in the end (2^16 is 1 modulo 2^16 - 1).
    for word in &mut words {
        sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::frame;
    use proptest::prelude::*;

    proptest! {
        /// What was made right is right, whatever was there before, and any one flipped bit is seen.
        #[test]
        fn made_right_is_right(payload in proptest::collection::vec(any::<u8>(), 0..99), before in any::<[u8; 2]>(), bit in 0usize..160) {
            let mut bytes = frame(1, 2, 0x10, &[], &payload);
            bytes[50..52].copy_from_slice(&before);
            make_right(&mut bytes);
            prop_assert!(is_right(&bytes));
            bytes[34 + bit / 8] ^= 1 << (bit % 8);
            // Flips in the header's length and in the port may leave no segment; then there is nothing to be wrong.
            prop_assert!(!is_right(&bytes) || crate::Segment::of(&bytes).is_none());
        }
    }

    /// What follows the segment in its frame does not count.
    #[test]
    fn padding_is_left_out() {
        let mut bytes = frame(1, 2, 0x10, &[], b"odd");
        make_right(&mut bytes);
        bytes.extend([0xff; 9]);
        assert!(is_right(&bytes));
    }
}
