//! Rules about any program: what polling hides, a header made anew, and how much room is left.
//!
//! In: facts; out: what they show. The table of `X` and `H` rules.

use super::super::Confidence::{Estimated, Measured, Sampled};
use super::super::{Evidence, Rule};
use super::evidence::{below_line, busy_line, evidence, percent, role_line, uneven};

/// Its rules.
pub const RULES: &[Rule] = &[
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
        id: "H2",
        stacks: &[],
        title: "the busiest thread has room left: the rate is not limited by its CPU",
        advice: "more requests at a time (connections, pipelining), or shorten the largest stage: a closed loop is limited by latency",
        check: |f| {
            let thread = f.busiest.as_ref()?;
            if f.requests == 0 || !(0.01..0.85).contains(&thread.busy) {
                return None;
            }
            let mut lines = vec![format!(
                "{} is at {} % of what it can do: {} % of its time it finds nothing to do, {} % it is off CPU",
                thread.name,
                percent(thread.busy),
                percent(thread.nothing),
                percent(thread.off_cpu)
            )];
            let stages = f.stages.keys().filter(|name| **name != "total");
            let sized = stages.filter_map(|name| Some((name, f.stage(name)?)));
            if let Some((name, (share, ns))) = sized.max_by(|a, b| a.1.0.total_cmp(&b.1.0)) {
                lines.push(format!(
                    "limited by: {name}, {} % of a request's time, {ns:.0} ns on average",
                    percent(share)
                ));
            }
            Some(Evidence {
                share: thread.busy,
                ns_per_request: None,
                confidence: if f.estimated { Estimated } else { Measured },
                lines,
            })
        },
    },
    Rule {
        id: "H1",
        stacks: &[],
        title: "a role is close to all that it can do",
        advice: "what its largest phases are is in `ledger --by role`; more threads of the role, or less work in them",
        check: |f| {
            let full = f.roles.iter().filter(|(_, role)| role.busy >= 0.85);
            let (name, role) = full.max_by(|a, b| a.1.busy.total_cmp(&b.1.busy))?;
            let basis = if f.estimated { Estimated } else { Measured };
            Some(evidence(
                f,
                role.busy,
                basis,
                vec![role_line(name, role.busy)],
            ))
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
