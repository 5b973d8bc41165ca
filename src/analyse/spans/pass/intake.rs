//! From the slots of all rings, block by block, to events in the order of time.
//!
//! In: blocks as they lie in the file, and where threads ran; out: the events that requests' ways are told by, whoever's
//! they are. Losses become events too. It refuses to know flows and requests.

use crate::analyse::packs::Rules;
use crate::analyse::spans::order::{Inlet, Order, Stamped};
use crate::trace::record::{OwnPoint, Pid, Ring, Tid};
use crate::units::{ClockMap, Nanos};
use bypassprof_wire::{Decoder, Event, Point, Slot, Tsc, points};
use std::collections::{BTreeMap, HashMap};

/// A thread was seen on a CPU. No event has this number.
pub const PLACE: Point = points::EPOCH;

/// Slots of one ring on their way to events.
struct Source {
    decoder: Decoder,
    next_slot: u64,
    /// What its program's own points mean.
    own: HashMap<u16, Point>,
    /// Newest stamp that its slots told.
    told: u64,
    /// Slots that are missing in the file.
    missing: u64,
    /// Slots that its writer dropped, by the writer's own count.
    dropped: u64,
}

/// What was read of all rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    /// Rings with events.
    pub rings: usize,
    /// Events.
    pub events: u64,
    /// Slots that were lost.
    pub dropped: u64,
    /// Events that came too late to be put in their place.
    pub late: u64,
}

/// Puts events in order.
pub struct Intake {
    clock: Option<ClockMap>,
    sources: Vec<Source>,
    /// Where in `sources` a ring of the file is. Events name rings by this place.
    places: BTreeMap<u32, u32>,
    /// Places of a thread's rings; only kept if it is asked where threads ran.
    rings_of: Option<HashMap<(Pid, Tid), Vec<u32>>>,
    order: Order,
}

impl Intake {
    /// For rings that are each in order but for `slack` and in the file within `window` of each other, in ticks.
    /// `places`: it is told where threads ran.
    pub fn new(clock: Option<ClockMap>, slack: u64, window: u64, places: bool) -> Intake {
        Intake {
            clock,
            sources: Vec::new(),
            places: BTreeMap::new(),
            rings_of: places.then(HashMap::new),
            order: Order::new(slack, window),
        }
    }

    /// Makes a ring known, of which its writer dropped so many slots; gives its place.
    pub fn add_ring(&mut self, ring: &Ring, rules: &Rules, dropped: u64) -> u32 {
        let meaning = |p: &OwnPoint| Some((p.id, rules.meaning(&p.name)?));
        let source = Source {
            decoder: Decoder::new((ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc))),
            next_slot: ring.first_slot,
            own: ring.points.iter().filter_map(meaning).collect(),
            told: 0,
            missing: 0,
            dropped,
        };
        let next = self.sources.len() as u32;
        let place = *self.places.entry(ring.ring).or_insert(next);
        match self.sources.get_mut(place as usize) {
            Some(told_again) => *told_again = source,
            None => self.sources.push(source),
        }
        self.order.ring(place);
        if let Some(rings_of) = &mut self.rings_of {
            let rings = rings_of.entry((ring.pid, ring.tid));
            rings.or_default().push(place);
        }
        place
    }

    /// A block of a ring's slots, the first of which has position `first`, in the order of the file.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        if let Some(&place) = self.places.get(&ring) {
            let source = &mut self.sources[place as usize];
            source.block(first, slots, &mut self.order.inlet(place));
        }
    }

    /// A thread was seen on a CPU.
    pub fn place(&mut self, time: Nanos, thread: (Pid, Tid), cpu: u32) {
        let (Some(clock), Some(rings_of)) = (&self.clock, &self.rings_of) else {
            return;
        };
        for &ring in rings_of.get(&thread).into_iter().flatten() {
            // Each CPU's records lie in order; they are waited for like a ring's.
            let mut inlet = self.order.inlet(u32::MAX - cpu);
            inlet.push(clock.tsc(time).raw(), PLACE, cpu, [ring, 0]);
        }
    }

    /// Gives out what nothing older can follow any more.
    pub fn settle(&mut self, out: &mut Vec<Stamped>) {
        self.order.settle(out);
    }

    /// No more slots come: what each ring's last one began is whole, and all is given out.
    pub fn finish(&mut self, out: &mut Vec<Stamped>) {
        for (place, source) in (0u32..).zip(&mut self.sources) {
            source.flush(&mut self.order.inlet(place));
        }
        self.order.finish(out);
    }

    /// Waits for everything that may come, as long as there is room.
    pub fn wait_for_all(&mut self) {
        self.order.wait_for_all();
    }

    /// Events that wait to be put in order.
    pub fn waiting(&self) -> usize {
        self.order.waiting()
    }

    /// What was read until now.
    pub fn read(&self) -> Read {
        let mut read = Read {
            late: self.order.late(),
            ..Read::default()
        };
        for source in &self.sources {
            let counts = source.decoder.counts();
            read.rings += usize::from(counts.events > 0);
            read.events += counts.events;
            // The writer's own count and what is missing in the file overlap: the larger one is the loss.
            let seen = counts.lost_slots.saturating_add(source.missing);
            read.dropped = read.dropped.saturating_add(seen.max(source.dropped));
        }
        read
    }
}

