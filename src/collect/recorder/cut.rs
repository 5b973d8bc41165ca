//! A recording that cannot be written on: what is whole in it stays, and is finished as far as there is room.
//!
//! In: a recorder and why it cannot go on; out: a file that opens, and counts of what is in it and what is not.

use super::Recorder;
use crate::collect::{CollectError, Outcome, clock, cpu_time};
use crate::trace::record::{Damage, Meta, Salvaged};
use crate::trace::{RingSink, Summary, WriteError, Writer};
use bypassprof_wire::Slot;

/// A recording that was cut short.
#[derive(Debug)]
pub struct Cut {
    /// Why.
    pub why: CollectError,
    /// Samples and slots that are in the file.
    pub kept: (u64, u64),
    /// Those that were taken and are not.
    pub lost: (u64, u64),
    /// How far it was finished.
    pub finished: Finished,
}

/// How far a recording was finished that was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Names of what was sampled and all that belongs to the end are there.
    Whole,
    /// The end is there, names are not.
    WithoutNames,
    /// It ends behind its last whole chunk.
    Not,
}

impl Recorder {
    /// Stops, keeps what is whole in the file, and finishes it if there is room.
    pub fn cut_short(mut self, why: CollectError, outcome: Outcome) -> Cut {
        // Events whose threads are gone refuse; there is nothing left to stop then.
        let _ = self.events.disable();
        let stopped = clock::now();
        let mut rest = Rest::default();
        while self.take() > 0 {
            self.batch.samples.clear();
            self.batch.switches.clear();
        }
        if let Some(probes) = self.probes.take()
            && let Ok((tally, unreached)) = probes.finish(&mut rest)
        {
            (self.tally.probes, self.tally.rings_unreached) = (tally, unreached);
        }
        rest.metas.append(&mut self.batch.metas);
        rest.metas.push(self.counters());
        rest.metas.extend(self.unsampled().map(Meta::Notice));
        rest.metas.push(Meta::Clock(clock::pair()));
        let end = self.end(stopped, outcome, cpu_time());
        let names = self.symbols.finish().into_iter().map(Meta::Symbols);
        let taken = (self.tally.samples, self.tally.probes.slots);
        let mut cut = Cut {
            why,
            kept: (0, 0),
            lost: taken,
            finished: Finished::Not,
        };
        let Ok((writer, summary)) = self.writer.cut() else {
            return cut;
        };
        cut.holds(&summary, taken);
        let last = [cut.salvaged(&summary), end];
        // What programs counted is small, and tells what is missing.
        let totals = |meta: &&Meta| matches!(meta, Meta::RingTotals(_));
        let totals: Vec<Meta> = rest.metas.iter().filter(totals).cloned().collect();
        let all = rest.metas.into_iter().chain(names).chain(last.clone());
        let (writer, written) = write(writer, all);
        if written.is_ok() {
            cut.finished = Finished::Whole;
            return cut;
        }
        let Ok((writer, summary)) = writer.cut() else {
            return cut;
        };
        if summary.end.is_some() {
            // All that failed is the container's own end.
            cut.finished = Finished::Whole;
            return cut;
        }
        match write(writer, totals.into_iter().chain(last)) {
            (_, Ok(())) => cut.finished = Finished::WithoutNames,
            // What a failed write left is cut away once more.
            (writer, Err(_)) => drop(writer.cut()),
        }
        cut
    }
}

/// Writes records and the file's end.
fn write(
    mut writer: Writer,
    mut metas: impl Iterator<Item = Meta>,
) -> (Writer, Result<(), WriteError>) {
    let written = metas.try_for_each(|meta| writer.meta(&meta));
    let written = written.and_then(|()| writer.finish());
    (writer, written)
}

impl Cut {
    fn holds(&mut self, summary: &Summary, taken: (u64, u64)) {
        self.kept = (summary.sample_count, summary.slot_count());
        self.lost = (
            taken.0.saturating_sub(self.kept.0),
            taken.1.saturating_sub(self.kept.1),
        );
    }

    /// What the file is to say of it.
    fn salvaged(&self, summary: &Summary) -> Meta {
        let (samples, slots) = self.lost;
        let why = format!(
            "{}: {samples} samples and {slots} slots that were taken after what is here could not be kept",
            self.why
        );
        let offset = summary.damage.last().map_or(0, |d| d.offset);
        Meta::Salvaged(Salvaged {
            bytes: offset,
            damage: vec![Damage {
                offset,
                why,
                ..Damage::default()
            }],
            slots_missing: Vec::new(),
        })
    }
}

/// What comes when there is no place for it: counted, and kept as far as it is of low rate.
#[derive(Default)]
struct Rest {
    metas: Vec<Meta>,
}

impl RingSink for Rest {
    fn slots(&mut self, _: u32, _: u64, _: &[Slot]) -> Result<(), WriteError> {
        Ok(())
    }

    fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        self.metas.push(meta.clone());
        Ok(())
    }
}
