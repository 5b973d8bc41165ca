//! A private copy of slots that were drained, with `ringbuf`'s reading interface.
//!
//! In: slots that a [`super::Cursor`] copied and checked; out: the same slots in order. This memory belongs to the
//! reading process alone: `ringbuf`'s traits lend slices of it, which memory that another process writes must never be.
#![allow(unsafe_code)]

use bypassprof_wire::Slot;
use ringbuf::traits::{Consumer, Observer, Raw};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

/// Slots that were copied out of a ring and not yet looked at.
#[derive(Debug)]
pub struct Drained {
    slots: Box<[MaybeUninit<Slot>]>,
    capacity: NonZeroUsize,
    read: Cell<usize>,
    write: Cell<usize>,
    held: Cell<(bool, bool)>,
}

impl Drained {
    /// Room for so many slots (at least one).
    pub fn with_capacity(slots: usize) -> Drained {
        let capacity = NonZeroUsize::new(slots).unwrap_or(NonZeroUsize::MIN);
        Drained {
            slots: vec![MaybeUninit::new(Slot::default()); capacity.get()].into_boxed_slice(),
            capacity,
            read: Cell::new(0),
            write: Cell::new(0),
            held: Cell::new((true, false)),
        }
    }

    /// What has not been taken, oldest first; in one piece if the copy was empty before the last drain.
    pub fn slots(&self) -> &[Slot] {
        self.as_slices().0
    }

    /// Forgets what is there.
    pub fn clear(&mut self) {
        self.read.set(0);
        self.write.set(0);
    }

    /// Adds a slot; `false` when there is no room.
    #[inline]
    pub fn push(&mut self, slot: Slot) -> bool {
        if self.is_full() {
            return false;
        }
        let at = self.write.get();
        self.slots[at % self.capacity].write(slot);
        self.write.set((at + 1) % (2 * self.capacity.get()));
        true
    }

    /// A run of free places to copy to, and [`Drained::grow`] says how many were filled.
    pub(super) fn vacant(&mut self) -> &mut [MaybeUninit<Slot>] {
        if self.is_empty() {
            self.clear();
        }
        let at = self.write.get() % self.capacity;
        let len = self.vacant_len().min(self.capacity.get() - at);
        &mut self.slots[at..at + len]
    }

    /// Counts places of [`Drained::vacant`] as filled. All memory here is always initialised, so a wrong count shows
    /// old slots, never uninitialised ones.
    pub(super) fn grow(&mut self, slots: usize) {
        let slots = slots.min(self.vacant_len());
        self.write
            .set((self.write.get() + slots) % (2 * self.capacity.get()));
    }

    /// Of the `grown` slots added last, the oldest `worthless` ones go.
    pub(super) fn keep_newest(&mut self, grown: usize, worthless: usize) {
        let modulus = 2 * self.capacity.get();
        let start = (self.write.get() + modulus - grown) % modulus;
        for at in 0..grown - worthless {
            let from = (start + worthless + at) % self.capacity;
            self.slots[(start + at) % self.capacity] = self.slots[from];
        }
        self.write
            .set((self.write.get() + modulus - worthless) % modulus);
    }
}

impl Observer for Drained {
    type Item = Slot;

    fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }

    fn read_index(&self) -> usize {
        self.read.get()
    }

    fn write_index(&self) -> usize {
        self.write.get()
    }

    fn read_is_held(&self) -> bool {
        self.held.get().0
    }

    fn write_is_held(&self) -> bool {
        self.held.get().1
    }
}

// SAFETY: one owned buffer whose capacity never changes and whose places are all initialised; indices stay below twice
// the capacity because every store takes them modulo that; the cells make the type !Sync, so `&self` calls cannot race.
unsafe impl Raw for Drained {
    unsafe fn unsafe_slices(
        &self,
        start: usize,
        end: usize,
    ) -> (&[MaybeUninit<Slot>], &[MaybeUninit<Slot>]) {
        let (first, second) = self.parts(start, end);
        (&self.slots[first], &self.slots[second])
    }

    unsafe fn unsafe_slices_mut(
        &self,
        start: usize,
        end: usize,
    ) -> (&mut [MaybeUninit<Slot>], &mut [MaybeUninit<Slot>]) {
        let (first, second) = self.parts(start, end);
        let base = self.slots.as_ptr().cast_mut();
        // SAFETY: both parts lie inside of the buffer and do not overlap; the caller owns them for this borrow, and no
        // method of ours touches the buffer while a `&mut self` call of the trait is at work.
        unsafe {
            (
                std::slice::from_raw_parts_mut(base.add(first.start), first.len()),
                std::slice::from_raw_parts_mut(base.add(second.start), second.len()),
            )
        }
    }

    unsafe fn set_read_index(&self, value: usize) {
        self.read.set(value % (2 * self.capacity.get()));
    }

    unsafe fn set_write_index(&self, value: usize) {
        self.write.set(value % (2 * self.capacity.get()));
    }

    unsafe fn hold_read(&self, flag: bool) -> bool {
        let (read, write) = self.held.get();
        self.held.set((flag, write));
        read
    }

    unsafe fn hold_write(&self, flag: bool) -> bool {
        let (read, write) = self.held.get();
        self.held.set((read, flag));
        write
    }
}

impl Consumer for Drained {}

impl Drained {
    /// The places between two indices: up to the end of the buffer, and from its start on.
    fn parts(&self, start: usize, end: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let capacity = self.capacity.get();
        let len = (2 * capacity + end - start) % (2 * capacity);
        let at = start % capacity;
        let first = len.min(capacity - at);
        (at..at + first, 0..(len - first).min(at))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn slot(n: u64) -> Slot {
        Slot {
            word0: n,
            word1: !n,
        }
    }

    proptest::proptest! {
        /// Through ringbuf's interface the copy is a queue, whatever the order of pushes and pops.
        #[test]
        fn is_a_queue(capacity in 1usize..9, steps in proptest::collection::vec(0usize..8, 1..60)) {
            let mut drained = Drained::with_capacity(capacity);
            let mut model = VecDeque::new();
            let mut next = 0;
            for step in steps {
                if step % 2 == 0 {
                    let taken = drained.push(slot(next));
                    assert_eq!(taken, model.len() < capacity);
                    if taken {
                        model.push_back(slot(next));
                    }
                    next += 1;
                } else {
                    let mut popped = vec![Slot::default(); step];
                    let count = drained.pop_slice(&mut popped);
                    let expected: Vec<_> = (0..step).map_while(|_| model.pop_front()).collect();
                    assert_eq!(&popped[..count], &expected[..]);
                }
                assert_eq!(drained.occupied_len(), model.len());
                assert!(drained.iter().eq(model.iter()));
            }
        }
    }
}