impl Source {
    /// A block of its slots, the first of which has position `first`: what spans need of it goes into `inlet`.
    fn block(&mut self, first: u64, slots: &[Slot], inlet: &mut Inlet<'_>) {
        let mut gap = first > self.next_slot;
        if gap {
            self.missing = self.missing.saturating_add(first - self.next_slot);
            self.decoder.gap();
        }
        self.next_slot = first.saturating_add(slots.len() as u64);
        let Source {
            decoder, own, told, ..
        } = self;
        decoder.block(slots, &mut |event| {
            if std::mem::take(&mut gap) {
                lost(event, *told, inlet);
            }
            take(own, told, event, inlet);
        });
    }

    /// No more slots come: what the last one began is whole.
    fn flush(&mut self, inlet: &mut Inlet<'_>) {
        let Source {
            decoder, own, told, ..
        } = self;
        decoder.flush(&mut |event| take(own, told, &event, inlet));
    }
}

fn take(own: &HashMap<u16, Point>, told: &mut u64, event: &Event, inlet: &mut Inlet<'_>) {
    match meaning(own, event.point) {
        points::LOST => lost(event, *told, inlet),
        point if is_needed(point, event) => {
            let (flow, args) = needed(point, event);
            inlet.push(event.tsc.raw(), point, flow, args);
        }
        _ => inlet.heard(event.tsc.raw()),
    }
    *told = event.tsc.raw().max(*told);
}

/// Whether a request's way is told by it.
fn is_needed(point: Point, event: &Event) -> bool {
    match point {
        // Pure ACKs, and nothing.
        points::TCP_IN => event.args[1] & 0xff_ffff > 0,
        points::DELIVER => event.args[0] > 0,
        points::RX_BURST
        | points::TX_BURST
        | points::WAKE
        | points::HANDOFF
        | points::APP_START
        | points::APP_END
        | points::TCP_OUT
        | points::SLOW_PATH
        | points::STALL => true,
        _ => false,
    }
}

/// What of an event tells a request's way: two arguments, and the field of the flow.
fn needed(point: Point, event: &Event) -> (u32, [u32; 2]) {
    let (flow, [a, b, c, ..]) = (event.flow.raw(), event.args);
    match point {
        points::TX_BURST => (flow & 0xff_ffff | c.min(0xff) << 24, [a, b]),
        points::HANDOFF => (flow, [c, 0]),
        _ => (flow, [a, b]),
    }
}

/// What made a transmit burst leave: where the event has its queue, see [`needed`].
pub fn trigger_of(burst: &Stamped) -> usize {
    (burst.flow >> 24) as usize
}

/// How many ticks a hand-over took.
pub fn age_of(handoff: &Stamped) -> u64 {
    u64::from(handoff.args[0])
}

/// A loss that ended with an event, and after which stamp it began: both halves of that.
fn lost(event: &Event, since: u64, inlet: &mut Inlet<'_>) {
    let args = [since as u32, (since >> 32) as u32];
    inlet.push(event.tsc.raw(), points::LOST, event.flow.raw(), args);
}

/// After which stamp a loss began.
pub fn since_of(lost: &Stamped) -> u64 {
    u64::from(lost.args[1]) << 32 | u64::from(lost.args[0])
}

/// What a point means: a program's own one what packs say, all others themselves.
fn meaning(own: &HashMap<u16, Point>, point: Point) -> Point {
    if point.id() < points::FIRST_OWN {
        return point;
    }
    own.get(&point.id()).copied().unwrap_or(point)
}
