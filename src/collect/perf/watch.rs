//! Threads as they come, get their names and end, told by the kernel without a sample.
//!
//! In: threads; out: records of them and of all that they and their children make. It refuses to know what for.

use super::ring::{Batch, From, Ids};
use super::rings::Rings;
use super::stacks::StackSource;
use crate::trace::record::{Meta, Tid};
use crate::units::Nanos;
use perf_event_open::config::{
    Clock, Cpu, ExtraRecord, Inherit, Opts, Priv, Proc, RecordIdFormat, WakeUp, WakeUpOn,
};
use perf_event_open::count::Counter;
use perf_event_open::event::sw::Software;
use std::fs::File;
use std::io;

/// An event that counts nothing, on every CPU, inherited by what the watched make.
pub struct Watch {
    events: Vec<Counter>,
    rings: Rings,
    ids: Ids,
}

/// Size of a ring as a power of two of pages: some 400 threads may come and go on a CPU between two looks.
const RING: u8 = 4;

impl Watch {
    /// Watches these threads from here on. Those that are gone by now are passed over.
    pub fn open(tids: &[Tid], cpus: &[u32]) -> io::Result<Watch> {
        let mut watch = Watch {
            events: Vec::new(),
            rings: Rings::default(),
            ids: Ids::default(),
        };
        for &tid in tids {
            for &cpu in cpus {
                match watch.open_on(tid, cpu) {
                    Ok(()) => {}
                    // The thread ended, or the CPU went, since they were listed.
                    Err(e)
                        if [Some(libc::ESRCH), Some(libc::ENODEV)].contains(&e.raw_os_error()) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(watch)
    }

    fn open_on(&mut self, tid: Tid, cpu: u32) -> io::Result<()> {
        let opts = Opts {
            exclude: Priv {
                kernel: true,
                hv: true,
                ..Priv::default()
            },
            inherit: Some(Inherit::NewChild),
            enable: true,
            extra_record: ExtraRecord {
                task: true,
                comm: true,
                ..ExtraRecord::default()
            },
            record_id_all: true,
            record_id_format: RecordIdFormat {
                task: true,
                time: true,
                ..RecordIdFormat::default()
            },
            // Each record: whoever waits opens events for a thread that has just begun.
            wake_up: WakeUp {
                on: WakeUpOn::Bytes(1),
                ..WakeUp::default()
            },
            timer: Some(Clock::MonotonicRaw),
            ..Opts::default()
        };
        let event = Counter::new(Software::Dummy, (Proc(tid), Cpu(cpu)), &opts)?;
        self.rings.join(cpu, &event, |e| e.sampler(RING))?;
        self.events.push(event);
        Ok(())
    }

    /// Files that can be read from when a record has come in.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.rings.files()
    }

    /// What has come in, in the order in which it happened.
    pub fn drain(&self) -> Vec<Meta> {
        let mut batch = Batch::default();
        let from = |cpu| From {
            cpu,
            max_frames: 0,
            stacks: StackSource::None,
            ids: &self.ids,
        };
        self.rings.drain(from, &mut batch);
        batch.metas.sort_by_key(|meta| match meta {
            Meta::Thread(thread) => thread.time,
            Meta::Exit(exit) => exit.time,
            Meta::Lost(lost) => lost.time,
            _ => Nanos::default(),
        });
        batch.metas
    }
}
