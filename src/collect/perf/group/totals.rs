//! What open events have counted, and what of it has no samples.
//!
//! In: [`Events`]; out: totals in the order of a plan's sources. It refuses to know what they mean.

use super::{Events, Leader};
use crate::collect::events::Encoded;
use crate::trace::record::CounterValue;
use crate::units::Nanos;

/// What has no samples where events are not inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsampled {
    /// Threads that were opened a moment after they began.
    pub began_sooner: u64,
    /// Threads that ended before they could be opened.
    pub ended_sooner: u64,
    /// Threads that could not be opened, and why the first of them.
    pub refused: (u64, Option<String>),
    /// CPU time before threads were opened, and of all.
    pub cpu: (Nanos, Nanos),
}

impl Events {
    /// Totals in the order of the plan's sources.
    pub fn totals(&self) -> Vec<Option<CounterValue>> {
        let mut totals = self.sampled_totals();
        for counters in &self.counted {
            let mut total = None;
            for stat in counters.iter().filter_map(|c| c.stat().ok()) {
                let times = (stat.time_enabled, stat.time_running);
                add(&mut total, stat.count, times);
            }
            totals.push(total);
        }
        totals
    }

    /// Totals of what is sampled and its members.
    pub(super) fn sampled_totals(&self) -> Vec<Option<CounterValue>> {
        let mut totals = self.before.clone();
        self.sum(self.all_leaders(), &mut totals);
        totals
    }

    /// Adds what these counted.
    pub(super) fn sum<'a>(
        &self,
        leaders: impl IntoIterator<Item = &'a Leader>,
        totals: &mut Vec<Option<CounterValue>>,
    ) {
        let all: usize = self.plan.sampled.iter().map(|s| 1 + s.members.len()).sum();
        totals.resize(all, None);
        for (place, group) in leaders {
            let Ok(stat) = group.leader().stat() else {
                continue;
            };
            let first = usize::from(self.plan.place_of(*place));
            let enabled = stat.time_enabled.map(|t| t / self.per_task);
            let times = (enabled, stat.time_running);
            add(&mut totals[first], stat.count, times);
            let members = self.plan.sampled[*place].members.len();
            let own = &mut totals[first + 1..first + 1 + members];
            for (total, member) in own.iter_mut().zip(&stat.siblings) {
                add(total, member.count, times);
            }
        }
    }

    /// What has no samples: of threads that were made later, where events are not inherited.
    pub fn unsampled(&self) -> Option<Unsampled> {
        if !self.plan.per_thread {
            return None;
        }
        let unsampled = &self.unsampled;
        let several = unsampled.began_sooner + unsampled.ended_sooner + unsampled.refused.0 > 0;
        let clock = |c: &Encoded| c.set.name == "task-clock";
        let clock = self.plan.counted.iter().position(clock)?;
        // The clock is inherited.
        let totals = self.totals();
        let all = totals[totals.len() - self.counted.len() + clock].unwrap_or_default();
        let opened = totals.first().copied().flatten().unwrap_or_default();
        let missed = all.value.saturating_sub(opened.enabled);
        several.then(|| Unsampled {
            cpu: (Nanos::from_ns(missed), Nanos::from_ns(all.value)),
            ..unsampled.clone()
        })
    }
}

fn add(total: &mut Option<CounterValue>, count: u64, times: (Option<u64>, Option<u64>)) {
    let total = total.get_or_insert_default();
    total.value += count;
    total.enabled += times.0.unwrap_or(0);
    total.running += times.1.unwrap_or(0);
}
