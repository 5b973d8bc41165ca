//! perf.data, as `perf record` writes it, as records of ours.
//!
//! In: the file; out: records for a [`Writer`], each shown to a [`Symbolizer`] first. The format is crate
//! `linux-perf-data`'s to know. Only one event's samples are taken: shares of two events are shares of nothing. It
//! refuses to open the files that were mapped, and to unwind raw stacks (`--call-graph dwarf`): those end at the
//! function that was sampled and say so.

mod about;
mod check;
mod import;
mod made;
mod sample;

use super::record::Meta;
use super::{Symbolizer, WriteError, Writer};
use crate::units::Nanos;
use import::Import;
use linux_perf_data::linux_perf_event_reader::{CpuMode, RecordType};
use linux_perf_data::{PerfFileReader, PerfFileRecord};
use sample::Fields;
use std::io::{Read, Seek};

/// How files of this kind begin.
pub const MAGIC: &[u8; 8] = b"PERFILE2";

/// Why a perf.data file does not become a recording.
#[derive(Debug, thiserror::Error)]
pub enum PerfDataError {
    /// It is damaged, or of a kind that the reader does not know.
    #[error("{file} cannot be read as perf.data: {why}")]
    Read {
        /// The file.
        file: String,
        /// What its reader said.
        why: String,
    },
    /// It has no event of that name.
    #[error("{file} has no event {wanted:?}; it has {there}")]
    NoEvent {
        /// The file.
        file: String,
        /// The event asked for.
        wanted: String,
        /// Those that there are.
        there: String,
    },
    /// The recording could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples written.
    pub samples: u64,
    /// Name of their event.
    pub event: String,
    /// Release of the kernel, as `uname -r` says it.
    pub kernel: String,
    /// Where its text began: names of a kernel that was loaded elsewhere are wrong ones.
    pub kernel_text: Option<u64>,
    /// Time of the last record.
    pub end: Nanos,
}

/// Writes the samples of `event` (the first one if `None`), with what they need, but for names and the last record.
pub fn write(
    name: &str,
    mut file: impl Read + Seek,
    event: Option<&str>,
    writer: &mut Writer,
    names: &mut dyn Symbolizer,
) -> Result<Tally, PerfDataError> {
    let unreadable = |why: String| PerfDataError::Read {
        file: name.to_owned(),
        why,
    };
    let read_formats = check::check(&mut file).map_err(unreadable)?;
    let reader = PerfFileReader::parse_file(file).map_err(|e| unreadable(e.to_string()))?;
    let (mut perf, mut records) = (reader.perf_file, reader.record_iter);
    let chosen = about::choose(name, &perf, event)?;
    let sample_format = perf.event_attributes()[chosen].attributes().sample_format;
    let read_format = read_formats.get(chosen).copied().unwrap_or_default();
    let session = about::session(&perf, chosen);
    let mut import = Import::new(&perf, chosen, writer, names);
    import.tally.kernel.clone_from(&session.kernel);
    let mut session = Some(session);
    let other_events = perf.event_attributes().len() > 1;
    loop {
        let record = records.next_record(&mut perf);
        let Some(record) = record.map_err(|e| unreadable(e.to_string()))? else {
            break;
        };
        let PerfFileRecord::EventRecord { attr_index, record } = record else {
            continue;
        };
        let common = record.common_data().unwrap_or_default();
        let time = Nanos::from_ns(common.timestamp.unwrap_or(0));
        // What was there before carries no time: the session begins with the first record that does.
        if time > Nanos::default()
            && let Some(mut session) = session.take()
        {
            session.started = time;
            import.meta(Meta::Session(session))?;
        }
        import.tally.end = import.tally.end.max(time);
        if record.record_type == RecordType::SAMPLE {
            if attr_index == chosen {
                let body = record.data.as_slice();
                let fields = Fields::of(&body, sample_format, read_format);
                let fields =
                    fields.ok_or_else(|| unreadable("a sample is shorter than it says".into()))?;
                import.sample(&fields, CpuMode::from_misc(record.misc), time)?;
            }
            continue;
        }
        let parsed = record.parse().map_err(|e| unreadable(e.to_string()))?;
        import.record(parsed, &common, time)?;
    }
    if let Some(session) = session.take() {
        import.meta(Meta::Session(session))?;
    }
    let tally = import.finish(other_events)?;
    Ok(tally)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
