//! One process's rings as they are at a moment, into a recording: of a program that runs and is not disturbed, or of one
//! that is gone.
//!
//! In: a session directory and a process in it; out: the process's rings, their slots, totals and clock readings in the
//! recording, and of each ring exactly how much of it was gone. Nothing is written to the directory. It refuses to know
//! what slots mean and why it is asked.

use super::record;
use crate::trace::record::{Meta, OwnPoint, Pid, Ring, Tid};
use crate::trace::{WriteError, Writer};
use crate::units::{ClockMap, ClockPair, Nanos};
use bypassprof_ring::reader::{
    ControlHandle, Drained, Facts, ReadError, RingLook, SessionDir, Writing,
};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::names::ProcessKey;
use bypassprof_wire::{Decoder, Slot, Tsc};

/// Slots copied from a ring in one piece.
const PIECE: usize = 1 << 16;

/// Whose rings are looked at.
pub struct Subject<'a> {
    /// The process in the names of its files.
    pub key: ProcessKey,
    /// Its number in the recording.
    pub pid: Pid,
    /// Whether it still runs.
    pub writing: Writing,
    /// Numbers in the recording of threads, from the numbers they call themselves by.
    pub thread: &'a dyn Fn(u32) -> Tid,
}

/// What was found of one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedAt {
    /// Its number in the recording.
    pub ring: u32,
    /// Its thread.
    pub tid: Tid,
    /// The thread's name.
    pub name: String,
    /// Slots in the recording.
    pub slots: u64,
    /// When the first event among them was.
    pub oldest: Option<Tsc>,
    /// Slots that were gone at that moment: overwritten, or read by a recorder.
    pub gone_before: u64,
    /// Slots that were overwritten while they were copied, or may have been.
    pub overwritten: u64,
    /// Slots that did not fit, by the thread's own count.
    pub dropped: u64,
    /// Threads that had the ring before, whose slots are not in the recording.
    pub earlier_threads: u64,
    /// Whether its thread had ended.
    pub ended: bool,
}

/// What was found of a process.
#[derive(Debug, Default)]
pub struct Looked {
    /// Its rings.
    pub rings: Vec<LookedAt>,
    /// Rings that could not be read, and why.
    pub unread: Vec<ReadError>,
    /// Times that a thread of it got no ring; `None` without a control file.
    pub unreached: Option<u64>,
    /// Who it said it was; `None` if nothing could be read.
    pub facts: Option<Facts>,
    /// Readings of both clocks in its files.
    pub clocks: Vec<ClockPair>,
}

impl Looked {
    /// Slots that went into the recording.
    pub fn slots(&self) -> u64 {
        self.rings.iter().map(|r| r.slots).sum()
    }

    /// When the oldest event that is here was, by the readings in the files and one of now, if that is of the same
    /// clocks; without two of them, when the program began to write.
    pub fn began(&self, now: Option<ClockPair>) -> Option<Nanos> {
        let oldest = self.rings.iter().filter_map(|ring| ring.oldest).min()?;
        let pairs: Vec<ClockPair> = self.clocks.iter().copied().chain(now).collect();
        match ClockMap::fit(&pairs) {
            Some(map) => Some(map.time(oldest)),
            None => pairs.first().map(|pair| pair.time),
        }
    }

    /// Rings that could not be read and threads that got none.
    pub fn rings_unreached(&self) -> u64 {
        self.unread.len() as u64 + self.unreached.unwrap_or(0)
    }
}

/// Copies a process's rings into a recording, numbered from `next_ring` on. All of them are of one moment, at which
/// this begins.
pub fn look(
    dir: &SessionDir,
    subject: &Subject<'_>,
    next_ring: &mut u32,
    writer: &mut Writer,
) -> Result<Looked, WriteError> {
    let mut looked = Looked::default();
    let control = dir.look_at_control(subject.key).map(|mut control| {
        control.set_host_pid(subject.pid);
        control
    });
    let rings = open(dir, subject, &control, &mut looked);
    let points: Vec<OwnPoint> = match &control {
        Ok(control) => own_points(control.own_points()),
        Err(_) => Vec::new(),
    };
    if let Ok(control) = &control {
        looked.unreached = Some(control.unreached());
    }
    let clocks = rings.iter().map(RingLook::facts);
    let clocks: Vec<Facts> = looked.facts.into_iter().chain(clocks).collect();
    looked.clocks = clocks.iter().map(clock_of).collect();
    for pair in &looked.clocks {
        writer.meta(&Meta::Clock(*pair))?;
    }
    looked.facts = looked.facts.or(clocks.first().copied());
    let mut drained = Drained::with_capacity(PIECE);
    for mut look in rings {
        let mut copy = Copying {
            subject,
            ring: *next_ring,
            drained: &mut drained,
            writer,
        };
        *next_ring += 1;
        let (at, error) = copy.ring(&mut look, &points)?;
        looked.rings.push(at);
        looked.unread.extend(error);
    }
    Ok(looked)
}

