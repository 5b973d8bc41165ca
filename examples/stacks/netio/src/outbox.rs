//! Frames on their way out: room to fill, a queue to hand over, oldest first.
//!
//! In: lengths; out: room in one piece of memory, used from the start whenever the queue runs empty, so that a device
//! under light load stays in cache. In front of each frame there is room for a `virtio_net_hdr`, filled where the device
//! wants one. It refuses to know who sends the frames.

use crate::offload::{Offloads, TxOffload};
use crate::vnet;

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Each frame begins on a cache line but for the header in front of it.
const ALIGN: usize = 64;

/// A queue of frames.
#[derive(Debug)]
pub struct Outbox {
    memory: Box<[u8]>,
    slots: Box<[Slot]>,
    /// Longest frame that leaves as it is.
    largest: usize,
    offloads: Offloads,
    first: usize,
    queued: usize,
}

/// Where a frame is, without its header.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    start: usize,
    len: usize,
    offload: TxOffload,
}

impl Outbox {
    /// Room for `slots` frames of up to `largest` bytes, with nothing left to the device.
    pub fn new(slots: usize, largest: usize) -> Outbox {
        Outbox::with_offloads(slots, largest, Offloads::default())
    }

    /// The same, and for fewer frames that the device cuts.
    pub fn with_offloads(slots: usize, largest: usize, offloads: Offloads) -> Outbox {
        let longest = offloads.segmentation.unwrap_or(0);
        let room = (slots * stride(largest)).max(LONG_FRAMES * stride(longest));
        Outbox {
            memory: vec![0; room].into(),
            slots: vec![Slot::default(); slots].into(),
            largest,
            offloads,
            first: 0,
            queued: 0,
        }
    }

    /// Queues a frame of `len` bytes and lends its memory.
    pub fn frame(&mut self, len: usize, offload: TxOffload) -> Option<&mut [u8]> {
        let longest = match offload.segment {
            Some(_) => self.offloads.segmentation?,
            None => self.largest,
        };
        if offload.checksum.is_some() && !self.offloads.checksum
            || !(ETHERNET..=longest).contains(&len)
            || !offload.fits(len)
            || self.queued == self.slots.len()
        {
            return None;
        }
        let start = self.room(len)?;
        let slot = self.index(self.queued);
        self.queued += 1;
        self.slots[slot] = Slot {
            start,
            len,
            offload,
        };
        if self.offloads.any() {
            let header = &mut self.memory[start - vnet::LEN..start];
            header.copy_from_slice(&vnet::header(offload));
        }
        Some(&mut self.memory[start..][..len])
    }

    /// Where a frame of this length fits, behind the newest or, over the end, before the oldest.
    fn room(&self, len: usize) -> Option<usize> {
        if self.queued == 0 {
            return Some(ALIGN);
        }
        let (oldest, newest) = (self.slots[self.first], self.slot(self.queued - 1));
        let next = newest.start + stride(newest.len);
        let fits = |start: usize, end: usize| (start + len <= end).then_some(start);
        if newest.start >= oldest.start {
            fits(next, self.memory.len()).or_else(|| fits(ALIGN, oldest.start - vnet::LEN))
        } else {
            fits(next, oldest.start - vnet::LEN)
        }
    }

    /// Frames queued.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// The frame `index` of those queued, from 0, the oldest.
    pub fn at(&self, index: usize) -> &[u8] {
        let slot = self.slot(index);
        &self.memory[slot.start..][..slot.len]
    }

    /// The same with the `virtio_net_hdr` in front of it.
    pub fn with_header(&self, index: usize) -> &[u8] {
        let slot = self.slot(index);
        &self.memory[slot.start - vnet::LEN..slot.start + slot.len]
    }

    /// What the device has to do with the frame `index`.
    pub fn offload(&self, index: usize) -> TxOffload {
        self.slot(index).offload
    }

