//! Frames on their way out: room to fill, a queue to hand over, oldest first.
//!
//! In: lengths; out: slots of fixed size in one piece of memory, reused from the start whenever the queue runs empty, so
//! that a device under light load stays in cache. It refuses to know who sends them.

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// A queue of frames.
#[derive(Debug)]
pub struct Outbox {
    memory: Box<[u8]>,
    lengths: Box<[usize]>,
    stride: usize,
    largest: usize,
    first: usize,
    queued: usize,
}

impl Outbox {
    /// Room for `slots` frames of up to `largest` bytes.
    pub fn new(slots: usize, largest: usize) -> Outbox {
        let stride = largest.next_multiple_of(64);
        Outbox {
            memory: vec![0; slots * stride].into(),
            lengths: vec![0; slots].into(),
            stride,
            largest,
            first: 0,
            queued: 0,
        }
    }

    /// Queues a frame of `len` bytes and lends its memory.
    pub fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.queued == self.lengths.len() || !(ETHERNET..=self.largest).contains(&len) {
            return None;
        }
        let slot = self.slot(self.queued);
        self.queued += 1;
        self.lengths[slot] = len;
        Some(&mut self.memory[slot * self.stride..][..len])
    }

    /// Frames queued.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// The frame `index` of those queued, from 0, the oldest.
    pub fn at(&self, index: usize) -> &[u8] {
        let slot = self.slot(index);
        &self.memory[slot * self.stride..][..self.lengths[slot]]
    }

    /// Takes the `count` oldest out.
    pub fn sent(&mut self, count: usize) {
        let count = count.min(self.queued);
        self.queued -= count;
        self.first = match self.queued {
            0 => 0,
            _ => self.slot(count),
        };
    }

    fn slot(&self, index: usize) -> usize {
        let slot = self.first + index;
        match slot.checked_sub(self.lengths.len()) {
            Some(wrapped) => wrapped,
            None => slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames leave in the order they came, over the end of the memory too; what is not sent stays.
    #[test]
    fn order_holds_over_the_end() {
        let mut outbox = Outbox::new(3, 64);
        let mut next = 0;
        let mut fill = |outbox: &mut Outbox| {
            while let Some(frame) = outbox.frame(20) {
                frame.fill(next);
                next += 1;
            }
        };
        fill(&mut outbox);
        for oldest in [0, 2, 4] {
            let firsts: Vec<_> = (0..3).map(|i| outbox.at(i)[0]).collect();
            assert_eq!(firsts, [oldest, oldest + 1, oldest + 2]);
            outbox.sent(2);
            assert_eq!((outbox.queued(), outbox.at(0)), (1, &[oldest + 2; 20][..]));
            fill(&mut outbox);
        }
    }

    /// A queue that is full, and lengths no link carries, get no room and queue nothing.
    #[test]
    fn no_room_queues_nothing() {
        let mut outbox = Outbox::new(1, 100);
        assert!(outbox.frame(101).is_none());
        assert!(outbox.frame(13).is_none());
        assert_eq!(outbox.queued(), 0);
        assert_eq!(outbox.frame(100).unwrap().len(), 100);
        assert!(outbox.frame(14).is_none());
        assert_eq!(outbox.queued(), 1);
    }
}
