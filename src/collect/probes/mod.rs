//! Probe rings: found as they appear, drained while their programs run, given back when their threads are gone.
//!
//! In: a session directory, or the processes to follow; out: slots, ring descriptions and totals in the recording. What
//! programs write is believed only as far as it can be checked; what cannot be reached is counted. It refuses to know
//! what slots mean.

mod place;
mod source;
mod tasks;
#[cfg(test)]
mod tests;

use super::clock;
use crate::trace::record::{Meta, OwnPoint, Pid, Ring, RingTotals};
use crate::trace::{WriteError, Writer};
use bypassprof_wire::Slot;
use bypassprof_wire::layout::{Entry, EntryState};
use bypassprof_wire::names::{FileKind, ProcessKey};
pub use place::Place;
use rustix::fs::fstat;
use source::{ControlSource, RingCounts, RingOwner, RingSource};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// How often new programs are looked for.
const SCAN_EVERY: Duration = Duration::from_millis(10);
/// How often totals are written and dead threads looked for.
const TOTALS_EVERY: Duration = Duration::from_millis(500);
/// Most files of one directory that are looked at.
const MAX_FILES: usize = 100_000;
/// Most megabytes taken from one ring before the next has its turn.
const MAX_READS: usize = 64;

/// All rings of a recording.
#[derive(Debug)]
pub struct Probes {
    places: Vec<Place>,
    /// Processes that are followed; `None`: all that appear in the session directory.
    followed: Option<HashSet<Pid>>,
    programs: HashMap<(usize, ProcessKey), Program>,
    next_ring: u32,
    scanned: Option<Instant>,
    totalled: Instant,
    unreached: u64,
    tally: ProbeTally,
    scratch: Scratch,
}

/// What was drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeTally {
    /// Rings described.
    pub rings: u64,
    /// Slots written.
    pub slots: u64,
    /// Slots that programs dropped.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Scratch {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// A program with probes.
#[derive(Debug)]
struct Program {
    control: ControlSource,
    /// Its number here, once it could be told.
    pid: Pid,
    rings: Vec<RingPlace>,
    /// Rings that were there before this recording: what is in them is not ours.
    old: usize,
    unreached: u64,
}

/// A place in a program's table of rings.
#[derive(Debug)]
enum RingPlace {
    /// Not opened, or not there yet.
    Closed,
    /// Not a ring, or not one that can be drained.
    Bad,
    Open(Box<OpenRing>),
}

#[derive(Debug)]
struct OpenRing {
    source: RingSource,
    /// The thread whose slots are being drained.
    tenant: Option<Tenant>,
    /// Generation whose slots have all been taken.
    released: Option<u64>,
}

#[derive(Debug)]
struct Tenant {
    number: u32,
    owner: RingOwner,
    told: RingCounts,
}

impl Probes {
    /// All programs that appear in a session directory.
    pub fn of_session(place: Place) -> Probes {
        Probes::new(vec![place], None)
    }

    /// Running processes and the children they make.
    pub fn of_processes(pids: &[Pid]) -> Probes {
        let mut seen = HashSet::new();
        let places = pids.iter().filter_map(|&pid| Place::of_process(pid));
        let places = places.filter(|place| {
            fstat(place.dir()).is_ok_and(|stat| seen.insert((stat.st_dev, stat.st_ino)))
        });
        let places = places.collect();
        Probes::new(places, Some(pids.iter().copied().collect()))
    }

    fn new(places: Vec<Place>, followed: Option<HashSet<Pid>>) -> Probes {
        Probes {
            places,
            followed,
            programs: HashMap::new(),
            next_ring: 0,
            scanned: None,
            totalled: Instant::now(),
            unreached: 0,
            tally: ProbeTally::default(),
            scratch: Scratch::default(),
        }
    }

    /// Takes note of a child of a process that is followed.
    pub fn meta(&mut self, meta: &Meta) {
        if let (Meta::Thread(thread), Some(followed)) = (meta, &mut self.followed)
            && followed.contains(&thread.parent)
        {
            followed.insert(thread.pid);
        }
    }

