//! Probe rings: found as they appear, drained while their programs run, given back when their threads are gone.
//!
//! In: a session directory, or the processes to follow; out: slots, ring descriptions and totals in the recording. What
//! programs write is believed only as far as it can be checked; what cannot be reached is counted. It refuses to know
//! what slots mean.

pub mod look;
mod place;
mod queues;
mod reap;
mod tasks;
pub mod telemetry;
#[cfg(test)]
mod tests;

use super::clock;
use crate::trace::record::{Meta, Pid, Ring, RingTotals};
use crate::trace::{RingSink, WriteError};
use crate::units::{ClockPair, Nanos};
use bypassprof_ring::reader::{ControlHandle, Drained, ReadError, RingFile, RingPlace, Totals};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::names::{FileKind, ProcessKey};
pub use place::Place;
use queues::Queues;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
pub use tasks::Inside;
pub(super) use tasks::{is_gone, is_of_this_boot};

/// How often new programs are looked for.
const SCAN_EVERY: Duration = Duration::from_millis(10);
/// As many threads that ended since the last turn as full a ring.
const SCARCE: usize = 64;
/// How long a command's first program is waited for with more haste.
const EXPECTING: Duration = Duration::from_secs(2);
/// How often totals are written and dead threads looked for.
const TOTALS_EVERY: Duration = Duration::from_millis(500);
/// How long a program with a flight recorder of its own waits for a recorder that does not look any more, in ns.
const LEASE: u64 = 3_000_000_000;
/// Slots taken from a ring in one piece.
const PIECE: usize = 1 << 16;
/// Most pieces taken from one ring before the next has its turn.
const MAX_PIECES: usize = 64;

/// All rings of a recording.
#[derive(Debug)]
pub struct Probes {
    places: Vec<Place>,
    /// Whether the first place is this recording's own: all that appear there belong to it.
    session: bool,
    /// Processes that are followed and have shown no directory yet; of a session: that cannot enter its directory.
    placeless: HashSet<Pid>,
    /// Processes that are followed.
    followed: HashSet<Pid>,
    programs: HashMap<(usize, ProcessKey), Program>,
    /// Programs that are gone.
    left: HashSet<(usize, ProcessKey)>,
    /// Programs that are not followed, as far as is known since totals were written: dead ones may lie in a user's
    /// directory by the dozen, and each is opened to be told apart.
    strangers: HashSet<(usize, ProcessKey)>,
    next_ring: u32,
    started: Instant,
    /// Both clocks then.
    since: ClockPair,
    scanned: Option<Instant>,
    totalled: Option<Instant>,
    unreached: u64,
    tally: ProbeTally,
    drained: Drained,
    /// One in how many bursts has its frames looked at; 0 for none.
    look_at_frames: u64,
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
    /// Whether a program counted queues of devices.
    pub counts_queues: bool,
    /// Most bursts that one program could not count.
    pub bursts_uncounted: u64,
    /// Most ports that one program could not count.
    pub ports_refused: u64,
}

/// A program with probes.
#[derive(Debug)]
struct Program {
    control: ControlHandle,
    inside: Inside,
    /// Its number here.
    pid: Pid,
    /// When its points were switched on.
    listening: Nanos,
    /// By their numbers in the program's table.
    rings: HashMap<u32, OpenRing>,
    /// Rings that were there before this recording: what is in them is not ours.
    old: HashSet<u32>,
    /// What it counts on queues of devices.
    queues: Queues,
    unreached: u64,
}

/// What a control file turned out to be.
enum Found {
    /// That of a program to follow, switched on.
    Program(Box<Program>),
    /// That of a process that is not followed.
    Stranger,
    /// Not whole yet, or never.
    NotYet,
}

/// A place in a program's table of rings.
#[derive(Debug)]
enum OpenRing {
    /// Not a ring, or not one that can be drained.
    Bad,
    Good(Box<RingFile>, Option<Tenant>),
}

