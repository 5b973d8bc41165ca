//! Which events this machine has, each tried on this very process.
//!
//! In: a [`Machine`]; out: [`Listed`] events with the reason where one cannot be had. It refuses to count anything.

use super::generic;
use super::machine::Machine;
use crate::collect::counting::{Counting, Whom};
use crate::collect::proc;

/// An event that users may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// `hardware`, `software`, `cache`, the PMU's name, `tracepoint`.
    pub kind: String,
    /// As it is written behind `-e`.
    pub name: String,
    /// What it stands for, or its other names.
    pub about: String,
    /// Why it cannot be had here.
    pub why: Option<String>,
}

/// All of them, kind by kind.
pub fn list(machine: &Machine) -> Vec<Listed> {
    let mut listed = Vec::new();
    let tried = |kind: &str, name: &str, about: String| Listed {
        kind: kind.to_owned(),
        name: name.to_owned(),
        about,
        why: why(machine, name),
    };
    let kinds = [
        ("hardware", generic::HARDWARE_NAMES),
        ("software", generic::SOFTWARE_NAMES),
    ];
    for (kind, names) in kinds {
        for names in names {
            listed.push(tried(kind, names[0], names[1..].join(", ")));
        }
    }
    for name in generic::cache_names() {
        listed.push(tried("cache", &name, String::new()));
    }
    for pmu in machine.pmus() {
        for (name, named) in &pmu.events {
            let unit = match named.unit.as_str() {
                "" => String::new(),
                unit => format!(" in {unit}"),
            };
            let about = format!("{}{unit}", named.terms);
            listed.push(tried(&pmu.name, &format!("{}/{name}/", pmu.name), about));
        }
        if !pmu.formats.is_empty() {
            let options: Vec<_> = pmu.formats.keys().map(String::as_str).collect();
            listed.push(Listed {
                kind: pmu.name.clone(),
                name: format!("{}/.../", pmu.name),
                about: format!("takes {}", options.join(", ")),
                why: None,
            });
        }
    }
    // One is tried for all: there are thousands.
    let tracepoints = machine.tracepoints();
    let reason = tracepoints.first().and_then(|t| why(machine, t));
    listed.extend(tracepoints.into_iter().map(|name| Listed {
        kind: "tracepoint".to_owned(),
        name,
        about: String::new(),
        why: reason.clone(),
    }));
    listed
}

/// Why an event cannot be counted here; `None` if it can.
fn why(machine: &Machine, name: &str) -> Option<String> {
    let groups = match machine.encode(name) {
        Ok(groups) => groups,
        Err(e) => return Some(e.to_string()),
    };
    let whole_cpus = groups
        .iter()
        .flat_map(|g| &g.events)
        .any(|e| e.set.cpus.is_some());
    let whom = if whole_cpus {
        Whom::Cpus(proc::cpus())
    } else {
        // Thread 0 is whoever asks.
        Whom::Tasks(vec![0])
    };
    let counting = Counting::open(groups, &whom, false, machine);
    counting.read().into_iter().find_map(|r| r.value.err())
}
