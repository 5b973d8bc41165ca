//! How a reader moves through a ring.
//!
//! In: a ring's memory; out: slots copied to a [`Drained`], and how many are missing before them. It works on the same
//! memory type as the writer, so that loom drives both. It trusts its own position alone.

use super::drained::Drained;
use crate::atomics::{Ordering, fence};
use crate::memory::Ring;
use bypassprof_wire::layout::{MAX_UNPUBLISHED, Mode};

/// Slots behind a full ring's length that an unpublished event may be overwriting. Loom's models make events of one slot.
const UNPUBLISHED: u64 = if cfg!(loom) { 1 } else { MAX_UNPUBLISHED };

/// A reader's place in a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    position: u64,
}

/// What one look at a ring brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Position of the first slot taken.
    pub first: u64,
    /// Slots taken.
    pub slots: usize,
    /// Slots between the end of the last look and `first` that are gone: overwritten before they were read (flight
    /// mode), or positions that made no sense.
    pub skipped: u64,
    /// Whether more slots were there than taken.
    pub more: bool,
    /// Another thread has got the ring: nothing was taken, and slots that come from now on are its own.
    pub new_owner: bool,
}

impl Cursor {
    /// A reader that begins at a position.
    pub fn at(position: u64) -> Cursor {
        Cursor { position }
    }

    /// Position of the next slot to take.
    pub fn position(self) -> u64 {
        self.position
    }

    /// Takes what is there, as much as `out` has room for in one piece. Gives nothing back to the writer:
    /// [`Cursor::give_back`] does. `None` when the head went back, which no honest writer does.
    pub fn take(&mut self, ring: &Ring, out: &mut Drained) -> Option<Taken> {
        // Acquire `head`: pairs with the writer's Release `head`: the slots up to it are visible.
        let head = ring.header().writer.head.load(Ordering::Acquire);
        self.take_before(ring, out, head, false)
    }

    /// Takes what is there before `head`, a head that was read with acquire order. With `overwriting`, slots that may
    /// have been overwritten meanwhile are left out and counted whatever the ring's mode.
    pub(super) fn take_before(
        &mut self,
        ring: &Ring,
        out: &mut Drained,
        head: u64,
        overwriting: bool,
    ) -> Option<Taken> {
        let mut taken = Taken::default();
        let behind = head.wrapping_sub(self.position);
        if behind > u64::MAX / 2 {
            return None;
        }
        if behind > ring.capacity() {
            taken.skipped = behind - ring.capacity();
            self.position = self.position.wrapping_add(taken.skipped);
        }
        taken.first = self.position;
        let there = head.wrapping_sub(self.position);
        let room = out.vacant();
        let count = there.min(room.len() as u64);
        for (at, place) in (0..count).zip(room.iter_mut()) {
            place.write(ring.slot(self.position.wrapping_add(at)).load());
        }
        out.grow(count as usize);
        let overwritten = self.overwritten(ring, count, overwriting);
        if overwritten > 0 {
            out.keep_newest(count as usize, overwritten.min(count) as usize);
        }
        taken.skipped += overwritten;
        taken.first = taken.first.wrapping_add(overwritten);
        taken.slots = count.saturating_sub(overwritten) as usize;
        taken.more = there > count;
        self.position = self.position.wrapping_add(count.max(overwritten));
        Some(taken)
    }

    /// How many of the slots from the position on may have been overwritten while they were copied.
    fn overwritten(&self, ring: &Ring, count: u64, overwriting: bool) -> u64 {
        // Acquire fence: pairs with the writer's Release fence before it overwrites: if a slot copied above was a newer
        // one, the mode and the head read here are at least those from before that slot was written.
        fence(Ordering::Acquire);
        let mode = ring.header().owner.mode.load(Ordering::Relaxed);
        if count == 0 || (!overwriting && Mode::from_word(mode) == Mode::Drain) {
            return 0;
        }
        let head = ring.header().writer.head.load(Ordering::Relaxed);
        let behind = head.wrapping_sub(self.position);
        if behind > u64::MAX / 2 {
            return count;
        }
        behind
            .wrapping_add(UNPUBLISHED)
            .saturating_sub(ring.capacity())
    }

    /// Tells the writer that what was taken may be overwritten.
    pub fn give_back(self, ring: &Ring) {
        // Release `tail`: the copies above are done, pairs with the writer's Acquire `tail`.
        let tail = &ring.header().reader.tail;
        tail.store(self.position, Ordering::Release);
    }
}
