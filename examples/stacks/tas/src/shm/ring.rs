//! A flow's payload ring: where its bytes are in the region.
//!
//! In: positions that only grow, of one side's own counting; out: copies that wrap. Who may write which bytes is agreed
//! by the entries of the queues, not here.

use super::Region;

/// A ring of a power of two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRing {
    offset: usize,
    len: u32,
}

impl ByteRing {
    /// The ring of `len` bytes, a power of two, at an offset.
    pub fn new(offset: usize, len: u32) -> ByteRing {
        debug_assert!(len.is_power_of_two());
        ByteRing { offset, len }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> u32 {
        self.len
    }

    /// Where the bytes from `position` on are: up to the ring's end, and from its start.
    fn pieces(&self, position: u32, len: usize) -> (usize, usize) {
        let at = (position & (self.len.wrapping_sub(1))) as usize;
        (self.offset + at, len.min(self.len as usize - at))
    }

    /// Copies at most a ringful in at a position.
    #[inline]
    pub fn write(&self, region: &Region, position: u32, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.len as usize)];
        let (at, first) = self.pieces(position, bytes.len());
        region.copy_in(at, &bytes[..first]);
        if first < bytes.len() {
            region.copy_in(self.offset, &bytes[first..]);
        }
    }

    /// Copies at most a ringful out from a position.
    #[inline]
    pub fn read(&self, region: &Region, position: u32, out: &mut [u8]) {
        let len = out.len().min(self.len as usize);
        let (at, first) = self.pieces(position, len);
        region.copy_out(at, &mut out[..first]);
        if first < len {
            region.copy_out(self.offset, &mut out[first..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is written at a position is read from it, over the ring's end and over the end of 32 bits too, and
        /// nothing beside the ring is touched.
        #[test]
        fn what_is_written_is_read(position in any::<u32>(), bytes in prop::collection::vec(any::<u8>(), 0..=256)) {
            let (region, _file) = Region::create(4096).unwrap();
            let ring = ByteRing::new(1024, 256);
            ring.write(&region, position, &bytes);
            let mut out = vec![0; bytes.len()];
            ring.read(&region, position, &mut out);
            prop_assert_eq!(&out, &bytes);
            let mut beside = [1; 1024];
            region.copy_out(0, &mut beside);
            prop_assert!(beside.iter().all(|&b| b == 0));
            region.copy_out(1280, &mut beside);
            prop_assert!(beside.iter().all(|&b| b == 0));
        }
    }
}
