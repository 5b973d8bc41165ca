//! Rules about any program: what limits its rate, what polling hides, a header made anew.
//!
//! In: facts; out: what they show. The tables of `H` and `X` rules. A thread that works most of the time limits the rate by
//! its work ([`LIMITS`], `H1`); of one that does not, `H2` tells the room ([`ROOM`]). Never both speak.

use super::super::Confidence::{Estimated, Measured, Sampled};
use super::super::facts::Thread;
use super::super::{Evidence, Facts, Rule, Whole};
use super::evidence::{below_line, busy_line, evidence, percent, role_line, uneven};
use crate::analyse::compare::side::NO_WORK;
use crate::analyse::ledger::UNACCOUNTED;
use std::collections::BTreeMap;

/// From here on more is gained by less work than by less waiting.
const MOSTLY: f64 = 0.5;
/// The same of a role of which no times are known: what it waits is in no sample.
const FULL: f64 = 0.85;
/// Phases that are named.
const PHASES: usize = 3;

/// What limits the rate, whatever else is found: its rules are told first.
pub const LIMITS: &[Rule] = &[
    Rule {
        id: "H1",
        stacks: &[],
        title: "work takes most of the busiest thread's time",
        advice: "less work in the largest phases, or more threads of the role",
        check: |f| {
            let (share, lines) = working(f)?;
            Some(Evidence {
                share,
                of: Whole::Busiest,
                ns_per_request: None,
                confidence: if f.estimated { Estimated } else { Measured },
                lines,
            })
        },
    },
    Rule {
        id: "H4",
        stacks: &[],
        title: "nothing in here: connections wait for the client or the link, and the busiest thread for them",
        advice: "more load: connections, pipelining, a second client. What can be shorter here is a request's way (`spans`), not the time between them",
        check: |f| {
            let (ns, share) = f.outside?;
            let (_, total) = f.stage("total")?;
            // What lies in the device's queue is outside as well: it is empty when a poll finds nothing.
            let thread = f
                .busiest
                .as_ref()
                .filter(|thread| thread.nothing >= MOSTLY)?;
            (share >= MOSTLY).then(|| Evidence {
                share,
                of: Whole::Connections,
                ns_per_request: Some(ns),
                confidence: Measured,
                lines: vec![
                    format!(
                        "{ns:.0} ns from a reply to the next request of its connection, on average; a request is in here for {total:.0} ns (total)"
                    ),
                    room_line(thread),
                ],
            })
        },
    },
];

/// How much room is left: no cause of anything, so its rules are told after causes.
pub const ROOM: &[Rule] = &[
    Rule {
        id: "H2",
        stacks: &[],
        title: "waiting or the load, not CPU time: the busiest thread is free most of the time",
        advice: "more requests at a time (connections, pipelining), or a shorter way for each: a closed loop is as fast as its requests are back",
        check: |f| {
            let thread = f.busiest.as_ref()?;
            if f.requests == 0 || !(0.01..MOSTLY).contains(&thread.busy) {
                return None;
            }
            let mut lines = vec![room_line(thread)];
            let stages = f.stages.keys().filter(|name| **name != "total");
            let sized = stages.filter_map(|name| Some((name, f.stage(name)?)));
            if let Some((name, (share, ns))) = sized.max_by(|a, b| a.1.0.total_cmp(&b.1.0)) {
                lines.push(format!(
                    "the longest stage of requests is {name}: {} % of their time, {ns:.0} ns on average",
                    percent(share)
                ));
            }
            Some(Evidence {
                share: 1.0 - thread.busy,
                of: Whole::Busiest,
                ns_per_request: None,
                confidence: if f.estimated { Estimated } else { Measured },
                lines,
            })
        },
    },
    Rule {
        id: "X1",
        stacks: &[],
        title: "a core that is always at 100 % has little to do: its polling finds nothing",
        advice: "judge load by the busy share, not by CPU %",
        check: |f| {
            let polling = f.phases(&["empty_poll", "poll.side"]);
            (polling >= 0.5).then(|| {
                evidence(
                    f,
                    polling,
                    if f.estimated { Estimated } else { Measured },
                    vec![busy_line(f)],
                )
            })
        },
    },
];

/// What is found in any program.
pub const RULES: &[Rule] = &[
    Rule {
        id: "X3",
        stacks: &[],
        title: "the reply's header is formatted anew for each request",
        advice: "keep the header and change its numbers in place",
        check: |f| {
            let header = f.below("generate_httphdr");
            (header >= 0.01).then(|| {
                evidence(
                    f,
                    header,
                    Sampled,
                    vec![below_line("generate_httphdr", header)],
                )
            })
        },
    },
    Rule {
        id: "H3",
        stacks: &[],
        title: "threads of one role do not share its work: one is busy while others have little to do",
        advice: "look at how flows come to threads: the device's queues (RSS), SO_REUSEPORT, who accepts",
        // There it has a name of its own.
        check: |f| uneven(f).filter(|_| f.stack != "ix"),
    },
];

/// How much of its time what limits the rate works, and on what.
fn working(f: &Facts) -> Option<(f64, Vec<String>)> {
    let Some(thread) = &f.busiest else {
        let full = f.roles.iter().filter(|(_, role)| role.busy >= FULL);
        let (name, role) = full.max_by(|a, b| a.1.busy.total_cmp(&b.1.busy))?;
        let lines = vec![role_line(name, role.busy), largest(&role.phases)];
        return Some((role.busy, lines));
    };
    let most = 1.0 / thread.busy;
    let parts = largest(&thread.phases);
    let parts =
        format!("{parts}; with as much work for a request at most {most:.2} times the rate");
    // Of what nobody can tell it is not known that it is work.
    let untold = thread.phases.get(UNACCOUNTED).copied().unwrap_or(0.0);
    (thread.busy - untold >= MOSTLY).then(|| (thread.busy, vec![room_line(thread), parts]))
}

/// The largest phases of work, in words.
fn largest(phases: &BTreeMap<String, f64>) -> String {
    let work = phases.iter();
    let mut work: Vec<_> = work
        .filter(|(phase, _)| !NO_WORK.contains(&phase.as_str()) && *phase != UNACCOUNTED)
        .collect();
    work.sort_by(|a, b| b.1.total_cmp(a.1));
    let named = work.iter().take(PHASES);
    let named: Vec<_> = named
        .map(|(phase, share)| format!("{phase} {} %", percent(**share)))
        .collect();
    format!("largest parts: {}", named.join(", "))
}

/// What a thread does with its time.
fn room_line(thread: &Thread) -> String {
    format!(
        "{} works for {} % of its time: {} % it finds nothing to do, {} % it is off CPU",
        thread.name,
        percent(thread.busy),
        percent(thread.nothing),
        percent(thread.off_cpu)
    )
}