/// A thread whose slots are being drained.
#[derive(Debug)]
struct Tenant {
    number: u32,
    generation: u64,
    first_slot: u64,
    told: Totals,
    /// Slots that were overwritten before they were read.
    overwritten: u64,
    released: bool,
}

impl Probes {
    /// A command that is about to run as process `pid`: all programs that appear in a session directory, and the
    /// processes it makes that run as another user, who cannot enter there, in that user's own.
    pub fn of_session(place: Place, pid: Pid) -> Probes {
        Probes::new(vec![place], true, &[pid])
    }

    /// Running processes and the children they make.
    pub fn of_processes(pids: &[Pid]) -> Probes {
        let mut probes = Probes::new(Vec::new(), false, pids);
        probes.find_places();
        probes
    }

    /// Has DPDK programs look at the frames of one burst in so many.
    pub fn looking_at_frames(mut self, one_burst_in: u64) -> Probes {
        self.look_at_frames = one_burst_in;
        self
    }

    fn new(places: Vec<Place>, session: bool, pids: &[Pid]) -> Probes {
        Probes {
            places,
            session,
            placeless: pids.iter().copied().collect(),
            followed: pids.iter().copied().collect(),
            programs: HashMap::new(),
            left: HashSet::new(),
            strangers: HashSet::new(),
            next_ring: 0,
            started: Instant::now(),
            since: clock::pair(),
            scanned: None,
            totalled: None,
            unreached: 0,
            tally: ProbeTally::default(),
            drained: Drained::with_capacity(PIECE),
            look_at_frames: 0,
        }
    }

    /// A process has no directory before its first probe, and may become another user's.
    fn find_places(&mut self) {
        let (session, places) = (self.session, &mut self.places);
        self.placeless.retain(|&pid| {
            let found = if session {
                Place::of_other_user(pid)
            } else {
                Place::of_process(pid)
            };
            let Some(found) = found else {
                return tasks::start_time(pid).is_some();
            };
            if places.iter().all(|p| p.inode() != found.inode()) {
                places.push(found);
            }
            false
        });
    }

    /// Takes note of a child of a process that is followed.
    pub fn meta(&mut self, meta: &Meta) {
        if let Meta::Thread(thread) = meta
            && self.followed.contains(&thread.parent)
            && self.followed.insert(thread.pid)
        {
            self.strangers.clear();
            if self.session {
                self.placeless.insert(thread.pid);
            }
        }
    }

    /// Whether a command was started a moment ago and has not shown itself: its first events would be missed.
    pub fn is_expecting(&self) -> bool {
        self.programs.is_empty() && self.session && self.started.elapsed() < EXPECTING
    }

    /// Takes what has come in. Returns how full the fullest ring was, from 0 to 1.
    pub fn turn(&mut self, writer: &mut dyn RingSink) -> Result<f64, WriteError> {
        let totals = self.totalled.is_none_or(|t| t.elapsed() >= TOTALS_EVERY);
        let due = self.scanned.is_none_or(|s| s.elapsed() >= SCAN_EVERY);
        let expecting = self.is_expecting();
        if totals || (due && expecting) {
            self.find_places();
        }
        if totals {
            self.strangers.clear();
        }
        if due || expecting {
            self.scan();
            self.scanned = Some(Instant::now());
        }
        let until = totals.then(|| lease(&self.since, &clock::pair()));
        let mut fullest = 0.0f64;
        let mut gone = Vec::new();
        for (&key, program) in &mut self.programs {
            // Asked first, so that a program that ends in between is drained once more.
            if totals && program.inside.is_gone(program.pid) {
                gone.push(key);
            }
            let mut drain = Drain {
                place: &self.places[key.0],
                key: key.1,
                next_ring: &mut self.next_ring,
                tally: &mut self.tally,
                drained: &mut self.drained,
                totals,
                released: 0,
                writer,
            };
            fullest = fullest.max(drain.program(program)?);
            if let Some(until) = until {
                program.hold(until);
            }
        }
        for key in gone {
            self.leave(key, writer)?;
        }
        if totals {
            self.totalled = Some(Instant::now());
        }
        Ok(fullest)
    }

