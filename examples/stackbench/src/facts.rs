//! The machine in general words, and the date: what a table needs beside it to mean something.
//!
//! In: `/proc` and the clock; out: words and numbers. Names of machines and models stay out: they tell who measured, not
//! what.

use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where and when.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Facts {
    /// Day, UTC, as in ISO 8601.
    pub date: String,
    /// Minute of the day, UTC.
    pub time: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Instruction set.
    pub architecture: String,
    /// Whether a hypervisor is underneath.
    pub virtual_machine: bool,
    /// The kernel's release, without what its builder added.
    pub kernel: String,
    /// Memory, in GiB.
    pub memory_gib: u64,
    /// Processes that could run, averaged over a minute, before anything of ours did.
    pub load: f64,
}

impl Facts {
    /// Of here and now.
    pub fn gather() -> Facts {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = seconds.map_or(0, |d| d.as_secs());
        let (year, month, day) = civil(seconds / 86_400);
        let release = read("/proc/sys/kernel/osrelease");
        let memory = read("/proc/meminfo");
        let kib = memory.split_whitespace().nth(1);
        Facts {
            date: format!("{year}-{month:02}-{day:02}"),
            time: format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            architecture: std::env::consts::ARCH.to_string(),
            virtual_machine: read("/proc/cpuinfo").contains(" hypervisor"),
            kernel: release
                .trim()
                .split(['-', '+'])
                .next()
                .unwrap_or_default()
                .to_string(),
            memory_gib: kib.and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) >> 20,
            load: load(),
        }
    }

    /// One sentence.
    pub fn words(&self) -> String {
        format!(
            "{} {} UTC, a {}machine of {} CPUs ({}) and {} GiB, Linux {}, load average {:.1} at the beginning",
            self.date,
            self.time,
            if self.virtual_machine { "virtual " } else { "" },
            self.cpus,
            self.architecture,
            self.memory_gib,
            self.kernel,
            self.load
        )
    }
}

/// The load average of a minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|f| f.parse().ok()).unwrap_or(0.0)
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = 365 + u64::from(leap(year));
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    for (month, length) in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .into_iter()
        .enumerate()
    {
        if days < length {
            return (year, month as u64 + 1, days + 1);
        }
        days -= length;
    }
    (year, 12, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first day, leap days, and one after a century without.
    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_782), (2026, 11, 25));
        assert_eq!(civil(47_540), (2100, 2, 28));
        assert_eq!(civil(47_541), (2100, 3, 1));
    }
}
