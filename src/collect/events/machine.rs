//! What this machine has: its PMUs, its tracepoints, and events of users found among them.
//!
//! In: `/sys` and tracefs; out: [`Encoded`] events as the kernel takes them, or why there are none. It refuses to open
//! them and to know whom they count.

use super::encode::{Encoded, Group, Set};
use super::generic;
use super::grammar::{self, Memory, Spec, SyntaxError, Term, Uprobe, What};
use super::near::nearest;
use super::pmu::{Options, Pmu, TermError, Words};
use super::registered::Registered;
use super::uprobe::{self, Missing};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where events are looked for.
#[derive(Clone, Debug)]
pub struct Machine {
    tracefs: Option<PathBuf>,
    pmus: Vec<Pmu>,
}

/// An event that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is not written as one.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// There is none of that name.
    #[error("event {event}: {why}{}", meant(.nearest))]
    Unknown {
        /// As it was written.
        event: String,
        /// What is missing.
        why: String,
        /// What may have been meant.
        nearest: Vec<String>,
    },
}

fn meant(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    format!("; is {} meant?", nearest.join(" or "))
}

impl Machine {
    /// This machine.
    pub fn here() -> Machine {
        let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let mounted = |p: &&str| Path::new(p).join("events").is_dir();
        let tracefs = places.iter().find(|p| mounted(p)).map(PathBuf::from);
        Machine::at(Path::new("/sys"), tracefs)
    }

    /// A machine whose directories lie elsewhere.
    pub fn at(sysfs: &Path, tracefs: Option<PathBuf>) -> Machine {
        let devices = fs::read_dir(sysfs.join("bus/event_source/devices"));
        let devices = devices.into_iter().flatten().flatten();
        let mut pmus: Vec<_> = devices.filter_map(|d| Pmu::read(&d.path())).collect();
        pmus.sort_by(|a, b| a.name.cmp(&b.name));
        Machine { tracefs, pmus }
    }

    /// Its PMUs, by name.
    pub fn pmus(&self) -> &[Pmu] {
        &self.pmus
    }

    /// Whether the kernel has found counters of the CPU.
    pub fn has_cpu_counters(&self) -> bool {
        let core =
            |p: &Pmu| p.name == "cpu" || p.name.starts_with("cpu_") || p.name.starts_with("armv");
        self.pmus.iter().any(core)
    }

    /// Where tracefs is mounted.
    pub fn tracefs(&self) -> Option<&Path> {
        self.tracefs.as_deref()
    }

    /// All tracepoints as `system:name`, sorted; none without tracefs.
    pub fn tracepoints(&self) -> Vec<String> {
        let mut names = Vec::new();
        for system in self.trace_names("") {
            let inside = self.trace_names(&system).into_iter();
            names.extend(inside.map(|name| format!("{system}:{name}")));
        }
        names.sort();
        names
    }

