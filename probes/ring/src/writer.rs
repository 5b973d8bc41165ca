//! The writer's half: events into a ring, without waiting, failing or leaving user space.
//!
//! In: the slots of one event; out: all of them published at once, or all of them counted as lost. All state lies in
//! the ring's header, so that several copies of the probe runtime in one thread can take turns. It refuses to know what
//! time it is: stamps come in.

use crate::atomics::{AtomicU64, Ordering, fence};
use crate::memory::Ring;
use bypassprof_wire::event::MAX_SLOTS;
use bypassprof_wire::layout::{Mode, RING_MAGIC, WriterWords};
use bypassprof_wire::{Slot, Tsc};

/// The epoch of a stamp as the header keeps it: 0 means that none was told yet.
#[inline(always)]
fn epoch_of(tsc: Tsc) -> u64 {
    (tsc.raw() >> 47) + 1
}

/// Totals that a writer adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Requests finished.
    Requests,
    /// Rounds that found nothing to do.
    EmptyRounds,
    /// Rounds that did something.
    WorkedRounds,
    /// Non-empty receive bursts.
    RxBursts,
    /// Frames received.
    RxPackets,
    /// Bytes received.
    RxBytes,
    /// Transmit bursts.
    TxBursts,
    /// Frames sent.
    TxPackets,
    /// Bytes sent.
    TxBytes,
}

impl Total {
    #[inline(always)]
    fn word(self, words: &WriterWords<AtomicU64>) -> &AtomicU64 {
        match self {
            Total::Requests => &words.requests,
            Total::EmptyRounds => &words.empty_rounds,
            Total::WorkedRounds => &words.worked_rounds,
            Total::RxBursts => &words.rx_bursts,
            Total::RxPackets => &words.rx_packets,
            Total::RxBytes => &words.rx_bytes,
            Total::TxBursts => &words.tx_bursts,
            Total::TxPackets => &words.tx_packets,
            Total::TxBytes => &words.tx_bytes,
        }
    }
}

impl Ring {
    #[inline(always)]
    fn words(&self) -> &WriterWords<AtomicU64> {
        &self.header().writer
    }

    /// Writes one event of `N` slots whose stamp was taken just now; `false` if it was dropped.
    #[inline(always)]
    pub fn push<const N: usize>(&self, tsc: Tsc, slots: [Slot; N]) -> bool {
        // Relaxed: only the writer itself changes these words.
        if self.words().epoch.load(Ordering::Relaxed) != epoch_of(tsc) {
            return self.push_slowly(tsc, &slots);
        }
        self.push_dated(tsc, slots)
    }

    /// Writes one event with a stamp that [`Ring::date`] or [`Ring::push`] has seen already.
    #[inline(always)]
    pub fn push_dated<const N: usize>(&self, tsc: Tsc, slots: [Slot; N]) -> bool {
        const { assert!(N > 0 && N <= MAX_SLOTS) };
        let words = self.words();
        // Relaxed: only the writer itself changes these words.
        let head = words.head.load(Ordering::Relaxed);
        let next = head.wrapping_add(N as u64);
        if next > words.limit.load(Ordering::Relaxed) {
            return self.push_slowly(tsc, &slots);
        }
        self.before_overwriting();
        for (at, slot) in slots.into_iter().enumerate() {
            self.slot(head.wrapping_add(at as u64)).store(slot);
        }
        if N > 1 {
            add(&words.extra_slots, N as u64 - 1);
        }
        // Release `head`: publishes the slots, pairs with Acquire `head` in the reader.
        words.head.store(next, Ordering::Release);
        true
    }

    /// What [`Ring::push`] does, for events that say nothing about whether a round worked.
    pub fn push_quiet<const N: usize>(&self, tsc: Tsc, slots: [Slot; N]) -> bool {
        let before = self.position();
        let written = self.push(tsc, slots);
        add(
            &self.words().quiet_slots,
            self.position().wrapping_sub(before),
        );
        written
    }

