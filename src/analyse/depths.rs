//! How deep queues were while a recording ran, how often one was full and how often something was dropped, as lines over
//! time.
//!
//! In: every ring's slots in the order of the file; out: [`Series`] of tenths of a second, or of longer times in a longer
//! recording. What is told of a depth is what the events of that time carry: a time without events has no depth. Events
//! that were lost are not there. It refuses to know pictures.

use super::filter::Filter;
use super::packs::{Packs, Rules};
use super::profile::Profile;
use super::series::{Series, Together};
use crate::trace::record::{Meta, OwnPoint, Pid, Ring, Tid};
use crate::units::{ClockMap, Nanos};
use bypassprof_wire::{Decoder, Event, Point, Slot, Tsc, points};
use std::collections::{BTreeMap, HashMap};

/// Length of a time that is told together.
const TIME: Nanos = Nanos::from_ns(100_000_000);
/// Times of a line: with more, two become one.
const MOST: u64 = 4096;

/// Points that carry a depth as their second argument, what lines of it are called: the mean, and the greatest; and what
/// it is counted in, where stacks do not agree: of a socket's buffer it is bytes.
const DEPTHS: [(Point, [&str; 2], &str); 2] = [
    (
        points::DELIVER,
        ["depth of queues filled", "greatest depth of queues filled"],
        "items, or bytes of a buffer",
    ),
    (
        points::HANDOFF,
        [
            "depth of queues emptied",
            "greatest depth of queues emptied",
        ],
        "items",
    ),
];
/// Points that are told by how often they are.
const OFTEN: [(Point, &str); 2] = [(points::FULL, "queues found full"), (points::DROP, "drops")];

#[derive(Clone, Copy, Default)]
struct Seen {
    events: u64,
    sum: u64,
    most: u32,
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.events += other.events;
        self.sum = self.sum.saturating_add(other.sum);
        self.most = self.most.max(other.most);
    }
}

/// By point, and by the number of the time.
type Times = BTreeMap<(u16, u64), Seen>;

struct RingState {
    owner: (Pid, Tid),
    decoder: Decoder,
    own: HashMap<u16, Point>,
    next_slot: u64,
    times: Times,
}

/// The pass over a recording's rings.
pub struct Depths {
    rings: HashMap<u32, RingState>,
    when: Option<When>,
}

/// Which time an event is of.
#[derive(Clone, Copy)]
struct When {
    clock: ClockMap,
    started: Nanos,
    span: (Nanos, Nanos),
}

impl When {
    fn of(&self, event: &Event) -> Option<u64> {
        let time = self.clock.time(event.tsc);
        let counts = (self.span.0..self.span.1).contains(&time);
        counts.then(|| time.since(self.started).ns() / TIME.ns())
    }
}

