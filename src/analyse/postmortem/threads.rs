//! Each thread's end: its last events, what it was doing by them, and its last stack.
//!
//! In: slots of its ring, stacks from a core, samples; out: [`ThreadEnd`]. What it was doing is the stage of its last
//! event: from there to its end nothing was told.

use super::say::{has_flow, phrase};
use super::{Ago, Line};
use crate::resolve::{AddressKind, Names, Place};
use crate::trace::record::{self, LastStack, Sample, StackEnd};
use crate::units::Nanos;
use bypassprof_wire::{Decoder, Event, Point, Slot, Tsc, points};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A function of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameName {
    /// Its name; empty if it has none.
    pub name: String,
    /// Module, or module and position where there is no name.
    pub module: String,
    /// Source file; empty if not known.
    pub file: String,
    /// Line; 0 if not known.
    pub line: u32,
    /// It was inlined into the next one.
    pub inlined: bool,
    /// Why there is no name.
    pub why: Option<String>,
}

impl FrameName {
    /// Whether it is part of how a program ends itself, not of why.
    pub fn is_way_of_dying(&self) -> bool {
        const BEGINNINGS: &[&str] = &[
            "abort",
            "raise",
            "gsignal",
            "__pthread_kill",
            "pthread_kill",
            "__libc_message",
            "__assert_fail",
            "std::process::abort",
            "core::panicking::",
            "std::panicking::",
            "__rustc::",
            "rust_begin_unwind",
            "std::sys::backtrace::",
            "__GI_raise",
            "__GI_abort",
            "tgkill",
        ];
        BEGINNINGS.iter().any(|b| self.name.starts_with(b))
    }
}

/// A thread's last stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Innermost first.
    pub frames: Vec<FrameName>,
    /// Whether it is whole.
    pub whole: bool,
    /// It was sampled so long before the newest event; `None`: it is of the end itself.
    pub sampled: Option<Option<Nanos>>,
}

/// A burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// How long before the newest event.
    pub before_end: Nanos,
    /// Frames.
    pub frames: u32,
    /// Queue.
    pub queue: u32,
}

/// What a thread was doing by its last event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// In words.
    pub text: String,
    /// The stage of a request's way.
    pub stage: Option<&'static str>,
    /// The flow of its last event that is of one, if it is part of the same.
    pub flow: Option<u32>,
}

/// A thread's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadEnd {
    /// Its process.
    pub pid: u32,
    /// Its number.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// What it was doing.
    pub doing: Doing,
    /// How long before the newest event of all its own newest was; `None` without events.
    pub quiet_for: Option<Nanos>,
    /// Slots of its ring that are known to be gone.
    pub lost: u64,
    /// Its last events, oldest first.
    pub events: Vec<Line>,
    /// Its last receive burst and its last transmit burst.
    pub bursts: [Option<Burst>; 2],
    /// Packets it dropped in the events that are left, and times that a queue was full.
    pub drops: u64,
    /// Times that a queue was full.
    pub full: u64,
    /// Depth of the queue to the application, and of those between threads, when it was told last.
    pub depths: [Option<u32>; 2],
    /// Its last stack.
    pub stack: Option<Stack>,
}

/// A ring while its slots go by.
pub struct Ring {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    pub dropped: u64,
    own: HashMap<u16, String>,
    decoder: Decoder,
    next: u64,
    gone: u64,
    last: usize,
    kept: VecDeque<Event>,
    doing: Option<Event>,
    flow: Option<u32>,
    bursts: [Option<Event>; 2],
    drops: u64,
    full: u64,
    depths: [Option<u32>; 2],
}

