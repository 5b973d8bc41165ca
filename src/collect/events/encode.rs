//! Events as the kernel takes them: type, words, what is left out.
//!
//! In: what [`Machine`](super::Machine) found; out: [`Encoded`] events that the perf crate opens. It refuses to know
//! names and files.

use super::generic;
use super::grammar::Spec;
use super::modifiers::{Exclude, Modifiers};
use super::pmu::{Options, Words};
use super::registered::Registered;
use perf_event_open::config::{Priv, SampleSkid};
use perf_event_open::event::Event;
use perf_event_open::event::bp::{Breakpoint, Len, Type};
use perf_event_open::event::dp::DynamicPmu;
use std::ffi::CString;
use std::io;
use std::sync::Arc;

/// Events that run together.
#[derive(Clone, Debug)]
pub struct Group {
    /// The leader first.
    pub events: Vec<Encoded>,
    /// Whether they may be taken apart.
    pub weak: bool,
    /// Whether they must run together; without, each is on its own.
    pub braced: bool,
}

/// What an event is, without its modifiers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    /// As users call it.
    pub name: String,
    /// The kernel's type.
    pub ty: u32,
    /// The configuration.
    pub words: Words,
    /// Kind of access of a breakpoint.
    pub breakpoint: u32,
    /// The program of a uprobe that is in no table of the kernel's; it cannot be inherited.
    pub path: Option<String>,
    /// A uprobe that is in one.
    pub registered: Option<Arc<Registered>>,
    /// System and name of a tracepoint.
    pub tracepoint: Option<(String, String)>,
    /// The CPUs it must be opened on.
    pub cpus: Option<Vec<u32>>,
    /// What a count is multiplied by.
    pub scale: Option<f64>,
    /// The unit it is in then.
    pub unit: String,
    /// Sample every so many.
    pub period: Option<u64>,
    /// Sample so often in a second.
    pub frequency_hz: Option<u64>,
}

impl Set {
    /// With what its options ask for.
    pub fn of(event: &str, ty: u32, options: Options) -> Set {
        Set {
            name: options.name.unwrap_or_else(|| event.to_owned()),
            ty,
            words: options.words,
            scale: options.scale,
            unit: options.unit,
            period: options.period,
            frequency_hz: options.frequency_hz,
            ..Set::default()
        }
    }
}

/// An event ready to be opened.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// What it is.
    pub set: Set,
    /// Its name with its modifiers.
    pub name: String,
    /// What is left out.
    pub exclude: Exclude,
    /// Whether user or kernel were asked for by letter: then nothing else will do.
    pub chosen: bool,
    /// Less skid, 0 to 3.
    pub precise: u8,
    /// Always on the PMU or not at all.
    pub pinned: bool,
    /// Alone on the PMU.
    pub exclusive: bool,
    /// The group is read with every sample.
    pub sample_read: bool,
    path: Option<Arc<CString>>,
}

/// As much precision as the kernel may have.
const MOST_PRECISE: u8 = 3;

impl Encoded {
    /// With its own modifiers and its group's.
    pub fn new(set: Set, spec: &Spec, group: &Modifiers, leads: bool) -> Encoded {
        let own = &spec.modifiers;
        let letters = merged(own, group);
        let ending = letters.to_string();
        let slashes = set.name.ends_with('/');
        let colon = if ending.is_empty() || slashes {
            ""
        } else {
            ":"
        };
        Encoded {
            name: format!("{}{colon}{ending}", set.name),
            exclude: Exclude::of(own).with(group),
            chosen: letters.user || letters.kernel || letters.hypervisor,
            precise: if letters.precise_max {
                MOST_PRECISE
            } else {
                letters.precise
            },
            pinned: leads && letters.pinned,
            exclusive: leads && letters.exclusive,
            sample_read: letters.sample_read,
            // A name with a zero byte cannot have come from a command line.
            path: set
                .path
                .clone()
                .and_then(|p| CString::new(p).ok())
                .map(Arc::new),
            set,
        }
    }

    /// The same for user code only, where the kernel may not be counted.
    #[must_use]
    pub fn user_only(mut self) -> Encoded {
        self.exclude.kernel = true;
        self.exclude.hypervisor = true;
        let has_letters = self.name != self.set.name || self.set.name.ends_with('/');
        self.name.push_str(if has_letters { "u" } else { ":u" });
        self
    }

