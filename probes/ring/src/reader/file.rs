//! A ring file that is drained while its program runs.
//!
//! In: an open file that its owner may be writing; out: slots, totals, the owner's name; the writer is told how far it
//! was read.

use super::ReadError;
use super::checked::Checked;
use super::control::{Facts, own_points};
use super::cursor::{Cursor, Taken};
use super::drained::Drained;
use crate::atomics::{Ordering, fence};
use crate::memory::Ring;
use bypassprof_wire::layout::Mode;
use std::fs::File;
use std::path::Path;

/// Whose a ring is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerView {
    /// Grows when the ring is given to another thread.
    pub generation: u64,
    /// The thread as it sees itself.
    pub tid: u32,
    /// Its name; empty when it has none.
    pub name: String,
    /// Position of its first slot.
    pub first_slot: u64,
    /// Whether old slots are overwritten.
    pub mode: Mode,
    /// Whether the thread is gone.
    pub ended: bool,
}

/// An owner's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events written.
    pub events: u64,
    /// Slots that did not fit.
    pub dropped_slots: u64,
    /// Non-empty receive bursts.
    pub rx_bursts: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Transmit bursts.
    pub tx_bursts: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Rounds, empty ones included.
    pub rounds: u64,
    /// Rounds that found nothing to do.
    pub empty_rounds: u64,
    /// Requests finished.
    pub requests: u64,
}

/// A ring that is being drained.
#[derive(Debug)]
pub struct RingFile {
    checked: Checked,
    owner: OwnerView,
    cursor: Cursor,
    skipped: u64,
}

impl RingFile {
    /// Maps and checks a ring file; `path` is for messages. Reading begins where the last reader stopped.
    pub fn open(file: &File, path: &Path) -> Result<RingFile, ReadError> {
        let checked = Checked::open(file, path, false)?;
        let header = checked.ring.header();
        let capacity = checked.ring.capacity();
        let head = header.writer.head.load(Ordering::Acquire);
        let tail = header.reader.tail.load(Ordering::Relaxed);
        let start = if head.wrapping_sub(tail) <= capacity {
            tail
        } else {
            head.wrapping_sub(head.min(capacity))
        };
        Ok(RingFile {
            owner: checked.owner().unwrap_or_default(),
            checked,
            cursor: Cursor::at(start),
            skipped: 0,
        })
    }

    /// Who wrote the file.
    pub fn facts(&self) -> Facts {
        self.checked.facts
    }

    /// Whose the slots are that [`RingFile::drain`] gives out. `ended` is as of the last drain.
    pub fn owner(&self) -> &OwnerView {
        &self.owner
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u64 {
        self.ring().capacity()
    }

    /// Position of the next slot to be drained.
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// Slots found missing so far by this reader: overwritten unread, or positions that made no sense. What the writer
    /// dropped is not among them: `LOST` slots and [`Totals::dropped_slots`] tell of it.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// A counter value that completes the stamps of slots which no `EPOCH` slot comes before.
    pub fn base_tsc(&self) -> u64 {
        self.checked.base_tsc()
    }

    /// Forgets what is there: recording begins now.
    pub fn skip_backlog(&mut self) {
        let head = self.ring().header().writer.head.load(Ordering::Acquire);
        self.cursor = Cursor::at(head);
        self.cursor.give_back(self.ring());
    }

    /// Asks the writer to drop or to overwrite when the ring is full; it follows within one turn of the ring.
    pub fn wish(&self, mode: Mode) {
        let words = &self.ring().header().reader;
        words.lease.store(0, Ordering::Relaxed);
        words.mode.store(mode as u64, Ordering::Relaxed);
    }

    /// Lets the writer overwrite, whatever was wished, from a counter value on; 0 takes that back.
    pub fn lease(&self, until: u64) {
        let lease = &self.ring().header().reader.lease;
        lease.store(until, Ordering::Relaxed);
    }

    /// Copies what is there to `out`, as much as it has room for in one piece, and lets the writer go on. When another
    /// thread has got the ring, nothing is copied and `new_owner` says so: [`RingFile::owner`] tells whose slots come
    /// next.
    pub fn drain(&mut self, out: &mut Drained) -> Result<Taken, ReadError> {
        let before = self.generation();
        if before != self.owner.generation {
            return self.look_at_new_owner();
        }
        // Acquire `ended`: pairs with the writer's Release `ended`: the head read below is the last one.
        self.owner.ended = self.ring().header().owner.ended.load(Ordering::Acquire) == 1;
        let start = self.cursor;
        let Some(taken) = self.cursor.take(&self.checked.ring, out) else {
            return Err(self.spoilt());
        };
        // Acquire fence: if a slot copied above is a new owner's, the generation read here is not the old one any more.
        fence(Ordering::Acquire);
        if self.generation() != before {
            out.keep_newest(taken.slots, taken.slots);
            self.cursor = start;
            return self.look_at_new_owner();
        }
        if self.is_cut_short() {
            out.keep_newest(taken.slots, taken.slots);
            return Err(self.spoilt());
        }
        self.skipped += taken.skipped;
        self.owner.mode = Mode::from_word(self.ring().header().owner.mode.load(Ordering::Relaxed));
        self.cursor.give_back(self.ring());
        Ok(taken)
    }

    /// The owner's totals so far.
    pub fn totals(&self) -> Totals {
        let head = self.ring().header().writer.head.load(Ordering::Relaxed);
        self.checked.totals(&self.owner, head)
    }

    /// The program's own points: number and name.
    pub fn own_points(&self) -> Vec<(u16, String)> {
        own_points(&self.ring().header().own_points)
    }

    /// Whether the owner is gone and all its slots were drained.
    pub fn is_finished(&self) -> bool {
        let head = self.ring().header().writer.head.load(Ordering::Acquire);
        self.owner.ended && head == self.cursor.position()
    }

    /// Lets the program give a finished ring to another thread: call after the last totals were read.
    pub fn release(&self) {
        if self.is_finished() {
            // Release `released`: the totals have been read, pairs with the program's Acquire `released`.
            let released = &self.ring().header().reader.released;
            released.store(self.owner.generation, Ordering::Release);
        }
    }

    /// Whether the file was cut short: no slot or total means anything then.
    pub fn is_cut_short(&self) -> bool {
        self.checked.is_cut_short()
    }

    /// What it is called.
    pub fn path(&self) -> &Path {
        &self.checked.path
    }

    fn ring(&self) -> &Ring {
        &self.checked.ring
    }

    fn generation(&self) -> u64 {
        self.checked.generation()
    }

    fn spoilt(&self) -> ReadError {
        self.checked.spoilt()
    }

    fn look_at_new_owner(&mut self) -> Result<Taken, ReadError> {
        if self.is_cut_short() {
            return Err(self.spoilt());
        }
        let mut taken = Taken::default();
        if let Some(owner) = self.checked.owner() {
            if owner.generation < self.owner.generation {
                return Err(self.spoilt());
            }
            taken.new_owner = true;
            self.owner = owner;
            // An honest owner begins where the last one ended, which has been read.
            let ahead = self.owner.first_slot.wrapping_sub(self.cursor.position());
            if ahead <= self.capacity() {
                self.cursor = Cursor::at(self.owner.first_slot);
            }
        }
        taken.first = self.cursor.position();
        Ok(taken)
    }
}
