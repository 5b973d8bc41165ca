//! What a recording's threads told, as events in order.
//!
//! In: a recording of a short run, read with `bypassprof`'s own reader; out: all events of each thread, and what a tick is.
//! It holds them all in memory, so it is for runs of seconds.

use crate::Failure;
use bypassprof::trace::{Reader, Record};
use bypassprof::units::ClockMap;
use bypassprof_wire::{Cycles, Decoder, Event, Point, Tsc, points};
use std::collections::BTreeMap;
use std::path::Path;

/// One thread's events.
#[derive(Debug, Default)]
pub struct Told {
    /// The thread's name.
    pub thread: String,
    /// Its events, oldest first.
    pub events: Vec<Event>,
    /// Numbers of the program's own points, by name.
    pub own: BTreeMap<String, Point>,
}

/// A recording.
#[derive(Debug)]
pub struct Events {
    /// Threads that told something.
    pub threads: Vec<Told>,
    /// Slots that are missing.
    pub lost: u64,
    clock: ClockMap,
}

impl Told {
    /// Its events at a point.
    pub fn at(&self, point: Point) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |e| e.point == point)
    }

    /// How many of them.
    pub fn count(&self, point: Point) -> u64 {
        self.at(point).count() as u64
    }

    /// Segments of a kind that left (`tcp_out`'s kinds).
    pub fn segments(&self, kind: u32) -> u64 {
        let of_kind = |e: &&Event| e.args[1] >> 24 == kind;
        self.at(points::TCP_OUT).filter(of_kind).count() as u64
    }

    /// Events at a point of the program's own.
    pub fn own<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Event> {
        let point = self.own.get(name).copied();
        self.events.iter().filter(move |e| Some(e.point) == point)
    }

    /// From its first request's start to its last one's, in ticks; `None` before the second request.
    pub fn served(&self) -> Option<(u64, u64)> {
        let mut starts = self.at(points::APP_START).map(|e| e.tsc.raw());
        let first = starts.next()?;
        Some((first, starts.last()?))
    }

    /// Ticks of work for a request in the quicker moments (25 %) of a run: whoever shares a CPU is sent off it now and then,
    /// which makes the mean say more about its neighbours.
    pub fn quick_work(&self) -> u64 {
        const MOMENTS: u64 = 200;
        let Some((from, to)) = self.served() else {
            return 0;
        };
        let starts: Vec<u64> = self.at(points::APP_START).map(|e| e.tsc.raw()).collect();
        let at = |moment: u64| from + (to - from) / MOMENTS * moment;
        let work = (0..MOMENTS).filter_map(|moment| {
            let (begin, end) = (at(moment), at(moment + 1));
            let requests = starts
                .iter()
                .filter(|&&tsc| (begin..end).contains(&tsc))
                .count() as u64;
            self.busy((begin, end)).checked_div(requests)
        });
        quantile(work, 0.25)
    }

    /// Ticks between two moments in which it neither polled in vain nor slept.
    pub fn busy(&self, (from, to): (u64, u64)) -> u64 {
        let (mut polling, mut asleep) = (false, false);
        let (mut busy, mut last) = (0, from);
        for event in &self.events {
            let tsc = event.tsc.raw().clamp(last, to.max(last));
            if !polling && !asleep {
                busy += tsc - last;
            }
            last = tsc;
            match event.point {
                points::IDLE_BEGIN => polling = true,
                points::IDLE_END => polling = false,
                points::SLEEP => asleep = true,
                points::WAKE => asleep = false,
                _ => {}
            }
        }
        match polling || asleep {
            true => busy,
            false => busy + to.saturating_sub(last),
        }
    }
}