    fn scan(&mut self) {
        for (at, place) in self.places.iter().enumerate() {
            // A directory that is gone holds nothing new.
            for key in place.dir().processes().unwrap_or_default() {
                let known = (at, key);
                if self.programs.contains_key(&known)
                    || self.left.contains(&known)
                    || self.strangers.contains(&known)
                {
                    continue;
                }
                let all = self.session && at == 0;
                let followed = (!all).then_some(&self.followed);
                match Program::found(place, key, followed, self.look_at_frames) {
                    Found::Program(program) => {
                        self.programs.insert(known, *program);
                    }
                    Found::Stranger => {
                        self.strangers.insert(known);
                    }
                    Found::NotYet => {}
                }
            }
        }
    }

    /// Ends with a program that is gone: what it left is taken and its files go.
    fn leave(
        &mut self,
        key: (usize, ProcessKey),
        writer: &mut dyn RingSink,
    ) -> Result<(), WriteError> {
        let Some(mut program) = self.programs.remove(&key) else {
            return Ok(());
        };
        self.left.insert(key);
        let place = &self.places[key.0];
        // Asked before it is drained: what is there is all there will be.
        let has_left = program.control.has_left();
        let mut drain = Drain {
            place,
            key: key.1,
            next_ring: &mut self.next_ring,
            tally: &mut self.tally,
            drained: &mut self.drained,
            totals: true,
            released: 0,
            writer,
        };
        while drain.program(&mut program)? > 0.0 {}
        self.unreached += program.unreached();
        for &index in program.rings.keys() {
            place.remove(FileKind::Ring(key.1, index), has_left);
        }
        place.remove(FileKind::Queues(key.1), has_left);
        place.remove(FileKind::Control(key.1), has_left);
        Ok(())
    }

    /// Takes what is left, switches off, and leaves. Returns what was drained and how many rings were not reached.
    pub fn finish(mut self, writer: &mut dyn RingSink) -> Result<(ProbeTally, u64), WriteError> {
        self.scan();
        let keys: Vec<_> = self.programs.keys().copied().collect();
        for program in self.programs.values() {
            program.give_back();
        }
        for key in keys {
            let program = &self.programs[&key];
            if program.inside.is_gone(program.pid) {
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
                drained: &mut self.drained,
                totals: true,
                released: 0,
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
            program.give_back();
        }
    }
}

impl Program {
    /// The program of a control file, switched on if it is one to follow.
    fn found(
        place: &Place,
        key: ProcessKey,
        followed: Option<&HashSet<Pid>>,
        look_at_frames: u64,
    ) -> Found {
        let Ok(mut control) = place.dir().control(key) else {
            return Found::NotYet;
        };
        let facts = control.facts();
        let inside = Inside::of(&facts);
        let pid = inside.outside();
        let wanted = match followed {
            Some(followed) => pid.is_some_and(|p| followed.contains(&p)),
            None => true,
        };
        if !wanted {
            return Found::Stranger;
        }
        let pid = pid.unwrap_or(inside.pid);
        control.set_host_pid(pid);
        let old = match followed {
            Some(_) => control.rings().iter().map(|r| r.index).collect(),
            None => HashSet::new(),
        };
        let listening = clock::now();
        control.look_at_frames(look_at_frames);
        control.switch_on(Mode::Drain);
        Found::Program(Box::new(Program {
            control,
            inside,
            pid,
            listening,
            rings: HashMap::new(),
            old,
            queues: match followed {
                Some(_) => Queues::from_now(place.dir(), key),
                None => Queues::default(),
            },
            unreached: 0,
        }))
    }

