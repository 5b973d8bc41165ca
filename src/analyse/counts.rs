//! What counted events say together: rates, and ratios that are worth more than the counts they come from.
//!
//! In: counts with the times they ran, the time that passed, what programs counted; out: [`Counts`]. A count that was
//! not there all the time is scaled, and says so. It refuses to know who counted.

mod ratios;

pub use ratios::Ratio;

use super::profile::Work;
use crate::trace::record::CounterValue;
use ratios::ratios;

/// One event's count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Count {
    /// Its name.
    pub name: String,
    /// The count, scaled to all of the time and into its unit; `None` if there is none.
    pub value: Option<f64>,
    /// What was really counted, if that was less.
    pub scaled_from: Option<u64>,
    /// The share of its time that it was on the PMU.
    pub running_share: Option<f64>,
    /// `ns`, the PMU's unit, or nothing.
    pub unit: String,
    /// Standard deviation of one run, where there were several.
    pub deviation: Option<f64>,
    /// In a second of the time that passed.
    pub per_second: Option<f64>,
    /// For each frame received.
    pub per_packet: Option<f64>,
    /// For each request.
    pub per_request: Option<f64>,
    /// Why there is no count.
    pub why: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// In the order that was asked for.
    pub counts: Vec<Count>,
    /// What follows from them.
    pub ratios: Vec<Ratio>,
    /// What programs counted, if any had probes.
    pub work: Option<Work>,
    /// The time that passed, of one run.
    pub elapsed_ns: u64,
    /// Its standard deviation, where there were several.
    pub elapsed_deviation_ns: Option<f64>,
    /// Runs.
    pub runs: usize,
}

/// An event and its count, or why there is none.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Its name.
    pub name: String,
    /// The count.
    pub value: Result<CounterValue, String>,
    /// What it is multiplied by for its unit.
    pub scale: f64,
    /// The unit.
    pub unit: String,
}

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Its events.
    pub raw: Vec<Raw>,
    /// The time that passed.
    pub elapsed_ns: u64,
    /// What programs counted.
    pub work: Option<Work>,
}

/// A count as if it had been on the PMU all the time, its share of that time, and whether it had to be scaled.
fn scaled(value: &CounterValue) -> (f64, Option<f64>, bool) {
    if value.running == 0 {
        // Software events tell no times where they never ran; a count of 0 that ran no time is not known.
        let share = (value.enabled > 0).then_some(0.0);
        return (value.value as f64, share, false);
    }
    let share = (value.running as f64 / value.enabled.max(1) as f64).min(1.0);
    (
        value.value as f64 / share,
        Some(share),
        value.running < value.enabled,
    )
}

impl Counts {
    /// Runs of the same command; counts are means.
    pub fn of(runs: &[Run]) -> Counts {
        let Some(first) = runs.first() else {
            return Counts::default();
        };
        let elapsed: Vec<f64> = runs.iter().map(|r| r.elapsed_ns as f64).collect();
        let seconds = mean(&elapsed) / 1e9;
        let works: Vec<&Work> = runs.iter().filter_map(|r| r.work.as_ref()).collect();
        let of_work = |of: fn(&Work) -> u64| {
            let sum: u64 = works.iter().map(|w| of(w)).sum();
            (sum > 0).then(|| sum as f64 / runs.len() as f64)
        };
        let (packets, requests) = (of_work(|w| w.rx_packets), of_work(|w| w.requests));
        let counts = first.raw.iter().enumerate().map(|(at, raw)| {
            let values: Vec<_> = runs
                .iter()
                .filter_map(|r| r.raw.get(at)?.value.as_ref().ok())
                .collect();
            let empty = Count {
                name: raw.name.clone(),
                unit: raw.unit.clone(),
                why: raw.value.as_ref().err().cloned(),
                ..Count::default()
            };
            if values.is_empty() {
                return empty;
            }
            let all: Vec<_> = values.iter().map(|v| scaled(v)).collect();
            let shares: Vec<f64> = all.iter().filter_map(|a| a.1).collect();
            if shares.iter().all(|&s| s == 0.0) && !shares.is_empty() {
                return Count {
                    running_share: Some(0.0),
                    why: Some(
                        "it was never on the PMU: too many events, or another program has it"
                            .to_owned(),
                    ),
                    ..empty
                };
            }
            let numbers: Vec<f64> = all.iter().map(|a| a.0 * raw.scale).collect();
            let value = mean(&numbers);
            let really: u64 = values.iter().map(|v| v.value).sum();
            Count {
                value: Some(value),
                scaled_from: all
                    .iter()
                    .any(|a| a.2)
                    .then_some(really / values.len() as u64),
                running_share: (!shares.is_empty()).then(|| mean(&shares)),
                deviation: deviation(&numbers),
                per_second: (seconds > 0.0).then(|| value / seconds),
                per_packet: packets.map(|n| value / n),
                per_request: requests.map(|n| value / n),
                ..empty
            }
        });
        let counts: Vec<Count> = counts.collect();
        Counts {
            ratios: ratios(&counts, seconds),
            counts,
            work: first.work.is_some().then(|| sum(&works)),
            elapsed_ns: mean(&elapsed) as u64,
            elapsed_deviation_ns: deviation(&elapsed),
            runs: runs.len(),
        }
    }
}

