//! A ring file: checked once, then drained.
//!
//! In: an open file that its owner may be writing; out: slots, totals, the owner's name. The capacity is read once,
//! checked against the file's length and kept here; later values in the file are not looked at.
#![allow(unsafe_code)]

use super::ReadError;
use super::control::{Facts, own_points, text};
use super::cursor::{Cursor, Taken};
use super::drained::Drained;
use crate::atomics::{Ordering, fence};
use crate::mapping::{Mapping, Populate};
use crate::memory::Ring;
use bypassprof_wire::layout::{
    MIN_CAPACITY, Mode, RING_HEADER_BYTES, RING_MAGIC, is_capacity, is_readable, ring_file_bytes,
};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

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

/// A ring that is being read.
#[derive(Debug)]
pub struct RingFile {
    mapping: Mapping,
    ring: Ring,
    path: PathBuf,
    facts: Facts,
    owner: OwnerView,
    cursor: Cursor,
    skipped: u64,
}

// SAFETY: `ring` points into `mapping`, which is owned here and belongs to the process, not to a thread.
unsafe impl Send for RingFile {}

impl RingFile {
    /// Maps and checks a ring file; `path` is for messages. Reading begins where the last reader stopped.
    pub fn open(file: &File, path: &Path) -> Result<RingFile, ReadError> {
        let wrong = |why| ReadError::Format {
            path: path.to_path_buf(),
            why,
        };
        let metadata = file.metadata().map_err(|source| ReadError::Open {
            path: path.to_path_buf(),
            source,
        })?;
        let len = metadata.len();
        if !metadata.is_file() || len < ring_file_bytes(MIN_CAPACITY) {
            return Err(wrong("it is shorter than a ring"));
        }
        let capacity = (len - RING_HEADER_BYTES as u64) / bypassprof_wire::event::SLOT_BYTES as u64;
        if !is_capacity(capacity) || ring_file_bytes(capacity) != len {
            return Err(wrong("its length is not that of a ring"));
        }
        let mapping = Mapping::new(file.as_raw_fd(), len as usize, Populate::No)
            .ok_or_else(|| wrong("it cannot be mapped"))?;
        // SAFETY: the file is as long as a ring of this capacity, the mapping is aligned to a page and lives as long as
        // the ring, which does not leave this structure.
        let ring = unsafe { Ring::from_raw(mapping.as_ptr(), capacity - 1) };
        let header = ring.header();
        // Acquire `magic`: pairs with the program's Release `magic`: the description is whole.
        if header.identity.magic.load(Ordering::Acquire) != RING_MAGIC {
            return Err(wrong("its first bytes are not those of a ring"));
        }
        if !is_readable(header.identity.version.load(Ordering::Relaxed)) {
            return Err(wrong(
                "it was written by an incompatible version of the probes",
            ));
        }
        if header.capacity.load(Ordering::Relaxed) != capacity {
            return Err(wrong("its capacity does not fit its length"));
        }
        let facts = Facts::read(&header.identity);
        let head = header.writer.head.load(Ordering::Acquire);
        let tail = header.reader.tail.load(Ordering::Relaxed);
        let start = if head.wrapping_sub(tail) <= capacity {
            tail
        } else {
            head.wrapping_sub(head.min(capacity))
        };
        let mut opened = RingFile {
            mapping,
            ring,
            path: path.to_path_buf(),
            facts,
            owner: OwnerView::default(),
            cursor: Cursor::at(start),
            skipped: 0,
        };
        if let Some(owner) = opened.read_owner() {
            opened.owner = owner;
        }
        Ok(opened)
    }