impl Depths {
    /// Prepares a pass; of a filter its window counts. Without two readings of both clocks there are no lines.
    pub fn new(metas: &[Meta], packs: &Packs, filter: &Filter) -> Depths {
        let all: Vec<_> = packs.all().iter().collect();
        let rules = Rules::of(&all);
        let meaning = |p: &OwnPoint| Some((p.id, rules.meaning(&p.name)?));
        let state = |ring: &Ring| RingState {
            owner: (ring.pid, ring.tid),
            decoder: Decoder::new((ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc))),
            own: ring.points.iter().filter_map(meaning).collect(),
            next_slot: ring.first_slot,
            times: Times::new(),
        };
        let (mut rings, mut pairs, mut started) = (HashMap::new(), Vec::new(), None);
        for meta in metas {
            match meta {
                Meta::Session(session) => started = Some(session.started),
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::Ring(ring) => {
                    rings.insert(ring.ring, state(ring));
                }
                _ => {}
            }
        }
        let when = ClockMap::fit(&pairs).zip(started);
        Depths {
            rings,
            when: when.map(|(clock, started)| When {
                clock,
                started,
                span: filter.span(started),
            }),
        }
    }

    /// A block of a ring's slots, the first of which has position `first`, in the order of the file.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        let (Some(ring), Some(when)) = (self.rings.get_mut(&ring), &self.when) else {
            return;
        };
        if first > ring.next_slot {
            ring.decoder.gap();
        }
        ring.next_slot = first.saturating_add(slots.len() as u64);
        let (own, times) = (&ring.own, &mut ring.times);
        for &slot in slots {
            ring.decoder
                .push(slot, &mut |event| see(&event, own, when, times));
        }
    }

    /// The lines, of the threads that the profile has; those that never leave zero are left out.
    pub fn finish(mut self, profile: &Profile) -> Vec<Series> {
        let mut threads: BTreeMap<usize, Times> = BTreeMap::new();
        for ring in self.rings.values_mut() {
            if let Some(when) = &self.when {
                let (own, times) = (&ring.own, &mut ring.times);
                ring.decoder
                    .flush(&mut |event| see(&event, own, when, times));
            }
            let mine = |t: &super::ThreadRow| (t.pid, t.tid) == ring.owner;
            let Some(thread) = profile.threads.iter().position(mine) else {
                continue;
            };
            let sums = threads.entry(thread).or_default();
            for (key, seen) in &ring.times {
                sums.entry(*key).or_default().add(seen);
            }
        }
        let last = threads.values().flat_map(|t| t.keys()).map(|key| key.1);
        let Some(last) = last.max() else {
            return Vec::new();
        };
        let each = (last / MOST + 1).next_power_of_two();
        let lines = threads
            .iter()
            .flat_map(|(&thread, times)| lines(thread, times, each, last, profile.wall_ns));
        lines
            .filter(|line| line.points.iter().any(|p| p.1 > 0.0))
            .collect()
    }
}

fn see(event: &Event, own: &HashMap<u16, Point>, when: &When, times: &mut Times) {
    let point = own.get(&event.point.id()).copied().unwrap_or(event.point);
    let is_deep = DEPTHS.iter().any(|d| d.0 == point) && event.arg_count > 1;
    if !is_deep && OFTEN.iter().all(|o| o.0 != point) {
        return;
    }
    if let Some(time) = when.of(event) {
        let depth = if is_deep { event.args[1] } else { 0 };
        times.entry((point.id(), time)).or_default().add(&Seen {
            events: 1,
            sum: u64::from(depth),
            most: depth,
        });
    }
}