impl Events {
    /// Reads a recording.
    pub fn read(path: &Path) -> Result<Events, Failure> {
        let wrong = |why: String| Failure::Wrong(format!("{}: {why}", path.display()));
        let reader = Reader::open(path).map_err(|e| wrong(e.to_string()))?;
        let meta = reader.meta();
        let clock = ClockMap::fit(&meta.clocks)
            .ok_or_else(|| wrong("counter and clock cannot be compared".to_string()))?;
        let mut rings = BTreeMap::new();
        for ring in meta.rings.values() {
            let own = ring.points.iter();
            let told = Told {
                thread: ring.name.clone(),
                events: Vec::new(),
                own: own
                    .map(|p| (p.name.clone(), Point::from_id(p.id)))
                    .collect(),
            };
            let decoder = Decoder::new(Some(Tsc::from_raw(ring.base_tsc)));
            rings.insert(ring.ring, (decoder, told));
        }
        for record in reader.records() {
            let record = record.map_err(|e| wrong(e.to_string()))?;
            if let Record::Slots(ring, block) = record
                && let Some((decoder, told)) = rings.get_mut(&ring)
            {
                for slot in block.slots {
                    decoder.push(slot, &mut |event| told.events.push(event));
                }
            }
        }
        let mut lost = meta.slots_dropped();
        let threads = rings.into_values().map(|(mut decoder, mut told)| {
            decoder.flush(&mut |event| told.events.push(event));
            lost = lost.max(decoder.counts().lost_slots);
            told
        });
        let threads = threads.filter(|told| !told.events.is_empty()).collect();
        Ok(Events {
            threads,
            lost,
            clock,
        })
    }

    /// The thread of this name.
    pub fn thread(&self, name: &str) -> Result<&Told, Failure> {
        let found = self.threads.iter().find(|told| told.thread == name);
        found.ok_or_else(|| Failure::Wrong(format!("no thread {name} told anything")))
    }

    /// Ticks in microseconds.
    pub fn us(&self, ticks: u64) -> f64 {
        // A million ticks at once, so that the clock's whole nanoseconds do not round short times away.
        let million = self.clock.length(Cycles::from_ticks(1_000_000)).ns();
        ticks as f64 * million as f64 / 1e9
    }
}

/// The value below which this share of some ticks lies; 0 of none.
pub fn quantile(ticks: impl IntoIterator<Item = u64>, share: f64) -> u64 {
    let mut sorted: Vec<u64> = ticks.into_iter().collect();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
impl Told {
    /// A thread that told these: when, where, the first arguments.
    pub fn of(events: &[(u64, Point, [u32; 4])]) -> Told {
        let event = |&(tsc, point, first): &(u64, Point, [u32; 4])| {
            let mut args = [0; 10];
            args[..4].copy_from_slice(&first);
            Event {
                tsc: Tsc::from_raw(tsc),
                point,
                flow: bypassprof_wire::Flow::NONE,
                args,
                arg_count: 4,
            }
        };
        Told {
            events: events.iter().map(event).collect(),
            ..Told::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &[(u64, Point)]) -> Told {
        let events: Vec<_> = events.iter().map(|&(t, p)| (t, p, [0; 4])).collect();
        Told::of(&events)
    }

    /// Idle spells are cut where the time looked at begins and ends; one that is under way at the end counts.
    #[test]
    fn busy_is_what_is_not_idle() {
        let thread = told(&[
            (5, points::IDLE_BEGIN),
            (20, points::IDLE_END),
            (30, points::SLEEP),
            (40, points::WAKE),
            (90, points::IDLE_BEGIN),
        ]);
        assert_eq!(thread.busy((10, 100)), 90 - 10 - 10 - 10);
        assert_eq!(told(&[]).busy((10, 100)), 90);
    }

    /// A moment in which the thread was sent away does not count for more than the others.
    #[test]
    fn quick_work_is_that_of_most_moments() {
        let mut events: Vec<_> = (0..1000).map(|n| (n * 10, points::APP_START)).collect();
        let late = events.split_off(500);
        events.extend(late.into_iter().map(|(tsc, point)| (tsc + 700, point)));
        assert!((8..=11).contains(&told(&events).quick_work()));
        assert_eq!(told(&[]).quick_work(), 0);
    }

    /// Requests are served from the first start to the last.
    #[test]
    fn served_needs_two_requests() {
        let one = told(&[(1, points::APP_START)]);
        assert_eq!(one.served(), None);
        let two = told(&[
            (1, points::APP_START),
            (3, points::APP_END),
            (7, points::APP_START),
        ]);
        assert_eq!(two.served(), Some((1, 7)));
    }

    /// The middle and the ends of a few ticks.
    #[test]
    fn quantiles() {
        assert_eq!(quantile([3, 1, 2], 0.5), 2);
        assert_eq!(quantile([3, 1, 2], 1.0), 3);
        assert_eq!(quantile([], 0.5), 0);
    }
}
