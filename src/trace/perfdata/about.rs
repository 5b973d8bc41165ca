//! What a perf.data file says of itself: its events, the machine, the files that ran.
//!
//! In: the parts of the file beside its records; out: a session, build ids, the event that is wanted. What is missing is empty.

use super::{PerfDataError, hex};
use crate::trace::record::{EventSource, Session};
use linux_perf_data::linux_perf_event_reader::{AttrFlags, SamplingPolicy};
use linux_perf_data::{AttributeDescription, DsoKey, PerfFile};
use std::collections::HashMap;

/// The place of the event that is wanted.
pub fn choose(name: &str, perf: &PerfFile, event: Option<&str>) -> Result<usize, PerfDataError> {
    let names: Vec<_> = perf.event_attributes().iter().map(event_name).collect();
    let found = match event {
        None => (!names.is_empty()).then_some(0),
        Some(event) => names
            .iter()
            .position(|n| n == event || n.split(':').next() == Some(event)),
    };
    found.ok_or_else(|| PerfDataError::NoEvent {
        file: name.to_owned(),
        wanted: event.unwrap_or_default().to_owned(),
        there: names.join(", "),
    })
}

/// Its name.
pub fn event_name(attribute: &AttributeDescription) -> String {
    attribute.name().unwrap_or("unnamed event").to_owned()
}

/// What was recorded, where, and with what.
pub fn session(perf: &PerfFile, chosen: usize) -> Session {
    let text = |field: Result<Option<&str>, linux_perf_data::Error>| {
        field.ok().flatten().unwrap_or_default().to_owned()
    };
    let attribute = &perf.event_attributes()[chosen];
    let command = perf.cmdline().ok().flatten().unwrap_or_default();
    Session {
        tool_version: format!("perf {}", text(perf.perf_version())),
        command: command.into_iter().map(str::to_owned).collect(),
        kernel: text(perf.os_release()),
        arch: text(perf.arch()),
        host: text(perf.hostname()),
        cpu_model: text(perf.cpu_desc()),
        cpus: perf
            .nr_cpus()
            .ok()
            .flatten()
            .map_or(0, |n| n.nr_cpus_online),
        events: vec![EventSource {
            name: event_name(attribute),
            frequency_hz: match attribute.attributes().sampling_policy {
                SamplingPolicy::Frequency(hz) => hz.max(1),
                SamplingPolicy::Period(_) | SamplingPolicy::NoSampling => 1,
            },
            ..EventSource::default()
        }],
        switches_unknown: !attribute
            .attributes()
            .flags
            .contains(AttrFlags::CONTEXT_SWITCH),
        ..Session::default()
    }
}

/// Of the files that ran.
pub fn build_ids(perf: &PerfFile) -> HashMap<DsoKey, String> {
    // A file without the list is read as one that has none.
    let ids = perf.build_ids().unwrap_or_default().into_iter();
    ids.map(|(key, info)| (key, hex(&info.build_id))).collect()
}
