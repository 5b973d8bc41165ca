//! Events that tell what threads do, where those that are sampled cannot: a thread's own say nothing of the threads it makes.
//!
//! In: threads; out: records of them, and of all that they make, in the rings of a plan. It refuses to know what is sampled.

use super::attr::Plan;
use super::rings::Rings;
use crate::trace::record::Tid;
use perf_event_open::config::{Cpu, Proc};
use perf_event_open::count::Counter;
use perf_event_open::event::sw::Software;
use std::io;

/// Events that count nothing, inherited.
#[derive(Default)]
pub struct Tellers {
    tasks: Vec<Counter>,
    switches: Vec<Counter>,
}

impl Tellers {
    /// Lets what a thread does on a CPU be told into that CPU's ring, which is there.
    pub fn open(
        &mut self,
        plan: &Plan,
        rings: &mut Rings,
        (tid, cpu): (Tid, u32),
        on_exec: bool,
    ) -> io::Result<()> {
        for (opts, all) in [
            (plan.of_tasks(on_exec), &mut self.tasks),
            (plan.of_switches(on_exec), &mut self.switches),
        ] {
            let event = Counter::new(Software::Dummy, (Proc(tid), Cpu(cpu)), &opts)?;
            let no_ring = |_: &Counter| Err(io::ErrorKind::NotFound.into());
            rings.join(cpu, &event, no_ring)?;
            all.push(event);
        }
        Ok(())
    }

    /// Switches are told from here on.
    pub fn enable(&self) -> io::Result<()> {
        self.switches.iter().try_for_each(Counter::enable)
    }

    /// Switches are told no more.
    pub fn disable(&self) -> io::Result<()> {
        self.switches.iter().try_for_each(Counter::disable)
    }
}
