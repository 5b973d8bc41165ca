//! Bytes on their way: written and not yet acknowledged, received and not yet read.
//!
//! In: bytes with their place in the stream; out: the same bytes in order. They grow as needed and refuse to know limits.

use crate::seq::Seq;
use std::collections::VecDeque;

/// Bytes from the first unacknowledged one on.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    bytes: VecDeque<u8>,
}

impl SendBuffer {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds bytes at the end.
    pub fn write(&mut self, data: &[u8]) {
        self.bytes.extend(data);
    }

    /// The first `n` are acknowledged.
    pub fn acknowledge(&mut self, n: usize) {
        self.bytes.drain(..n.min(self.bytes.len()));
    }

    /// Copies `out.len()` bytes from the place `offset` on; the caller knows that they are there.
    pub fn copy(&self, offset: usize, out: &mut [u8]) {
        let (a, b) = self.bytes.as_slices();
        let (from_a, from_b) = if offset < a.len() {
            let here = out.len().min(a.len() - offset);
            (&a[offset..offset + here], &b[..out.len() - here])
        } else {
            let offset = offset - a.len();
            (&a[..0], &b[offset..offset + out.len()])
        };
        out[..from_a.len()].copy_from_slice(from_a);
        out[from_a.len()..].copy_from_slice(from_b);
    }
}

/// Bytes in order for the application, and pieces that came before their time.
#[derive(Debug, Default)]
pub(crate) struct ReceiveBuffer {
    ready: VecDeque<u8>,
    /// Apart from each other and in order, all after what is ready.
    early: Vec<(Seq, Vec<u8>)>,
    early_bytes: usize,
    /// Where data came out of order last: its block is told first.
    newest: Seq,
}

impl ReceiveBuffer {
    /// Bytes that can be read.
    pub fn readable(&self) -> usize {
        self.ready.len()
    }

    /// Bytes kept, early ones too.
    pub fn held(&self) -> usize {
        self.ready.len() + self.early_bytes
    }

    /// Whether pieces wait for one before them.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes bytes that are next in the stream, and returns how many that makes with those which waited for them.
    pub fn in_order(&mut self, at: Seq, data: &[u8]) -> usize {
        self.ready.extend(data);
        let mut next = at.plus(data.len() as u32);
        while let Some((seq, _)) = self.early.first()
            && !seq.after(next)
        {
            let (seq, piece) = self.early.remove(0);
            self.early_bytes -= piece.len();
            let known = next.since(seq) as usize;
            if let Some(new) = piece.get(known..) {
                self.ready.extend(new);
                next = next.plus(new.len() as u32);
            }
        }
        next.since(at) as usize
    }

    /// Keeps bytes that are not next yet.
    pub fn early(&mut self, at: Seq, data: &[u8]) {
        self.newest = at;
        let (mut start, mut end) = (at, at.plus(data.len() as u32));
        let mut joined = data.to_vec();
        let mut kept = Vec::with_capacity(self.early.len() + 1);
        for (seq, piece) in self.early.drain(..) {
            let piece_end = seq.plus(piece.len() as u32);
            if piece_end.before(start) || seq.after(end) {
                kept.push((seq, piece));
                continue;
            }
            if seq.before(start) {
                let mut front = piece[..start.since(seq) as usize].to_vec();
                front.extend_from_slice(&joined);
                joined = front;
                start = seq;
            }
            if piece_end.after(end) {
                joined.extend_from_slice(&piece[piece.len() - piece_end.since(end) as usize..]);
                end = piece_end;
            }
        }
        let place = kept.iter().position(|(seq, _)| seq.after(start));
        kept.insert(place.unwrap_or(kept.len()), (start, joined));
        self.early_bytes = kept.iter().map(|(_, p)| p.len()).sum();
        self.early = kept;
    }

    /// Blocks to tell the sender, the one that changed last first (RFC 2018 4).
    pub fn blocks<const N: usize>(&self, most: usize) -> [Option<(Seq, Seq)>; N] {
        let mut blocks = [None; N];
        let block = |(seq, piece): &(Seq, Vec<u8>)| (*seq, seq.plus(piece.len() as u32));
        let holds_newest =
            |(seq, end): &(Seq, Seq)| !self.newest.before(*seq) && self.newest.before(*end);
        let all = self.early.iter().map(block);
        let (first, others): (Vec<_>, Vec<_>) = all.partition(holds_newest);
        let told = first.into_iter().chain(others.into_iter().rev());
        for (place, block) in blocks.iter_mut().zip(told.take(most)) {
            *place = Some(block);
        }
        blocks
    }

    /// Readable bytes that lie together.
    pub fn peek(&self) -> &[u8] {
        self.ready.as_slices().0
    }

    /// Takes readable bytes away; how many.
    pub fn consume(&mut self, n: usize) -> usize {
        let n = n.min(self.ready.len());
        self.ready.drain(..n);
        n
    }

    /// Copies readable bytes out and takes them away; how many.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let (a, b) = self.ready.as_slices();
        let from_a = a.len().min(out.len());
        out[..from_a].copy_from_slice(&a[..from_a]);
        let from_b = b.len().min(out.len() - from_a);
        out[from_a..from_a + from_b].copy_from_slice(&b[..from_b]);
        self.consume(from_a + from_b)
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
                    buffer.early(Seq(start).plus(at as u32), piece);
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
            buffer.early(Seq(at), &[0; 5]);
        }
        let block = |at| Some((Seq(at), Seq(at + 5)));
        assert_eq!(
            buffer.blocks::<4>(3),
            [block(20), block(50), block(30), None]
        );
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
