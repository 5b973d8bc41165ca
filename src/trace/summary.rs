//! What a recording says on the whole: everything of low rate in it, counts of the rest, and what is torn.
//!
//! In: records of low rate in the order of the file; out: [`Summary`]. It refuses to know how they lie in the file.

use super::record::*;
use crate::units::ClockPair;
use std::collections::BTreeMap;
use std::fmt;

/// Where a recording is torn or was written wrongly; what was read before is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First byte that could not be used.
    pub offset: u64,
    /// Bytes from there to the end of the file.
    pub bytes: u64,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        match self.bytes {
            0 => Ok(()),
            bytes => write!(f, " ({bytes} bytes from byte {} on are lost)", self.offset),
        }
    }
}

/// Everything of low rate in a recording, and counts of the rest.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// What was recorded, where, with what.
    pub session: Session,
    /// Names of threads over time.
    pub threads: Vec<Thread>,
    /// Threads that ended.
    pub exits: Vec<Exit>,
    /// Mappings over time.
    pub mappings: Vec<Mapping>,
    /// Rings by number.
    pub rings: BTreeMap<u32, Ring>,
    /// The last totals of each ring.
    pub totals: BTreeMap<u32, RingTotals>,
    /// The last counts of each queue of a device, by process and number.
    pub queues: BTreeMap<(Pid, u32), Queue>,
    /// What devices said of themselves, over time.
    pub devices: Vec<Device>,
    /// Paired readings of both clocks.
    pub clocks: Vec<ClockPair>,
    /// The last counter values.
    pub counters: Option<Counters>,
    /// What sources could not deliver.
    pub lost: Vec<Lost>,
    /// Names found while recording.
    pub symbols: Vec<Symbols>,
    /// Fallbacks and missing privileges.
    pub notices: Vec<Notice>,
    /// How it ended; `None` if the recorder did not get to say.
    pub end: Option<End>,
    /// What is torn.
    pub damage: Option<Damage>,
    /// Samples in the file.
    pub sample_count: u64,
    /// Switches in the file.
    pub switch_count: u64,
    /// Slots in the file, by ring.
    pub slot_counts: BTreeMap<u32, u64>,
}

impl Summary {
    pub(super) fn add(&mut self, meta: Meta) {
        match meta {
            Meta::Session(m) => self.session = m,
            Meta::Thread(m) => self.threads.push(m),
            Meta::Exit(m) => self.exits.push(m),
            Meta::Mapping(m) => self.mappings.push(m),
            Meta::Ring(m) => drop(self.rings.insert(m.ring, m)),
            Meta::RingTotals(m) => drop(self.totals.insert(m.ring, m)),
            Meta::Queue(m) => drop(self.queues.insert((m.pid, m.number), m)),
            Meta::Device(m) => self.devices.push(m),
            Meta::Clock(m) => self.clocks.push(m),
            Meta::Counters(m) => self.counters = Some(m),
            Meta::Lost(m) => self.lost.push(m),
            Meta::Symbols(m) => self.symbols.push(m),
            Meta::Notice(m) => self.notices.push(m),
            Meta::End(m) => self.end = Some(m),
        }
    }

    /// Samples that the kernel could not deliver.
    pub fn samples_lost(&self) -> u64 {
        self.lost
            .iter()
            .map(|l| l.samples)
            .fold(0, u64::saturating_add)
    }

    /// Slots that rings dropped or overwrote, by the rings' own count.
    pub fn slots_dropped(&self) -> u64 {
        let dropped = self.totals.values().map(|t| t.dropped_slots);
        dropped.fold(0, u64::saturating_add)
    }

    /// Slots in the file, of all rings.
    pub fn slot_count(&self) -> u64 {
        self.slot_counts
            .values()
            .copied()
            .fold(0, u64::saturating_add)
    }
}