impl Ring {
    pub fn new(ring: &record::Ring, last: usize) -> Ring {
        let base = (ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc));
        Ring {
            pid: ring.pid,
            tid: ring.tid,
            name: ring.name.clone(),
            dropped: 0,
            own: ring.points.iter().map(|p| (p.id, p.name.clone())).collect(),
            decoder: Decoder::new(base),
            next: ring.first_slot,
            gone: 0,
            last,
            kept: VecDeque::new(),
            doing: None,
            flow: None,
            bursts: [None, None],
            drops: 0,
            full: 0,
            depths: [None, None],
        }
    }

    pub fn slots(&mut self, first: u64, slots: &[Slot]) {
        if first > self.next {
            self.gone = self.gone.saturating_add(first - self.next);
            self.decoder.gap();
        }
        self.next = first.saturating_add(slots.len() as u64);
        let mut decoder = std::mem::take(&mut self.decoder);
        for &slot in slots {
            decoder.push(slot, &mut |event| self.event(event));
        }
        self.decoder = decoder;
    }

    /// All slots have been seen.
    pub fn settle(&mut self) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.flush(&mut |event| self.event(event));
        self.decoder = decoder;
    }

    pub fn events(&self) -> u64 {
        self.decoder.counts().events
    }

    pub fn newest(&self) -> Option<u64> {
        self.kept.iter().map(|e| e.tsc.raw()).max()
    }

    fn event(&mut self, event: Event) {
        let [_, b, ..] = event.args;
        match event.point {
            points::RX_BURST => self.bursts[0] = Some(event),
            points::TX_BURST => self.bursts[1] = Some(event),
            points::DROP => self.drops += 1,
            points::FULL => self.full += 1,
            points::DELIVER => self.depths[0] = Some(b),
            points::HANDOFF => self.depths[1] = Some(b),
            _ => {}
        }
        if has_flow(event.point) && event.flow.raw() != 0 {
            self.flow = Some(event.flow.raw());
        } else if ends_flow(event.point) {
            self.flow = None;
        }
        // A sampled round is told at its end and says nothing of what comes next.
        if !matches!(event.point, points::LOOP | points::SIDE_POLL) {
            self.doing = Some(event);
        }
        if self.kept.len() == self.last.max(1) {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }

    fn name_of(&self, point: Point) -> String {
        match (point, point.info()) {
            (points::LOST, _) => "lost".to_owned(),
            (_, Some(info)) => info.name.to_owned(),
            (_, None) => {
                let own = self.own.get(&point.id()).cloned();
                own.unwrap_or_else(|| format!("point {}", point.id()))
            }
        }
    }

    fn doing(&self) -> Doing {
        let Some(event) = &self.doing else {
            return Doing {
                text: "no event of it is left".to_owned(),
                ..Doing::default()
            };
        };
        let (stage, text) = stage(event.point);
        let name = self.name_of(event.point);
        Doing {
            text: match text {
                Some(text) => text.to_owned(),
                None => format!("its last event was {name}"),
            },
            stage,
            flow: self.flow,
        }
    }

    fn end(&self, ago: &Ago) -> ThreadEnd {
        let burst = |event: &Option<Event>, shift: u32| {
            let event = event.as_ref()?;
            let packed = event.flow.raw();
            Some(Burst {
                before_end: ago.of(event.tsc.raw()),
                frames: (packed >> shift) & 0xfff,
                queue: packed >> 24,
            })
        };
        let line = |event: &Event| Line {
            before_end: ago.of(event.tsc.raw()),
            name: self.name_of(event.point),
            flow: (has_flow(event.point) && event.flow.raw() != 0).then(|| event.flow.raw()),
            what: phrase(event),
        };
        let counts = self.decoder.counts();
        ThreadEnd {
            pid: self.pid,
            tid: self.tid,
            name: self.name.clone(),
            doing: self.doing(),
            quiet_for: self.newest().map(|t| ago.of(t)),
            lost: self
                .dropped
                .max(counts.lost_slots.saturating_add(self.gone))
                .saturating_add(counts.invalid_slots),
            events: self.kept.iter().map(line).collect(),
            bursts: [burst(&self.bursts[0], 0), burst(&self.bursts[1], 12)],
            drops: self.drops,
            full: self.full,
            depths: self.depths,
            stack: None,
        }
    }
}

/// After these a thread is busy with no flow until an event says so.
fn ends_flow(point: Point) -> bool {
    matches!(
        point,
        points::IDLE_BEGIN
            | points::IDLE_END
            | points::RX_BURST
            | points::TX_BURST
            | points::SLEEP
            | points::WAKE
    )
}

