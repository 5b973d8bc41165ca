//! SipHash-2-4 (Aumasson and Bernstein, 2012): a hash whose values say nothing without its key.
//!
//! In: whole words and a key; out: 64 bits. For what strangers see or choose: initial sequence numbers, SYN cookies.

/// A key, stretched from an engine's seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SipKey(u64, u64);

impl SipKey {
    /// A key of its own for each `purpose` of a seed.
    pub fn new(seed: u64, purpose: u64) -> SipKey {
        let base = SipKey(seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15);
        SipKey(base.hash(&[purpose, 0]), base.hash(&[purpose, 1]))
    }

    /// The hash of these words, taken as little-endian bytes.
    #[inline]
    pub fn hash(self, words: &[u64]) -> u64 {
        let mut v = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let end = (words.len() as u64 * 8) << 56;
        for &word in words.iter().chain(&[end]) {
            v[3] ^= word;
            round(&mut v);
            round(&mut v);
            v[0] ^= word;
        }
        v[2] ^= 0xff;
        (0..4).for_each(|_| round(&mut v));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of the authors' test vectors: the key 00..0f over nothing and over the bytes 00..07.
    #[test]
    fn known_values() {
        let key = SipKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(key.hash(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(key.hash(&[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
    }
}
