//! The checksum of TCP and UDP over IPv4 (RFC 1071, RFC 9293 3.1, RFC 768), made where it was left out.

/// Makes the TCP or UDP checksum of a whole IPv4 packet behind an Ethernet header. Any other frame stays as it is.
pub fn complete(frame: &mut [u8]) {
    let Some((0x0800, packet)) = frame
        .split_at_mut_checked(14)
        .map(|(ethernet, packet)| (u16::from_be_bytes([ethernet[12], ethernet[13]]), packet))
    else {
        return;
    };
    if packet.len() < 20 {
        return;
    }
    let header = usize::from(packet[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    // More fragments to come, or not the first one: the sum is over all of them.
    let whole = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff == 0;
    let at = match packet[9] {
        6 => 16,
        17 => 6,
        _ => return,
    };
    if packet[0] >> 4 != 4 || header < 20 || total > packet.len() || !whole {
        return;
    }
    let Some(length) = total.checked_sub(header).filter(|l| *l >= at + 2) else {
        return;
    };
    let pseudo = u32::from(packet[9]) + length as u32 + sum(&packet[12..20]);
    let segment = &mut packet[header..total];
    segment[at..at + 2].fill(0);
    let mut folded = pseudo + sum(segment);
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    // UDP sends a sum of zero as all ones: zero means that there is none.
    let sum = match !folded as u16 {
        0 if at == 6 => 0xffff,
        sum => sum,
    };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The sum of 16-bit words; at most 64 KiB of them fit.
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let whole: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    whole + rest.first().map_or(0, |byte| u32::from(*byte) << 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver's check, which sums everything with the checksum in place, comes out as all ones, for payloads of even
    /// and odd length, whatever was in the checksum's place before.
    #[test]
    fn a_receiver_finds_the_sum_right() {
        for (protocol, len) in [(6_u8, 60_usize), (6, 61), (17, 42), (17, 1513)] {
            let mut frame: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
            let total = (len - 14) as u16;
            frame[12..16].copy_from_slice(&[0x08, 0, 0x45, 0]);
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[20..22].fill(0);
            frame[23] = protocol;
            complete(&mut frame);
            let pseudo = [
                &[0, protocol][..],
                &(total - 20).to_be_bytes(),
                &frame[26..34],
            ]
            .concat();
            let words = [&pseudo, &frame[34..]].concat();
            let total: u64 = words
                .chunks(2)
                .map(|w| u64::from(w[0]) * 256 + u64::from(*w.get(1).unwrap_or(&0)))
                .sum();
            assert_eq!(total % 0xffff, 0, "{protocol} {len}");
        }
    }

    /// Frames of other kinds, cut ones and fragments are left alone.
    #[test]
    fn other_frames_are_left_alone() {
        let mut packet = [0; 60];
        packet[12..16].copy_from_slice(&[0x08, 0, 0x45, 0]);
        packet[17] = 46;
        packet[23] = 6;
        let changed = |frame: &[u8]| {
            let mut copy = frame.to_vec();
            complete(&mut copy);
            copy != frame
        };
        assert!(changed(&packet));
        for (at, value) in [
            (12, 0x86),
            (14, 0x65),
            (14, 0x4f),
            (16, 1),
            (17, 30),
            (21, 8),
            (23, 1),
        ] {
            let mut other = packet;
            other[at] = value;
            assert!(!changed(&other), "byte {at}");
        }
        for len in 0..54 {
            assert!(!changed(&packet[..len]), "{len} bytes");
        }
    }
}
