//! The option that names events, of `record` and `stat`.
//!
//! In: what was written behind `-e`; out: events of this machine. What cannot be had fails before anything is started.

use super::Failure;
use crate::collect::events::{Group, Machine};

/// Options of `record` and `stat`.
#[derive(Debug, Default, clap::Args)]
pub struct EventArgs {
    /// Events in perf's notation: cycles:u, {cycles,instructions}, cpu/event=0x3c/, r1a8, net:*, ./program:function (may
    /// be repeated; `bypassprof list` shows them)
    #[arg(short = 'e', long = "event", value_name = "EVENTS")]
    events: Vec<String>,
}

impl EventArgs {
    /// Whether none were named.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events.
    pub fn groups(&self, machine: &Machine) -> Result<Vec<Group>, Failure> {
        let mut groups = Vec::new();
        for text in &self.events {
            let found = machine.encode(text);
            groups.extend(found.map_err(|e| {
                Failure::failed(e).hint("`bypassprof list` for the events of this machine")
            })?);
        }
        Ok(groups)
    }
}