    /// We look at its rings until then at least; if not, its own flight recorder takes them back.
    fn hold(&self, until: u64) {
        let until = match self.control.flight_bytes() {
            0 => 0,
            _ => until,
        };
        for ring in self.rings.values() {
            if let OpenRing::Good(file, _) = ring {
                file.lease(until);
            }
        }
    }

    /// Switches its points off, or leaves them to its own flight recorder.
    fn give_back(&self) {
        self.control.switch_off();
        if self.control.mode() == Mode::Flight {
            for ring in self.rings.values() {
                if let OpenRing::Good(file, _) = ring {
                    file.wish(Mode::Flight);
                }
            }
        }
    }

    fn unreached(&self) -> u64 {
        let bad = self.rings.values().filter(|r| matches!(r, OpenRing::Bad));
        self.unreached.max(self.control.unreached()) + bad.count() as u64
    }
}

/// One program's turn.
struct Drain<'a> {
    place: &'a Place,
    key: ProcessKey,
    next_ring: &'a mut u32,
    tally: &'a mut ProbeTally,
    drained: &'a mut Drained,
    totals: bool,
    /// Rings that were given back in this turn.
    released: usize,
    writer: &'a mut dyn RingSink,
}

/// Why a ring's turn ended early.
enum Stop {
    /// It is no ring.
    Ring,
    Write(WriteError),
}

impl From<ReadError> for Stop {
    fn from(_: ReadError) -> Stop {
        Stop::Ring
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Stop {
        Stop::Write(error)
    }
}

impl Drain<'_> {
    /// Returns how full the fullest ring was.
    fn program(&mut self, program: &mut Program) -> Result<f64, WriteError> {
        if self.totals {
            program.unreached = program.control.unreached();
            let dir = self.place.dir();
            let (pid, inside) = (program.pid, program.inside);
            let queues = &mut program.queues;
            queues.tell(dir, self.key, pid, &inside, self.writer)?;
            let (uncounted, refused) = queues.missed();
            self.tally.counts_queues |= queues.is_there();
            self.tally.bursts_uncounted = self.tally.bursts_uncounted.max(uncounted);
            self.tally.ports_refused = self.tally.ports_refused.max(refused);
        }
        let mut fullest = 0.0f64;
        self.released = 0;
        for place in program.control.rings() {
            let index = place.index;
            if !program.rings.contains_key(&index) {
                let opened = self.open(program, place);
                program.rings.insert(index, opened);
            }
            let Some(OpenRing::Good(mut file, mut tenant)) = program.rings.remove(&index) else {
                program.rings.insert(index, OpenRing::Bad);
                continue;
            };
            let outcome = self.ring(program, &mut file, &mut tenant);
            // One that could not be written on stays as it is: opened anew it would be another ring, counted twice.
            let after = match outcome {
                Err(Stop::Ring) => OpenRing::Bad,
                _ => OpenRing::Good(file, tenant),
            };
            program.rings.insert(index, after);
            match outcome {
                Ok(full) => fullest = fullest.max(full),
                Err(Stop::Ring) => {}
                Err(Stop::Write(e)) => return Err(e),
            }
        }
        // Threads that come and go need rings as much as events need room in them.
        Ok(fullest.max(self.released as f64 / SCARCE as f64))
    }

    fn open(&self, program: &Program, place: RingPlace) -> OpenRing {
        match self.place.dir().ring(&program.control, place) {
            Ok(file) if file.facts().pid != self.key.pid => OpenRing::Bad,
            Ok(mut file) => {
                if program.old.contains(&place.index) {
                    file.skip_backlog();
                }
                OpenRing::Good(Box::new(file), None)
            }
            Err(_) => OpenRing::Bad,
        }
    }