    /// Tells the epoch of `tsc` if it is a new one, so that events with stamps near it can follow.
    #[inline(always)]
    pub fn date(&self, tsc: Tsc) {
        if self.words().epoch.load(Ordering::Relaxed) != epoch_of(tsc) {
            self.push_slowly(tsc, &[]);
        }
    }

    /// Position after the last slot written.
    #[inline(always)]
    pub fn position(&self) -> u64 {
        self.words().head.load(Ordering::Relaxed)
    }

    /// Slots that would find room now.
    pub fn room(&self) -> u64 {
        let lost = self.words().lost.load(Ordering::Relaxed) > 0;
        self.free(self.position()).saturating_sub(u64::from(lost))
    }

    /// Whether an event of one slot would find room.
    pub fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// In flight mode a slot store must not be seen before the `head` that announced the slots up to it: Release fence,
    /// pairs with the reader's Acquire fence between copying slots and reading `head` again. No instruction on x86.
    #[inline(always)]
    fn before_overwriting(&self) {
        if cfg!(target_arch = "x86_64")
            || self.header().owner.mode.load(Ordering::Relaxed) == Mode::Flight as u64
        {
            fence(Ordering::Release);
        }
    }

    /// Slots that may be written from `head` on.
    fn free(&self, head: u64) -> u64 {
        if Mode::from_word(self.header().owner.mode.load(Ordering::Relaxed)) == Mode::Flight {
            return self.capacity();
        }
        // Acquire `tail`: pairs with the reader's Release `tail`: what lies before it has been copied out.
        let tail = self.header().reader.tail.load(Ordering::Acquire);
        // A tail beyond head or far behind it is nonsense that someone wrote there: nothing is free then.
        self.capacity().saturating_sub(head.wrapping_sub(tail))
    }

    /// An event that needs a new limit, an `EPOCH` or a `LOST` slot in front, or is dropped.
    #[cold]
    #[inline(never)]
    pub fn push_slowly(&self, tsc: Tsc, slots: &[Slot]) -> bool {
        let words = self.words();
        let header = self.header();
        let mut wanted = header.reader.mode.load(Ordering::Relaxed);
        let lease = header.reader.lease.load(Ordering::Relaxed);
        if lease > 0 && tsc.raw() > lease {
            // Whoever wanted otherwise has not been here for long: killed, most likely.
            wanted = Mode::Flight as u64;
            header.reader.mode.store(wanted, Ordering::Relaxed);
            header.reader.lease.store(0, Ordering::Relaxed);
        }
        if wanted != header.owner.mode.load(Ordering::Relaxed) {
            let mode = Mode::from_word(wanted) as u64;
            header.owner.mode.store(mode, Ordering::Relaxed);
            // Release fence: a reader that sees an overwritten slot sees the mode too, after its Acquire fence.
            fence(Ordering::Release);
        }
        let head = words.head.load(Ordering::Relaxed);
        let free = self.free(head);
        let lost = words.lost.load(Ordering::Relaxed);
        let new_epoch = words.epoch.load(Ordering::Relaxed) != epoch_of(tsc);
        let count = slots.len() as u64;
        let needed = count + u64::from(lost > 0) + u64::from(new_epoch);
        if needed > free {
            add(&words.lost, count);
            add(&words.dropped_slots, count);
            // Every event comes here until the loss is told.
            words.limit.store(head, Ordering::Relaxed);
            return false;
        }
        self.before_overwriting();
        let mut at = head;
        let mut put = |slot| {
            self.slot(at).store(slot);
            at = at.wrapping_add(1);
        };
        if new_epoch {
            put(Slot::epoch(tsc));
        }
        if lost > 0 {
            put(Slot::lost(tsc, lost));
        }
        for &slot in slots {
            put(slot);
        }
        add(&words.extra_slots, needed - u64::from(count > 0));
        words.lost.store(0, Ordering::Relaxed);
        words.epoch.store(epoch_of(tsc), Ordering::Relaxed);
        let limit = head.wrapping_add(free);
        words.limit.store(limit, Ordering::Relaxed);
        // Release `head`: publishes the slots, pairs with Acquire `head` in the reader.
        words.head.store(at, Ordering::Release);
        true
    }

