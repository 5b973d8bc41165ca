//! Looking at a ring without leaving a trace, while it is written and afterwards.

use crate::Scratch;
use bypassprof_ring::Ordering;
use bypassprof_ring::reader::{Drained, RingFile, RingLook, Writing};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Decoder, Event, Flow, Point, Slot, Tsc};
use proptest::prelude::*;
use std::time::Instant;

const CAPACITY: u64 = 512;
/// Slots that may be overwritten but not yet published.
const UNPUBLISHED: u64 = 8;

fn slot(tsc: u64, n: u64) -> Slot {
    Slot::head(
        Tsc::from_raw(tsc),
        Point::from_id(300),
        Flow::NONE,
        n as u32,
    )
}

fn push(scratch: &Scratch, tsc: u64, n: u64) {
    scratch.ring.push(Tsc::from_raw(tsc), [slot(tsc, n)]);
}

fn look(scratch: &Scratch, writing: Writing) -> RingLook {
    let file = std::fs::File::open(scratch.file.path()).unwrap();
    RingLook::open(&file, scratch.file.path(), writing).unwrap()
}

proptest! {
    /// A look that is overtaken by the writer gets what is left of its moment, and counts the rest, exactly.
    #[test]
    fn overtaken(before in 0u64..2000, pieces in proptest::collection::vec((1usize..300, 0u64..400), 0..8)) {
        let scratch = Scratch::new(CAPACITY, Mode::Flight);
        let bytes = || std::fs::read(scratch.file.path()).unwrap();
        // With the EPOCH slot, event n lies at position n.
        for n in 1..=before {
            push(&scratch, 1 << 40, n);
        }
        let mut look = look(&scratch, Writing::Goes);
        let end = if before == 0 { 0 } else { before + 1 };
        let start = end.saturating_sub(CAPACITY);
        prop_assert_eq!(look.positions(), start..end);
        prop_assert_eq!(look.gone_before(), start);
        let (mut head, mut position, mut lost, mut next) = (end, start, 0, before);
        for (room, more) in pieces {
            let mut drained = Drained::with_capacity(room);
            let untouched = bytes();
            let taken = look.take(&mut drained).unwrap();
            prop_assert!(untouched == bytes(), "looking left a trace");
            // What the model says is still there.
            let count = (room as u64).min(end - position);
            let overwritten = if end == position { 0 } else {
                (head - position + UNPUBLISHED).saturating_sub(CAPACITY).min(end - position)
            };
            lost += overwritten;
            prop_assert_eq!(taken.skipped, overwritten);
            let expected: Vec<u64> = (position + overwritten..position + count.max(overwritten)).collect();
            let got: Vec<u64> = drained.slots().iter().map(|s| if s.point().id() == 300 { s.word1 & 0xffff_ffff } else { 0 }).collect();
            prop_assert_eq!(got, expected);
            position += count.max(overwritten);
            for _ in 0..more {
                next += 1;
                push(&scratch, 1 << 40, next);
                head = next + 1;
            }
        }
        prop_assert_eq!(look.overwritten(), lost);
    }
}

/// What a running program's recorder has not read is all that a look at its ring believes; of a dead one, everything.
#[test]
fn drained_ring() {
    let scratch = Scratch::new(CAPACITY, Mode::Drain);
    for n in 1..=100 {
        push(&scratch, 1 << 40, n);
    }
    let tail = &scratch.ring.header().reader.tail;
    tail.store(60, Ordering::Relaxed);
    assert_eq!(look(&scratch, Writing::Goes).positions(), 60..101);
    assert_eq!(look(&scratch, Writing::Over).positions(), 0..101);
}

