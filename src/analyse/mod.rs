//! Frames and events into answers: whose time it was, and whether it was useful.
//!
//! In: a recording's records, samples, switches and ring slots in the order of the file; out: a [`Profile`] and what is
//! made of it ([`ledger`], [`explain`]), and requests ([`spans`]). Every sample is joined by the CPU's counter to what its
//! thread's polling loop was doing then ([`pollstate`], [`timeline`]), and gets its phase from [`packs`] ([`classify`]).
//! Memory grows with distinct stacks and with what happens within [`join::WINDOW`], not with the recording. It refuses
//! to know how answers are printed.

pub mod apart;
pub mod classify;
pub mod compare;
pub mod counted;
pub mod counts;
pub mod coverage;
pub mod depths;
pub mod estimate;
pub mod explain;
pub mod filter;
pub mod flows;
pub mod grouped;
pub mod join;
pub mod latency;
pub mod ledger;
pub mod live;
pub mod packs;
pub mod phases;
pub mod pollstate;
pub mod postmortem;
pub mod profile;
pub mod queues;
pub mod readings;
pub mod recovery;
pub mod series;
pub mod spans;
pub mod stacks;
pub mod tape;
pub mod timeline;
pub mod trust;

pub use filter::{Filter, Who};
pub use join::Join;
pub use ledger::Ledger;
pub use packs::Packs;
pub use profile::{Grouping, Profile, Root, Row, ThreadRow};
pub use trust::Trust;