    /// The same without leaving anything out by side: what PMUs that cannot tell sides apart take.
    #[must_use]
    pub fn any_side(mut self) -> Encoded {
        self.exclude.guest = false;
        self.exclude.host = false;
        self
    }

    /// Whether host or guest were asked for by letter.
    pub fn sides_chosen(&self) -> bool {
        self.exclude.sides_chosen
    }

    /// Whether it happens in the kernel alone: without it a count would be a silent 0.
    pub fn is_of_the_kernel(&self) -> bool {
        let switches = [3, 4, 11];
        (self.set.ty == generic::TRACEPOINT && self.set.registered.is_none())
            || (self.set.ty == generic::SOFTWARE && switches.contains(&self.set.words.config))
    }

    /// Whether it is one of the CPU's counters.
    pub fn is_of_the_cpu(&self) -> bool {
        [generic::HARDWARE, generic::CACHE, generic::RAW].contains(&self.set.ty)
    }

    /// Whether each time that it happens is of interest, not how much of it there is: tracepoints, uprobes, breakpoints.
    pub fn is_a_happening(&self) -> bool {
        self.path.is_some() || [generic::TRACEPOINT, generic::BREAKPOINT].contains(&self.set.ty)
    }

    /// Whether threads and processes made later may have it too.
    pub fn is_inherited(&self) -> bool {
        self.path.is_none()
    }

    /// Whether its count is a time in nanoseconds.
    pub fn is_a_clock(&self) -> bool {
        self.set.ty == generic::SOFTWARE && self.set.words.config <= 1
    }

    /// What is left out, as the perf crate says it.
    pub fn privilege(&self) -> Priv {
        Priv {
            user: self.exclude.user,
            kernel: self.exclude.kernel,
            hv: self.exclude.hypervisor,
            host: self.exclude.host,
            guest: self.exclude.guest,
            idle: self.exclude.idle,
        }
    }

    /// How precisely it is sampled, as the perf crate says it.
    pub fn skid(&self) -> SampleSkid {
        match self.precise {
            0 => SampleSkid::Arbitrary,
            1 => SampleSkid::Const,
            2 => SampleSkid::ReqZero,
            _ => SampleSkid::Zero,
        }
    }
}

impl TryFrom<&Encoded> for Event {
    type Error = io::Error;

    fn try_from(encoded: &Encoded) -> io::Result<Event> {
        let words = &encoded.set.words;
        if encoded.set.ty == generic::BREAKPOINT && encoded.set.breakpoint > 0 {
            return breakpoint(encoded.set.breakpoint, words);
        }
        let config1 = match &encoded.path {
            // The kernel copies the name while it opens the event; `encoded` outlives that.
            Some(path) => path.as_ptr() as u64,
            None => words.config1,
        };
        DynamicPmu {
            ty: encoded.set.ty,
            config: words.config,
            config1,
            config2: words.config2,
            config3: words.config3,
        }
        .try_into()
    }
}

fn merged(own: &Modifiers, group: &Modifiers) -> Modifiers {
    Modifiers {
        user: own.user || group.user,
        kernel: own.kernel || group.kernel,
        hypervisor: own.hypervisor || group.hypervisor,
        guest: own.guest || group.guest,
        host: own.host || group.host,
        no_idle: own.no_idle || group.no_idle,
        precise: (own.precise + group.precise).min(MOST_PRECISE),
        precise_max: own.precise_max || group.precise_max,
        sample_read: own.sample_read || group.sample_read,
        pinned: own.pinned || group.pinned,
        exclusive: own.exclusive || group.exclusive,
        weak: own.weak || group.weak,
    }
}

fn breakpoint(kind: u32, words: &Words) -> io::Result<Event> {
    let unsupported = || io::Error::from(io::ErrorKind::InvalidInput);
    let len = match words.config2 {
        1 => Len::_1,
        2 => Len::_2,
        4 => Len::_4,
        8 => Len::_8,
        _ => return Err(unsupported()),
    };
    let ty = match kind {
        1 => Type::R(len),
        2 => Type::W(len),
        3 => Type::Rw(len),
        4 => Type::X,
        _ => return Err(unsupported()),
    };
    let addr = words.config1;
    Breakpoint { ty, addr }.try_into()
}
