//! Queues between the two sides: one writer, one reader, entries of a fixed number of words.
//!
//! In: entries; out: entries, in order, each once. Positions only grow; each side keeps its own privately and believes
//! the other's only as far as it fits: a position that cannot be is [`Corrupt`], whatever it is used for.

use super::Region;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The other side wrote something into shared memory that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side of a shared queue wrote a position that cannot be")]
pub struct Corrupt;

/// Where a queue is: the words of its positions, its entries, how many there are (a power of two).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the word that counts entries written.
    pub head: usize,
    /// Offset of the word that counts entries read.
    pub tail: usize,
    /// Offset of the first entry.
    pub entries: usize,
    /// Entries of the queue.
    pub capacity: u64,
    /// Offset of a word for each entry with the counter's value when it was written; none: stamps are not kept.
    pub stamps: Option<usize>,
}

impl Place {
    fn word<const W: usize>(&self, position: u64, word: usize) -> usize {
        self.entries + ((position & (self.capacity - 1)) as usize * W + word) * 8
    }

    fn stamp(&self, position: u64) -> Option<usize> {
        let at = (position & (self.capacity - 1)) as usize * 8;
        self.stamps.map(|stamps| stamps + at)
    }
}

/// The writing side.
#[derive(Debug)]
pub struct Producer<const W: usize> {
    region: Arc<Region>,
    place: Place,
    head: u64,
    /// The reader's position as seen last.
    tail: u64,
}

impl<const W: usize> Producer<W> {
    /// The writer of a queue that nobody has written to.
    pub fn new(region: Arc<Region>, place: Place) -> Producer<W> {
        Producer {
            region,
            place,
            head: 0,
            tail: 0,
        }
    }

    /// Looks how far the reader is; how many entries wait for it.
    #[inline]
    pub fn probe(&mut self) -> Result<u64, Corrupt> {
        // Acquire `tail`: pairs with the reader's Release `tail`: it has copied an entry before we overwrite it.
        let tail = self.region.word(self.place.tail).load(Ordering::Acquire);
        // The reader only goes on, and not past us.
        if self.head.wrapping_sub(tail) > self.head.wrapping_sub(self.tail) {
            return Err(Corrupt);
        }
        self.tail = tail;
        Ok(self.depth())
    }

    /// Entries that waited for the reader when it was looked at last.
    pub fn depth(&self) -> u64 {
        self.head - self.tail
    }

    /// Entries the queue holds.
    pub fn capacity(&self) -> u64 {
        self.place.capacity
    }

    /// Writes an entry; `false` when the queue is full.
    #[inline]
    pub fn push(&mut self, entry: [u64; W], stamp: u64) -> Result<bool, Corrupt> {
        if self.depth() == self.place.capacity && self.probe()? == self.place.capacity {
            return Ok(false);
        }
        for (at, word) in entry.into_iter().enumerate() {
            let at = self.place.word::<W>(self.head, at);
            // Relaxed: the Release store of `head` publishes it.
            self.region.word(at).store(word, Ordering::Relaxed);
        }
        if let Some(at) = self.place.stamp(self.head) {
            self.region.word(at).store(stamp, Ordering::Relaxed);
        }
        self.head += 1;
        // Release `head`: the entry, and payload copied before it, are there when the reader's Acquire `head` sees it.
        self.region
            .word(self.place.head)
            .store(self.head, Ordering::Release);
        Ok(true)
    }
}

/// The reading side.
#[derive(Debug)]
pub struct Consumer<const W: usize> {
    region: Arc<Region>,
    place: Place,
    tail: u64,
    /// The writer's position as seen last.
    head: u64,
}

impl<const W: usize> Consumer<W> {
    /// The reader of a queue that nobody has read from.
    pub fn new(region: Arc<Region>, place: Place) -> Consumer<W> {
        Consumer {
            region,
            place,
            tail: 0,
            head: 0,
        }
    }

    /// Loads the writer's position for its cache line's sake and looks at nothing.
    #[inline(always)]
    pub fn prefetch(&self) -> u64 {
        self.region.word(self.place.head).load(Ordering::Relaxed)
    }

    /// Looks how far the writer is; how many entries wait.
    #[inline]
    pub fn probe(&mut self) -> Result<u64, Corrupt> {
        // Acquire `head`: pairs with the writer's Release `head`: entries before it are whole.
        let head = self.region.word(self.place.head).load(Ordering::Acquire);
        let waiting = head.wrapping_sub(self.tail);
        // The writer only goes on, and at most a queue's length ahead of us.
        if waiting > self.place.capacity || waiting < self.depth() {
            return Err(Corrupt);
        }
        self.head = head;
        Ok(waiting)
    }

