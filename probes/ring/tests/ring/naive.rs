//! The ring against a queue that anyone can check by eye.

use crate::Scratch;
use bypassprof_ring::reader::{Drained, RingFile};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Flow, Point, Slot, Tsc};
use proptest::prelude::*;
use std::collections::VecDeque;

const CAPACITY: usize = 512;

/// The same ring without positions, masks and limits.
#[derive(Default)]
struct Naive {
    queue: VecDeque<Slot>,
    told_epoch: Option<u64>,
    untold: u64,
    dropped: u64,
    skipped: u64,
}

impl Naive {
    fn push(&mut self, flight: bool, tsc: Tsc, slots: &[Slot]) {
        let epoch = tsc.raw() >> 47;
        let mut all = Vec::new();
        all.extend((self.told_epoch != Some(epoch)).then(|| Slot::epoch(tsc)));
        all.extend((self.untold > 0).then(|| Slot::lost(tsc, self.untold)));
        all.extend(slots);
        if !flight && self.queue.len() + all.len() > CAPACITY {
            self.untold += slots.len() as u64;
            self.dropped += slots.len() as u64;
            return;
        }
        self.told_epoch = Some(epoch);
        self.untold = 0;
        self.queue.extend(all);
    }

    /// What a reader gets: in flight mode not the oldest, which an event in the making may be overwriting.
    fn drain(&mut self, flight: bool, most: usize) -> Vec<Slot> {
        let limit = if flight { CAPACITY - 8 } else { CAPACITY };
        let believed = self.queue.len().min(limit);
        let over = self.queue.len() - believed;
        self.skipped += over as u64;
        self.queue.drain(..over);
        self.queue.drain(..most.min(believed)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is pushed and drained in whatever steps, ring and queue agree slot by slot, and on every loss.
    #[test]
    fn ring_is_a_queue(
        flight: bool,
        start in prop_oneof![Just(1u64 << 46), Just((1u64 << 47) - 500), Just(u64::MAX - 400)],
        steps in proptest::collection::vec((0usize..5, 1usize..300), 1..80),
    ) {
        let mode = if flight { Mode::Flight } else { Mode::Drain };
        let scratch = Scratch::new(CAPACITY as u64, mode);
        let mut reader = RingFile::open(&scratch.reopen(), scratch.file.path()).unwrap();
        let mut drained = Drained::with_capacity(2 * CAPACITY);
        let mut naive = Naive::default();
        let mut now = start;
        let mut n = 0u32;
        for (slots, count) in steps {
            if slots == 0 {
                reader.drain(&mut drained).unwrap();
                let expected = naive.drain(flight, usize::MAX);
                prop_assert_eq!(drained.slots(), &expected[..]);
                prop_assert_eq!(reader.skipped(), naive.skipped);
                drained.clear();
                continue;
            }
            for _ in 0..count {
                now = now.saturating_add(3);
                n += 1;
                let tsc = Tsc::from_raw(now);
                let head = Slot::head(tsc, Point::from_id(300), Flow::from_raw(n), n);
                let all = [head, Slot::cont(n, 1, 2), Slot::cont(n, 3, 4), Slot::cont(n, 5, 6)];
                match slots {
                    1 => scratch.ring.push(tsc, [all[0]]),
                    2 => scratch.ring.push(tsc, [all[0], all[1]]),
                    3 => scratch.ring.push(tsc, [all[0], all[1], all[2]]),
                    _ => scratch.ring.push(tsc, all),
                };
                naive.push(flight, tsc, &all[..slots]);
            }
        }
        prop_assert_eq!(reader.totals().dropped_slots, naive.dropped);
        reader.drain(&mut drained).unwrap();
        prop_assert_eq!(drained.slots(), &naive.drain(flight, usize::MAX)[..]);
    }
}

/// A copy with little room takes a ring in pieces, and says that there is more.
#[test]
fn small_copies() {
    let scratch = Scratch::new(CAPACITY as u64, Mode::Drain);
    let mut reader = RingFile::open(&scratch.reopen(), scratch.file.path()).unwrap();
    for n in 0..99 {
        let tsc = Tsc::from_raw(1 << 40);
        let slot = Slot::head(tsc, Point::from_id(300), Flow::NONE, n);
        assert!(scratch.ring.push(tsc, [slot]));
    }
    let mut drained = Drained::with_capacity(64);
    let first = reader.drain(&mut drained).unwrap();
    assert_eq!((first.first, first.slots, first.more), (0, 64, true));
    drained.clear();
    let second = reader.drain(&mut drained).unwrap();
    assert_eq!((second.first, second.slots, second.more), (64, 36, false));
}
