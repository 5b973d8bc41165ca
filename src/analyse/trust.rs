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
    /// Share of sample weight whose innermost frame has no name.
    pub stacks_unknown_share: f64,
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
    /// The line on every output.
    pub fn line(&self) -> String {
        let percent = |share: f64| {
            if share > 0.0 && share < 0.0005 {
                "<0.1".to_owned()
            } else {
                format!("{:.1}", share * 100.0)
            }
        };
        let mut line = format!(
            "trust: {} samples, {} lost; stacks {} % truncated, {} % unknown; {} events, {} dropped; clock +-{}; recorder {}",
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

    /// Nothing that is missing is left out, and the unknown is not zero.
    #[test]
    fn line_says_it_all() {
        let trust = Trust {
            samples: 10,
            samples_lost: 2,
            stacks_unknown_share: 0.0001,
            rings_unreached: 3,
            damage: Some("cut short".into()),
            filtered: Some("only cpu 1".into()),
            ..Trust::default()
        };
        assert_eq!(
            trust.line(),
            "trust: 10 samples, 2 lost; stacks 0.0 % truncated, <0.1 % unknown; 0 events, 0 dropped; \
             clock +-unknown; recorder unknown; 3 rings not reached; file damaged: cut short; only cpu 1"
        );
    }
}
