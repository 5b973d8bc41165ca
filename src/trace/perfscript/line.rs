//! One line of the text of `perf script`.
//!
//! In: a line; out: the first line of a sample taken apart, or whether it is a frame. It refuses to know samples.

use crate::trace::record::{Pid, Tid};
use crate::units::Nanos;

/// Whether an indented line is a frame, not the first line of a sample whose name perf moved to the right.
pub(super) fn is_frame(line: &str) -> bool {
    let first = line.split_ascii_whitespace().next().unwrap_or_default();
    u64::from_str_radix(first, 16).is_ok() && !line.ends_with(':')
}

/// A name without the position in it.
pub(super) fn without_offset(name: &str) -> &str {
    match name.rsplit_once("+0x") {
        Some((name, offset)) if offset.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => name,
    }
}

/// The first line of a sample.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'t> {
    pub(super) comm: &'t str,
    pub(super) pid: Pid,
    pub(super) tid: Tid,
    pub(super) cpu: u32,
    pub(super) time: Nanos,
    pub(super) period: u64,
    pub(super) event: &'t str,
}

impl<'t> Head<'t> {
    pub(super) fn parse(line: &'t str) -> Option<Head<'t>> {
        // The time is the first word like `12.345678:`; a name may hold anything.
        let mut from = 0;
        let (before, time, after) = loop {
            let colon = from + line[from..].find(':')?;
            let start = line[..colon].rfind(' ')? + 1;
            let (word, after) = (&line[start..colon], &line[colon + 1..]);
            match seconds(word) {
                Some(time) if after.is_empty() || after.starts_with(' ') => {
                    break (line[..start].trim(), time, after.trim());
                }
                _ => from = colon + 1,
            }
        };
        let (before, cpu) = match before.strip_suffix(']').and_then(|b| b.rsplit_once('[')) {
            Some((rest, cpu)) if cpu.bytes().all(|b| b.is_ascii_digit()) && !cpu.is_empty() => {
                (rest.trim_end(), cpu.parse().ok()?)
            }
            _ => (before, 0),
        };
        let (comm, numbers) = before.rsplit_once(' ')?;
        let (pid, tid) = match numbers.split_once('/') {
            Some((pid, tid)) => (pid.parse().ok()?, tid.parse().ok()?),
            None => {
                let tid: Tid = numbers.parse().ok()?;
                (tid, tid)
            }
        };
        let (period, event) = match after.split_once(' ') {
            Some((period, event)) if period.bytes().all(|b| b.is_ascii_digit()) => {
                (period.parse().ok()?, event.trim())
            }
            _ => (1, after),
        };
        let event = event.split_ascii_whitespace().next().unwrap_or("samples:");
        Some(Head {
            comm: comm.trim(),
            pid,
            tid,
            cpu,
            time,
            period,
            event: event.trim_end_matches(':'),
        })
    }
}

/// `2803.666021` to the nanosecond.
fn seconds(word: &str) -> Option<Nanos> {
    let (whole, part) = word.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.len() <= 10 && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let scale = 10u64.pow(9 - part.len() as u32);
    let ns = whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    Some(Nanos::from_ns(ns + part.parse::<u64>().ok()? * scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms that perf prints with and without CPU, process and period; names may hold blanks and colons.
    #[test]
    fn heads() {
        let head = Head::parse("sh 24837  2803.666021:    1003009 cpu-clock:pppH: ").unwrap();
        let expected = Head {
            comm: "sh",
            pid: 24837,
            tid: 24837,
            cpu: 0,
            time: Nanos::from_ns(2_803_666_021_000),
            period: 1_003_009,
            event: "cpu-clock:pppH",
        };
        assert_eq!(head, expected);
        let head = Head::parse("my job: x   7/9   [003] 1.5:  cycles:u: 401000 f (a)").unwrap();
        assert_eq!(
            (head.comm, head.pid, head.tid, head.cpu),
            ("my job: x", 7, 9, 3)
        );
        assert_eq!(
            (head.time.ns(), head.period, head.event),
            (1_500_000_000, 1, "cycles:u")
        );
        for none in ["", "sh 1", "sh 1 2.5", "sh x 2.5: 1 e:", "a;b;c 7"] {
            assert_eq!(Head::parse(none), None, "{none}");
        }
    }

    /// Offsets go, operators stay.
    #[test]
    fn offsets() {
        assert_eq!(without_offset("main+0x1f"), "main");
        assert_eq!(without_offset("operator+(A, B)"), "operator+(A, B)");
    }
}
