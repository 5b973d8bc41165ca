//! Numbers with units: time, addresses, shares, and the map between the CPU's counter and the kernel's clock.
//!
//! In: raw numbers at the borders; out: types that do not mix. Counter ticks become time only through a [`ClockMap`].

use serde::{Deserialize, Serialize};

pub use bypassprof_wire::{Cycles, Tsc};

/// A time on CLOCK_MONOTONIC_RAW, or a length of time, in nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nanos(u64);

impl Nanos {
    /// A number of nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Nanos(ns)
    }
    /// The number of nanoseconds.
    pub const fn ns(self) -> u64 {
        self.0
    }
    /// From `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// An address in a process's memory as it ran ("actual virtual memory address").
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Avma(pub u64);

/// An address as the file's own tables state it ("stated virtual memory address").
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Svma(pub u64);

/// A byte position in a file.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct FileOffset(pub u64);

/// One reading of both clocks: the counter read just before and just after the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPair {
    /// Counter before.
    pub tsc_before: u64,
    /// CLOCK_MONOTONIC_RAW in between.
    pub time: Nanos,
    /// Counter after.
    pub tsc_after: u64,
}

impl ClockPair {
    /// The counter value taken for `time`: the middle of the two readings.
    pub const fn tsc(&self) -> u64 {
        self.tsc_before + (self.tsc_after.saturating_sub(self.tsc_before)) / 2
    }
}

/// A straight line between counter and clock, fitted to paired readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockMap {
    tsc0: u64,
    time0: u64,
    ns_per_tick: f64,
    error: Nanos,
}

impl ClockMap {
    /// The line through the first and last reading; its error is the largest distance of any reading from it plus half
    /// of that reading's own width. `None` without two readings at different times.
    pub fn fit(pairs: &[ClockPair]) -> Option<ClockMap> {
        let first = pairs.iter().min_by_key(|p| p.time)?;
        let last = pairs.iter().max_by_key(|p| p.time)?;
        let ticks = last.tsc().checked_sub(first.tsc()).filter(|&t| t > 0)?;
        let ns = last.time.since(first.time).ns();
        if ns == 0 {
            return None;
        }
        let mut map = ClockMap {
            tsc0: first.tsc(),
            time0: first.time.ns(),
            ns_per_tick: ns as f64 / ticks as f64,
            error: Nanos(0),
        };
        let error = pairs.iter().map(|p| {
            let width = (p.tsc_after.saturating_sub(p.tsc_before)) as f64 * map.ns_per_tick / 2.0;
            map.time(Tsc::from_raw(p.tsc())).ns().abs_diff(p.time.ns()) + width as u64
        });
        map.error = Nanos(error.max().unwrap_or(0));
        Some(map)
    }

    /// The clock's time at a counter value.
    pub fn time(&self, tsc: Tsc) -> Nanos {
        let ticks = tsc.raw() as i128 - self.tsc0 as i128;
        let ns = (ticks as f64 * self.ns_per_tick).round() as i128;
        Nanos((self.time0 as i128 + ns).clamp(0, u64::MAX as i128) as u64)
    }

    /// The counter's value at a time.
    pub fn tsc(&self, time: Nanos) -> Tsc {
        let ns = time.ns() as i128 - self.time0 as i128;
        let ticks = (ns as f64 / self.ns_per_tick).round() as i128;
        Tsc::from_raw((self.tsc0 as i128 + ticks).clamp(0, u64::MAX as i128) as u64)
    }

    /// A number of ticks as time.
    pub fn length(&self, cycles: Cycles) -> Nanos {
        Nanos((cycles.ticks() as f64 * self.ns_per_tick).round() as u64)
    }

    /// Nanoseconds per counter tick.
    pub fn ns_per_tick(&self) -> f64 {
        self.ns_per_tick
    }

    /// How far a mapped time may be off, as far as the readings tell.
    pub fn error(&self) -> Nanos {
        self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line passes through its readings, both ways, and reports the worst of them as its error.
    #[test]
    fn fit_and_error() {
        let pair = |tsc: u64, ns: u64| ClockPair {
            tsc_before: tsc - 20,
            time: Nanos(ns),
            tsc_after: tsc + 20,
        };
        let pairs = [
            pair(1_000, 5_000),
            pair(1_301_000, 505_030),
            pair(2_601_000, 1_005_000),
        ];
        let map = ClockMap::fit(&pairs).unwrap();
        assert_eq!(map.time(Tsc::from_raw(2_601_000)).ns(), 1_005_000);
        assert_eq!(map.tsc(Nanos(5_000)).raw(), 1_000);
        assert!(
            (map.error().ns() as i64 - 37).abs() <= 1,
            "{:?}",
            map.error()
        );
        assert!(ClockMap::fit(&pairs[..1]).is_none());
    }
}
