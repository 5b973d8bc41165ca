//! Bytes on their way: written and not yet acknowledged, received and not yet read.
//!
//! In: bytes with their place in the stream; out: the same bytes in order. Both kinds are rings that grow by doubling and
//! keep their memory, so that a connection in steady state allocates nothing. They refuse to know limits.

use crate::seq::Seq;

/// Smallest ring.
const SMALLEST: usize = 2048;

/// Bytes in a ring whose size is a power of two.
#[derive(Debug, Default)]
struct Ring {
    memory: Box<[u8]>,
    first: usize,
    len: usize,
}

impl Ring {
    /// Makes room for `total` bytes from the first on.
    fn reserve(&mut self, total: usize) {
        if total <= self.memory.len() {
            return;
        }
        let size = total.max(SMALLEST).next_power_of_two();
        let mut memory = vec![0; size].into_boxed_slice();
        // All of the old memory: bytes beyond `len` may be early ones.
        let (front, back) = self.memory.split_at(self.first);
        memory[..back.len()].copy_from_slice(back);
        memory[back.len()..back.len() + front.len()].copy_from_slice(front);
        self.memory = memory;
        self.first = 0;
    }

    fn at(&self, offset: usize) -> usize {
        (self.first + offset) & (self.memory.len() - 1)
    }

    /// Puts bytes `offset` after the first; `len` stays.
    fn put(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.reserve(offset + data.len());
        let start = self.at(offset);
        let here = data.len().min(self.memory.len() - start);
        let (front, back) = data.split_at(here);
        self.memory[start..start + here].copy_from_slice(front);
        self.memory[..back.len()].copy_from_slice(back);
    }

    fn push(&mut self, data: &[u8]) {
        self.put(self.len, data);
        self.len += data.len();
    }

    /// The bytes from `offset` on, `len` of them, which are there.
    fn slices(&self, offset: usize, len: usize) -> (&[u8], &[u8]) {
        if len == 0 {
            return (&[], &[]);
        }
        let start = self.at(offset);
        let here = len.min(self.memory.len() - start);
        (
            &self.memory[start..start + here],
            &self.memory[..len - here],
        )
    }

    fn drop_first(&mut self, n: usize) -> usize {
        let n = n.min(self.len);
        if n > 0 {
            self.first = self.at(n);
            self.len -= n;
        }
        n
    }
}

/// Bytes from the first unacknowledged one on.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    ring: Ring,
}

impl SendBuffer {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ring.len
    }

    /// Adds bytes at the end.
    pub fn write(&mut self, data: &[u8]) {
        self.ring.push(data);
    }

    /// The first `n` are acknowledged.
    pub fn acknowledge(&mut self, n: usize) {
        self.ring.drop_first(n);
    }

    /// Copies `out.len()` bytes from the place `offset` on; the caller knows that they are there.
    pub fn copy(&self, offset: usize, out: &mut [u8]) {
        let (a, b) = self.ring.slices(offset, out.len());
        out[..a.len()].copy_from_slice(a);
        out[a.len()..].copy_from_slice(b);
    }
}

/// Most pieces apart from each other that are kept: more than half the segments of any window we offer by default.
const MOST_PIECES: usize = 64;

/// Bytes in order for the application, and pieces that came before their time, in their places behind them.
#[derive(Debug, Default)]
pub(crate) struct ReceiveBuffer {
    ring: Ring,
    /// First byte and byte after the last: apart from each other and in order, all after what is ready.
    early: Vec<(Seq, Seq)>,
    early_bytes: usize,
    /// Where data came out of order last: its block is told first.
    newest: Seq,
}

impl ReceiveBuffer {
    /// Bytes that can be read.
    pub fn readable(&self) -> usize {
        self.ring.len
    }

    /// Bytes kept, early ones too.
    pub fn held(&self) -> usize {
        self.ring.len + self.early_bytes
    }

    /// Whether pieces wait for one before them.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes bytes that are next in the stream, and returns how many that makes with those which waited for them.
    pub fn in_order(&mut self, at: Seq, data: &[u8]) -> usize {
        self.ring.push(data);
        let mut next = at.plus(data.len() as u32);
        let mut joined = 0;
        for &(start, end) in &self.early {
            if start.after(next) {
                break;
            }
            joined += 1;
            self.early_bytes -= end.since(start) as usize;
            // The bytes lie where they belong already.
            self.ring.len += end.since(next) as usize;
            next = next.max(end);
        }
        self.early.drain(..joined);
        next.since(at) as usize
    }

