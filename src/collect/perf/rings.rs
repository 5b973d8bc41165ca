//! One ring for each CPU: all events of a CPU write into it.
//!
//! In: events, each on its CPU; out: what they wrote. All of a ring's events must write records of one form: that of the first
//! is the one it is read by. It refuses to know whose events they are, and lives on when the first of them is closed.

use super::ring::{self, Batch, From};
use super::sys;
use perf_event_open::count::Counter;
use perf_event_open::sample::Sampler;
use std::fs::File;
use std::io;

/// Rings by CPU.
#[derive(Default)]
pub struct Rings(Vec<Ring>);

struct Ring {
    cpu: u32,
    sampler: Sampler,
    /// The event that it was made for.
    event: File,
}

/// Records taken from one CPU before the next has its turn.
const DRAIN_LIMIT: usize = 1 << 16;

impl Rings {
    /// Sends an event's records to the ring of its CPU, which is made if there is none.
    pub fn join(
        &mut self,
        cpu: u32,
        event: &Counter,
        make: impl FnOnce(&Counter) -> io::Result<Sampler>,
    ) -> io::Result<()> {
        if let Some(ring) = self.0.iter().find(|r| r.cpu == cpu) {
            return sys::set_output(event.file(), &ring.event);
        }
        self.0.push(Ring {
            cpu,
            sampler: make(event)?,
            event: event.file().try_clone()?,
        });
        Ok(())
    }

    /// Files that can be read from when a record has come in, if the events are to wake anyone.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.0.iter().map(|r| &r.event)
    }

    /// Takes what the kernel has written; `from` says of each CPU how to read it. Returns how many records.
    pub fn drain<'a>(&self, from: impl Fn(u32) -> From<'a>, batch: &mut Batch) -> usize {
        let drain = |ring: &Ring| ring::drain(&ring.sampler, &from(ring.cpu), DRAIN_LIMIT, batch);
        self.0.iter().map(drain).sum()
    }
}
