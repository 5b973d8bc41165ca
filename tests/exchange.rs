//! Recordings to and from other tools: what goes out is opened by programs that are not ours, what comes in says the
//! same as the tool it came from.

mod import;
mod python;
mod text;

use crate::support::{Place, Run};
use crate::traffic::{self, Traffic};
use bypassprof::trace::record::Meta;
use bypassprof::trace::{Reader, Record, Writer};
use serde_json::Value;
use std::path::Path;

/// A recording of a second or so of made-up requests, with samples.
const TRAFFIC: Traffic = Traffic {
    events: 40_000,
    samples: 3_000,
    flows: 60,
    requests_each: 0,
    gaps: 0,
};

/// A place with such a recording.
fn place() -> Place {
    let place = Place::new();
    traffic::write(&place.path("bypassprof.mcap"), TRAFFIC).unwrap();
    place
}

/// Exports; it must work.
fn export(place: &Place, format: &str, more: &[&str]) -> Run {
    let run = place.run(&[&["export", "--format", format], more].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    run
}

/// The same recording as made on another host.
fn on_host(from: &Path, to: &Path, host: &str) {
    let reader = Reader::open(from).unwrap();
    let mut writer = Writer::create(to).unwrap();
    let mut end = None;
    for meta in reader.metas() {
        match meta.unwrap() {
            Meta::Session(mut session) => {
                session.host = host.to_owned();
                writer.meta(&Meta::Session(session)).unwrap();
            }
            Meta::End(last) => end = Some(last),
            other => writer.meta(&other).unwrap(),
        }
    }
    for record in reader.records() {
        match record.unwrap() {
            Record::Sample(sample) => writer.samples(&[sample]).unwrap(),
            Record::Switch(switch) => writer.switches(&[switch]).unwrap(),
            Record::Slots(ring, block) => writer.slots(ring, block.first, &block.slots).unwrap(),
        }
    }
    writer.meta(&Meta::End(end.unwrap())).unwrap();
    writer.finish().unwrap();
}

/// Functions of a report by share of samples that ended in them, the heaviest first.
fn heaviest(report: &Value, most: usize) -> Vec<(String, f64)> {
    let rows = report["functions"].as_array().unwrap().iter();
    let row = |r: &Value| {
        (
            r["name"].as_str().unwrap().to_owned(),
            r["self_share"].as_f64().unwrap(),
        )
    };
    rows.map(row).take(most).collect()
}
