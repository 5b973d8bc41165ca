//! Rules about TAS: crossings between threads, who has a CPU, the slow path, probing of contexts.
//!
//! In: facts; out: what they show. The table of `T` rules.

use super::super::Confidence::{Measured, Sampled, Suspected};
use super::super::Rule;
use super::super::facts::Role;
use super::evidence::{evidence, own_line, percent, phase_line, role_line, stage_is};

/// Its rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "T1",
        stacks: &["tas"],
        title: "each request crosses to another polling thread and back, and waits at each crossing",
        advice: "one thread for stack and application (run to completion) where latency counts; a CPU for each thread that polls",
        check: |f| {
            if f.requests > 0 {
                let mut found = stage_is(f, &["wait_app", "wait_send"], 0.2)?;
                let line = format!("{} % of requests changed threads", percent(f.crossed));
                found.lines.push(line);
                return Some(found).filter(|_| f.crossed >= 0.5);
            }
            let (Some(fast), Some(app)) = (f.roles.get("fast path"), f.roles.get("application"))
            else {
                return None;
            };
            (fast.busy <= 0.15 && app.busy <= 0.2).then(|| {
                let lines = vec![
                    role_line("fast path", fast.busy),
                    role_line("application", app.busy),
                ];
                evidence(f, f.busy, Suspected, lines)
            })
        },
    },
    Rule {
        id: "T2",
        stacks: &["tas"],
        title: "no stage is saturated: the request goes through them one after the other, with a copy at each",
        advice: "more requests in flight; record with probes to see where one waits",
        check: |f| {
            let (Some(fast), Some(app)) = (f.roles.get("fast path"), f.roles.get("application"))
            else {
                return None;
            };
            let copy = app.phases.get("copy").copied().unwrap_or(0.0);
            ((0.15..0.7).contains(&fast.busy) && (0.15..0.7).contains(&app.busy) && copy >= 0.1)
                .then(|| {
                    let lines = vec![
                        role_line("fast path", fast.busy),
                        role_line("application", app.busy),
                        format!("{} % of the application's time is copying", percent(copy)),
                    ];
                    evidence(f, copy, Suspected, lines)
                })
        },
    },
    Rule {
        id: "T3",
        stacks: &["tas"],
        title: "threads that poll do not have a CPU each: one waits while another polls",
        advice: "pin each to a CPU of its own; `spans --slowest 1% --show 5` shows stages of a scheduler's time slice",
        check: |f| {
            let role = |name: &str| f.roles.get(name).map(|role| (name.to_owned(), role));
            let roles = ["fast path", "application"].into_iter().filter_map(role);
            let share = |role: &Role, phase: &str| role.phases.get(phase).copied().unwrap_or(0.0);
            let waits = |(_, role): &(String, &Role)| {
                share(role, "off_cpu") >= 0.1 && share(role, "empty_poll") >= 0.1
            };
            let (name, role) = roles
                .filter(waits)
                .max_by(|a, b| share(a.1, "off_cpu").total_cmp(&share(b.1, "off_cpu")))?;
            let off = share(role, "off_cpu");
            let polls = share(role, "empty_poll");
            let line = format!(
                "{name} is off its CPU {} % of the time, and polls for nothing {} %",
                percent(off),
                percent(polls)
            );
            Some(evidence(f, off * role.share, Suspected, vec![line]))
        },
    },
    Rule {
        id: "T4",
        stacks: &["tas"],
        title: "the slow path's control loop visits every connection",
        advice: "a longer control interval (--cc-control-granularity), or fewer connections for each server",
        check: |f| {
            let cc = f.phase("tcp_timer");
            (cc >= 0.05).then(|| evidence(f, cc, Sampled, vec![phase_line(f, "tcp_timer")]))
        },
    },
    Rule {
        id: "T5",
        stacks: &["tas"],
        title: "every round of the fast path probes the queues of all application contexts",
        advice: "fewer contexts (a smaller FLEXNIC_PL_APPCTX_NUM) where one application runs",
        check: |f| {
            let probing = f.own(&[
                "poll_queues",
                "fast_actx_rxq_probe",
                "fast_appctx_poll_*",
                "rte_prefetch0",
                "dma_pointer",
            ]);
            let fast = f.roles.get("fast path")?.share;
            (fast > 0.0 && probing >= 0.3 * fast).then(|| {
                evidence(
                    f,
                    probing,
                    Sampled,
                    vec![own_line("probing of contexts", probing)],
                )
            })
        },
    },
    Rule {
        id: "T7",
        stacks: &["tas"],
        title: "packets leave the fast path: flows stay with the slow path, which is slower",
        advice: "slow_path events tell the reason (docs/reference/points.md): flags, options, state; a flow that was parked there needs a new connection",
        check: |f| {
            (f.requests > 0 && f.detours_per_request >= 0.1).then(|| {
                let line = format!(
                    "{:.2} packets a request left the fast path",
                    f.detours_per_request
                );
                let slow = f.roles.get("slow path");
                let share = slow.map_or(0.0, |role| role.share * role.busy);
                evidence(f, share, Measured, vec![line])
            })
        },
    },
];
