//! Loom's models of the ring: every order in which a writer and a reader can meet, on the code that runs for real.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p bypassprof-ring --lib models`.
#![allow(unsafe_code)]

use crate::memory::{Header, Ring, SharedSlot};
use crate::reader::{Cursor, Drained, Taken};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Flow, Point, Slot, Tsc, points};
use loom::sync::Arc;
use loom::thread;

/// A ring in loom's memory.
struct Memory {
    header: Box<Header>,
    slots: Vec<SharedSlot>,
}

impl Memory {
    fn new(capacity: usize, mode: Mode) -> Arc<Memory> {
        let memory = Memory {
            header: Box::new(Header::default()),
            slots: (0..capacity).map(|_| SharedSlot::default()).collect(),
        };
        memory.ring().move_in(1, [0; 4], mode);
        Arc::new(memory)
    }

    fn ring(&self) -> Ring {
        // SAFETY: the models keep the memory until writer and reader are done.
        unsafe { Ring::from_parts(&*self.header, &self.slots) }
    }
}

/// Event `n` of one slot: both words know `n`, so that a torn slot shows.
fn event(n: u32) -> Slot {
    let tsc = Tsc::from_raw(u64::from(n));
    Slot::head(tsc, Point::from_id(300), Flow::from_raw(!n), n)
}

fn check(slot: Slot) -> u32 {
    let n = slot.word1 as u32;
    assert_eq!(
        slot,
        event(n),
        "a torn or unwritten slot was taken for a good one"
    );
    n
}

fn taken(drained: &mut Drained) -> Vec<Slot> {
    let slots = drained.slots().to_vec();
    drained.clear();
    slots
}

/// Drain mode: whatever is read is what was written, in order, and what is missing was counted, exactly.
#[test]
fn drain_loses_nothing_uncounted() {
    loom::model(|| {
        let memory = Memory::new(2, Mode::Drain);
        let writer = memory.clone();
        let writing = thread::spawn(move || {
            let ring = writer.ring();
            (1..4)
                .filter(|&n| ring.push_dated(Tsc::from_raw(0), [event(n)]))
                .count()
        });
        let ring = memory.ring();
        let mut cursor = Cursor::default();
        let mut drained = Drained::with_capacity(4);
        let mut slots = Vec::new();
        for _ in 0..2 {
            let looked = cursor.take(&ring, &mut drained).unwrap();
            assert_eq!(looked.skipped, 0);
            slots.extend(taken(&mut drained));
            cursor.give_back(&ring);
        }
        let written = writing.join().unwrap();
        loop {
            cursor.take(&ring, &mut drained).unwrap();
            if drained.slots().is_empty() {
                break;
            }
            slots.extend(taken(&mut drained));
            cursor.give_back(&ring);
        }
        let is_event = |slot: &&Slot| slot.point().id() == 300;
        let numbers: Vec<u32> = slots
            .iter()
            .filter(is_event)
            .map(|&slot| check(slot))
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert_eq!(numbers.len(), written);
        let told: u64 = slots
            .iter()
            .filter(|s| s.point() == points::LOST)
            .map(|s| s.word1)
            .sum();
        let untold = ring.header().writer.lost.load(crate::Ordering::Relaxed);
        assert_eq!(told + untold, 3 - written as u64);
    });
}

/// Flight mode: a reader that is lapped while it copies takes no overwritten slot for a good one.
#[test]
fn flight_takes_no_torn_slot() {
    loom::model(|| {
        let memory = Memory::new(4, Mode::Flight);
        let ring = memory.ring();
        // An EPOCH slot and four events: the ring is full, event n lies at position n.
        for n in 1..5 {
            ring.push_dated(Tsc::from_raw(0), [event(n)]);
        }
        let writer = memory.clone();
        let writing = thread::spawn(move || {
            let ring = writer.ring();
            for n in 5..8 {
                ring.push_dated(Tsc::from_raw(0), [event(n)]);
            }
        });
        // The oldest slots that a reader may believe are the next ones to be overwritten.
        let mut cursor = Cursor::at(2);
        let mut drained = Drained::with_capacity(2);
        let Taken { first, slots, .. } = cursor.take(&ring, &mut drained).unwrap();
        assert_eq!(slots, drained.slots().len());
        for (position, &slot) in (first..).zip(drained.slots()) {
            assert_eq!(u64::from(check(slot)), position);
        }
        writing.join().unwrap();
    });
}

/// A ring is given to the next thread only when its slots were read, and a reader then sees a whole new owner.
#[test]
fn owners_change_in_order() {
    loom::model(|| {
        let memory = Memory::new(4, Mode::Drain);
        let first = memory.ring();
        first.push_dated(Tsc::from_raw(0), [event(1)]);
        first.end(Tsc::from_raw(1));
        let next = memory.clone();
        let moving = thread::spawn(move || {
            let ring = next.ring();
            let moved = ring.is_released();
            if moved {
                ring.move_in(2, [2; 4], Mode::Drain);
            }
            moved
        });
        let ring = memory.ring();
        let header = ring.header();
        let mut cursor = Cursor::default();
        let mut drained = Drained::with_capacity(4);
        let looked = cursor.take(&ring, &mut drained);
        // The EPOCH slot and the event.
        assert_eq!(looked.map(|l| l.slots), Some(2));
        cursor.give_back(&ring);
        let generation = header.owner.generation.load(crate::Ordering::Acquire);
        assert_eq!(generation, 2, "moved in before the release");
        header
            .reader
            .released
            .store(generation, crate::Ordering::Release);
        let moved = moving.join().unwrap();
        let tid = header.owner.tid.load(crate::Ordering::Relaxed);
        assert_eq!(tid, if moved { 2 } else { 1 });
    });
}