fn sum(works: &[&Work]) -> Work {
    works.iter().fold(Work::default(), |mut sum, work| {
        sum.add(work);
        sum
    })
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

/// Standard deviation of one run, from several.
fn deviation(numbers: &[f64]) -> Option<f64> {
    if numbers.len() < 2 {
        return None;
    }
    let mean = mean(numbers);
    let squares: f64 = numbers.iter().map(|n| (n - mean) * (n - mean)).sum();
    Some((squares / (numbers.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: &[(&str, u64, u64, u64)], elapsed_ns: u64, work: Option<Work>) -> Run {
        let raw = values.iter().map(|&(name, value, enabled, running)| Raw {
            name: name.to_owned(),
            value: Ok(CounterValue {
                value,
                enabled,
                running,
            }),
            scale: 1.0,
            unit: if name.ends_with("clock") { "ns" } else { "" }.to_owned(),
        });
        Run {
            raw: raw.collect(),
            elapsed_ns,
            work,
        }
    }

    /// A count that ran a quarter of its time is four times what was counted, and ratios are of what was scaled.
    #[test]
    fn scaling_and_ratios() {
        let work = Work {
            rx_packets: 10,
            requests: 5,
            ..Work::default()
        };
        let counts = Counts::of(&[run(
            &[
                ("task-clock", 500, 500, 500),
                ("cycles", 1000, 500, 500),
                ("instructions", 500, 400, 100),
                ("branch-misses", 20, 400, 400),
                ("branches:u", 100, 400, 400),
            ],
            1000,
            Some(work),
        )]);
        let count = |at: usize| &counts.counts[at];
        assert_eq!(count(2).value, Some(2000.0));
        assert_eq!(
            (count(2).scaled_from, count(2).running_share),
            (Some(500), Some(0.25))
        );
        assert_eq!(
            (count(1).scaled_from, count(1).running_share),
            (None, Some(1.0))
        );
        assert_eq!(
            (count(1).per_packet, count(1).per_request),
            (Some(100.0), Some(200.0))
        );
        let ratio = |id: &str| counts.ratios.iter().find(|r| r.id == id).map(|r| r.value);
        assert_eq!(ratio("ipc"), Some(2.0));
        assert_eq!(ratio("ghz"), Some(2.0));
        assert_eq!(ratio("cpus"), Some(0.5));
        assert_eq!(ratio("branch_mpki"), Some(10.0));
        // Of other code.
        assert_eq!(ratio("branch_miss_share"), None);
    }

    /// Several runs: means, deviations, and an event that never ran is not 0.
    #[test]
    fn runs() {
        let counts = Counts::of(&[
            run(
                &[("cycles", 90, 10, 10), ("instructions", 0, 10, 0)],
                100,
                None,
            ),
            run(
                &[("cycles", 110, 10, 10), ("instructions", 0, 10, 0)],
                300,
                None,
            ),
        ]);
        assert_eq!(counts.counts[0].value, Some(100.0));
        assert_eq!(counts.counts[0].deviation.map(f64::round), Some(14.0));
        assert_eq!((counts.runs, counts.elapsed_ns), (2, 200));
        let never = &counts.counts[1];
        assert_eq!((never.value, never.running_share), (None, Some(0.0)));
        assert!(never.why.as_ref().unwrap().contains("never on the PMU"));
        assert!(counts.ratios.is_empty());
    }
}
