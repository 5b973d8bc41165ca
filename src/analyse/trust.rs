//! How far a recording can be trusted, in numbers and in one line that goes on every output.

use serde::Serialize;

/// What was recorded and what is missing. `None` is "not known".
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trust {
    /// Samples read.
    pub samples: u64,
    /// Samples that the kernel could not deliver.
    pub samples_lost: u64,
    /// Share of sample weight whose stacks lack their outer part.
    pub stacks_truncated_share: f64,
    /// Share of sample weight whose innermost frame belongs to no known function.
    pub stacks_unknown_share: f64,
    /// Share of sample weight whose innermost function is known by where it begins, but has no symbol.
    pub stacks_without_symbol_share: f64,
    /// Probe events read.
    pub events: u64,
    /// Slots that did not fit into rings, or were overwritten before they were read.
    pub events_dropped: u64,
    /// Rings that the recorder could not reach or that were no rings.
    pub rings_unreached: u64,
    /// How far apart the two clocks may be.
    pub clock_error_ns: Option<u64>,
    /// CPU time of the recorder for each second of recording, in CPUs.
    pub observer_share: Option<f64>,
    /// Records that came too late to be put in their place.
    pub late_records: u64,
    /// What is wrong with the file, if it was cut short or damaged.
    pub damage: Option<String>,
    /// Which part of the recording all this is of; `None` is all of it.
    pub filtered: Option<String>,
}

impl Trust {
    /// Of an answer that rests on two recordings: counts add up, of all else the worse one counts.
    pub fn with(&self, other: &Trust) -> Trust {
        let damages: Vec<&str> = [self, other]
            .iter()
            .filter_map(|t| t.damage.as_deref())
            .collect();
        let shares = self.observer_share.zip(other.observer_share);
        Trust {
            samples: self.samples + other.samples,
            samples_lost: self.samples_lost.saturating_add(other.samples_lost),
            stacks_truncated_share: self
                .stacks_truncated_share
                .max(other.stacks_truncated_share),
            stacks_unknown_share: self.stacks_unknown_share.max(other.stacks_unknown_share),
            stacks_without_symbol_share: self
                .stacks_without_symbol_share
                .max(other.stacks_without_symbol_share),
            events: self.events + other.events,
            events_dropped: self.events_dropped.saturating_add(other.events_dropped),
            rings_unreached: self.rings_unreached.saturating_add(other.rings_unreached),
            clock_error_ns: (self.clock_error_ns.zip(other.clock_error_ns)).map(|(a, b)| a.max(b)),
            observer_share: shares.map(|(a, b)| a.max(b)),
            late_records: self.late_records + other.late_records,
            damage: (!damages.is_empty()).then(|| damages.join("; ")),
            filtered: self.filtered.clone().or_else(|| other.filtered.clone()),
        }
    }

    /// The line on every output.
    pub fn line(&self) -> String {
        let percent = |share: f64| {
            if share > 0.0 && share < 0.0005 {
                "<0.1".to_owned()
            } else {
                format!("{:.1}", share * 100.0)
            }
        };
        let nameless = match self.stacks_without_symbol_share {
            share if share > 0.0 => format!(", {} % without a symbol", percent(share)),
            _ => String::new(),
        };
        let mut line = format!(
            "trust: {} samples, {} lost; stacks {} % truncated, {} % unknown{nameless}; {} events, {} dropped; clock +-{}; recorder {}",
            self.samples,
            self.samples_lost,
            percent(self.stacks_truncated_share),
            percent(self.stacks_unknown_share),
            self.events,
            self.events_dropped,
            self.clock_error_ns
                .map_or("unknown".into(), |ns| format!("{ns} ns")),
            self.observer_share
                .map_or("unknown".into(), |s| format!("{} % of a CPU", percent(s))),
        );
        if self.rings_unreached > 0 {
            line.push_str(&format!("; {} rings not reached", self.rings_unreached));
        }
        if self.late_records > 0 {
            line.push_str(&format!("; {} late", self.late_records));
        }
        if let Some(damage) = &self.damage {
            line.push_str("; file damaged: ");
            line.push_str(damage);
        }
        if let Some(part) = &self.filtered {
            line.push_str("; ");
            line.push_str(part);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two recordings the worse counts, and what one does not know both do not.
    #[test]
    fn of_two() {
        let one = Trust {
            samples: 10,
            clock_error_ns: Some(20),
            damage: Some("cut short".into()),
            ..Trust::default()
        };
        let other = Trust {
            samples: 5,
            clock_error_ns: Some(30),
            stacks_unknown_share: 0.1,
            stacks_without_symbol_share: 0.2,
            ..Trust::default()
        };
        let both = one.with(&other);
        assert_eq!((both.samples, both.clock_error_ns), (15, Some(30)));
        assert_eq!(
            (both.stacks_unknown_share, both.observer_share),
            (0.1, None)
        );
        assert_eq!(both.stacks_without_symbol_share, 0.2);
        assert_eq!(both.damage.as_deref(), Some("cut short"));
    }

    /// Nothing that is missing is left out, and the unknown is not zero.
    #[test]
    fn line_says_it_all() {
        let trust = Trust {
            samples: 10,
            samples_lost: 2,
            stacks_unknown_share: 0.0001,
            stacks_without_symbol_share: 0.02,
            rings_unreached: 3,
            damage: Some("cut short".into()),
            filtered: Some("only cpu 1".into()),
            ..Trust::default()
        };
        assert_eq!(
            trust.line(),
            "trust: 10 samples, 2 lost; stacks 0.0 % truncated, <0.1 % unknown, 2.0 % without a symbol; 0 events, 0 dropped; \
             clock +-unknown; recorder unknown; 3 rings not reached; file damaged: cut short; only cpu 1"
        );
    }
}