    /// Keeps bytes that are not next yet; `next` is the byte that is. False if there are too many pieces already.
    pub fn early(&mut self, next: Seq, at: Seq, data: &[u8]) -> bool {
        let (mut start, mut end) = (at, at.plus(data.len() as u32));
        let first = self.early.partition_point(|piece| piece.1.before(start));
        let last = self.early.partition_point(|piece| !piece.0.after(end));
        if first == last && self.early.len() == MOST_PIECES {
            return false;
        }
        self.newest = at;
        let offset = self.ring.len + at.since(next) as usize;
        self.ring.put(offset, data);
        for piece in &self.early[first..last] {
            self.early_bytes -= piece.1.since(piece.0) as usize;
            start = start.min(piece.0);
            end = end.max(piece.1);
        }
        self.early_bytes += end.since(start) as usize;
        if first == last {
            // Once, on the first loss.
            self.early.reserve(MOST_PIECES - self.early.len());
            self.early.insert(first, (start, end));
        } else {
            self.early[first] = (start, end);
            self.early.drain(first + 1..last);
        }
        true
    }

    /// Blocks to tell the sender, the one that changed last first (RFC 2018 4).
    pub fn blocks<const N: usize>(&self, most: usize) -> [Option<(Seq, Seq)>; N] {
        let mut blocks = [None; N];
        let holds_newest =
            |piece: &&(Seq, Seq)| !self.newest.before(piece.0) && self.newest.before(piece.1);
        let first = self.early.iter().find(holds_newest);
        let others = self.early.iter().rev().filter(|p| !holds_newest(p));
        let told = first.into_iter().chain(others);
        for (place, block) in blocks.iter_mut().zip(told.take(most)) {
            *place = Some(*block);
        }
        blocks
    }

    /// Readable bytes that lie together.
    pub fn peek(&self) -> &[u8] {
        self.ring.slices(0, self.ring.len).0
    }

    /// Takes readable bytes away; how many.
    pub fn consume(&mut self, n: usize) -> usize {
        self.ring.drop_first(n)
    }

    /// Copies readable bytes out and takes them away; how many.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let n = self.ring.len.min(out.len());
        let (a, b) = self.ring.slices(0, n);
        out[..a.len()].copy_from_slice(a);
        out[a.len()..n].copy_from_slice(b);
        self.ring.drop_first(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Pieces in any order, overlapping at will, come out as the stream they were cut from.
        #[test]
        fn any_order(start in any::<u32>(), cuts in proptest::collection::vec((0usize..300, 1usize..60), 1..80)) {
            let stream: Vec<u8> = (0..400u32).map(|i| (i * 31 % 251) as u8).collect();
            let mut buffer = ReceiveBuffer::default();
            let mut next = 0usize;
            let whole = (0..400).step_by(50).map(|at| (at, 50));
            for (at, len) in cuts.into_iter().chain(whole) {
                let piece = &stream[at..at + len];
                if at <= next {
                    let new = piece.get(next - at..).unwrap_or(&[]);
                    let seq = Seq(start).plus(next as u32);
                    if !new.is_empty() {
                        next += buffer.in_order(seq, new);
                    }
                } else {
                    let (next, at) = (Seq(start).plus(next as u32), Seq(start).plus(at as u32));
                    prop_assert!(buffer.early(next, at, piece));
                }
                prop_assert!(buffer.held() <= stream.len());
            }
            prop_assert_eq!(next, 400);
            prop_assert!(!buffer.has_early());
            let mut out = vec![0; 500];
            prop_assert_eq!(buffer.read(&mut out), 400);
            prop_assert_eq!(&out[..400], &stream[..]);
        }
    }

    /// The block that changed last is told first, the others newest first.
    #[test]
    fn blocks_in_order() {
        let mut buffer = ReceiveBuffer::default();
        for at in [10, 30, 50, 20] {
            assert!(buffer.early(Seq(5), Seq(at), &[0; 5]));
        }
        let block = |at| Some((Seq(at), Seq(at + 5)));
        assert_eq!(
            buffer.blocks::<4>(3),
            [block(20), block(50), block(30), None]
        );
    }

    /// Memory that pieces can take is bounded by their number as well.
    #[test]
    fn too_many_pieces_are_refused() {
        let mut buffer = ReceiveBuffer::default();
        let kept = (0..100).filter(|at| buffer.early(Seq(0), Seq(10 + 4 * at), &[1; 2]));
        assert_eq!(kept.count(), MOST_PIECES);
        assert!(buffer.early(Seq(0), Seq(12), &[1; 2]));
        assert_eq!(buffer.held(), 2 * MOST_PIECES + 2);
    }

    /// Copies cross the ring's seam.
    #[test]
    fn send_buffer_seam() {
        let mut buffer = SendBuffer::default();
        let mut written = 0u32;
        for _ in 0..50 {
            let data: Vec<u8> = (written..written + 700).map(|i| i as u8).collect();
            buffer.write(&data);
            written += 700;
            let mut out = [0; 100];
            let first = written as usize - buffer.len();
            buffer.copy(333, &mut out);
            assert_eq!(out[0], (first + 333) as u8);
            assert_eq!(out[99], (first + 432) as u8);
            buffer.acknowledge(690);
        }
    }
}
