//! What the recorder itself may use: it samples less often rather than take more.
//!
//! In: a share of a CPU; out: a lower rate, and a notice of it. It refuses to know what else takes time.

use super::Recorder;
use crate::collect::counting::Whom;
use crate::collect::{CollectError, Target, cpu_time, proc};
use crate::trace::RecordSink;
use crate::trace::record::{Meta, Notice};
use std::time::{Duration, Instant};

/// Between two looks at what the recorder itself uses.
const BUDGET_EVERY: Duration = Duration::from_secs(1);
/// The rate is not lowered below this.
const LOWEST_HZ: u64 = 10;

impl<S: RecordSink> Recorder<S> {
    /// Samples less often if the recorder uses more than it may.
    pub(super) fn keep_to_budget(&mut self) -> Result<(), CollectError> {
        let (Some(budget), true) = (self.budget, self.running) else {
            return Ok(());
        };
        let (since, used_then) = self.spent;
        if since.elapsed() < BUDGET_EVERY {
            return Ok(());
        }
        let used = cpu_time();
        let share = used.since(used_then).ns() as f64 / since.elapsed().as_nanos() as f64;
        self.spent = (Instant::now(), used);
        let hz = self.events.frequency_hz();
        let lower = ((hz as f64 * budget / share * 0.8) as u64).clamp(LOWEST_HZ, hz);
        if share <= budget || lower == hz {
            return Ok(());
        }
        self.take();
        let whom = match &self.target {
            Target::Starting(..) | Target::Running(_) => {
                let mut tids = Vec::new();
                for pid in self.processes() {
                    tids.extend(proc::threads(pid).unwrap_or_default());
                }
                Whom::Tasks(tids)
            }
            other => other.whom()?,
        };
        match self.events.resample(lower, &whom) {
            Ok(()) => {}
            // All of it ended meanwhile.
            Err(e) if e.source.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        // Opening events anew has its price, once: it is none of the lower rate's.
        self.spent = (Instant::now(), cpu_time());
        let notice = Notice {
            id: "budget".to_string(),
            text: format!(
                "sampling at {lower} Hz from {:.1} s on, not {hz}: the recorder used {:.1} % of a CPU and may use {:.1} %",
                self.started.elapsed().as_secs_f64(),
                share * 100.0,
                budget * 100.0
            ),
        };
        self.tally.notices.push(notice.clone());
        self.batch.metas.push(Meta::Notice(notice));
        Ok(())
    }
}