    /// Who wrote the file.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Whose the slots are that [`RingFile::drain`] gives out. `ended` is as of the last drain.
    pub fn owner(&self) -> &OwnerView {
        &self.owner
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u64 {
        self.ring.capacity()
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
        match self.ring.header().writer.epoch.load(Ordering::Relaxed) {
            0 => self.facts.base_tsc,
            epoch => ((epoch - 1) << 47) | (1 << 46),
        }
    }

    /// Forgets what is there: recording begins now.
    pub fn skip_backlog(&mut self) {
        let head = self.ring.header().writer.head.load(Ordering::Acquire);
        self.cursor = Cursor::at(head);
        self.cursor.give_back(&self.ring);
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
        self.owner.ended = self.ring.header().owner.ended.load(Ordering::Acquire) == 1;
        let start = self.cursor;
        let Some(taken) = self.cursor.take(&self.ring, out) else {
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
        self.owner.mode = Mode::from_word(self.ring.header().owner.mode.load(Ordering::Relaxed));
        self.cursor.give_back(&self.ring);
        Ok(taken)
    }

    /// The owner's totals so far.
    pub fn totals(&self) -> Totals {
        let words = &self.ring.header().writer;
        // Relaxed: totals need no order among each other.
        let word = |w: &crate::AtomicU64| w.load(Ordering::Relaxed);
        let written = word(&words.head).wrapping_sub(self.owner.first_slot);
        let empty_rounds = word(&words.empty_rounds);
        Totals {
            events: written.saturating_sub(word(&words.extra_slots)),
            dropped_slots: word(&words.dropped_slots),
            rx_bursts: word(&words.rx_bursts),
            rx_packets: word(&words.rx_packets),
            rx_bytes: word(&words.rx_bytes),
            tx_bursts: word(&words.tx_bursts),
            tx_packets: word(&words.tx_packets),
            tx_bytes: word(&words.tx_bytes),
            rounds: empty_rounds.wrapping_add(word(&words.worked_rounds)),
            empty_rounds,
            requests: word(&words.requests),
        }
    }

    /// The program's own points: number and name.
    pub fn own_points(&self) -> Vec<(u16, String)> {
        own_points(&self.ring.header().own_points)
    }

    /// Whether the owner is gone and all its slots were drained.
    pub fn is_finished(&self) -> bool {
        let head = self.ring.header().writer.head.load(Ordering::Acquire);
        self.owner.ended && head == self.cursor.position()
    }

    /// Lets the program give a finished ring to another thread: call after the last totals were read.
    pub fn release(&self) {
        if self.is_finished() {
            // Release `released`: the totals have been read, pairs with the program's Acquire `released`.
            let released = &self.ring.header().reader.released;
            released.store(self.owner.generation, Ordering::Release);
        }
    }

    /// Whether the file was cut short: no slot or total means anything then.
    pub fn is_cut_short(&self) -> bool {
        // A page that is gone is noticed when it is touched, and the last one goes first.
        self.ring.slot(self.ring.mask()).load();
        self.mapping.is_hit()
    }

    /// What it is called.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn generation(&self) -> u64 {
        // Acquire `generation`: pairs with the writer's Release `generation`: the owner's words are whole.
        self.ring.header().owner.generation.load(Ordering::Acquire)
    }

    fn look_at_new_owner(&mut self) -> Result<Taken, ReadError> {
        if self.is_cut_short() {
            return Err(self.spoilt());
        }
        let mut taken = Taken::default();
        if let Some(owner) = self.read_owner() {
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

    fn spoilt(&self) -> ReadError {
        ReadError::Spoilt {
            path: self.path.clone(),
        }
    }

    /// The owner as of one generation; `None` while a new one moves in.
    fn read_owner(&self) -> Option<OwnerView> {
        let before = self.generation();
        let words = &self.ring.header().owner;
        let owner = OwnerView {
            generation: before,
            tid: words.tid.load(Ordering::Relaxed) as u32,
            name: text(&words.name),
            first_slot: words.first_slot.load(Ordering::Relaxed),
            mode: Mode::from_word(words.mode.load(Ordering::Relaxed)),
            ended: words.ended.load(Ordering::Acquire) == 1,
        };
        fence(Ordering::Acquire);
        (before.is_multiple_of(2) && self.generation() == before).then_some(owner)
    }
}