/// The readable rings, each as of now. Without a control file they are found by their names.
fn open(
    dir: &SessionDir,
    subject: &Subject<'_>,
    control: &Result<ControlHandle, ReadError>,
    looked: &mut Looked,
) -> Vec<RingLook> {
    let opened: Vec<Result<RingLook, ReadError>> = match control {
        Ok(control) => {
            looked.facts = Some(control.facts());
            let places = control.rings().into_iter();
            let open = |place| dir.look_at(control, place, subject.writing);
            places.map(open).collect()
        }
        Err(_) => {
            let files = dir.ring_files().unwrap_or_default().into_iter();
            let ours = files.filter(|(key, _)| *key == subject.key);
            ours.map(|(key, index)| dir.look_at_file(key, index, subject.writing))
                .collect()
        }
    };
    let mut rings = Vec::new();
    for ring in opened {
        match ring {
            Ok(ring) if ring.facts().pid == subject.key.pid => rings.push(ring),
            Ok(_) => {}
            Err(error) => looked.unread.push(error),
        }
    }
    rings
}

/// One ring on its way into the recording.
struct Copying<'a> {
    subject: &'a Subject<'a>,
    ring: u32,
    drained: &'a mut Drained,
    writer: &'a mut Writer,
}

impl Copying<'_> {
    fn ring(
        &mut self,
        look: &mut RingLook,
        points: &[OwnPoint],
    ) -> Result<(LookedAt, Option<ReadError>), WriteError> {
        let owner = look.owner().clone();
        let tid = (self.subject.thread)(owner.tid);
        let points = if points.is_empty() {
            own_points(look.own_points())
        } else {
            points.to_vec()
        };
        self.writer.meta(&Meta::Ring(Ring {
            ring: self.ring,
            pid: self.subject.pid,
            tid,
            name: owner.name.clone(),
            capacity: look.capacity(),
            flight: owner.mode == Mode::Flight,
            base_tsc: look.base_tsc(),
            first_slot: look.gone_before(),
            listening: Nanos::default(),
            points,
        }))?;
        let mut slots = 0;
        let mut oldest = None;
        let error = loop {
            self.drained.clear();
            let taken = match look.take(self.drained) {
                Ok(taken) => taken,
                Err(error) => break Some(error),
            };
            let first = taken.first.wrapping_sub(owner.first_slot);
            let copied = self.drained.slots();
            oldest = oldest.or_else(|| first_stamp(copied, look.base_tsc()));
            self.writer.slots(self.ring, first, copied)?;
            slots += taken.slots as u64;
            if !taken.more {
                break None;
            }
        };
        let mut totals = look.totals();
        let dropped = totals.dropped_slots;
        let overwritten = look.overwritten();
        let gone_before = look.gone_before();
        if owner.mode == Mode::Flight {
            totals.dropped_slots = dropped.saturating_add(gone_before);
        }
        totals.dropped_slots = totals.dropped_slots.saturating_add(overwritten);
        self.writer.meta(&record(self.ring, &totals))?;
        let at = LookedAt {
            ring: self.ring,
            tid,
            name: owner.name,
            slots,
            oldest,
            gone_before,
            overwritten,
            dropped,
            earlier_threads: look.earlier_owners(),
            ended: owner.ended,
        };
        Ok((at, error))
    }
}

/// The stamp of the first event that slots hold.
fn first_stamp(slots: &[Slot], base_tsc: u64) -> Option<Tsc> {
    let mut decoder = Decoder::new(Some(Tsc::from_raw(base_tsc)));
    let mut first = None;
    for &slot in slots {
        decoder.push(slot, &mut |event| first = first.or(Some(event.tsc)));
        if first.is_some() {
            return first;
        }
    }
    decoder.flush(&mut |event| first = Some(event.tsc));
    first
}

pub(super) fn own_points(points: Vec<(u16, String)>) -> Vec<OwnPoint> {
    let point = |(id, name)| OwnPoint { id, name };
    points.into_iter().map(point).collect()
}

/// The reading of both clocks that every file of a program begins with.
fn clock_of(facts: &Facts) -> ClockPair {
    ClockPair {
        tsc_before: facts.base_tsc,
        time: Nanos::from_ns(facts.base_time),
        tsc_after: facts.base_tsc,
    }
}