/// A thread's lines, with `each` times told together, up to the `last`.
fn lines(thread: usize, times: &Times, each: u64, last: u64, wall_ns: u64) -> Vec<Series> {
    // The last time may be over before its end.
    let end = |at: u64| {
        let end = (at + 1).saturating_mul(each).saturating_mul(TIME.ns());
        Nanos::from_ns(if wall_ns > 0 { end.min(wall_ns) } else { end })
    };
    let of = |point: Point| {
        let mut sums: BTreeMap<u64, Seen> = BTreeMap::new();
        let own = (point.id(), 0)..=(point.id(), u64::MAX);
        for ((_, time), seen) in times.range(own) {
            sums.entry(time / each).or_default().add(seen);
        }
        sums
    };
    let line = |name: &str, unit, together, points| Series {
        name: name.to_owned(),
        unit,
        thread: Some(thread),
        points,
        together,
    };
    let mut lines = Vec::new();
    for (point, [mean, greatest], unit) in DEPTHS {
        let sums = of(point);
        let means = sums.iter();
        let means = means.map(|(&at, s)| (end(at), s.sum as f64 / s.events as f64));
        lines.push(line(mean, unit, Together::Mean, means.collect()));
        let most = sums.iter().map(|(&at, s)| (end(at), f64::from(s.most)));
        lines.push(line(greatest, unit, Together::Greatest, most.collect()));
    }
    let seconds = (each * TIME.ns()) as f64 / 1e9;
    for (point, name) in OFTEN {
        let sums = of(point);
        let rate = |at: u64| sums.get(&at).map_or(0.0, |s| s.events as f64 / seconds);
        let rates = (0..=last / each).map(|at| (end(at), rate(at)));
        lines.push(line(name, "1/s", Together::Mean, rates.collect()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::ThreadRow;
    use crate::trace::record::Session;
    use crate::units::ClockPair;
    use bypassprof_wire::Flow;

    const TICKS_PER_MS: u64 = 2_000_000;

    fn metas() -> Vec<Meta> {
        let pair = |ms: u64| {
            Meta::Clock(ClockPair {
                tsc_before: TICKS_PER_MS * ms,
                time: Nanos::from_ns(1_000_000 * ms),
                tsc_after: TICKS_PER_MS * ms,
            })
        };
        let session = Session {
            started: Nanos::from_ns(1_000_000_000),
            ..Session::default()
        };
        let ring = Ring {
            pid: 7,
            tid: 8,
            base_tsc: 1,
            ..Ring::default()
        };
        vec![
            Meta::Session(session),
            pair(1_000),
            pair(3_000),
            Meta::Ring(ring),
        ]
    }

    fn profile() -> Profile {
        let thread = ThreadRow {
            pid: 7,
            tid: 8,
            name: "t".into(),
            probes: true,
            ..ThreadRow::default()
        };
        Profile {
            threads: vec![thread],
            wall_ns: 550_000_000,
            ..Profile::default()
        }
    }

    /// An event some ms after the start, its depth as second argument where it has one.
    fn event(ms: u64, point: Point, depth: Option<u32>) -> Vec<Slot> {
        let at = Tsc::from_raw(TICKS_PER_MS * (1_000 + ms));
        let head = Slot::head(at, point, Flow::from_raw(1), 64);
        let rest = depth.map(|depth| Slot::cont(depth, 0, 0));
        std::iter::once(head).chain(rest).collect()
    }

    fn lines_of(filter: &Filter, slots: &[Slot]) -> Vec<(String, Vec<(u64, f64)>)> {
        let mut depths = Depths::new(&metas(), &Packs::built_in(), filter);
        depths.slots(0, 0, slots);
        let lines = depths.finish(&profile()).into_iter();
        let ms = |p: &(Nanos, f64)| (p.0.ns() / 1_000_000, p.1);
        lines
            .map(|l| (l.name, l.points.iter().map(ms).collect()))
            .collect()
    }

    /// Means and greatest depths of the times that have events; drops a second of all times; nothing of what never was.
    #[test]
    fn told_by_time() {
        let slots = [
            event(10, points::DELIVER, Some(1)),
            event(20, points::DELIVER, Some(4)),
            event(50, points::DROP, None),
            event(540, points::DELIVER, Some(7)),
        ];
        let lines = lines_of(&Filter::default(), &slots.concat());
        let drops = [10.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let ends = [100, 200, 300, 400, 500, 550];
        let expected = [
            ("depth of queues filled", vec![(100, 2.5), (550, 7.0)]),
            (
                "greatest depth of queues filled",
                vec![(100, 4.0), (550, 7.0)],
            ),
            ("drops", ends.into_iter().zip(drops).collect()),
        ];
        let expected = expected.map(|(name, points)| (name.to_owned(), points));
        assert_eq!(lines, expected);
    }

    /// A window leaves out what is not in it; a stamp from nowhere makes no line of endless length.
    #[test]
    fn windows_and_stray_stamps() {
        let window = Some((Nanos::default(), Nanos::from_ns(100_000_000)));
        let filter = Filter {
            window,
            ..Filter::default()
        };
        let slots = [
            event(10, points::HANDOFF, Some(3)),
            event(300, points::HANDOFF, Some(9)),
        ];
        let lines = lines_of(&filter, &slots.concat());
        assert_eq!(lines[0].1, [(100, 3.0)], "{lines:?}");
        let stray = [
            event(10, points::DROP, None),
            event(40_000_000, points::DROP, None),
        ];
        let lines = lines_of(&Filter::default(), &stray.concat());
        assert!(
            lines[0].1.len() <= MOST as usize + 1,
            "{}",
            lines[0].1.len()
        );
    }
}