    /// Takes what has come in. Returns how full the fullest ring was, from 0 to 1.
    pub fn turn(&mut self, writer: &mut Writer) -> Result<f64, WriteError> {
        if self.scanned.is_none_or(|s| s.elapsed() >= SCAN_EVERY) {
            self.scan();
            self.scanned = Some(Instant::now());
        }
        let totals = self.totalled.elapsed() >= TOTALS_EVERY;
        let mut fullest = 0.0f64;
        let mut gone = Vec::new();
        for (&key, program) in &mut self.programs {
            // Asked first, so that a program that ends in between is drained once more.
            if totals && program.control.inside.is_gone(program.pid) {
                gone.push(key);
            }
            let mut drain = Drain {
                place: &self.places[key.0],
                key: key.1,
                next_ring: &mut self.next_ring,
                tally: &mut self.tally,
                scratch: &mut self.scratch,
                totals,
                writer,
            };
            fullest = fullest.max(drain.program(program)?);
        }
        for key in gone {
            self.leave(key, writer)?;
        }
        if totals {
            self.totalled = Instant::now();
        }
        Ok(fullest)
    }

    fn scan(&mut self) {
        for (at, place) in self.places.iter().enumerate() {
            for name in place.names(MAX_FILES) {
                let Some(FileKind::Control(key)) = FileKind::parse(&name) else {
                    continue;
                };
                if self.programs.contains_key(&(at, key)) {
                    continue;
                }
                if let Some(program) = Program::found(place, &name, self.followed.as_ref()) {
                    self.programs.insert((at, key), program);
                }
            }
        }
    }

    /// Ends with a program that is gone: what it left is taken and its files go.
    fn leave(&mut self, key: (usize, ProcessKey), writer: &mut Writer) -> Result<(), WriteError> {
        let Some(mut program) = self.programs.remove(&key) else {
            return Ok(());
        };
        let place = &self.places[key.0];
        let mut drain = Drain {
            place,
            key: key.1,
            next_ring: &mut self.next_ring,
            tally: &mut self.tally,
            scratch: &mut self.scratch,
            totals: true,
            writer,
        };
        while drain.program(&mut program)? > 0.0 {}
        self.unreached += program.unreached();
        for index in 0..program.rings.len() {
            place.remove(FileKind::Ring(key.1, index as u32).name().as_str());
        }
        place.remove(FileKind::Control(key.1).name().as_str());
        Ok(())
    }

    /// Takes what is left, switches off, and leaves. Returns what was drained and how many rings were not reached.
    pub fn finish(mut self, writer: &mut Writer) -> Result<(ProbeTally, u64), WriteError> {
        self.scan();
        let keys: Vec<_> = self.programs.keys().copied().collect();
        for program in self.programs.values() {
            // A file that cannot be written any more has no one who reads it.
            let _ = program.control.switch_off();
        }
        for key in keys {
            let program = &self.programs[&key];
            if program.control.inside.is_gone(program.pid) {
                self.leave(key, writer)?;
            }
        }
        let mut programs = std::mem::take(&mut self.programs);
        for (key, program) in &mut programs {
            let mut drain = Drain {
                place: &self.places[key.0],
                key: key.1,
                next_ring: &mut self.next_ring,
                tally: &mut self.tally,
                scratch: &mut self.scratch,
                totals: true,
                writer,
            };
            // Once more after what was there: a point that was being written when the switch was turned.
            drain.program(program)?;
            drain.program(program)?;
            self.unreached += program.unreached();
        }
        Ok((self.tally, self.unreached))
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for program in self.programs.values() {
            // On the way out of a failure: programs must not go on writing for no one.
            let _ = program.control.switch_off();
        }
    }
}

