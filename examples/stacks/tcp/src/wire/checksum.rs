//! The Internet checksum (RFC 1071).

/// A running sum; not folded yet.
#[inline]
pub(crate) fn sum(bytes: &[u8], start: u64) -> u64 {
    let mut total = start;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_be_bytes(*word);
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    for pair in rest.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        total += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    total
}

/// The 16-bit checksum of a sum; 0 for bytes that include their own right checksum.
#[inline]
pub(crate) fn finish(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// Sum of the pseudo header of TCP over IPv4 (RFC 9293 3.1).
#[inline]
pub(crate) fn pseudo(source: u32, destination: u32, len: usize) -> u64 {
    let halves = |a: u32| u64::from(a >> 16) + u64::from(a & 0xffff);
    halves(source) + halves(destination) + 6 + len as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071 3, and odd lengths.
    #[test]
    fn known_sums() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(sum(&bytes, 0)), !0xddf2);
        assert_eq!(finish(sum(&[0xab], 0)), !0xab00);
        let long: Vec<u8> = (0..1461u32).map(|i| (i * 7) as u8).collect();
        let slow = long
            .chunks(2)
            .map(|p| u64::from(u16::from_be_bytes([p[0], p.get(1).copied().unwrap_or(0)])));
        assert_eq!(finish(sum(&long, 0)), finish(slow.sum()));
    }
}