    /// Directories below `events/` or below one of its systems.
    fn trace_names(&self, system: &str) -> Vec<String> {
        let Some(tracefs) = &self.tracefs else {
            return Vec::new();
        };
        let entries = fs::read_dir(tracefs.join("events").join(system));
        let entries = entries.into_iter().flatten().flatten();
        let is_dir = |e: &fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
        let mut names: Vec<_> = entries
            .filter(is_dir)
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The text of the kernel that says what lies where in what an event records, if it records anything.
    pub fn format(&self, set: &Set) -> Option<String> {
        if let Some(registered) = &set.registered {
            return Some(uprobe::format(registered.is_return));
        }
        if let Some((system, name)) = &set.tracepoint {
            let file = self.tracefs.as_ref()?.join("events");
            return fs::read_to_string(file.join(system).join(name).join("format")).ok();
        }
        let returns = self.uprobes()?.formats.get("retprobe");
        let mut ret = Words::default();
        returns.map(|f| f.set(1, &mut ret));
        let is_return = ret.config != 0 && set.words.config & ret.config == ret.config;
        set.path.as_ref().map(|_| uprobe::format(is_return))
    }

    fn uprobes(&self) -> Option<&Pmu> {
        self.pmus.iter().find(|p| p.name == "uprobe")
    }

    /// Every name that an event may have without options.
    pub fn names(&self) -> Vec<String> {
        let generic = generic::HARDWARE_NAMES
            .iter()
            .chain(generic::SOFTWARE_NAMES)
            .flat_map(|names| names.iter().map(|n| (*n).to_owned()));
        let of_pmus = self.pmus.iter().flat_map(|p| p.events.keys().cloned());
        generic
            .chain(generic::cache_names())
            .chain(of_pmus)
            .collect()
    }

    /// Reads a list of events as users write it, and finds each on this machine.
    pub fn encode(&self, text: &str) -> Result<Vec<Group>, EventError> {
        let groups = grammar::parse(text)?;
        groups.iter().map(|g| self.group(g)).collect()
    }

    fn group(&self, group: &grammar::Group) -> Result<Group, EventError> {
        let mut events = Vec::new();
        for spec in &group.events {
            for set in self.spec(spec)? {
                let leads = events.is_empty();
                events.push(Encoded::new(set, spec, &group.modifiers, leads));
            }
        }
        let weak = group.modifiers.weak || group.events.iter().any(|e| e.modifiers.weak);
        // Names that stand for several events make a group only between braces.
        let braced = group.braced;
        Ok(Group {
            events,
            weak,
            braced,
        })
    }

    fn spec(&self, spec: &Spec) -> Result<Vec<Set>, EventError> {
        let event = spec.what.to_string();
        let set = |ty, config| Set {
            name: event.clone(),
            ty,
            words: Words {
                config,
                ..Words::default()
            },
            ..Set::default()
        };
        match &spec.what {
            What::Raw(config) => Ok(vec![set(generic::RAW, *config)]),
            What::Number(ty, config) => Ok(vec![set(*ty, *config)]),
            What::Name(name) => self.name(&event, name),
            What::Options(name, terms) => self.options(&event, name, terms),
            What::Memory(memory) => Ok(vec![of_memory(set(generic::BREAKPOINT, 0), memory)]),
            What::Tracepoint(system, name) => self.tracepoint(&event, system, name),
            What::Uprobe(probe) => self.uprobe(&event, probe).map(|set| vec![set]),
        }
    }

    fn name(&self, event: &str, name: &str) -> Result<Vec<Set>, EventError> {
        if generic::generic(name).is_some() {
            return self.options(event, name, &[]);
        }
        let alias = [Term {
            key: name.to_owned(),
            value: None,
        }];
        let named = self.pmus.iter().filter(|p| p.events.contains_key(name));
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            return Err(self.unknown(event, name, false));
        }
        self.of_pmus(event, &named, &alias)
    }

    fn options(&self, event: &str, name: &str, terms: &[Term]) -> Result<Vec<Set>, EventError> {
        if let Some((ty, config)) = generic::generic(name) {
            let options = Options::of_generic(config, terms);
            let options = options.map_err(|e| self.term(event, None, &e))?;
            return Ok(vec![Set::of(event, ty, options)]);
        }
        let named: Vec<_> = self.pmus.iter().filter(|p| p.answers_to(name)).collect();
        if named.is_empty() {
            return Err(self.unknown(event, name, true));
        }
        self.of_pmus(event, &named, terms)
    }

    /// The same event of each PMU of a family.
    fn of_pmus(&self, event: &str, pmus: &[&Pmu], terms: &[Term]) -> Result<Vec<Set>, EventError> {
        let mut sets = Vec::new();
        for &pmu in pmus {
            let options = pmu.options(terms);
            let options = options.map_err(|e| self.term(event, Some(pmu), &e))?;
            let mut set = Set::of(event, pmu.ty, options);
            if pmus.len() > 1 {
                set.name = format!("{} ({})", set.name, pmu.name);
            }
            set.cpus = pmu.cpus.as_deref().map(crate::collect::proc::parse_cpus);
            sets.push(set);
        }
        Ok(sets)
    }

    fn unknown(&self, event: &str, name: &str, is_pmu: bool) -> EventError {
        let names = self.names();
        let pmus = self.pmus.iter().map(|p| p.name.as_str());
        let why = if is_pmu {
            let has: Vec<_> = pmus.clone().collect();
            format!("this machine has no PMU {name}, only {}", has.join(", "))
        } else if ["duration_time", "user_time", "system_time"].contains(&name) {
            "the time that passed and the CPU time are told without asking".to_owned()
        } else {
            "there is no event of that name".to_owned()
        };
        EventError::Unknown {
            event: event.to_owned(),
            why,
            nearest: nearest(name, names.iter().map(String::as_str).chain(pmus)),
        }
    }

    fn term(&self, event: &str, pmu: Option<&Pmu>, error: &TermError) -> EventError {
        let mut near = Vec::new();
        let why = match error {
            TermError::Unknown(key) => match pmu {
                Some(pmu) => {
                    let keys = pmu.formats.keys().chain(pmu.events.keys());
                    near = nearest(key, keys.map(String::as_str));
                    let formats: Vec<_> = pmu.formats.keys().map(String::as_str).collect();
                    format!(
                        "PMU {} has no option and no event {key}; its options are {}",
                        pmu.name,
                        formats.join(", ")
                    )
                }
                None => format!("it has no option {key}"),
            },
            TermError::TooLarge { key, most } => format!("{key} is at most {most:#x}"),
            TermError::Value(key) => format!("{key} takes a value of another kind"),
            TermError::Unsupported(key) => {
                format!("{key} is an option of perf's recording; it has no meaning here")
            }
            TermError::File(why) => format!("the kernel's own description of it: {why}"),
        };
        EventError::Unknown {
            event: event.to_owned(),
            why,
            nearest: near,
        }
    }