impl Program {
    /// The program of a control file, switched on; `None` if it is not one to follow, or not whole yet.
    fn found(place: &Place, name: &str, followed: Option<&HashSet<Pid>>) -> Option<Program> {
        let control = ControlSource::open(place.dir(), name, None).ok()?;
        let pid = control.inside.outside();
        if let Some(followed) = followed
            && !pid.is_some_and(|p| followed.contains(&p))
        {
            return None;
        }
        let old = followed.map_or(0, |_| control.entries().map_or(0, |e| e.len()));
        control.switch_on().ok()?;
        Some(Program {
            old,
            pid: pid.unwrap_or(control.inside.pid),
            control,
            rings: Vec::new(),
            unreached: 0,
        })
    }

    fn unreached(&self) -> u64 {
        let bad = self.rings.iter().filter(|r| matches!(r, RingPlace::Bad));
        self.unreached.max(self.control.unreached()) + bad.count() as u64
    }
}

/// One program's turn.
struct Drain<'a> {
    place: &'a Place,
    key: ProcessKey,
    next_ring: &'a mut u32,
    tally: &'a mut ProbeTally,
    scratch: &'a mut Scratch,
    totals: bool,
    writer: &'a mut Writer,
}

impl Drain<'_> {
    /// Returns how full the fullest ring was.
    fn program(&mut self, program: &mut Program) -> Result<f64, WriteError> {
        let Ok(entries) = program.control.entries() else {
            return Ok(0.0);
        };
        if program.rings.len() < entries.len() {
            program
                .rings
                .resize_with(entries.len(), || RingPlace::Closed);
        }
        if self.totals {
            program.unreached = program.control.unreached();
        }
        let mut fullest = 0.0f64;
        let mut rings = std::mem::take(&mut program.rings);
        for (index, (ring, &entry)) in rings.iter_mut().zip(&entries).enumerate() {
            if matches!(ring, RingPlace::Closed) && entry.state != EntryState::Free {
                *ring = self.open(program, index, entry);
            }
            let RingPlace::Open(open) = ring else {
                continue;
            };
            match self.ring(program, open, index, entry) {
                Ok(Ok(full)) => fullest = fullest.max(full),
                Ok(Err(_)) => *ring = RingPlace::Bad,
                Err(e) => {
                    program.rings = rings;
                    return Err(e);
                }
            }
            if self.totals && entry.state == EntryState::Live {
                end_if_dead(program, index, entry);
            }
        }
        program.rings = rings;
        Ok(fullest)
    }

    fn open(&self, program: &Program, index: usize, entry: Entry) -> RingPlace {
        let inside = &program.control.inside;
        let opened = match program.control.descriptor(index) {
            Some(descriptor) => RingSource::of_descriptor(program.pid, descriptor, inside),
            None => {
                let name = FileKind::Ring(self.key, index as u32).name();
                RingSource::open(self.place.dir(), name.as_str(), inside)
            }
        };
        match opened {
            Ok(source) => RingPlace::Open(Box::new(OpenRing {
                source,
                tenant: None,
                released: None,
            })),
            // Its thread is still making it.
            Err(_) if entry.state == EntryState::Opening => RingPlace::Closed,
            Err(_) => RingPlace::Bad,
        }
    }

    /// Takes a ring's slots. The inner error says that it is no ring.
    fn ring(
        &mut self,
        program: &Program,
        ring: &mut OpenRing,
        index: usize,
        entry: Entry,
    ) -> Result<io::Result<f64>, WriteError> {
        let (owner, counts) = match ring.source.header() {
            Ok((Some(owner), counts)) => (owner, counts),
            Ok((None, _)) => return Ok(Ok(0.0)),
            Err(e) => return Ok(Err(e)),
        };
        if ring.released == Some(owner.generation) {
            return Ok(Ok(0.0));
        }
        if owner.flight {
            return Ok(Err(io::ErrorKind::Unsupported.into()));
        }
        if ring
            .tenant
            .as_ref()
            .is_none_or(|t| t.owner.generation != owner.generation)
        {
            let old = index < program.old && ring.tenant.is_none() && ring.released.is_none();
            let first = if old { counts.head } else { owner.first_slot };
            if old && let Err(e) = ring.source.skip_to(first) {
                return Ok(Err(e));
            }
            ring.tenant = Some(self.move_in(program, &ring.source, &owner, first)?);
        }
        let OpenRing {
            source,
            tenant: Some(tenant),
            released,
        } = ring
        else {
            return Ok(Ok(0.0));
        };
        let mut full = 0.0f64;
        let Scratch { bytes, slots } = &mut *self.scratch;
        for _ in 0..MAX_READS {
            let taken = match source.take(counts.head, bytes, slots) {
                Ok(taken) => taken,
                Err(e) => return Ok(Err(e)),
            };
            full = full.max(taken.waiting as f64 / source.capacity as f64);
            if slots.is_empty() {
                break;
            }
            self.tally.slots += slots.len() as u64;
            let first = taken.first.wrapping_sub(tenant.owner.first_slot);
            self.writer.slots(tenant.number, first, slots)?;
        }
        let ended = owner.ended || entry.state == EntryState::Ended;
        let done = ended && source.tail() >= counts.head;
        if (self.totals || done) && tenant.told != counts {
            self.tally.dropped += counts
                .dropped_slots
                .saturating_sub(tenant.told.dropped_slots);
            tenant.told = counts;
            self.writer.meta(&totals(tenant, &counts))?;
        }
        if done {
            // A ring that cannot be written any more is given away by no one.
            let _ = source.release(owner.generation);
            *released = Some(owner.generation);
            ring.tenant = None;
        }
        Ok(Ok(full))
    }

    /// A thread's ring gets a number in the recording, which begins at position `first`.
    fn move_in(
        &mut self,
        program: &Program,
        source: &RingSource,
        owner: &RingOwner,
        first: u64,
    ) -> Result<Tenant, WriteError> {
        let number = *self.next_ring;
        *self.next_ring += 1;
        self.tally.rings += 1;
        let own = program.control.own_points();
        let inside = &program.control.inside;
        self.writer.meta(&Meta::Ring(Ring {
            ring: number,
            pid: program.pid,
            tid: inside.thread_outside(program.pid, owner.tid),
            name: owner.name.clone(),
            capacity: source.capacity,
            flight: owner.flight,
            // What is in a ring now was written a moment ago, whenever the ring was made.
            base_tsc: clock::counter(),
            first_slot: first.wrapping_sub(owner.first_slot),
            points: own
                .into_iter()
                .map(|(id, name)| OwnPoint { id, name })
                .collect(),
        }))?;
        Ok(Tenant {
            number,
            owner: owner.clone(),
            told: RingCounts::default(),
        })
    }
}

