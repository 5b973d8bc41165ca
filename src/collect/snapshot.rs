//! The newest events of a process with probes as a recording: of one that runs, which is not disturbed, or of one that
//! has just died.
//!
//! In: a process; out: its rings as they were at a moment, with an exact count of what was gone. It refuses to know why
//! a snapshot is taken.

use super::probes::look::{Looked, Subject, look};
use super::probes::{Inside, Place};
use super::{clock, proc};
use crate::trace::record::{Crash, End, Meta, Notice, Pid};
use crate::trace::{WriteError, Writer};
use bypassprof_ring::reader::{ControlHandle, RingLook, Writing};
use std::path::Path;

/// Why there is nothing to take.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is no such process.
    #[error("there is no process {0}")]
    NoProcess(Pid),
    /// It is another user's, or has never used a probe.
    #[error(
        "process {0} has no rings that can be reached: it has no probes, has not used one yet, or is another user's"
    )]
    NoProbes(Pid),
}

/// A process with probes.
pub struct Live {
    place: Place,
    control: ControlHandle,
    inside: Inside,
    pid: Pid,
}

/// What a snapshot holds.
#[derive(Debug)]
pub struct Taken {
    /// The rings.
    pub looked: Looked,
    /// Whether the process was gone.
    pub dead: bool,
    /// Bytes that its own flight recorder may take; 0 when it has none.
    pub flight_bytes: u64,
}

impl Live {
    /// Finds a running process's rings.
    pub fn find(pid: Pid) -> Result<Live, FindError> {
        if proc::threads(pid).is_err() {
            return Err(FindError::NoProcess(pid));
        }
        let place = Place::of_process(pid).ok_or(FindError::NoProbes(pid))?;
        for key in place.dir().processes().unwrap_or_default() {
            let Ok(mut control) = place.dir().look_at_control(key) else {
                continue;
            };
            let inside = Inside::of(&control.facts());
            if inside.outside() == Some(pid) && !inside.is_gone(pid) {
                control.set_host_pid(pid);
                return Ok(Live {
                    place,
                    control,
                    inside,
                    pid,
                });
            }
        }
        Err(FindError::NoProbes(pid))
    }

    /// Its control file.
    pub fn control(&self) -> &ControlHandle {
        &self.control
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it lives no more.
    pub fn is_gone(&self) -> bool {
        self.inside.is_gone(self.pid)
    }

    /// Its rings as of now, to be followed.
    pub fn rings(&self) -> Vec<(u32, RingLook)> {
        let places = self.control.rings().into_iter();
        let open = |place: bypassprof_ring::reader::RingPlace| {
            let look = self
                .place
                .dir()
                .look_at(&self.control, place, Writing::Goes);
            Some((place.index, look.ok()?))
        };
        places.filter_map(open).collect()
    }

    /// Takes its rings into a recording and closes it; `why` is kept in it.
    pub fn save(&self, mut writer: Writer, why: Vec<Notice>) -> Result<Taken, WriteError> {
        let dead = self.is_gone();
        let mut session = proc::session();
        session.pids = vec![self.pid];
        let mut names = Vec::new();
        proc::names(self.pid, &mut names);
        for meta in names.into_iter().chain(why.into_iter().map(Meta::Notice)) {
            writer.meta(&meta)?;
        }
        let subject = Subject {
            key: self.control.key(),
            pid: self.pid,
            writing: if dead { Writing::Over } else { Writing::Goes },
            thread: &|tid| self.inside.thread_outside(self.pid, tid),
        };
        let looked = look(self.place.dir(), &subject, &mut 0, &mut writer)?;
        let now = clock::pair();
        writer.meta(&Meta::Clock(now))?;
        // Events are older than the snapshot: the recording begins with the oldest of them.
        let began = looked.began(Some(now));
        let began = began.map_or(session.started, |began| began.min(session.started));
        let before = session.started.since(began).ns();
        session.started_unix_ns = session.started_unix_ns.saturating_sub(before);
        session.started = began;
        writer.meta(&Meta::Session(session))?;
        if !dead {
            writer.meta(&Meta::Crash(Crash {
                pid: self.pid,
                alive: true,
                told_by: "the snapshot".to_owned(),
                ..Crash::default()
            }))?;
        }
        writer.meta(&Meta::End(End {
            time: clock::now(),
            rings_unreached: looked.rings_unreached(),
            ..End::default()
        }))?;
        writer.finish()?;
        Ok(Taken {
            looked,
            dead,
            flight_bytes: self.control.flight_bytes(),
        })
    }

    /// The directory with its files.
    pub fn path(&self) -> &Path {
        self.place.path()
    }
}
