//! What a recording says on the whole: everything of low rate in it, counts of the rest, and what is torn.
//!
//! In: records of low rate in the order of the file; out: [`Summary`]. It refuses to know how they lie in the file.

use super::record::*;
use crate::units::ClockPair;
use std::collections::BTreeMap;

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
    /// What is torn, in the order of the file.
    pub damage: Vec<Damage>,
    /// What was torn in the files that this one was salvaged from.
    pub salvaged: Vec<Salvaged>,
    /// Slots that are missing where the file is torn, by ring; of the end of a file that is cut short nothing is known.
    pub slots_missing: BTreeMap<u32, u64>,
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
            Meta::Salvaged(m) => self.salvaged.push(m),
            // Told to those who go through all of them: [`super::Reader::metas`].
            Meta::Crash(_) | Meta::LastStack(_) | Meta::PostMortem(_) => {}
        }
    }

    /// What is torn, in one line; `None` if nothing is.
    pub fn damage_line(&self) -> Option<String> {
        let earlier = self.salvaged.iter().flat_map(|s| &s.damage);
        let all: Vec<_> = earlier.chain(&self.damage).collect();
        let first = all.first()?;
        let bytes = all.iter().fold(0u64, |sum, d| sum.saturating_add(d.bytes));
        Some(match all.len() {
            1 => first.to_string(),
            n => format!("{first}, and {} more places: {bytes} bytes are lost", n - 1),
        })
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