/// A thread that was killed could not say that it ends.
fn end_if_dead(program: &Program, index: usize, entry: Entry) {
    let inside = &program.control.inside;
    let tid = inside.thread_outside(program.pid, entry.tid);
    let task = format!("/proc/{}/task/{tid}", program.pid);
    if !inside.is_gone(program.pid) && !fs::exists(task).unwrap_or(true) {
        // Should the file refuse, the ring stays taken: no harm to the program.
        let _ = program.control.end(index, entry);
    }
}

fn totals(tenant: &Tenant, counts: &RingCounts) -> Meta {
    let slots = counts.head.saturating_sub(tenant.owner.first_slot);
    let [rx_bursts, rx_packets, rx_bytes] = counts.rx;
    let [tx_bursts, tx_packets, tx_bytes] = counts.tx;
    Meta::RingTotals(RingTotals {
        ring: tenant.number,
        time: clock::now(),
        events: slots.saturating_sub(counts.extra_slots),
        dropped_slots: counts.dropped_slots,
        rx_bursts,
        rx_packets,
        rx_bytes,
        tx_bursts,
        tx_packets,
        tx_bytes,
        rounds: counts.empty_rounds.saturating_add(counts.worked_rounds),
        empty_rounds: counts.empty_rounds,
        requests: counts.requests,
    })
}
