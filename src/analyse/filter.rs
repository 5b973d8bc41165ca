//! What of a recording is looked at: a part of its time, some of its threads, CPUs or flows.
//!
//! In: what the user asked for; out: yes or no for a time, a thread, a CPU, a request's flow. An empty list and an open
//! end let everything through. It refuses to know where the wish came from, and where it is applied.

use super::packs::glob::Glob;
use crate::trace::record::Tid;
use crate::units::Nanos;
use std::sync::Arc;

/// Which part of a recording counts; the default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what happened from the first of these to just before the second, both from the recording's start.
    pub window: Option<(Nanos, Nanos)>,
    /// Only these threads: numbers, or patterns of names.
    pub threads: Vec<Who>,
    /// Only what ran on these CPUs.
    pub cpus: Vec<u32>,
    /// Only requests of these flows.
    pub flows: Vec<Flows>,
    /// Only requests that took at least so long.
    pub at_least: Option<Nanos>,
}

/// A thread as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    name: Glob,
    tid: Option<Tid>,
}

impl Who {
    /// A thread's number, or its name, in which `*` stands for anything. A name may be all digits.
    pub fn new(text: &str) -> Who {
        Who {
            name: Glob::new(text),
            tid: text.parse().ok(),
        }
    }

    /// Whether a thread is meant.
    pub fn is(&self, tid: Tid, name: &str) -> bool {
        self.tid == Some(tid) || self.name.fits(name)
    }
}

/// Flows as the user names them: one, or all between two ends of which one has any port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    /// In order.
    labels: Arc<[u32]>,
    said: String,
}

impl Flows {
    /// The flow that events call so.
    pub fn one(label: u32) -> Flows {
        Flows::all([label], format!("{label:08x}"))
    }

    /// All that events call one of these, and outputs as it was `said`.
    pub fn all(labels: impl IntoIterator<Item = u32>, said: String) -> Flows {
        let mut labels: Vec<u32> = labels.into_iter().collect();
        labels.sort_unstable();
        Flows {
            labels: labels.into(),
            said,
        }
    }

    /// Whether a flow is meant.
    pub fn has(&self, label: u32) -> bool {
        self.labels.binary_search(&label).is_ok()
    }
}

impl Filter {
    /// Whether everything passes.
    pub fn is_open(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether only some requests count: samples and threads' times are not told apart by request.
    pub fn is_about_requests(&self) -> bool {
        !self.flows.is_empty() || self.at_least.is_some()
    }

    /// Whether a thread counts.
    pub fn has_thread(&self, tid: Tid, name: &str) -> bool {
        self.threads.is_empty() || self.threads.iter().any(|who| who.is(tid, name))
    }

    /// Whether a CPU counts.
    pub fn has_cpu(&self, cpu: u32) -> bool {
        self.cpus.is_empty() || self.cpus.contains(&cpu)
    }

    /// Whether a flow counts.
    pub fn has_flow(&self, flow: u32) -> bool {
        self.flows.is_empty() || self.flows.iter().any(|flows| flows.has(flow))
    }

    /// Whether a time counts, given from the recording's start.
    pub fn has_time(&self, since_start: Nanos) -> bool {
        (self.window).is_none_or(|(from, to)| (from..to).contains(&since_start))
    }

    /// The part that counts on the recording's own clock, which read `started` at its start.
    pub fn span(&self, started: Nanos) -> (Nanos, Nanos) {
        let at = |since: Nanos| Nanos::from_ns(started.ns().saturating_add(since.ns()));
        match self.window {
            Some((from, to)) => (at(from), at(to)),
            None => (Nanos::default(), Nanos::from_ns(u64::MAX)),
        }
    }

    /// What passes, as every output says it; `None` if everything does.
    pub fn line(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some((from, to)) = self.window {
            let end = if to == Nanos::from_ns(u64::MAX) {
                String::new()
            } else {
                seconds(to)
            };
            parts.push(format!("window {}..{end}", seconds(from)));
        }
        let list = |what: &str, items: Vec<String>| format!("{what} {}", items.join(" "));
        if !self.threads.is_empty() {
            let names = self.threads.iter().map(|w| w.name.text().to_owned());
            parts.push(list("thread", names.collect()));
        }
        if !self.cpus.is_empty() {
            parts.push(list("cpu", self.cpus.iter().map(u32::to_string).collect()));
        }
        parts.extend(self.flow_line());
        if let Some(least) = self.at_least {
            parts.push(format!(
                "requests of {:.1} us and more",
                least.ns() as f64 / 1e3
            ));
        }
        (!parts.is_empty()).then(|| format!("only {}", parts.join(", ")))
    }

    /// The flows that pass, as outputs name them; `None` if all do.
    pub fn flow_line(&self) -> Option<String> {
        let flows: Vec<_> = self.flows.iter().map(|f| f.said.as_str()).collect();
        (!flows.is_empty()).then(|| format!("flow {}", flows.join(" ")))
    }
}

fn seconds(time: Nanos) -> String {
    format!("{}s", time.ns() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing asked is everything; what is asked is said.
    #[test]
    fn what_passes() {
        let all = Filter::default();
        assert!(all.is_open() && all.has_thread(1, "x") && all.has_cpu(3) && all.has_flow(9));
        assert_eq!(all.line(), None);
        let some = Filter {
            window: Some((Nanos::from_ns(500_000_000), Nanos::from_ns(u64::MAX))),
            threads: vec![Who::new("worker-*"), Who::new("12")],
            cpus: vec![1, 2],
            flows: vec![Flows::one(0xbeef), Flows::all([9, 7, 8], "a:*-b:1".into())],
            at_least: None,
        };
        assert!(some.has_thread(7, "worker-3") && some.has_thread(12, "other"));
        assert!(!some.has_thread(7, "other") && !some.has_cpu(0) && !some.has_flow(1));
        assert!(
            [0xbeef, 7, 8, 9]
                .into_iter()
                .all(|flow| some.has_flow(flow))
        );
        assert!(!some.has_time(Nanos::from_ns(499_999_999)));
        assert_eq!(
            some.line().unwrap(),
            "only window 0.5s.., thread worker-* 12, cpu 1 2, flow 0000beef a:*-b:1"
        );
        let started = Nanos::from_ns(7);
        assert_eq!(some.span(started).0, Nanos::from_ns(500_000_007));
    }
}
