//! A recording for other programs: their formats, written as the recording is read.
//!
//! In: a [`Profile`], and for formats with time the [`Moment`]s of a second pass over the recording; out: bytes. What a
//! format cannot say is left out and documented in `docs/reference/export.md`. Crates or published schemas say what the
//! formats are. It refuses to know options and files, but for [`parquet`], which is a folder of many.

pub mod firefox;
pub mod folded;
pub mod parquet;
pub mod perf_script;
pub mod perfetto;
pub mod pprof;
mod proto;
pub mod speedscope;

use crate::analyse::tape::Moment;
use crate::analyse::{Profile, Root, ThreadRow};
use std::io;

/// Takes a recording's moments one after another.
pub trait Moments {
    /// One of them; samples come in the order of time.
    fn moment(&mut self, moment: &Moment, profile: &Profile) -> io::Result<()>;
    /// Whether samples of all events are wanted, not of the profile's alone.
    fn wants_all_events(&self) -> bool {
        false
    }
    /// The last has come.
    fn finish(self: Box<Self>, profile: &Profile) -> io::Result<()>;
}

/// A thread as other tools name it.
fn thread_name(row: &ThreadRow) -> String {
    super::style::printable(match row.name.as_str() {
        "" => "unnamed",
        name => name,
    })
}

/// The state of a thread as a short word for labels.
fn state_word(root: Root) -> &'static str {
    match root {
        Root::Useful | Root::UsefulEstimated => "useful",
        Root::EmptyPolling | Root::EmptyPollingEstimated => "empty_polling",
        Root::Unknown => "unknown",
        Root::NoProbes => "no_probes",
    }
}

/// What weights of a profile are: a name and a unit.
fn weight_unit(profile: &Profile) -> (&str, &'static str) {
    match profile.is_time() {
        true => ("cpu", "nanoseconds"),
        false => (profile.event.as_str(), "count"),
    }
}
