//! What a damaged recording still holds, and what is lost with its damaged places.
//!
//! In: the summary of a recording and what was copied out of it; out: [`Recovery`]. What cannot be counted is said to be
//! unknown: how many samples a piece of a file held that is not there any more is not known to anyone.

use crate::trace::Summary;
use crate::trace::record::Damage;
use crate::units::Nanos;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Samples.
    pub samples: u64,
    /// Switches of threads.
    pub switches: u64,
    /// Slots of rings.
    pub slots: u64,
    /// Records of low rate.
    pub metas: u64,
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPlace {
    /// First byte that could not be used.
    pub offset: u64,
    /// Bytes from there.
    pub bytes: u64,
    /// What is wrong.
    pub why: String,
    /// Between which times its records were written, from the recording's start; `None` where nothing tells.
    pub from: Option<Nanos>,
    /// Likewise, the end.
    pub to: Option<Nanos>,
}

/// Slots of a ring that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostSlots {
    /// Number of the ring.
    pub ring: u32,
    /// Its thread's name; empty if what told of it is lost.
    pub name: String,
    /// How many.
    pub slots: u64,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// What is whole.
    pub kept: Kept,
    /// Damaged places, in the order of the file.
    pub lost: Vec<LostPlace>,
    /// Slots that are missing between others.
    pub slots: Vec<LostSlots>,
    /// The file ends before the recorder was done: what was recorded after that is not counted here.
    pub end_is_lost: bool,
}

impl Recovery {
    /// From a summary and what was copied.
    pub fn of(summary: &Summary, kept: Kept) -> Recovery {
        let started = summary.session.started;
        let place = |damage: &Damage| LostPlace {
            offset: damage.offset,
            bytes: damage.bytes,
            why: damage.why.clone(),
            from: damage.from.map(|t| t.since(started)),
            to: damage.to.map(|t| t.since(started)),
        };
        let slots = |(&ring, &slots): (&u32, &u64)| LostSlots {
            ring,
            name: summary
                .rings
                .get(&ring)
                .map_or_else(String::new, |r| r.name.clone()),
            slots,
        };
        Recovery {
            kept,
            lost: summary.damage.iter().map(place).collect(),
            slots: summary.slots_missing.iter().map(slots).collect(),
            end_is_lost: summary.end.is_none(),
        }
    }

    /// Bytes that could not be used.
    pub fn bytes_lost(&self) -> u64 {
        let bytes = self.lost.iter().map(|l| l.bytes);
        bytes.fold(0, u64::saturating_add)
    }
}
