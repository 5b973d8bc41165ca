//! A mapped file that was found to be a ring: checked once, then read.
//!
//! In: an open file that its owner may be writing; out: its memory, whose it is, its totals. The capacity is read once,
//! checked against the file's length and kept here; later values in the file are not looked at.
#![allow(unsafe_code)]

use super::ReadError;
use super::control::{Facts, text};
use super::file::{OwnerView, Totals};
use crate::atomics::{Ordering, fence};
use crate::mapping::{Mapping, Populate};
use crate::memory::Ring;
use bypassprof_wire::layout::{
    MIN_CAPACITY, Mode, RING_HEADER_BYTES, RING_MAGIC, is_capacity, is_readable, ring_file_bytes,
};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A mapped file that is a ring.
#[derive(Debug)]
pub(super) struct Checked {
    mapping: Mapping,
    pub(super) ring: Ring,
    pub(super) path: PathBuf,
    pub(super) facts: Facts,
}

// SAFETY: `ring` points into `mapping`, which is owned here and belongs to the process, not to a thread.
unsafe impl Send for Checked {}

impl Checked {
    pub(super) fn open(file: &File, path: &Path, read_only: bool) -> Result<Checked, ReadError> {
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
        let mapping = if read_only {
            Mapping::read_only(file.as_raw_fd(), len as usize)
        } else {
            Mapping::new(file.as_raw_fd(), len as usize, Populate::No)
        };
        let mapping = mapping.ok_or_else(|| wrong("it cannot be mapped"))?;
        // SAFETY: the file is as long as a ring of this capacity, the mapping is aligned to a page and lives as long as
        // the ring, which does not leave this module; through one for reading alone nothing is stored.
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
        Ok(Checked {
            facts: Facts::read(&header.identity),
            mapping,
            ring,
            path: path.to_path_buf(),
        })
    }

    pub(super) fn generation(&self) -> u64 {
        // Acquire `generation`: pairs with the writer's Release `generation`: the owner's words are whole.
        self.ring.header().owner.generation.load(Ordering::Acquire)
    }

    /// The owner as of one generation; `None` while a new one moves in.
    pub(super) fn owner(&self) -> Option<OwnerView> {
        let before = self.generation();
        let owner = self.owner_anyhow(before);
        fence(Ordering::Acquire);
        (before.is_multiple_of(2) && self.generation() == before).then_some(owner)
    }

    /// What stands in the owner's words, which may be of two owners.
    pub(super) fn owner_anyhow(&self, generation: u64) -> OwnerView {
        let words = &self.ring.header().owner;
        OwnerView {
            generation,
            tid: words.tid.load(Ordering::Relaxed) as u32,
            name: text(&words.name),
            first_slot: words.first_slot.load(Ordering::Relaxed),
            mode: Mode::from_word(words.mode.load(Ordering::Relaxed)),
            ended: words.ended.load(Ordering::Acquire) == 1,
        }
    }

    /// An owner's totals when it had written up to `head`.
    pub(super) fn totals(&self, owner: &OwnerView, head: u64) -> Totals {
        let words = &self.ring.header().writer;
        // Relaxed: totals need no order among each other.
        let word = |w: &crate::AtomicU64| w.load(Ordering::Relaxed);
        let written = head.wrapping_sub(owner.first_slot);
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

    pub(super) fn base_tsc(&self) -> u64 {
        match self.ring.header().writer.epoch.load(Ordering::Relaxed) {
            0 => self.facts.base_tsc,
            epoch => ((epoch - 1) << 47) | (1 << 46),
        }
    }

    pub(super) fn is_cut_short(&self) -> bool {
        // A page that is gone is noticed when it is touched, and the last one goes first.
        self.ring.slot(self.ring.mask()).load();
        self.mapping.is_hit()
    }

    pub(super) fn spoilt(&self) -> ReadError {
        ReadError::Spoilt {
            path: self.path.clone(),
        }
    }
}