/// A reader that was killed leaves its wish: the writer that had to drop goes on overwriting once the lease is over, tells
/// what it dropped, and a reader that comes back has its wish followed again.
#[test]
fn reader_killed() {
    let scratch = Scratch::new(CAPACITY, Mode::Flight);
    let over = (1 << 40) + 1000;
    let reader = RingFile::open(&scratch.reopen(), scratch.file.path()).unwrap();
    reader.wish(Mode::Drain);
    // No lease, no end of patience.
    for n in 0..3 * CAPACITY {
        push(&scratch, 1 << 41, n);
    }
    assert!(
        scratch
            .ring
            .header()
            .writer
            .dropped_slots
            .load(Ordering::Relaxed)
            > CAPACITY
    );
    reader.lease(over);
    drop(reader);
    let dropped = || {
        scratch
            .ring
            .header()
            .writer
            .dropped_slots
            .load(Ordering::Relaxed)
    };
    let before = dropped();
    push(&scratch, over, 1);
    assert_eq!(dropped(), before + 1, "the lease holds up to its end");
    for n in 0..CAPACITY {
        push(&scratch, over + 1, n);
    }
    assert_eq!(dropped(), before + 1);
    let mut look = look(&scratch, Writing::Over);
    let mut drained = Drained::with_capacity(CAPACITY as usize);
    look.take(&mut drained).unwrap();
    let newest: Vec<u64> = drained
        .slots()
        .iter()
        .rev()
        .take(100)
        .map(|s| s.word1 & 0xffff_ffff)
        .collect();
    assert_eq!(newest, Vec::from_iter((CAPACITY - 100..CAPACITY).rev()));
    let reader = RingFile::open(&scratch.reopen(), scratch.file.path()).unwrap();
    reader.wish(Mode::Drain);
    let before = dropped();
    for n in 0..3 * CAPACITY {
        push(&scratch, 1 << 42, n);
    }
    assert!(dropped() > before + CAPACITY);
}

/// Looking again gives what is new; a ring that was given away begins with its new owner.
#[test]
fn again() {
    let scratch = Scratch::new(CAPACITY, Mode::Flight);
    push(&scratch, 1 << 40, 1);
    let mut look = look(&scratch, Writing::Goes);
    push(&scratch, 1 << 40, 2);
    look.look_again().unwrap();
    assert_eq!(look.positions(), 2..3);
    for n in 0..2 * CAPACITY {
        push(&scratch, 1 << 40, n);
    }
    look.look_again().unwrap();
    assert_eq!(look.positions(), 3 + CAPACITY..3 + 2 * CAPACITY);
    scratch.ring.end(Tsc::from_raw(1 << 40));
    scratch.ring.move_in(7, [0; 4], Mode::Flight);
    push(&scratch, 1 << 40, 1);
    look.look_again().unwrap();
    assert_eq!((look.owner().tid, look.earlier_owners()), (7, 1));
    assert_eq!(look.positions(), 3 + 2 * CAPACITY..5 + 2 * CAPACITY);
}

/// Days of flight mode on a fast clock: three million events over two days at 3 GHz, with the counter's 48 bits running
/// over: nothing grows, every moment that is looked at is dated right, and events and losses add up.
#[test]
fn two_days() {
    const TICKS_A_SECOND: u64 = 3_000_000_000;
    const STEP: u64 = TICKS_A_SECOND * 172_800 / 3_000_000;
    let scratch = Scratch::new(CAPACITY, Mode::Flight);
    let length = scratch.file.path().metadata().unwrap().len();
    let (mut tsc, mut looks) = (1 << 46, 0);
    let (mut since, mut costs) = (Instant::now(), Vec::new());
    for n in 0..3_000_000u64 {
        tsc += STEP;
        push(&scratch, tsc, n);
        if n % 100_000 != 99_999 {
            continue;
        }
        looks += 1;
        costs.push(since.elapsed().as_nanos() / 100_000);
        let mut look = look(&scratch, Writing::Goes);
        let mut drained = Drained::with_capacity(CAPACITY as usize);
        look.take(&mut drained).unwrap();
        let mut decoder = Decoder::new(Some(Tsc::from_raw(look.base_tsc())));
        let mut events: Vec<Event> = Vec::new();
        for &slot in drained.slots() {
            decoder.push(slot, &mut |event| events.push(event));
        }
        decoder.flush(&mut |event| events.push(event));
        let newest = events.len() as u64;
        for (back, event) in (0..newest).rev().zip(&events) {
            assert_eq!(event.tsc.raw(), tsc - back * STEP, "event {n} less {back}");
            assert_eq!(u64::from(event.args[0]), n - back);
        }
        let there = look.gone_before() + look.overwritten() + drained.slots().len() as u64;
        assert_eq!(there, look.positions().end);
        assert_eq!(look.totals().events, n + 1);
        since = Instant::now();
    }
    // For who reads along: judging a time needs a quiet machine.
    println!("ns an event, from the first to the last: {costs:?}");
    assert_eq!(looks, 30);
    assert_eq!(scratch.file.path().metadata().unwrap().len(), length);
}
