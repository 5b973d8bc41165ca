//! Counts of every interval, told as they come.
//!
//! In: events that count; out: lines, one for each event and interval, or one of JSON.

use crate::analyse::counts::{Counts, Raw, Run};
use crate::cmd::Failure;
use crate::collect::counting::{Counting, Reading};
use crate::present::stat as present;
use crate::trace::record::CounterValue;
use std::io::{self, Write};
use std::time::Duration;

/// What was read, as it is analysed.
pub fn raw(readings: Vec<Reading>) -> Vec<Raw> {
    let one = |r: Reading| Raw {
        name: r.name,
        value: r.value,
        scale: r.scale,
        unit: r.unit,
    };
    readings.into_iter().map(one).collect()
}

/// The interval that is counted now.
pub struct Intervals {
    every: Duration,
    next: Duration,
    from: Duration,
    before: Vec<Raw>,
    as_json: bool,
}

impl Intervals {
    /// The first ends so long after the start.
    pub fn new(every: Duration, as_json: bool) -> Intervals {
        Intervals {
            every,
            next: every,
            from: Duration::ZERO,
            before: Vec::new(),
            as_json,
        }
    }

    /// Tells if one is over; returns how long until the next is.
    pub fn look(&mut self, now: Duration, counting: &Counting) -> Result<Duration, Failure> {
        if now < self.next {
            return Ok(self.next - now);
        }
        let raws = raw(counting.read());
        let since = raws.iter().enumerate().map(|(at, raw)| {
            let before = self.before.get(at).and_then(|b| b.value.as_ref().ok());
            let before = before.copied().unwrap_or_default();
            Raw {
                value: raw.value.clone().map(|v| CounterValue {
                    value: v.value.saturating_sub(before.value),
                    enabled: v.enabled.saturating_sub(before.enabled),
                    running: v.running.saturating_sub(before.running),
                }),
                ..raw.clone()
            }
        });
        let run = Run {
            raw: since.collect(),
            elapsed_ns: (now - self.from).as_nanos() as u64,
            work: None,
        };
        let text = present::interval(&Counts::of(&[run]), now, self.as_json);
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(Failure::output)?;
        self.before = raws;
        self.from = now;
        while self.next <= now {
            self.next += self.every;
        }
        Ok(self.next - now)
    }
}
