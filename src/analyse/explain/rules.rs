//! The rules. Those with an id of design/stacks.md section 10 say what is written there, with the thresholds at which
//! the
//! paper's own profiles show it; `S` rules read requests, `H` rules how much room is left.

use super::Confidence::{Estimated, Measured, Sampled, Suspected};
use super::{Confidence, Evidence, Facts, Rule};

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "S1",
        stacks: &[],
        title: "replies wait to be given to the device",
        advice: "a shorter drain delay (F-Stack: pkt_tx_delay 0), or a burst at the end of each round",
        check: |f| waits(f, "wait_drain", 0.2),
    },
    Rule {
        id: "S2",
        stacks: &[],
        title: "requests wait for the application's thread to wake up",
        advice: "poll for longer before sleeping, or keep stack and application on one thread",
        check: |f| waits(f, "wait_wakeup", 0.15),
    },
    Rule {
        id: "S3",
        stacks: &[],
        title: "requests wait for the application behind other requests",
        advice: "smaller batches, more threads, or less work for each request",
        check: |f| waits(f, "wait_app", 0.3),
    },
    Rule {
        id: "S4",
        stacks: &[],
        title: "replies wait in the stack after the application is done",
        advice: "a larger send buffer or window, or handing sends to the stack before the next turn",
        check: |f| waits(f, "wait_send", 0.2),
    },
    Rule {
        id: "S5",
        stacks: &[],
        title: "every request costs an ACK of its own",
        advice: "delay ACKs so that they ride on the reply",
        check: |f| {
            let share = f.phase("ack_only");
            (f.requests > 0 && f.acks_per_request >= 0.8).then(|| {
                let line = format!(
                    "{:.2} segments with only an ACK a request",
                    f.acks_per_request
                );
                evidence(f, share, Measured, vec![line, phase_line(f, "ack_only")])
            })
        },
    },
    Rule {
        id: "L1",
        stacks: &["linux"],
        title: "the ACK clock runs beside the application: interrupts take ACKs in while it copies",
        advice: "nothing to mend: it is what lets Linux send large replies well; `spans` of stacks that lose shows what they lack",
        check: |f| {
            let clock = f.phases(&["irq", "tcp_rx", "driver_rx"]);
            (f.busy >= 0.5 && f.phase("copy") >= 0.15 && clock >= 0.08).then(|| {
                evidence(
                    f,
                    clock,
                    Suspected,
                    vec![phase_line(f, "copy"), phase_line(f, "irq"), busy_line(f)],
                )
            })
        },
    },
    Rule {
        id: "L2",
        stacks: &["linux"],
        title: "segments are cut in software: memory for each of them, fresh pages for each write",
        advice: "switch on segmentation offload (ethtool -K IF tso on), or send with MSG_ZEROCOPY",
        check: |f| {
            let cut = f.below("*gso_segment");
            let pages = f.own(&["clear_page*"]);
            (f.phase("alloc") >= 0.15 && cut >= 0.05).then(|| {
                let lines = vec![
                    phase_line(f, "alloc"),
                    below_line("*gso_segment", cut),
                    own_line("clear_page*", pages),
                ];
                evidence(f, f.phase("alloc").max(cut), Sampled, lines)
            })
        },
    },
    Rule {
        id: "L3",
        stacks: &["linux"],
        title: "most of a request's cost is the interrupt, the wake-up and the system calls around it",
        advice: "busy polling (net.core.busy_read), larger batches, or a stack that polls",
        check: |f| {
            let around = f.phases(&["sync", "irq", "kernel_syscall"]);
            let work = 1.0 - f.nothing() - f.phase("off_cpu");
            (work > 0.01 && around >= 0.4 * work && f.nothing() + f.phase("off_cpu") >= 0.5).then(
                || {
                    let lines = vec![
                        phase_line(f, "sync"),
                        phase_line(f, "irq"),
                        phase_line(f, "kernel_syscall"),
                        busy_line(f),
                    ];
                    evidence(f, around, Sampled, lines)
                },
            )
        },
    },
    Rule {
        id: "M1",
        stacks: &["mtcp"],
        title: "two threads hand each request over and sleep in between",
        advice: "record with probes: `spans` shows wait_wakeup; DPDK I/O spins instead of sleeping",
        check: |f| {
            let switches = f.phase("sync");
            let work = f.busy.max(1e-9);
            (f.nothing() >= 0.8 && switches >= 0.3 * work).then(|| {
                evidence(
                    f,
                    switches,
                    Suspected,
                    vec![phase_line(f, "idle"), phase_line(f, "sync"), busy_line(f)],
                )
            })
        },
    },
    Rule {
        id: "M2",
        stacks: &["mtcp"],
        title: "the core idles while data waits: the ACK clock sleeps, and copies and checksums take the rest",
        advice: "record with probes: tcp_out tells what limits sending (cwnd or peer); checksum offload saves its part",
        check: |f| {
            let price = f.phases(&["copy", "csum"]);
            ((0.25..0.75).contains(&f.phase("idle")) && price >= 0.2).then(|| {
                let lines = vec![
                    phase_line(f, "idle"),
                    phase_line(f, "copy"),
                    phase_line(f, "csum"),
                    phase_line(f, "sync"),
                ];
                evidence(f, f.phase("idle"), Suspected, lines)
            })
        },
    },
    Rule {
        id: "M3",
        stacks: &["mtcp"],
        title: "checksums in software and locks of the stream buffers",
        advice: "I/O with checksum offload (DPDK module); one thread for stack and application",
        check: |f| {
            let csum = f.phase("csum");
            let spin = f.own(&["pthread_spin_lock"]);
            (csum >= 0.1 && spin >= 0.05).then(|| {
                evidence(
                    f,
                    csum + spin,
                    Sampled,
                    vec![phase_line(f, "csum"), own_line("pthread_spin_lock", spin)],
                )
            })
        },
    },
    Rule {
        id: "F1",
        stacks: &["fstack"],
        title: "replies wait for the timer that drains the transmit queue",
        advice: "pkt_tx_delay = 0; record with probes: `spans` shows wait_drain",
        check: |f| {
            (f.requests == 0 && f.nothing() >= 0.85 && f.own(&["main_loop", "rte_rdtsc*"]) >= 0.1)
                .then(|| {
                    let loop_share = f.own(&["main_loop", "rte_rdtsc*"]);
                    let lines = vec![
                        busy_line(f),
                        own_line("main_loop and rte_rdtsc, the loop's clock,", loop_share),
                    ];
                    evidence(f, f.busy, Suspected, lines)
                })
        },
    },
    Rule {
        id: "F2",
        stacks: &["fstack"],
        title: "every round polls interfaces to the host's kernel that the service never uses",
        advice: "switch KNI off (kni.enable=0) where the host needs no packets of this port",
        check: |f| side_poll(f, 0.2, &["kni_*", "rte_kni_*", "ff_kni_*"]),
    },
    Rule {
        id: "F3",
        stacks: &["fstack"],
        title: "a large write runs to completion: nothing is received while it segments and copies",
        advice: "smaller writes, so that ACKs are taken in between; segmentation offload",
        check: |f| {
            let write = f.below("ff_write*");
            (write >= 0.3 && f.phase("copy") >= 0.15).then(|| {
                let lines = vec![
                    below_line("ff_write", write),
                    phase_line(f, "copy"),
                    phase_line(f, "alloc"),
                ];
                evidence(f, write, Sampled, lines)
            })
        },
    },
    Rule {
        id: "IX1",
        stacks: &["ix"],
        title: "sending stops at the window of 64 KiB, and each ACK must come round to the application first",
        advice: "a larger send window and buffer; record with probes: send_call tells what was accepted",
        check: |f| {
            let goes_on = f.below("pp_stream_handler").max(f.below("ixev_tcp_sent"));
            (f.nothing() >= 0.35 && f.phase("copy") >= 0.03 && goes_on >= 0.002).then(|| {
                let lines = vec![
                    busy_line(f),
                    below_line("the handler that goes on sending", goes_on),
                    phase_line(f, "copy"),
                ];
                evidence(f, f.nothing(), Suspected, lines)
            })
        },
    },
    Rule {
        id: "IX2",
        stacks: &["ix"],
        title: "every round polls storage and the timer wheel, whether there are any or not",
        advice: "leave the NVMe path out of a build for network services",
        check: |f| side_poll(f, 0.2, &["nvme_*", "spdk_*"]),
    },
    Rule {
        id: "T1",
        stacks: &["tas"],
        title: "each request crosses cores four times, between threads that all poll",
        advice: "record with probes: handoff ages; spans over both processes",
        check: |f| {
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
        id: "D1",
        stacks: &["demikernel"],
        title: "the shortest way: one thread from poll to application to transmit, no copies, no locks",
        advice: "nothing to mend: it is why its latency is low when idle",
        check: |f| {
            let tcp = f.phases(&["tcp_rx", "tcp_tx", "tcp_timer"]);
            let little = f.phase("copy") < 0.02 && f.phase("sync") < 0.005;
            (little && tcp > 0.002 && (0.02..0.3).contains(&f.busy)).then(|| {
                evidence(
                    f,
                    f.busy,
                    Sampled,
                    vec![busy_line(f), phase_line(f, "sync"), phase_line(f, "copy")],
                )
            })
        },
    },
    Rule {
        id: "D2",
        stacks: &["demikernel"],
        title: "nothing is sent any more: the connection waits for its retransmission timer, or no one asks",
        advice: "record with probes: a stall event tells unsent data from no demand",
        check: |f| {
            (f.requests == 0 && f.busy < 0.01 && f.nothing() >= 0.98)
                .then(|| evidence(f, f.nothing(), Suspected, vec![busy_line(f)]))
        },
    },
    Rule {
        id: "D3",
        stacks: &["demikernel"],
        title: "every wait looks all outstanding tokens up, one by one",
        advice: "demikernel 1.5 or later, which keeps finished tasks apart; fewer tokens for each wait",
        check: |f| {
            let lookups = f.own(&[
                "*from_task_id*",
                "*LibOS::wait_any*",
                "*hash_one*",
                "*sip::Hasher*",
            ]);
            (lookups >= 0.3).then(|| {
                evidence(
                    f,
                    lookups,
                    Sampled,
                    vec![own_line("look-ups of tokens", lookups)],
                )
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
];

fn evidence(facts: &Facts, share: f64, confidence: Confidence, lines: Vec<String>) -> Evidence {
    Evidence {
        share,
        ns_per_request: facts.ns_per_request.map(|ns| ns * share),
        confidence,
        lines,
    }
}

fn waits(facts: &Facts, stage: &str, least: f64) -> Option<Evidence> {
    let (share, ns) = facts.stage(stage)?;
    (share >= least).then(|| Evidence {
        share,
        ns_per_request: Some(ns),
        confidence: Measured,
        lines: vec![format!(
            "{} % of {} requests' time is {stage}, {ns:.0} ns each on average",
            percent(share),
            facts.requests
        )],
    })
}

fn side_poll(facts: &Facts, least: f64, symbols: &[&str]) -> Option<Evidence> {
    let share = facts.phase("poll.side");
    let own = facts.own(symbols);
    (share >= least && own > 0.0).then(|| {
        let basis = if facts.estimated { Estimated } else { Sampled };
        evidence(
            facts,
            share,
            basis,
            vec![
                phase_line(facts, "poll.side"),
                own_line(&symbols.join(" "), own),
            ],
        )
    })
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn phase_line(facts: &Facts, phase: &str) -> String {
    format!("{} % of the time is {phase}", percent(facts.phase(phase)))
}

fn busy_line(facts: &Facts) -> String {
    let tilde = if facts.estimated { "~" } else { "" };
    format!("busy {tilde}{} %", percent(facts.busy))
}

fn role_line(role: &str, busy: f64) -> String {
    format!("{role} is busy {} %", percent(busy))
}

fn own_line(what: &str, share: f64) -> String {
    format!("{} % of samples end in {what}", percent(share))
}

fn below_line(what: &str, share: f64) -> String {
    format!("{} % of samples are in or below {what}", percent(share))
}

#[cfg(test)]
mod tests {
    use super::super::explain;
    use super::super::facts::{Function, Role};
    use super::*;

    fn facts(
        stack: &str,
        busy: f64,
        phases: &[(&str, f64)],
        functions: &[(&str, f64, f64)],
    ) -> Facts {
        let function =
            |&(name, own, total): &(&str, f64, f64)| (name.to_owned(), Function { own, total });
        Facts {
            stack: stack.into(),
            busy,
            phases: phases.iter().map(|&(p, s)| (p.to_owned(), s)).collect(),
            functions: functions.iter().map(function).collect(),
            ..Facts::default()
        }
    }

    fn requests(stages: &[(&'static str, f64)], acks: f64) -> Facts {
        Facts {
            requests: 100,
            acks_per_request: acks,
            stages: stages
                .iter()
                .map(|&(name, mean)| (name, (mean, 100)))
                .collect(),
            ..facts("", 0.3, &[], &[])
        }
    }

    fn tas(fast: f64, app: f64, copy: f64) -> Facts {
        let role = |busy| Role {
            share: 0.3,
            busy,
            phases: [("copy".to_owned(), copy)].into(),
        };
        Facts {
            roles: [
                ("fast path".to_owned(), role(fast)),
                ("application".to_owned(), role(app)),
            ]
            .into(),
            ..facts("tas", (fast + app) / 3.0, &[], &[])
        }
    }

    /// Facts that show each rule, and facts that fall short of it.
    fn cases() -> Vec<(&'static str, Facts, Facts)> {
        let total = |name, mean| requests(&[("total", 1000.0), (name, mean)], 0.0);
        let spins = [("empty_poll", 0.6), ("poll.side", 0.35)];
        vec![
            ("S1", total("wait_drain", 450.0), total("wait_drain", 150.0)),
            (
                "S2",
                total("wait_wakeup", 200.0),
                total("wait_wakeup", 100.0),
            ),
            ("S3", total("wait_app", 400.0), total("wait_app", 100.0)),
            ("S4", total("wait_send", 300.0), total("wait_send", 100.0)),
            ("S5", requests(&[], 1.0), requests(&[], 0.1)),
            (
                "L1",
                facts("linux", 0.78, &[("copy", 0.25), ("irq", 0.1)], &[]),
                facts("linux", 0.78, &[("copy", 0.05), ("irq", 0.1)], &[]),
            ),
            (
                "L2",
                facts(
                    "linux",
                    0.78,
                    &[("alloc", 0.27)],
                    &[("__skb_gso_segment", 0.0, 0.16)],
                ),
                facts("linux", 0.78, &[("alloc", 0.27)], &[]),
            ),
            (
                "L3",
                facts(
                    "linux",
                    0.2,
                    &[
                        ("idle", 0.8),
                        ("sync", 0.065),
                        ("irq", 0.02),
                        ("kernel_syscall", 0.018),
                    ],
                    &[],
                ),
                facts(
                    "linux",
                    0.2,
                    &[("idle", 0.8), ("sync", 0.02), ("app", 0.18)],
                    &[],
                ),
            ),
            (
                "M1",
                facts("mtcp", 0.07, &[("idle", 0.92), ("sync", 0.038)], &[]),
                facts("mtcp", 0.5, &[("idle", 0.5), ("sync", 0.038)], &[]),
            ),
            (
                "M2",
                facts(
                    "mtcp",
                    0.5,
                    &[("idle", 0.5), ("copy", 0.22), ("csum", 0.12)],
                    &[],
                ),
                facts("mtcp", 0.99, &[("copy", 0.22), ("csum", 0.12)], &[]),
            ),
            (
                "M3",
                facts(
                    "mtcp",
                    1.0,
                    &[("csum", 0.13)],
                    &[("pthread_spin_lock", 0.12, 0.12)],
                ),
                facts("mtcp", 1.0, &[("csum", 0.13)], &[]),
            ),
            (
                "F1",
                facts(
                    "fstack",
                    0.03,
                    &spins,
                    &[("main_loop", 0.13, 1.0), ("rte_rdtsc", 0.23, 0.23)],
                ),
                facts("fstack", 0.8, &[("copy", 0.3)], &[("main_loop", 0.13, 1.0)]),
            ),
            (
                "F2",
                facts("fstack", 0.03, &spins, &[("kni_process_tx", 0.08, 0.2)]),
                facts(
                    "fstack",
                    0.8,
                    &[("poll.side", 0.05)],
                    &[("kni_process_tx", 0.02, 0.05)],
                ),
            ),
            (
                "F3",
                facts("fstack", 0.8, &[("copy", 0.29)], &[("ff_write", 0.01, 0.6)]),
                facts("fstack", 0.8, &[("copy", 0.02)], &[("ff_write", 0.01, 0.1)]),
            ),
            (
                "IX1",
                facts(
                    "ix",
                    0.35,
                    &[("empty_poll", 0.4), ("poll.side", 0.23), ("copy", 0.087)],
                    &[("pp_stream_handler", 0.0, 0.033)],
                ),
                facts(
                    "ix",
                    0.97,
                    &[("copy", 0.087)],
                    &[("pp_stream_handler", 0.0, 0.033)],
                ),
            ),
            (
                "IX2",
                facts("ix", 0.08, &spins, &[("nvme_sched", 0.21, 0.21)]),
                facts(
                    "ix",
                    0.97,
                    &[("poll.side", 0.01)],
                    &[("nvme_sched", 0.01, 0.01)],
                ),
            ),
            ("T1", tas(0.02, 0.1, 0.0), tas(0.3, 0.1, 0.0)),
            ("T2", tas(0.28, 0.31, 0.27), tas(0.28, 0.31, 0.0)),
            (
                "T4",
                facts("tas", 0.4, &[("tcp_timer", 0.18)], &[]),
                facts("tas", 0.4, &[("tcp_timer", 0.01)], &[]),
            ),
            (
                "T5",
                Facts {
                    functions: [(
                        "poll_queues".to_owned(),
                        Function {
                            own: 0.16,
                            total: 0.5,
                        },
                    )]
                    .into(),
                    ..tas(0.02, 0.1, 0.0)
                },
                tas(0.02, 0.1, 0.0),
            ),
            (
                "D1",
                facts(
                    "demikernel",
                    0.1,
                    &[("empty_poll", 0.9), ("tcp_rx", 0.012)],
                    &[],
                ),
                facts(
                    "demikernel",
                    0.1,
                    &[("empty_poll", 0.9), ("tcp_rx", 0.012), ("copy", 0.05)],
                    &[],
                ),
            ),
            (
                "D2",
                facts("demikernel", 0.003, &[("empty_poll", 0.997)], &[]),
                facts("demikernel", 0.1, &[("empty_poll", 0.9)], &[]),
            ),
            (
                "D3",
                facts(
                    "demikernel",
                    0.1,
                    &[],
                    &[(
                        "demikernel::scheduler::scheduler::Scheduler::from_task_id",
                        0.4,
                        0.4,
                    )],
                ),
                facts("demikernel", 0.1, &[], &[]),
            ),
            (
                "X1",
                facts("tas", 0.01, &[("empty_poll", 0.99)], &[]),
                facts("tas", 0.9, &[("empty_poll", 0.1)], &[]),
            ),
            (
                "X3",
                facts("ix", 0.9, &[], &[("generate_httphdr", 0.01, 0.07)]),
                facts("ix", 0.9, &[], &[]),
            ),
            ("H1", tas(0.95, 0.1, 0.0), tas(0.5, 0.1, 0.0)),
        ]
    }

    /// Each rule speaks where its facts are there, is silent where they fall short, and has a case here.
    #[test]
    fn each_rule() {
        let ids = |facts: &Facts| explain(facts).iter().map(|f| f.id).collect::<Vec<_>>();
        let cases = cases();
        for (id, shows, lacks) in &cases {
            assert!(ids(shows).contains(id), "{id}: {:?}", ids(shows));
            assert!(!ids(lacks).contains(id), "{id}: {:?}", ids(lacks));
        }
        for rule in RULES {
            assert!(
                cases.iter().any(|c| c.0 == rule.id),
                "{} has no case",
                rule.id
            );
        }
    }

    /// Without facts there are no findings, and no rule of one stack speaks about another.
    #[test]
    fn nothing_from_nothing() {
        assert_eq!(explain(&Facts::default()), []);
        for (id, mut shows, _) in cases() {
            shows.stack = "another".into();
            let rule = RULES.iter().find(|r| r.id == id).unwrap();
            let found = explain(&shows).iter().any(|f| f.id == id);
            assert_eq!(found, rule.stacks.is_empty(), "{id}");
        }
    }
}
