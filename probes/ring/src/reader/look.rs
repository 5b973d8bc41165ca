//! A ring as it was at one moment, copied without leaving a trace in it: of a running program that is not disturbed, or
//! of one that is gone.
//!
//! In: an open ring file; out: the slots that it held when it was opened, oldest first, and an exact count of those that
//! were overwritten before or while they were copied. Nothing is written to the file, so it may be a copy, or one that
//! another reader drains.

use super::checked::Checked;
use super::control::{Facts, own_points};
use super::cursor::{Cursor, Taken};
use super::drained::Drained;
use super::file::{OwnerView, Totals};
use super::{ReadError, Writing};
use crate::atomics::Ordering;
use bypassprof_wire::layout::Mode;
use std::fs::File;
use std::path::Path;

/// How often a ring that changes hands is looked at again.
const TRIES: usize = 1000;

/// A ring as it was when it was opened.
#[derive(Debug)]
pub struct RingLook {
    ring: Checked,
    moment: Moment,
    cursor: Cursor,
    overwritten: u64,
}

/// A ring at a moment.
#[derive(Debug)]
struct Moment {
    owner: OwnerView,
    totals: Totals,
    start: u64,
    end: u64,
    base_tsc: u64,
}

impl RingLook {
    /// Maps and checks a ring file, and notes what it holds now; `path` is for messages.
    pub fn open(file: &File, path: &Path, writing: Writing) -> Result<RingLook, ReadError> {
        let ring = Checked::open(file, path, true)?;
        let moment = Moment::now(&ring, writing)?;
        Ok(RingLook {
            cursor: Cursor::at(moment.start),
            ring,
            moment,
            overwritten: 0,
        })
    }

    /// Notes what a running program's ring holds now, less what was noted before.
    pub fn look_again(&mut self) -> Result<(), ReadError> {
        let mut now = Moment::now(&self.ring, Writing::Goes)?;
        let new = now.end.wrapping_sub(self.moment.end);
        let there = now.end.wrapping_sub(now.start);
        if now.owner.generation == self.moment.owner.generation && new < there {
            now.start = self.moment.end;
        }
        self.cursor = Cursor::at(now.start);
        self.moment = now;
        self.overwritten = 0;
        Ok(())
    }

    /// Leaves out all but so many of the newest slots.
    pub fn skip_to_newest(&mut self, slots: u64) {
        let behind = self.left().min(slots);
        self.cursor = Cursor::at(self.moment.end.wrapping_sub(behind));
    }

    /// Copies the next slots of that moment to `out`, as many as it has room for in one piece; none at the end.
    pub fn take(&mut self, out: &mut Drained) -> Result<Taken, ReadError> {
        let left = self.left();
        if left == 0 {
            return Ok(Taken {
                first: self.moment.end,
                ..Taken::default()
            });
        }
        let taken = self
            .cursor
            .take_before(&self.ring.ring, out, self.moment.end, true)
            .ok_or_else(|| self.ring.spoilt())?;
        if self.ring.is_cut_short() {
            out.keep_newest(taken.slots, taken.slots);
            return Err(self.ring.spoilt());
        }
        // A writer that was fast has overwritten what came after that moment too; that is no loss of ours.
        let taken = Taken {
            skipped: taken.skipped.min(left),
            more: self.left() > 0,
            ..taken
        };
        self.overwritten += taken.skipped;
        Ok(taken)
    }

    /// Slots not looked at yet.
    fn left(&self) -> u64 {
        let left = self.moment.end.wrapping_sub(self.cursor.position());
        if left > u64::MAX / 2 { 0 } else { left }
    }

    /// Slots of this owner that were gone at that moment: overwritten, or, in drain mode, read by a recorder.
    pub fn gone_before(&self) -> u64 {
        self.moment.start.wrapping_sub(self.moment.owner.first_slot)
    }

    /// Slots that were there at that moment and were overwritten before they could be copied.
    pub fn overwritten(&self) -> u64 {
        self.overwritten
    }

    /// Who wrote the file.
    pub fn facts(&self) -> Facts {
        self.ring.facts
    }

    /// Whose the ring was.
    pub fn owner(&self) -> &OwnerView {
        &self.moment.owner
    }

    /// The owner's totals at that moment.
    pub fn totals(&self) -> Totals {
        self.moment.totals
    }

    /// Threads that had the ring before this one, whose slots are not looked at.
    pub fn earlier_owners(&self) -> u64 {
        (self.moment.owner.generation / 2).saturating_sub(1)
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u64 {
        self.ring.ring.capacity()
    }

    /// Positions from the oldest slot to after the newest.
    pub fn positions(&self) -> std::ops::Range<u64> {
        self.moment.start..self.moment.end
    }

    /// A counter value that completes the stamps of slots which no `EPOCH` slot comes before.
    pub fn base_tsc(&self) -> u64 {
        self.moment.base_tsc
    }

    /// The program's own points: number and name.
    pub fn own_points(&self) -> Vec<(u16, String)> {
        own_points(&self.ring.ring.header().own_points)
    }
}

impl Moment {
    fn now(ring: &Checked, writing: Writing) -> Result<Moment, ReadError> {
        for _ in 0..TRIES {
            let Some(owner) = ring.owner().or_else(|| half_way(ring, writing)) else {
                std::thread::yield_now();
                continue;
            };
            // Acquire `head`: pairs with the writer's Release `head`: the slots up to it are visible.
            let end = ring.ring.header().writer.head.load(Ordering::Acquire);
            let totals = ring.totals(&owner, end);
            let base_tsc = ring.base_tsc();
            if ring.generation() != owner.generation {
                continue;
            }
            if ring.is_cut_short() {
                break;
            }
            return Ok(Moment {
                start: oldest(ring, &owner, end, writing),
                owner,
                totals,
                end,
                base_tsc,
            });
        }
        Err(ring.spoilt())
    }
}

/// The owner of a ring whose program died while a thread was moving in: it has written nothing yet.
fn half_way(ring: &Checked, writing: Writing) -> Option<OwnerView> {
    let generation = ring.generation();
    let head = ring.ring.header().writer.head.load(Ordering::Acquire);
    (writing == Writing::Over && !generation.is_multiple_of(2)).then(|| OwnerView {
        first_slot: head,
        ..ring.owner_anyhow(generation)
    })
}

/// The oldest slot to look at: as far back as the ring reaches, but no earlier owner's. While the program runs, a
/// reader of a ring in drain mode believes only what has not been given back, which alone is safe on every processor.
fn oldest(ring: &Checked, owner: &OwnerView, end: u64, writing: Writing) -> u64 {
    let capacity = ring.ring.capacity();
    let since_moved_in = end.wrapping_sub(owner.first_slot);
    let mut behind = since_moved_in.min(capacity);
    if writing == Writing::Goes && owner.mode == Mode::Drain {
        let tail = ring.ring.header().reader.tail.load(Ordering::Relaxed);
        behind = behind.min(end.wrapping_sub(tail));
    }
    end.wrapping_sub(behind)
}
