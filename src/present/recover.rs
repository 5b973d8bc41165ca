//! What was salvaged from a damaged recording and what was not, as text and as `bypassprof.recover/1`.

use super::style::duration;
use crate::analyse::recovery::{LostPlace, Recovery};
use serde::Serialize;
use std::fmt::Write;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const RECOVER_SCHEMA: &str = "bypassprof.recover/1";

/// As text; `output` is the file that was written, if any.
pub fn text(file: &str, output: Option<&str>, recovery: &Recovery) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match (output, recovery.lost.is_empty()) {
        (None, _) => writeln!(text, "{file} is whole: nothing was written"),
        (Some(output), true) => writeln!(text, "{file} is whole: {output} is a copy"),
        (Some(output), false) => writeln!(text, "{output} holds what is whole in {file}"),
    };
    let kept = recovery.kept;
    if output.is_some() {
        let _ = writeln!(
            text,
            "  kept: {} samples, {} switches, {} slots, {} other records",
            kept.samples, kept.switches, kept.slots, kept.metas
        );
    }
    for place in &recovery.lost {
        let _ = writeln!(text, "  lost: {}", lost(place));
    }
    for ring in &recovery.slots {
        let name = if ring.name.is_empty() {
            "unknown"
        } else {
            &ring.name
        };
        let _ = writeln!(
            text,
            "  lost: {} slots of ring {} ({name}), counted by the positions around",
            ring.slots, ring.ring
        );
    }
    if recovery.bytes_lost() > 0 {
        text.push_str("  not known: how many samples and switches these bytes held\n");
    }
    if recovery.end_is_lost {
        text.push_str("  not known: how the command ended, and what was recorded after the last whole chunk\n");
    }
    text
}

fn lost(place: &LostPlace) -> String {
    let mut line = match place.bytes {
        0 => place.why.clone(),
        bytes => format!("{bytes} bytes from byte {} on: {}", place.offset, place.why),
    };
    if place.bytes > 0 {
        let at = |t: crate::units::Nanos| duration(t.ns());
        let when = match (place.from, place.to) {
            (Some(from), Some(to)) => {
                format!("; written {} to {} after the start", at(from), at(to))
            }
            (Some(from), None) => format!("; written {} after the start, or later", at(from)),
            (None, Some(to)) => format!("; written until {} after the start", at(to)),
            (None, None) => String::new(),
        };
        line.push_str(&when);
    }
    line
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    file: &'a str,
    output: Option<&'a str>,
    whole: bool,
    kept: Kept,
    bytes_lost: u64,
    lost: Vec<Place<'a>>,
    slots_lost: Vec<Slots<'a>>,
    end_is_lost: bool,
}

#[derive(Serialize)]
struct Kept {
    samples: u64,
    switches: u64,
    slots: u64,
    other_records: u64,
}

#[derive(Serialize)]
struct Place<'a> {
    offset: u64,
    bytes: u64,
    why: &'a str,
    from_ns: Option<u64>,
    to_ns: Option<u64>,
}

#[derive(Serialize)]
struct Slots<'a> {
    ring: u32,
    name: &'a str,
    slots: u64,
}

/// As JSON.
pub fn json(file: &str, output: Option<&str>, recovery: &Recovery) -> serde_json::Result<String> {
    let place = |p: &'_ LostPlace| (p.from.map(|t| t.ns()), p.to.map(|t| t.ns()));
    let lost = recovery.lost.iter().map(|p| Place {
        offset: p.offset,
        bytes: p.bytes,
        why: &p.why,
        from_ns: place(p).0,
        to_ns: place(p).1,
    });
    let slots = recovery.slots.iter().map(|s| Slots {
        ring: s.ring,
        name: &s.name,
        slots: s.slots,
    });
    let kept = recovery.kept;
    let document = Document {
        schema: RECOVER_SCHEMA,
        file,
        output,
        whole: recovery.lost.is_empty(),
        kept: Kept {
            samples: kept.samples,
            switches: kept.switches,
            slots: kept.slots,
            other_records: kept.metas,
        },
        bytes_lost: recovery.bytes_lost(),
        lost: lost.collect(),
        slots_lost: slots.collect(),
        end_is_lost: recovery.end_is_lost,
    };
    serde_json::to_string_pretty(&document)
}