    fn tracepoint(&self, event: &str, system: &str, name: &str) -> Result<Vec<Set>, EventError> {
        if !self.trace_names("").iter().any(|s| fits(system, s)) && Path::new(system).is_file() {
            // A program of this directory, and one of its functions.
            let probe = Uprobe {
                path: system.to_owned(),
                symbol: name.to_owned(),
                offset: 0,
                ret: false,
            };
            return self.uprobe(event, &probe).map(|set| vec![set]);
        }
        let refused = |why: &str, nearest| EventError::Unknown {
            event: event.to_owned(),
            why: why.to_owned(),
            nearest,
        };
        let Some(tracefs) = &self.tracefs else {
            return Err(refused(
                "tracepoints are found through tracefs, which is not mounted or may not be read: \
                 `mount -t tracefs tracefs /sys/kernel/tracing` as root",
                Vec::new(),
            ));
        };
        let mut sets = Vec::new();
        for system in self.trace_names("").iter().filter(|s| fits(system, s)) {
            for name in self.trace_names(system).iter().filter(|n| fits(name, n)) {
                let file = tracefs.join("events").join(system).join(name).join("id");
                let id = fs::read_to_string(file).ok();
                if let Some(id) = id.and_then(|t| t.trim().parse().ok()) {
                    let mut set = Set {
                        name: format!("{system}:{name}"),
                        ty: generic::TRACEPOINT,
                        tracepoint: Some((system.clone(), name.clone())),
                        ..Set::default()
                    };
                    set.words.config = id;
                    sets.push(set);
                }
            }
        }
        if sets.is_empty() {
            let all = self.tracepoints();
            let near = nearest(event, all.iter().map(String::as_str));
            return Err(refused("there is no such tracepoint", near));
        }
        Ok(sets)
    }

    fn uprobe(&self, event: &str, probe: &Uprobe) -> Result<Set, EventError> {
        let refused = |why: String, nearest| EventError::Unknown {
            event: event.to_owned(),
            why,
            nearest,
        };
        let pmu = self.uprobes().ok_or_else(|| {
            let why = "this kernel has no uprobes (CONFIG_UPROBE_EVENTS)";
            refused(why.to_owned(), Vec::new())
        })?;
        let place = uprobe::place(&probe.path, &probe.symbol, probe.offset);
        let place = place.map_err(|e| match e {
            Missing::File(why) => refused(why, Vec::new()),
            Missing::Symbol(names) => refused(
                format!("{} has no function {}", probe.path, probe.symbol),
                nearest(&probe.symbol, names.iter().map(String::as_str)),
            ),
        })?;
        let tracefs = self.tracefs.as_deref();
        let known = tracefs.and_then(|t| Registered::new(t, &probe.path, place, probe.ret).ok());
        if let Some(known) = known {
            let mut set = Set {
                name: event.to_owned(),
                ty: generic::TRACEPOINT,
                ..Set::default()
            };
            set.words.config = known.id;
            set.registered = Some(Arc::new(known));
            return Ok(set);
        }
        let mut set = Set {
            name: event.to_owned(),
            ty: pmu.ty,
            path: Some(probe.path.clone()),
            ..Set::default()
        };
        set.words.config2 = place;
        if probe.ret {
            let retprobe = pmu.formats.get("retprobe");
            let known = retprobe.is_some_and(|f| f.set(1, &mut set.words));
            if !known {
                let why = "this kernel has no probes on returns";
                return Err(refused(why.to_owned(), Vec::new()));
            }
        }
        Ok(set)
    }
}

fn of_memory(mut set: Set, memory: &Memory) -> Set {
    let kinds = [(memory.read, 1), (memory.write, 2), (memory.execute, 4)];
    set.breakpoint = kinds.iter().filter(|k| k.0).map(|k| k.1).sum();
    set.words.config1 = memory.address;
    // Code is as wide as a pointer, data as an `int`, unless it is said.
    let usual = if set.breakpoint == 4 { 8 } else { 4 };
    set.words.config2 = memory.len.unwrap_or(usual);
    set
}

/// Whether a name fits a pattern with `*` and `?`.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                // The last star takes one letter more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns as shells know them.
    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("netif_*", "netif_rx", true),
            ("*_rx", "netif_rx", true),
            ("n?t*r*", "netif_rx", true),
            ("netif_rx", "netif_rx", true),
            ("netif_rx", "netif_rx_ni", false),
            ("*a*b", "xaxxbx", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
