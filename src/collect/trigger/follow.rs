//! Follows the rings of a running process with its flight recorder on: what is new since the last look.
//!
//! In: rings; out: the slowest request over a limit, drops, and how far each thread is. A request is on its way from the
//! first segment with payload, or the application's start, to the application's end, on whatever threads. It trusts
//! nothing that it reads, and its memory is bounded.

use crate::collect::clock;
use crate::collect::snapshot::Live;
use crate::trace::record::Tid;
use bypassprof_ring::reader::{Drained, RingLook};
use bypassprof_wire::{Decoder, Event, Point, Tsc, points};
use std::collections::HashMap;
use std::time::Duration;

/// Slots copied in one piece.
const PIECE: usize = 1 << 14;
/// Of what lies in a ring when it is first seen, only so much is looked at.
const FIRST_LOOK: u64 = 64;
/// Requests followed at a time; others are not timed.
const MOST_REQUESTS: usize = 1 << 16;

/// What happened since the last look.
#[derive(Debug, Default)]
pub struct Seen {
    /// A request that took or has been waiting too long.
    pub slow: Option<String>,
    /// A drop that the program told of.
    pub drop: Option<String>,
}

/// A thread at a look.
#[derive(Debug)]
pub struct Thread {
    /// Ring and owner.
    pub key: (u32, u64),
    /// Its number as it calls itself.
    pub tid: Tid,
    /// Its name.
    pub name: String,
    /// Grows whenever it does anything.
    pub steps: u64,
    /// Whether it polls in rounds.
    pub polls: bool,
    /// Whether it said that it sleeps.
    pub sleeps: bool,
    /// Whether it is gone.
    pub ended: bool,
}

struct Followed {
    look: RingLook,
    decoder: Decoder,
    last: Option<Point>,
}

/// The rings of a process, followed.
pub struct Follow {
    limit: Option<Duration>,
    rings: HashMap<u32, Followed>,
    /// When the request of a flow came in.
    requests: HashMap<u32, u64>,
    /// Whether the program tells of its application at all.
    has_application: bool,
    events: Vec<Event>,
    drained: Drained,
    missed: u64,
    first: crate::units::ClockPair,
}

impl Follow {
    /// Follows from the next look on; requests over `limit` are told.
    pub fn new(limit: Option<Duration>) -> Follow {
        Follow {
            limit,
            rings: HashMap::new(),
            requests: HashMap::new(),
            has_application: false,
            events: Vec::new(),
            drained: Drained::with_capacity(PIECE),
            missed: 0,
            first: clock::pair(),
        }
    }

    /// Takes what is new.
    pub fn look(&mut self, live: &Live) -> Seen {
        self.rings.retain(|_, ring| ring.look.look_again().is_ok());
        if live.control().rings().len() != self.rings.len() {
            for (index, mut look) in live.rings() {
                self.rings.entry(index).or_insert_with(|| {
                    look.skip_to_newest(FIRST_LOOK);
                    Followed {
                        decoder: Decoder::new(Some(Tsc::from_raw(look.base_tsc()))),
                        look,
                        last: None,
                    }
                });
            }
        }
        self.events.clear();
        for ring in self.rings.values_mut() {
            while let Ok(taken) = ring.look.take(&mut self.drained) {
                self.missed += taken.skipped;
                if taken.skipped > 0 {
                    ring.decoder.gap();
                }
                let mut give = |event: Event| {
                    ring.last = Some(event.point);
                    self.events.push(event);
                };
                for &slot in self.drained.slots() {
                    ring.decoder.push(slot, &mut give);
                }
                self.drained.clear();
                if !taken.more {
                    // Events are published whole: to the last one there is nothing to come.
                    ring.decoder.flush(&mut give);
                    break;
                }
            }
        }
        self.events.sort_by_key(|event| event.tsc);
        self.judge()
    }

