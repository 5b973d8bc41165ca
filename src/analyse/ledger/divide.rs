//! A thread's time divided: by states that probes and switches bound, and inside of these by samples.
//!
//! In: a thread's row and its samples; out: its [`Account`]. It refuses to know other threads.

use super::super::estimate::{Estimate, Idle, IdleMix, Method, Share, Weighed};
use super::super::phases::{PHASES, POLL_SIDE, UNKNOWN};
use super::super::profile::{Profile, ThreadRow};
use super::counters::Counts;
use super::samples::{NO_PROBES, Stratum, idle_key};
use super::{Account, Basis, EMPTY_POLL, Entry, Level, OFF_CPU, UNACCOUNTED};
use std::collections::BTreeMap;

/// What may interrupt a round that finds nothing, and is not its doing.
pub const INSIDE_POLLING: &[&str] = &[POLL_SIDE, "irq", "recorder"];

/// Entries in the making.
#[derive(Default)]
pub struct Entries(BTreeMap<&'static str, Entry>);

impl Entries {
    /// Adds `cycles` x `share` to a phase; errors of parts that were sampled apart add up as squares.
    fn add(&mut self, phase: &'static str, cycles: f64, share: Share, basis: Basis) {
        let phase = if phase == UNKNOWN { UNACCOUNTED } else { phase };
        let part = Entry {
            phase,
            cycles: cycles * share.value,
            low: cycles * share.low,
            high: cycles * share.high,
            basis,
        };
        self.merge(&part);
    }

    pub fn merge(&mut self, part: &Entry) {
        if part.cycles <= 0.0 {
            return;
        }
        let known = self.0.entry(part.phase).or_insert(Entry {
            cycles: 0.0,
            low: 0.0,
            high: 0.0,
            ..*part
        });
        let below = (known.cycles - known.low).hypot(part.cycles - part.low);
        let above = (known.high - known.cycles).hypot(part.high - part.cycles);
        known.cycles += part.cycles;
        known.low = (known.cycles - below).max(0.0);
        known.high = known.cycles + above;
        known.basis = known.basis.max(part.basis);
    }

    /// In the order of pictures, none above all there is.
    pub fn in_order(self, cycles: f64) -> Vec<Entry> {
        let place = |phase: &str| match phase {
            OFF_CPU => 0,
            EMPTY_POLL => 1,
            POLL_SIDE => 2,
            UNACCOUNTED => usize::MAX,
            phase => {
                3 + PHASES
                    .iter()
                    .position(|p| p.0 == phase)
                    .unwrap_or(PHASES.len())
            }
        };
        let mut entries: Vec<_> = self.0.into_values().collect();
        entries.sort_by_key(|e| place(e.phase));
        for entry in &mut entries {
            entry.high = entry.high.min(cycles).max(entry.cycles);
        }
        entries
    }
}

/// The account of a thread.
pub fn thread(
    profile: &Profile,
    row: &ThreadRow,
    stratum: impl Fn(usize) -> Stratum,
    idle: Option<&Idle>,
    timed: bool,
    counts: Counts,
) -> Account {
    let mut entries = Entries::default();
    let mut estimate = None;
    let cycles;
    if timed {
        cycles = row.shares.total() as f64;
        let off: u64 = row.shares.off.iter().sum();
        entries.add(OFF_CPU, off as f64, Share::exact(1.0), Basis::Measured);
        let on = row.shares.on.map(|ticks| ticks as f64);
        if row.probes {
            let [working, empty, unknown] = on;
            let seen = seen(
                profile,
                on.iter().sum(),
                &[stratum(0), stratum(1), stratum(2)],
            );
            entries.add(UNACCOUNTED, working + unknown, seen.rest(), Basis::Sampled);
            divide(&mut entries, working * seen.value, &stratum(0), |_| true);
            poll(&mut entries, empty, &stratum(1));
            divide(&mut entries, unknown * seen.value, &stratum(2), |polls| {
                !polls
            });
        } else {
            let on = on.iter().sum::<f64>();
            let samples = stratum(NO_PROBES);
            let seen = seen(profile, on, std::slice::from_ref(&samples));
            entries.add(UNACCOUNTED, on, seen.rest(), Basis::Sampled);
            estimate = without_probes(&mut entries, on * seen.value, row, &samples, idle);
        }
    } else {
        let samples = stratum(NO_PROBES);
        cycles = samples.all.sum;
        estimate = without_probes(&mut entries, cycles, row, &samples, idle);
    }
    Account {
        level: Level::Thread,
        name: format!("{} {}/{}", row.name, row.pid, row.tid),
        role: row.role.clone(),
        threads: 1,
        estimate,
        cycles,
        entries: entries.in_order(cycles),
        counts,
    }
}

/// The part of a thread's time on CPU that samples could see: all of it, unless the kernel was left out and samples are
/// taken by a clock, so that the missing ones tell how long the thread was there.
fn seen(profile: &Profile, on: f64, strata: &[Stratum]) -> Share {
    let ns = on * profile.ns_per_tick.unwrap_or(1.0);
    if !profile.user_only || !profile.is_time() || ns <= 0.0 {
        return Share::exact(1.0);
    }
    let mut all = Weighed::default();
    for stratum in strata {
        all.add_squares(stratum.all.sum, stratum.all.squares);
    }
    let period = all.squares / all.sum.max(1.0);
    Share::sampled(all.sum.min(ns), ns, ns / period.max(1.0))
}

/// Divides time by the phases of the samples in it; those that `known` refuses stay unaccounted.
fn divide(entries: &mut Entries, cycles: f64, samples: &Stratum, known: impl Fn(bool) -> bool) {
    if samples.all.sum <= 0.0 {
        entries.add(UNACCOUNTED, cycles, Share::exact(1.0), Basis::Sampled);
        return;
    }
    let mut by_phase: BTreeMap<&'static str, f64> = BTreeMap::new();
    for (&(phase, polls), &weight) in &samples.phases {
        let phase = if known(polls) { phase } else { UNKNOWN };
        *by_phase.entry(phase).or_default() += weight;
    }
    for (phase, weight) in by_phase {
        let share = Share::sampled(weight, samples.all.sum, samples.all.effective());
        entries.add(phase, cycles, share, Basis::Sampled);
    }
}

/// Divides time of empty polling: interrupts and side polls in it are told apart, all else is polling.
fn poll(entries: &mut Entries, cycles: f64, samples: &Stratum) {
    let mut inside = 0.0;
    for phase in INSIDE_POLLING {
        let weights = samples.phases.iter().filter(|((p, _), _)| p == phase);
        let weight: f64 = weights.map(|(_, w)| w).sum();
        if weight > 0.0 {
            let share = Share::sampled(weight, samples.all.sum, samples.all.effective());
            entries.add(phase, cycles, share, Basis::Sampled);
            inside += weight;
        }
    }
    let (share, basis) = if inside > 0.0 {
        let inside = Share::sampled(inside, samples.all.sum, samples.all.effective());
        (inside.rest(), Basis::Sampled)
    } else {
        (Share::exact(1.0), Basis::Measured)
    };
    entries.add(EMPTY_POLL, cycles, share, basis);
}

/// Divides the time of a thread without probes; gives how empty polling was estimated if it had to be.
fn without_probes(
    entries: &mut Entries,
    cycles: f64,
    row: &ThreadRow,
    samples: &Stratum,
    idle: Option<&Idle>,
) -> Option<Estimate> {
    let Some(estimate) = row.estimate else {
        divide(entries, cycles, samples, |_| true);
        return None;
    };
    let (all, n) = (samples.all.sum, samples.all.effective());
    let mix = idle.and_then(|i| i.roles.get(idle_key(row)));
    let estimate = match mix {
        Some(mix) => {
            let compared = samples.phases.iter().filter(|((_, polls), _)| *polls);
            let compared: f64 = compared.map(|(_, w)| w).sum();
            let compared = Share::sampled(compared, all, n);
            Estimate {
                empty: mix.empty(compared, Share::sampled(samples.never_idle, all, n)),
                method: Method::Calibrated,
            }
        }
        None => estimate,
    };
    let no_mix = IdleMix::default();
    let mix = mix.unwrap_or(&no_mix);
    let mut others: BTreeMap<&'static str, Share> = BTreeMap::new();
    let mut side = 0.0;
    for (&(phase, polls), &weight) in &samples.phases {
        if polls {
            side += if phase == POLL_SIDE { weight } else { 0.0 };
            continue;
        }
        // What polling itself takes in this phase, as it does when there is nothing else.
        let of_idle = mix.others.get(phase).copied().unwrap_or(0.0) / mix.all.sum.max(1.0);
        let taken = of_idle * estimate.empty.value;
        let error = of_idle * (estimate.empty.high - estimate.empty.low) / 2.0;
        let share = Share::sampled(weight, all, n);
        let value = (share.value - taken).max(0.0);
        let left = Share {
            value,
            low: (value - (share.value - share.low).hypot(error)).max(0.0),
            high: value + (share.high - share.value).hypot(error),
        };
        others.insert(phase, left);
    }
    let rest: f64 = others.values().map(|s| s.value).sum();
    let work = 1.0 - estimate.empty.value;
    let scale = if rest > 0.0 { work / rest } else { 0.0 };
    for (phase, share) in others {
        let scaled = Share {
            value: share.value * scale,
            low: share.low * scale,
            high: share.high * scale,
        };
        let basis = if mix.others.contains_key(phase) {
            Basis::Estimated
        } else {
            Basis::Sampled
        };
        entries.add(phase, cycles, scaled, basis);
    }
    if rest <= 0.0 {
        entries.add(UNACCOUNTED, cycles, Share::exact(work), Basis::Estimated);
    }
    let polls: f64 = samples
        .phases
        .iter()
        .filter(|((_, p), _)| *p)
        .map(|(_, w)| w)
        .sum();
    let side = side / polls.max(1.0);
    for (phase, part) in [(POLL_SIDE, side), (EMPTY_POLL, 1.0 - side)] {
        entries.add(phase, cycles * part, estimate.empty, Basis::Estimated);
    }
    Some(estimate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::timeline::Shares;

    fn samples(phases: &[(&'static str, bool, f64)]) -> Stratum {
        let mut stratum = Stratum::default();
        for &(phase, polls, weight) in phases {
            stratum.all.add_squares(weight, weight);
            stratum.phases.insert((phase, polls), weight);
        }
        stratum
    }

    fn rows(on: [u64; 3], stratum: &Stratum) -> Vec<(&'static str, f64)> {
        let row = ThreadRow {
            probes: true,
            shares: Shares { on, off: [0; 3] },
            ..ThreadRow::default()
        };
        let of = |_| stratum.clone();
        let account = thread(&Profile::default(), &row, of, None, true, Counts::new());
        let entries = account.entries.iter();
        entries.map(|e| (e.phase, e.cycles.round())).collect()
    }

    /// In empty polling the recorder and interrupts are told apart; where the state is not known, a sample in a poll symbol
    /// is no work.
    #[test]
    fn by_state() {
        let seen = samples(&[
            ("recorder", false, 2.0),
            ("irq", false, 1.0),
            ("driver_rx", true, 7.0),
        ]);
        let polling = rows([0, 100, 0], &seen);
        assert_eq!(polling.len(), 3, "{polling:?}");
        for part in [(EMPTY_POLL, 70.0), ("irq", 10.0), ("recorder", 20.0)] {
            assert!(polling.contains(&part), "{part:?} of {polling:?}");
        }
        let seen = samples(&[("driver_rx", true, 5.0), ("app", false, 5.0)]);
        assert_eq!(
            rows([0, 0, 100], &seen),
            [("app", 50.0), (UNACCOUNTED, 50.0)]
        );
        assert_eq!(
            rows([100, 0, 0], &seen),
            [("driver_rx", 50.0), ("app", 50.0)]
        );
    }
}
