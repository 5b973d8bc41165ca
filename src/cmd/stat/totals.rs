//! What programs with probes count while `stat` counts events.
//!
//! In: what is drained from their rings; out: their packets, requests and rounds. It refuses to keep events.

use crate::analyse::counted::Counted;
use crate::analyse::profile::Work;
use crate::trace::record::Meta;
use crate::trace::{RingSink, WriteError};
use crate::units::Nanos;
use bypassprof_wire::Slot;
use std::collections::BTreeMap;

/// What programs count, without what they write.
#[derive(Default)]
pub struct Totals {
    rings: BTreeMap<u32, (Counted, bool)>,
    /// Slots that were drained.
    pub slots: u64,
}

impl RingSink for Totals {
    fn slots(&mut self, _: u32, _: u64, slots: &[Slot]) -> Result<(), WriteError> {
        self.slots += slots.len() as u64;
        Ok(())
    }

    fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        match meta {
            // A ring that was there before counts from its first reading on.
            Meta::Ring(ring) => {
                let fresh = ring.first_slot == 0 && ring.listening == Nanos::default();
                self.rings.entry(ring.ring).or_default().1 = fresh;
            }
            Meta::RingTotals(totals) => {
                self.rings
                    .entry(totals.ring)
                    .or_default()
                    .0
                    .add(*totals, (None, None));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Totals {
    /// All of it; `all_fresh`: nothing had been counted before this began. `None` without probes.
    pub fn work(&self, all_fresh: bool) -> Option<Work> {
        let mut work = Work::default();
        for (counted, fresh) in self.rings.values() {
            let origin = (*fresh || all_fresh).then(Nanos::default);
            counted.add_to(&mut work, (None, None), origin);
        }
        (!self.rings.is_empty()).then_some(work)
    }
}
