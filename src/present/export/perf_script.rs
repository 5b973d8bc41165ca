//! The text of `perf script`: a sample with what its tracepoint recorded, its stack innermost first, an empty line.
//!
//! Times are those of the recording's clock. A function that was inlined says `(inlined)` for its module, as perf does.
//! Samples of all events are written, each with its event's name.

use super::{Moments, thread_name};
use crate::analyse::Profile;
use crate::analyse::tape::{Moment, Sampled};
use crate::present::style::printable;
use std::io::{self, Write};

/// Writes samples as they come.
pub struct PerfScript<W> {
    out: W,
}

impl<W: Write> PerfScript<W> {
    /// Begins with facts as `perf script --header` has them.
    pub fn new(mut out: W, profile: &Profile) -> io::Result<PerfScript<W>> {
        let session = &profile.session;
        let facts = [
            ("hostname", &session.host),
            ("os release", &session.kernel),
            ("arch", &session.arch),
            ("cpudesc", &session.cpu_model),
        ];
        writeln!(out, "# ========")?;
        for (name, value) in facts.iter().filter(|f| !f.1.is_empty()) {
            writeln!(out, "# {name} : {}", printable(value))?;
        }
        writeln!(out, "# {}", profile.trust.line())?;
        writeln!(out, "# ========\n#")?;
        Ok(PerfScript { out })
    }

    fn sample(&mut self, sample: &Sampled, profile: &Profile) -> io::Result<()> {
        let row = &profile.threads[sample.thread];
        let ns = profile.session.started.ns() + sample.time.ns();
        let events = &profile.session.events;
        let event = events.get(usize::from(sample.event));
        writeln!(
            self.out,
            "{} {}/{} [{:03}] {}.{:09}: {:>10} {}: {}",
            thread_name(row),
            row.pid,
            row.tid,
            sample.cpu,
            ns / 1_000_000_000,
            ns % 1_000_000_000,
            sample.period,
            event.map_or(profile.event.as_str(), |e| e.name.as_str()),
            printable(&sample.fields)
        )?;
        let mut frames = sample.addresses.iter().peekable();
        while let Some(&(address, frame)) = frames.next() {
            let frame = profile.stacks.get(frame);
            // Of several functions at one address all but the outermost are inlined.
            let inlined = frames
                .peek()
                .is_some_and(|next| next.0 == address && address != 0);
            let name = if frame.why.is_some() && !frame.made {
                "[unknown]"
            } else {
                frame.name.as_str()
            };
            let module = if inlined {
                "inlined"
            } else {
                frame.module.as_str()
            };
            let module = match (module, frame.kernel) {
                ("[kernel]", _) => "[kernel.kallsyms]",
                (module, _) => module,
            };
            writeln!(
                self.out,
                "\t{address:16x} {} ({})",
                printable(name),
                printable(module)
            )?;
        }
        writeln!(self.out)
    }
}

impl<W: Write> Moments for PerfScript<W> {
    fn moment(&mut self, moment: &Moment, profile: &Profile) -> io::Result<()> {
        match moment {
            Moment::Sample(sample) => self.sample(sample, profile),
            _ => Ok(()),
        }
    }

    fn wants_all_events(&self) -> bool {
        true
    }

    fn finish(mut self: Box<Self>, _: &Profile) -> io::Result<()> {
        self.out.flush()
    }
}