/// The stage that begins with an event, and what to say where a stage's name would mislead.
fn stage(point: Point) -> (Option<&'static str>, Option<&'static str>) {
    match point {
        points::RX_BURST => (
            Some("receive"),
            Some("handling a receive burst: driver, Ethernet, IP"),
        ),
        points::HANDOFF => (
            Some("wait_handoff"),
            Some("handling what another thread handed over"),
        ),
        points::TCP_IN => (Some("tcp_in"), Some("in TCP, with a segment that came in")),
        points::DELIVER => (
            Some("tcp_in"),
            Some("had made data ready for the application"),
        ),
        points::APP_START | points::SEND_CALL => {
            (Some("app"), Some("in the application, with a request"))
        }
        points::APP_END => (Some("wait_send"), Some("had handled a request")),
        points::TCP_OUT => (Some("wait_drain"), Some("had put a segment out")),
        points::TX_BURST => (
            Some("transmit"),
            Some("handing frames to the device, or behind that"),
        ),
        points::IDLE_BEGIN => (None, Some("polling without finding anything to do")),
        points::IDLE_END => (None, Some("at the beginning of a round with work")),
        points::SLEEP => (None, Some("asleep")),
        points::WAKE => (None, Some("just awake")),
        _ => (None, None),
    }
}

/// Every thread that left an event or a stack.
pub fn all(
    rings: &BTreeMap<u32, Ring>,
    stacks: &[LastStack],
    sampled: &BTreeMap<u32, Sample>,
    names: &mut Names,
    (ago, at): (&Ago, Option<Nanos>),
) -> Vec<ThreadEnd> {
    let mut threads: BTreeMap<u32, ThreadEnd> = BTreeMap::new();
    for ring in rings.values() {
        // Of several rings of one thread the newest tells what it did last.
        let end = ring.end(ago);
        match threads.get_mut(&end.tid) {
            Some(there) if there.quiet_for <= end.quiet_for => there.lost += end.lost,
            Some(there) => {
                let lost = there.lost;
                *there = end;
                there.lost += lost;
            }
            None => drop(threads.insert(end.tid, end)),
        }
    }
    let no_ring = |pid: u32, tid: u32| ThreadEnd {
        pid,
        tid,
        doing: Doing {
            text: "it has no probes, or its ring is not there".to_owned(),
            ..Doing::default()
        },
        ..ThreadEnd::default()
    };
    for sample in sampled.values() {
        let thread = threads.entry(sample.tid);
        let thread = thread.or_insert_with(|| no_ring(sample.pid, sample.tid));
        let kernel = usize::from(sample.kernel_frames).min(sample.frames.len());
        let frame = |(at, &address): (usize, &u64)| {
            let kind = AddressKind::of_frame(at, kernel);
            frame_names(&names.look_up(sample.pid, sample.time, address, kind, at < kernel))
        };
        thread.stack = Some(Stack {
            frames: sample.frames.iter().enumerate().flat_map(frame).collect(),
            whole: sample.stack == StackEnd::Whole,
            sampled: Some(ago.of_time(sample.time)),
        });
    }
    for stack in stacks {
        let thread = threads.entry(stack.tid);
        let thread = thread.or_insert_with(|| no_ring(stack.pid, stack.tid));
        let time = at.unwrap_or_default();
        let frame = |(at, &address): (usize, &u64)| {
            let kind = AddressKind::of_frame(at, 0);
            frame_names(&names.look_up(stack.pid, time, address, kind, false))
        };
        thread.stack = Some(Stack {
            frames: stack.frames.iter().enumerate().flat_map(frame).collect(),
            whole: stack.end == StackEnd::Whole,
            sampled: None,
        });
    }
    threads.into_values().collect()
}

/// The functions at a place, inlined ones first.
fn frame_names(place: &Place) -> Vec<FrameName> {
    if place.names.frames.is_empty() || place.is_made() {
        return vec![FrameName {
            module: place.anonymous(),
            why: place.names.why.clone(),
            ..FrameName::default()
        }];
    }
    let holder = place.names.frames.len() - 1;
    let frame = |(at, frame): (usize, &record::NamedFrame)| FrameName {
        inlined: at < holder,
        name: frame.name.clone(),
        module: place.module.to_string(),
        file: frame.file.clone(),
        line: frame.line,
        why: None,
    };
    place.names.frames.iter().enumerate().map(frame).collect()
}