    /// Adds to one of the totals in the header.
    #[inline(always)]
    pub fn add(&self, total: Total, n: u64) {
        add(total.word(self.words()), n);
    }

    /// One of the totals in the header.
    #[inline(always)]
    pub fn total(&self, total: Total) -> u64 {
        total.word(self.words()).load(Ordering::Relaxed)
    }

    /// Slots of events that say nothing about whether a round worked.
    #[inline(always)]
    pub fn quiet_slots(&self) -> u64 {
        self.words().quiet_slots.load(Ordering::Relaxed)
    }

    /// Takes a ring that no one writes: new, or its reader has released it. Totals start at zero, positions go on.
    pub fn move_in(&self, tid: u32, name: [u64; 4], mode: Mode) {
        let header = self.header();
        let (owner, words) = (&header.owner, &header.writer);
        let generation = owner.generation.load(Ordering::Relaxed) & !1;
        owner
            .generation
            .store(generation.wrapping_add(1), Ordering::Relaxed);
        // Release fence: whoever sees one of the stores below sees the odd generation, after its Acquire fence.
        fence(Ordering::Release);
        let zeroed = [
            &words.lost,
            &words.epoch,
            &words.dropped_slots,
            &words.extra_slots,
            &words.quiet_slots,
            &words.requests,
            &words.empty_rounds,
            &words.worked_rounds,
            &words.rx_bursts,
            &words.rx_packets,
            &words.rx_bytes,
            &words.tx_bursts,
            &words.tx_packets,
            &words.tx_bytes,
            &words.limit,
            &owner.ended,
            &owner.ended_at,
        ];
        for word in zeroed {
            word.store(0, Ordering::Relaxed);
        }
        owner.tid.store(u64::from(tid), Ordering::Relaxed);
        owner.first_slot.store(self.position(), Ordering::Relaxed);
        owner.mode.store(mode as u64, Ordering::Relaxed);
        header.reader.mode.store(mode as u64, Ordering::Relaxed);
        self.set_name(name);
        // Release `generation`: publishes the owner, pairs with Acquire `generation` in the reader.
        owner
            .generation
            .store(generation.wrapping_add(2), Ordering::Release);
    }

    /// Names the ring's thread.
    pub fn set_name(&self, name: [u64; 4]) {
        for (word, value) in self.header().owner.name.iter().zip(name) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The writer will write no more.
    pub fn end(&self, now: Tsc) {
        let owner = &self.header().owner;
        owner.ended_at.store(now.raw(), Ordering::Relaxed);
        // Release `ended`: publishes the last slots and totals, pairs with Acquire `ended` in the reader.
        owner.ended.store(1, Ordering::Release);
    }

    /// Whether the ring can be given to another thread: its owner is gone and all it wrote has been read, or it wrote
    /// nothing.
    pub fn is_released(&self) -> bool {
        let owner = &self.header().owner;
        // Acquire `released`: pairs with Release `released` in the reader: it has read the totals that moving in clears.
        let released = self.header().reader.released.load(Ordering::Acquire);
        owner.ended.load(Ordering::Acquire) == 1
            && (released == owner.generation.load(Ordering::Relaxed)
                || self.position() == owner.first_slot.load(Ordering::Relaxed))
    }

    /// When its owner ended, if no one has read all that it wrote, and old slots are overwritten anyway.
    pub fn abandoned_at(&self) -> Option<Tsc> {
        let owner = &self.header().owner;
        let flight = Mode::from_word(owner.mode.load(Ordering::Relaxed)) == Mode::Flight;
        flight.then(|| Tsc::from_raw(owner.ended_at.load(Ordering::Relaxed)))
    }

    /// Makes a described ring readable.
    pub fn publish(&self) {
        // Release `magic`: publishes the description, pairs with Acquire `magic` in the reader.
        self.header()
            .identity
            .magic
            .store(RING_MAGIC, Ordering::Release);
    }
}

/// Relaxed load and store: one writer, and readers need no order among totals.
#[inline(always)]
fn add(total: &AtomicU64, n: u64) {
    let sum = total.load(Ordering::Relaxed).wrapping_add(n);
    total.store(sum, Ordering::Relaxed);
}