    fn judge(&mut self) -> Seen {
        let mut seen = Seen::default();
        let mut slowest = 0;
        let now = clock::counter();
        for event in std::mem::take(&mut self.events).drain(..) {
            let (flow, at) = (event.flow.raw(), event.tsc.raw());
            match event.point {
                points::TCP_IN if event.args[1] & 0x00ff_ffff == 0 => {}
                points::TCP_IN | points::APP_START if self.requests.len() < MOST_REQUESTS => {
                    self.requests.entry(flow).or_insert(at);
                }
                points::APP_END => {
                    self.has_application = true;
                    if let Some(since) = self.requests.remove(&flow) {
                        slowest = slowest.max(at.saturating_sub(since));
                    }
                }
                points::DROP => seen.drop = Some(told("dropped something", &event)),
                points::FULL if event.args[1] == 0 => {
                    seen.drop = Some(told("dropped something, since a queue was full", &event));
                }
                _ => {}
            }
        }
        let ticks = self.ticks();
        if let Some(limit) = ticks {
            if slowest > limit {
                seen.slow = Some(format!("a request took {} us", self.micros(slowest)));
            }
            // What never ends has no end to be told at.
            let late = self
                .requests
                .iter()
                .find(|(_, since)| self.has_application && now.saturating_sub(**since) > limit);
            if let Some((&flow, &since)) = late {
                let waits = self.micros(now.saturating_sub(since));
                seen.slow = Some(format!(
                    "a request of flow {flow:08x} has been on its way for {waits} us"
                ));
                self.requests.remove(&flow);
            }
        }
        seen
    }

    /// The limit in ticks of the counter, whose speed is known better with every look.
    fn ticks(&self) -> Option<u64> {
        let (ns, ticks) = self.passed();
        Some((self.limit?.as_nanos() as f64 * ticks / ns) as u64)
    }

    fn micros(&self, ticks: u64) -> u64 {
        let (ns, passed) = self.passed();
        (ticks as f64 * ns / passed / 1000.0) as u64
    }

    /// Nanoseconds and ticks since this was made, neither of them 0.
    fn passed(&self) -> (f64, f64) {
        let now = clock::pair();
        let ns = now.time.since(self.first.time).ns();
        let ticks = now.tsc().saturating_sub(self.first.tsc());
        (ns.max(1) as f64, ticks.max(1) as f64)
    }

    /// How far each thread was at the last look.
    pub fn threads(&self) -> impl Iterator<Item = Thread> {
        self.rings.iter().map(|(&index, ring)| {
            let (owner, totals) = (ring.look.owner(), ring.look.totals());
            Thread {
                key: (index, owner.generation),
                tid: owner.tid,
                name: owner.name.clone(),
                steps: ring.look.positions().end.wrapping_add(totals.rounds),
                polls: totals.rounds > 0,
                sleeps: ring.last == Some(points::SLEEP),
                ended: owner.ended,
            }
        })
    }

    /// Requests on their way, of a program that tells when they end.
    pub fn requests(&self) -> usize {
        if self.has_application {
            self.requests.len()
        } else {
            0
        }
    }

    /// Slots that programs dropped so far.
    pub fn dropped_slots(&self) -> u64 {
        let dropped = self.rings.values().map(|r| r.look.totals().dropped_slots);
        dropped.fold(0, u64::saturating_add)
    }

    /// Slots that were overwritten before they could be looked at.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

fn told(what: &str, event: &Event) -> String {
    format!("the program {what} (flow {:08x})", event.flow.raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bypassprof_wire::{Flow, Slot};
    use std::thread::sleep;

    /// A request of flow 7 that takes so many times the limit, and a segment of flow 8 without payload.
    fn told(times: f64) -> (Seen, usize) {
        let mut follow = Follow::new(Some(Duration::from_secs(1)));
        // Until the counter's speed is known.
        sleep(Duration::from_millis(2));
        let (start, limit) = (1 << 20, follow.ticks().unwrap() as f64);
        let head = |at, point, flow| Slot::head(Tsc::from_raw(at), point, Flow::from_raw(flow), 0);
        let slots = [
            head(start, points::TCP_IN, 8),
            Slot::cont(0, 0, 0),
            head(start, points::TCP_IN, 7),
            Slot::cont(100, 0, 0),
            head(start + (limit * times) as u64, points::APP_END, 7),
        ];
        let mut decoder = Decoder::new(Some(Tsc::from_raw(start)));
        let mut events = Vec::new();
        for slot in slots {
            decoder.push(slot, &mut |event| events.push(event));
        }
        decoder.flush(&mut |event| events.push(event));
        follow.events = events;
        let seen = follow.judge();
        (seen, follow.requests())
    }

    /// A request over the limit is told, one below is not; a segment with nothing but an ACK is no request.
    #[test]
    fn over_the_limit() {
        let (over, below) = (told(2.0), told(0.5));
        assert!(over.0.slow.is_some_and(|slow| slow.contains("took")));
        assert!(below.0.slow.is_none());
        assert_eq!((over.1, below.1), (0, 0));
    }
}
