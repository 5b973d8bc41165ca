//! Numbers as blocks hold them: LEB128, signed ones zigzag, and columns of differences.
//!
//! In: numbers; out: bytes, and numbers back from untrusted bytes. It refuses to know what they count.

use super::{BlockError, MAX_BLOCK};

pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn zigzag(value: u64) -> u64 {
    (value << 1) ^ ((value as i64 >> 63) as u64)
}

pub fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

pub fn put_column(out: &mut Vec<u8>, column: &[u8]) {
    put(out, column.len() as u64);
    out.extend_from_slice(column);
}

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn byte(&mut self) -> Result<u8, BlockError> {
        let (&first, rest) = self.0.split_first().ok_or(BlockError::Short)?;
        self.0 = rest;
        Ok(first)
    }

    /// Most are a byte long, most others two.
    #[inline(always)]
    pub fn number(&mut self) -> Result<u64, BlockError> {
        match self.0 {
            [first, rest @ ..] if *first < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.eight_bytes(),
        }
    }

    /// A number of up to eight bytes, all of them at once.
    #[inline]
    pub fn eight_bytes(&mut self) -> Result<u64, BlockError> {
        let Some((&bytes, _)) = self.0.split_first_chunk() else {
            return self.long_number();
        };
        let bytes = u64::from_le_bytes(bytes);
        let ends = !bytes & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.long_number();
        }
        // The groups of seven bits up to the first byte that ends, moved together by pairs, fours and eights.
        let sevens = bytes & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
        let pairs = (sevens & 0x007f_007f_007f_007f) | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        let value = (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4;
        self.0 = &self.0[ends.trailing_zeros() as usize / 8 + 1..];
        Ok(value)
    }

    fn long_number(&mut self) -> Result<u64, BlockError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BlockError::Range("number"))
    }

    pub fn bounded<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, BlockError> {
        T::try_from(self.number()?).map_err(|_| BlockError::Range(what))
    }

    pub fn column(&mut self) -> Result<Bytes<'a>, BlockError> {
        let len: usize = self.bounded("column length")?;
        let (column, rest) = self.0.split_at_checked(len).ok_or(BlockError::Short)?;
        self.0 = rest;
        Ok(Bytes(column))
    }

    pub fn count(&mut self) -> Result<usize, BlockError> {
        let count = self.bounded("count")?;
        if count > MAX_BLOCK {
            return Err(BlockError::Range("count"));
        }
        Ok(count)
    }

    pub fn kind(&mut self, want: u8) -> Result<(), BlockError> {
        match self.byte()? {
            kind if kind == want => Ok(()),
            kind => Err(BlockError::Kind(kind)),
        }
    }
}

/// A column of numbers, each kept as its difference from the one before.
#[derive(Default)]
pub struct Deltas {
    pub bytes: Vec<u8>,
    last: u64,
}

impl Deltas {
    pub fn push(&mut self, value: u64) {
        put(&mut self.bytes, zigzag(value.wrapping_sub(self.last)));
        self.last = value;
    }
}

/// The other side of [`Deltas`].
pub struct Undeltas<'a> {
    bytes: Bytes<'a>,
    last: u64,
}

impl<'a> Undeltas<'a> {
    pub fn new(bytes: &mut Bytes<'a>) -> Result<Self, BlockError> {
        Ok(Undeltas {
            bytes: bytes.column()?,
            last: 0,
        })
    }

    #[inline]
    pub fn next(&mut self) -> Result<u64, BlockError> {
        self.last = self.last.wrapping_add(unzigzag(self.bytes.number()?));
        Ok(self.last)
    }

    /// Appends the next `count` numbers, most of which are longer than a byte.
    pub fn extend(&mut self, count: usize, out: &mut Vec<u64>) -> Result<(), BlockError> {
        let (mut bytes, mut last) = (self.bytes, self.last);
        out.reserve(count);
        for _ in 0..count {
            last = last.wrapping_add(unzigzag(bytes.eight_bytes()?));
            out.push(last);
        }
        (self.bytes, self.last) = (bytes, last);
        Ok(())
    }

    pub fn bounded<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, BlockError> {
        T::try_from(self.next()?).map_err(|_| BlockError::Range(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A number is the same however many bytes lie behind it, and however many it is written with.
        #[test]
        fn numbers(value: u64, bits in 0u32..=64, longer in 0usize..3, behind in prop::collection::vec(any::<u8>(), 0..9)) {
            let value = value.checked_shr(bits).unwrap_or(0);
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let longer = longer.min(10 - bytes.len());
            if longer > 0 {
                *bytes.last_mut().unwrap() |= 0x80;
                bytes.extend(std::iter::repeat_n(0x80, longer - 1).chain([0]));
            }
            bytes.extend(&behind);
            let mut left = Bytes(&bytes);
            prop_assert_eq!(left.number(), Ok(value));
            prop_assert_eq!(left.0, &behind[..]);
        }
    }
}
