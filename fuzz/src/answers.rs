//! What recordings are asked, of records from strangers: whole files that lie, past their checksums.
//!
//! In: bytes: records of low rate as lines of JSON up to a zero byte, then slots, dealt to rings in turn, samples and
//! switches of their words; out: nothing, and no panic. What every command adds up must add up.

use crate::{PACKS, as_slots};
use bypassprof::analyse::filter::Filter;
use bypassprof::analyse::join::Join;
use bypassprof::analyse::ledger::Ledger;
use bypassprof::analyse::postmortem::Reading;
use bypassprof::analyse::spans::Pass;
use bypassprof::present::postmortem;
use bypassprof::present::style::Style;
use bypassprof::trace::record::{Meta, Sample, Switch, SwitchKind};
use bypassprof::units::Nanos;
use bypassprof_wire::Slot;

/// Slots of one block.
const RUN: usize = 8;

fn sample(slot: &Slot) -> Sample {
    Sample {
        time: Nanos::from_ns(slot.word0),
        pid: 1,
        tid: (slot.word1 & 3) as u32,
        cpu: (slot.word1 >> 2 & 3) as u32,
        period: slot.word1 >> 40,
        frames: vec![slot.word1, slot.word0],
        ..Sample::default()
    }
}

fn switch(slot: &Slot) -> Switch {
    let kinds = [
        SwitchKind::In,
        SwitchKind::OutWaiting,
        SwitchKind::OutPreempted,
    ];
    Switch {
        time: Nanos::from_ns(slot.word1),
        pid: 1,
        tid: (slot.word0 & 3) as u32,
        cpu: (slot.word0 >> 2 & 3) as u32,
        kind: kinds[(slot.word0 >> 4) as usize % 3],
    }
}

/// Any records: the post mortem, spans and the ledger of them end, and requests are not more than events.
pub fn answers(data: &[u8]) {
    let end = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    let lines = data[..end].split(|&b| b == b'\n');
    let metas: Vec<Meta> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let slots = as_slots(data.get(end + 1..).unwrap_or_default());
    let mut reading = Reading::new(&metas, &PACKS, 5);
    let mut pass = Pass::new(&metas, &PACKS, Filter::default(), 3);
    let mut join = Join::new(&metas, PACKS.clone());
    for (n, run) in (0u32..).zip(slots.chunks(RUN)) {
        let (ring, first) = (n % 3, u64::from(n / 3) * RUN as u64);
        reading.slots(ring, first, run);
        pass.slots(ring, first, run);
        join.slots(ring, first, run);
        let (a, b) = (sample(&run[0]), switch(&run[run.len() - 1]));
        reading.sample(&a);
        pass.sample(&a);
        join.sample(&a);
        pass.switch(&b);
        join.switch(&b);
    }
    let told = reading.finish(None);
    assert!(!postmortem::text(&told, Style::PLAIN).is_empty());
    assert!(postmortem::json(&told).is_ok());
    let spans = pass.finish(None);
    assert!(spans.counts.complete <= spans.trust.events);
    let ledger = Ledger::of(&join.finish(None), None);
    let whole: u32 = ledger.program().thousandths().iter().sum();
    assert!(whole == 0 || whole == 1000, "{whole}");
}