    fn ring(
        &mut self,
        program: &Program,
        file: &mut RingFile,
        tenant: &mut Option<Tenant>,
    ) -> Result<f64, Stop> {
        let mut full = 0.0f64;
        for _ in 0..MAX_PIECES {
            self.drained.clear();
            let taken = file.drain(self.drained)?;
            if file.owner().mode == Mode::Flight {
                // Its own flight recorder wrote there until now; within one turn of the ring it stops overwriting.
                file.wish(Mode::Drain);
                if let Some(tenant) = tenant {
                    tenant.overwritten += taken.skipped;
                }
            }
            if taken.slots > 0 {
                let tenant = self.tenant(program, file, taken.first, tenant)?;
                let first = taken.first.wrapping_sub(tenant.first_slot);
                let slots = self.drained.slots();
                self.tally.slots += taken.slots as u64;
                self.writer.slots(tenant.number, first, slots)?;
            } else if !taken.new_owner {
                break;
            }
            let part = taken.slots as f64 / file.capacity() as f64;
            full = full.max(if taken.more { 1.0 } else { part });
        }
        let finished = file.is_finished() && tenant.as_ref().is_none_or(|t| !t.released);
        if self.totals || finished {
            let tenant = self.tenant(program, file, file.position(), tenant)?;
            let mut totals = file.totals();
            totals.dropped_slots = totals.dropped_slots.saturating_add(tenant.overwritten);
            if tenant.told != totals {
                let dropped = totals.dropped_slots;
                self.tally.dropped += dropped.saturating_sub(tenant.told.dropped_slots);
                tenant.told = totals;
                self.writer.meta(&record(tenant.number, &totals))?;
            }
            if finished {
                file.release();
                tenant.released = true;
                self.released += 1;
            }
        }
        Ok(full)
    }

    /// The number in the recording of the thread that has the ring, whose slots are recorded from position `first` on.
    fn tenant<'t>(
        &mut self,
        program: &Program,
        file: &RingFile,
        first: u64,
        tenant: &'t mut Option<Tenant>,
    ) -> Result<&'t mut Tenant, WriteError> {
        let owner = file.owner();
        if tenant
            .as_ref()
            .is_none_or(|t| t.generation != owner.generation)
        {
            *tenant = None;
        }
        if let Some(tenant) = tenant {
            return Ok(tenant);
        }
        let number = *self.next_ring;
        *self.next_ring += 1;
        self.tally.rings += 1;
        let own = program.control.own_points();
        self.writer.meta(&Meta::Ring(Ring {
            ring: number,
            pid: program.pid,
            tid: program.inside.thread_outside(program.pid, owner.tid),
            name: owner.name.clone(),
            capacity: file.capacity(),
            flight: false,
            // What is in a ring now was written a moment ago, whenever the ring was made.
            base_tsc: clock::counter(),
            first_slot: first.wrapping_sub(owner.first_slot),
            listening: program.listening,
            points: look::own_points(own),
        }))?;
        Ok(tenant.insert(Tenant {
            number,
            generation: owner.generation,
            first_slot: owner.first_slot,
            told: Totals::default(),
            overwritten: 0,
            released: false,
        }))
    }
}

/// The counter when a lease given now ends, by what both clocks did since another moment; 0 if that is too little.
fn lease(since: &ClockPair, now: &ClockPair) -> u64 {
    let ns = now.time.since(since.time).ns();
    let ticks = now.tsc_after.saturating_sub(since.tsc_after);
    if ns < 1_000_000 {
        return 0;
    }
    let length = u128::from(ticks) * u128::from(LEASE) / u128::from(ns);
    now.tsc_after
        .saturating_add(u64::try_from(length).unwrap_or(u64::MAX))
}

fn record(ring: u32, totals: &Totals) -> Meta {
    Meta::RingTotals(RingTotals {
        ring,
        time: clock::now(),
        events: totals.events,
        dropped_slots: totals.dropped_slots,
        rx_bursts: totals.rx_bursts,
        rx_packets: totals.rx_packets,
        rx_bytes: totals.rx_bytes,
        tx_bursts: totals.tx_bursts,
        tx_packets: totals.tx_packets,
        tx_bytes: totals.tx_bytes,
        rounds: totals.rounds,
        empty_rounds: totals.empty_rounds,
        requests: totals.requests,
    })
}