    /// Entries that waited when the writer was looked at last.
    pub fn depth(&self) -> u64 {
        self.head.wrapping_sub(self.tail)
    }

    /// The next entry and its stamp (0: none is kept).
    #[inline]
    pub fn pop(&mut self) -> Result<Option<([u64; W], u64)>, Corrupt> {
        if self.depth() == 0 && self.probe()? == 0 {
            return Ok(None);
        }
        let mut entry = [0; W];
        for (at, word) in entry.iter_mut().enumerate() {
            let at = self.place.word::<W>(self.tail, at);
            // Relaxed: the Acquire load of `head` made it visible.
            *word = self.region.word(at).load(Ordering::Relaxed);
        }
        let stamp = self.place.stamp(self.tail);
        let stamp = stamp.map_or(0, |at| self.region.word(at).load(Ordering::Relaxed));
        self.tail = self.tail.wrapping_add(1);
        // Release `tail`: the entry has been copied before the writer's Acquire `tail` lets it be overwritten.
        self.region
            .word(self.place.tail)
            .store(self.tail, Ordering::Release);
        Ok(Some((entry, stamp)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const PLACE: Place = Place {
        head: 0,
        tail: 64,
        entries: 128,
        capacity: 8,
        stamps: Some(512),
    };

    fn queue() -> (Arc<Region>, Producer<2>, Consumer<2>) {
        let (region, _file) = Region::create(4096).unwrap();
        let region = Arc::new(region);
        let producer = Producer::new(region.clone(), PLACE);
        let consumer = Consumer::new(region.clone(), PLACE);
        (region, producer, consumer)
    }

    proptest! {
        /// Entries come out in order, each once, with their stamps; a full queue refuses.
        #[test]
        fn order_holds(steps in prop::collection::vec(any::<bool>(), 0..200)) {
            let (_region, mut producer, mut consumer) = queue();
            let (mut model, mut next) = (VecDeque::new(), 1);
            for push in steps {
                if push {
                    let pushed = producer.push([next, !next], next * 3).unwrap();
                    prop_assert_eq!(pushed, model.len() < 8);
                    if pushed {
                        model.push_back(([next, !next], next * 3));
                    }
                    next += 1;
                } else {
                    prop_assert_eq!(consumer.pop().unwrap(), model.pop_front());
                }
            }
        }

        /// Whatever the other side writes over the whole memory, at any time: entries or `Corrupt`, and no more entries
        /// than the queue holds without the writer being looked at again.
        #[test]
        fn garbage_is_refused(
            words in prop::collection::vec((0usize..512, any::<u64>()), 0..40),
            small in prop::collection::vec((prop_oneof![Just(0usize), Just(8)], 0u64..20), 0..40),
        ) {
            let (region, mut producer, mut consumer) = queue();
            for (at, word) in words.into_iter().chain(small) {
                region.word(at * 8).store(word, Ordering::Relaxed);
                let mut taken = 0;
                while let Ok(Some(_)) = consumer.pop() {
                    taken += 1;
                    prop_assert!(taken <= 8);
                }
                for _ in 0..10 {
                    if producer.push([1, 2], 3) == Ok(true) {
                        prop_assert!(producer.depth() <= 8);
                    }
                }
            }
        }
    }

    /// A reader's position that goes back or past the writer is refused.
    #[test]
    fn positions_only_go_on() {
        let (region, mut producer, _) = queue();
        for _ in 0..4 {
            assert_eq!(producer.push([0, 0], 0), Ok(true));
        }
        region.word(64).store(3, Ordering::Relaxed);
        assert_eq!(producer.probe(), Ok(1));
        for wrong in [2, 5, u64::MAX] {
            region.word(64).store(wrong, Ordering::Relaxed);
            assert_eq!(producer.probe(), Err(Corrupt));
        }
    }

    /// Two threads hand a long row of entries over without losing or doubling one.
    #[test]
    fn threads_hand_over() {
        let (_region, mut producer, mut consumer) = queue();
        let writer = std::thread::spawn(move || {
            for n in 0..50_000u64 {
                while !producer.push([n, n ^ 7], n).unwrap() {
                    std::thread::yield_now();
                }
            }
        });
        for n in 0..50_000u64 {
            let entry = loop {
                match consumer.pop().unwrap() {
                    Some(entry) => break entry,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(entry, ([n, n ^ 7], n));
        }
        writer.join().unwrap();
    }
}
