//! The newest records of a recorder that writes no file, so that they can become a recording when someone asks.
//!
//! In: records with the time at which they were taken; out: a recording of the last seconds. Older ones go, and what a
//! limit of bytes pushes out before its time is counted. Who was there and what was mapped is kept: without it the rest
//! says nothing. It refuses to know who asks.

use super::clock;
use crate::trace::record::{End, Meta, Notice, RingTotals};
use crate::trace::{Piece, WriteError, Writer};
use crate::units::Nanos;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Most bytes of records that are kept.
const MOST_BYTES: usize = 64 << 20;

/// The records of the last seconds.
#[derive(Clone, Debug)]
pub struct Recent {
    length: Nanos,
    lasting: Vec<Meta>,
    pieces: VecDeque<(Nanos, usize, Piece)>,
    bytes: usize,
    /// The reading before the oldest one that is kept, by ring.
    totals: BTreeMap<u32, RingTotals>,
    /// Position behind the newest slot, by ring.
    positions: HashMap<u32, u64>,
    /// Pieces that went before their time.
    pushed_out: u64,
    began: Nanos,
}

impl Recent {
    /// Keeps records for so long.
    pub fn new(length: Nanos) -> Recent {
        Recent {
            length,
            lasting: Vec::new(),
            pieces: VecDeque::new(),
            bytes: 0,
            totals: BTreeMap::new(),
            positions: HashMap::new(),
            pushed_out: 0,
            began: clock::now(),
        }
    }

    /// Keeps records that came in at `now`.
    pub fn keep(&mut self, now: Nanos, piece: Piece) {
        match piece {
            Piece::Meta(meta) if lasts(&meta) => self.lasting.push(*meta),
            piece => {
                if let Piece::Slots(ring, first, slots) = &piece {
                    self.positions
                        .insert(*ring, first.wrapping_add(slots.len() as u64));
                }
                let bytes = size(&piece);
                self.bytes += bytes;
                self.pieces.push_back((now, bytes, piece));
            }
        }
        let until = Nanos::from_ns(now.ns().saturating_sub(self.length.ns()));
        while let Some(&(time, bytes, _)) = self.pieces.front() {
            let old = time < until;
            if !old && self.bytes <= MOST_BYTES {
                break;
            }
            self.pushed_out += u64::from(!old);
            self.bytes -= bytes;
            if let Some((_, _, Piece::Meta(meta))) = self.pieces.pop_front()
                && let Meta::RingTotals(totals) = *meta
            {
                self.totals.insert(totals.ring, totals);
            }
        }
    }

    /// Writes what is kept as a recording and closes it.
    pub fn save(&self, mut writer: Writer) -> Result<(), WriteError> {
        let oldest = self.pieces.front().map_or_else(clock::now, |p| p.0);
        let from = oldest.max(self.began);
        let mut firsts: HashMap<u32, u64> = HashMap::new();
        for (_, _, piece) in &self.pieces {
            if let Piece::Slots(ring, first, _) = piece {
                firsts.entry(*ring).or_insert(*first);
            }
        }
        for meta in &self.lasting {
            match meta {
                Meta::Session(session) => {
                    let mut session = session.clone();
                    let later = from.since(session.started);
                    session.started_unix_ns = session.started_unix_ns.saturating_add(later.ns());
                    session.started = session.started.max(from);
                    writer.meta(&Meta::Session(session))?;
                }
                Meta::Ring(ring) => {
                    let mut ring = ring.clone();
                    let behind = self.positions.get(&ring.ring);
                    let first = firsts.get(&ring.ring).or(behind);
                    ring.first_slot = first.copied().unwrap_or(ring.first_slot);
                    writer.meta(&Meta::Ring(ring))?;
                }
                meta => writer.meta(meta)?,
            }
        }
        for totals in self.totals.values() {
            writer.meta(&Meta::RingTotals(*totals))?;
        }
        if self.pushed_out > 0 {
            let text = format!(
                "only the last {:.1} s were kept: more would have taken over {} MiB",
                clock::now().since(from).ns() as f64 / 1e9,
                MOST_BYTES >> 20
            );
            let id = "snapshot-short".to_owned();
            writer.meta(&Meta::Notice(Notice { id, text }))?;
        }
        for (_, _, piece) in &self.pieces {
            match piece {
                Piece::Meta(meta) => writer.meta(meta)?,
                Piece::Samples(samples) => writer.samples(samples)?,
                Piece::Switches(switches) => writer.switches(switches)?,
                Piece::Slots(ring, first, slots) => writer.slots(*ring, *first, slots)?,
            }
        }
        writer.meta(&Meta::Clock(clock::pair()))?;
        writer.meta(&Meta::End(End {
            time: clock::now(),
            ..End::default()
        }))?;
        writer.finish()
    }
}

/// Whether a record says who was there and what was mapped, which holds on.
fn lasts(meta: &Meta) -> bool {
    matches!(
        meta,
        Meta::Session(_)
            | Meta::Thread(_)
            | Meta::Exit(_)
            | Meta::Mapping(_)
            | Meta::Ring(_)
            | Meta::Symbols(_)
            | Meta::Notice(_)
    )
}

/// What a piece takes in memory, near enough.
fn size(piece: &Piece) -> usize {
    match piece {
        Piece::Meta(_) => 256,
        Piece::Samples(samples) => samples
            .iter()
            .map(|s| size_of_val(s) + 8 * (s.frames.capacity() + s.group.capacity()))
            .sum(),
        Piece::Switches(switches) => size_of_val(switches.as_slice()),
        Piece::Slots(_, _, slots) => size_of_val(slots.as_slice()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::{Ring, Session};
    use crate::trace::{Reader, Record};
    use bypassprof_wire::{Flow, Slot, Tsc, points};

    /// What is older than the length goes, the ring begins with the first slot that is left, and the file opens.
    #[test]
    fn the_last_seconds() {
        let s = |n: u64| Nanos::from_ns(n * 1_000_000_000);
        let mut recent = Recent::new(s(10));
        recent.began = s(1);
        let session = Session {
            started: s(1),
            ..Session::default()
        };
        recent.keep(s(1), Piece::from(Meta::Session(session)));
        recent.keep(s(1), Piece::from(Meta::Ring(Ring::default())));
        for at in 0..30 {
            let slot = Slot::head(Tsc::from_raw(at + 1), points::RX_BURST, Flow::NONE, 0);
            recent.keep(s(at + 1), Piece::Slots(0, at, vec![slot]));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mcap");
        recent.save(Writer::create(&path).unwrap()).unwrap();
        let reader = Reader::open(&path).unwrap();
        let metas: Vec<Meta> = reader.metas().map(Result::unwrap).collect();
        let ring = metas.iter().find_map(|m| match m {
            Meta::Ring(ring) => Some(ring.first_slot),
            _ => None,
        });
        assert_eq!(ring, Some(19));
        let started = metas.iter().find_map(|m| match m {
            Meta::Session(session) => Some(session.started),
            _ => None,
        });
        assert_eq!(started, Some(s(20)));
        let records: Vec<Record> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 11);
    }
}