    /// What frames may leave to the device.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Takes the `count` oldest out.
    pub fn sent(&mut self, count: usize) {
        let count = count.min(self.queued);
        self.first = self.index(count);
        self.queued -= count;
    }

    fn slot(&self, index: usize) -> Slot {
        self.slots[self.index(index)]
    }

    fn index(&self, index: usize) -> usize {
        let slot = self.first + index;
        match slot.checked_sub(self.slots.len()) {
            Some(wrapped) => wrapped,
            None => slot,
        }
    }
}

/// Frames of the longest kind that there is room for, at least.
const LONG_FRAMES: usize = 64;

/// From one frame's start to where the next may start.
fn stride(len: usize) -> usize {
    (len + vnet::LEN).next_multiple_of(ALIGN) + ALIGN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const PLAIN: TxOffload = TxOffload {
        checksum: None,
        segment: None,
    };

    /// Frames leave in the order they came, over the end of the memory too; what is not sent stays.
    #[test]
    fn order_holds_over_the_end() {
        let mut outbox = Outbox::new(3, 64);
        let mut next = 0;
        let mut fill = |outbox: &mut Outbox| {
            while let Some(frame) = outbox.frame(20, PLAIN) {
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
        assert!(outbox.frame(101, PLAIN).is_none());
        assert!(outbox.frame(13, PLAIN).is_none());
        assert_eq!(outbox.queued(), 0);
        assert_eq!(outbox.frame(100, PLAIN).unwrap().len(), 100);
        assert!(outbox.frame(14, PLAIN).is_none());
        assert_eq!(outbox.queued(), 1);
    }

    /// What the device does not do cannot be left to it, nor what lies outside the frame.
    #[test]
    fn only_what_the_device_does_is_left_to_it() {
        let sums = TxOffload {
            checksum: Some((34, 16)),
            ..PLAIN
        };
        let cuts = TxOffload {
            segment: Some(Segment {
                header: 54,
                payload: 1446,
            }),
            ..sums
        };
        let mut none = Outbox::new(8, 1514);
        assert!(none.frame(100, sums).is_none());
        assert!(none.frame(100, cuts).is_none());
        let offloads = Offloads {
            checksum: true,
            segmentation: Some(65_550),
        };
        let mut outbox = Outbox::with_offloads(8, 1514, offloads);
        assert!(outbox.frame(1515, sums).is_none());
        assert!(outbox.frame(51, sums).is_none(), "the sum is outside");
        assert!(outbox.frame(65_551, cuts).is_none());
        assert!(outbox.frame(54, cuts).is_none(), "nothing to cut");
        assert!(outbox.frame(65_550, cuts).is_some());
        assert_eq!(outbox.with_header(0)[..vnet::LEN], vnet::header(cuts));
    }

    proptest! {
        /// Whatever is queued and sent in whatever order, no frame touches another, and there is always room for one
        /// when nothing waits.
        #[test]
        fn frames_never_overlap(steps in prop::collection::vec((14_usize..700, 0_usize..4), 1..400)) {
            let offloads = Offloads { checksum: true, segmentation: None };
            let mut outbox = Outbox::with_offloads(7, 700, offloads);
            let mut model: VecDeque<(u8, usize)> = VecDeque::new();
            for (number, (len, send)) in steps.into_iter().enumerate() {
                let number = number as u8;
                match outbox.frame(len, PLAIN) {
                    Some(frame) => {
                        frame.fill(number);
                        model.push_back((number, len));
                    }
                    None => prop_assert!(!model.is_empty()),
                }
                prop_assert_eq!(outbox.queued(), model.len());
                for (index, (number, len)) in model.iter().enumerate() {
                    prop_assert_eq!(outbox.at(index), &vec![*number; *len][..]);
                    prop_assert_eq!(&outbox.with_header(index)[..vnet::LEN], &vnet::header(PLAIN)[..]);
                }
                let sent = send.min(model.len());
                outbox.sent(sent);
                model.drain(..sent);
            }
        }
    }
}
