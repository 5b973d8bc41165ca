//! What was counted while a recording ran, as lines over time.
//!
//! In: the records of low rate; out: [`Series`]: rates between two readings of a counter or of a ring's totals, and
//! sizes of bursts. Counters that took turns are scaled by how long each really counted. It refuses to know pictures.

use super::profile::Profile;
use crate::trace::record::{CounterValue, Counters, Meta, RingTotals};
use crate::units::Nanos;
use std::collections::BTreeMap;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is of: an event's name, or what a ring counts.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// The thread's place in [`Profile::threads`]; `None` for all that was recorded.
    pub thread: Option<usize>,
    /// When, since the recording's start, and how much from the reading before to here.
    pub points: Vec<(Nanos, f64)>,
    /// What several points are that have room for one.
    pub together: Together,
}

/// What several points of a line are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// Their mean.
    Mean,
    /// The greatest of them.
    Greatest,
}

type Rate = (&'static str, &'static str, fn(&RingTotals) -> u64);

/// What rings count and lines show as rates.
const RATES: &[Rate] = &[
    ("requests", "1/s", |t| t.requests),
    ("packets received", "1/s", |t| t.rx_packets),
    ("packets sent", "1/s", |t| t.tx_packets),
    ("slots dropped", "1/s", |t| t.dropped_slots),
];

type Mean = (&'static str, fn(&RingTotals) -> u64, fn(&RingTotals) -> u64);

/// What they count and lines show as a mean.
const MEANS: &[Mean] = &[
    ("receive burst", |t| t.rx_packets, |t| t.rx_bursts),
    ("transmit burst", |t| t.tx_packets, |t| t.tx_bursts),
];

/// All lines of a recording; those that never leave zero are left out.
pub fn of(metas: &[Meta], profile: &Profile) -> Vec<Series> {
    let started = profile.session.started;
    let mut series = counters(metas, profile);
    let threads: BTreeMap<_, _> = (profile.threads.iter().enumerate())
        .map(|(at, t)| ((t.pid, t.tid), at))
        .collect();
    let mut rings: BTreeMap<u32, (usize, Vec<RingTotals>)> = BTreeMap::new();
    for meta in metas {
        match meta {
            Meta::Ring(ring) => {
                if let Some(&thread) = threads.get(&(ring.pid, ring.tid)) {
                    rings.insert(ring.ring, (thread, Vec::new()));
                }
            }
            Meta::RingTotals(totals) => {
                if let Some((_, read)) = rings.get_mut(&totals.ring) {
                    read.push(*totals);
                }
            }
            _ => {}
        }
    }
    for (thread, read) in rings.values() {
        let mut add = |name: &str, unit, of: &dyn Fn(&RingTotals, &RingTotals, f64) -> f64| {
            let pairs = read.windows(2).filter(|p| p[1].time > p[0].time);
            let points = pairs.map(|p| {
                let seconds = p[1].time.since(p[0].time).ns() as f64 / 1e9;
                (p[1].time.since(started), of(&p[0], &p[1], seconds))
            });
            series.push(Series {
                name: name.to_owned(),
                unit,
                thread: Some(*thread),
                points: points.collect(),
                together: Together::Mean,
            });
        };
        let more = |of: fn(&RingTotals) -> u64, a: &RingTotals, b: &RingTotals| {
            of(b).saturating_sub(of(a)) as f64
        };
        for &(name, unit, of) in RATES {
            add(name, unit, &|a, b, seconds| more(of, a, b) / seconds);
        }
        for &(name, whole, parts) in MEANS {
            add(name, "packets", &|a, b, _| {
                more(whole, a, b) / more(parts, a, b).max(1.0)
            });
        }
        add("empty rounds", "of 1", &|a, b, _| {
            more(|t| t.empty_rounds, a, b) / more(|t| t.rounds, a, b).max(1.0)
        });
    }
    series.retain(|s| s.points.iter().any(|p| p.1 > 0.0));
    series
}

fn counters(metas: &[Meta], profile: &Profile) -> Vec<Series> {
    let read: Vec<&Counters> = metas
        .iter()
        .filter_map(|m| match m {
            Meta::Counters(counters) => Some(counters),
            _ => None,
        })
        .collect();
    let events = profile.session.events.iter().enumerate();
    let line = |(at, event): (usize, &crate::trace::record::EventSource)| {
        let value = |c: &Counters| Some(scaled(c.values.get(at).copied()??));
        let pairs = read.windows(2).filter(|p| p[1].time > p[0].time);
        let points = pairs.filter_map(|p| {
            let more = value(p[1])? - value(p[0])?;
            let seconds = p[1].time.since(p[0].time).ns() as f64 / 1e9;
            Some((
                p[1].time.since(profile.session.started),
                more.max(0.0) / seconds,
            ))
        });
        // A clock's nanoseconds in a second of time are CPUs.
        let clock = event.name.starts_with("task-clock") || event.name.starts_with("cpu-clock");
        let points = points.map(|(t, v)| (t, if clock { v / 1e9 } else { v }));
        Series {
            name: event.name.clone(),
            unit: if clock { "CPUs" } else { "1/s" },
            thread: None,
            points: points.collect(),
            together: Together::Mean,
        }
    };
    events.map(line).collect()
}

/// What a counter would have counted had it counted all the time.
fn scaled(value: CounterValue) -> f64 {
    match value.running {
        0 => 0.0,
        running => value.value as f64 * (value.enabled as f64 / running as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::ThreadRow;
    use crate::trace::record::{EventSource, Ring};

    /// Rates are per second between two readings, a counter that ran half of the time counts double, means divide.
    #[test]
    fn lines() {
        let s = 1_000_000_000;
        let totals = |time, rx_packets, rx_bursts| {
            Meta::RingTotals(RingTotals {
                time: Nanos::from_ns(time),
                rx_packets,
                rx_bursts,
                ..RingTotals::default()
            })
        };
        let counted = |time, value, running| {
            Meta::Counters(Counters {
                time: Nanos::from_ns(time),
                values: vec![Some(CounterValue {
                    value,
                    enabled: 2 * running,
                    running,
                })],
            })
        };
        let metas = [
            Meta::Ring(Ring {
                tid: 7,
                pid: 7,
                ..Ring::default()
            }),
            totals(s, 100, 10),
            totals(3 * s, 300, 60),
            counted(s, 10, 1),
            counted(2 * s, 30, 2),
        ];
        let thread = ThreadRow {
            pid: 7,
            tid: 7,
            name: "t".into(),
            probes: true,
            ..ThreadRow::default()
        };
        let mut profile = Profile {
            threads: vec![thread],
            ..Profile::default()
        };
        profile.session.events.push(EventSource {
            name: "cycles".into(),
            ..EventSource::default()
        });
        let lines = of(&metas, &profile);
        let values: Vec<_> = lines
            .iter()
            .map(|l| (l.name.as_str(), l.points[0].1))
            .collect();
        assert_eq!(
            values,
            [
                ("cycles", 40.0),
                ("packets received", 100.0),
                ("receive burst", 4.0)
            ]
        );
        assert_eq!(lines[1].points[0].0, Nanos::from_ns(3 * s));
    }
}
