//! The rules. Those with an id of design/stacks.md section 10 say what is written there, with the thresholds at which
//! the
//! paper's own profiles show it; `S` rules read requests, `H` rules how much room is left.

use super::Confidence::{Estimated, Measured, Sampled, Suspected};
use super::facts::Role;
use super::{Confidence, Evidence, Facts, Rule};

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "S1",
        stacks: &[],
        title: "replies wait to be given to the device",
        advice: "a shorter drain delay (F-Stack: pkt_tx_delay 0), or a burst at the end of each round",
        // F1 knows more of a timer.
        check: |f| waits(f, "wait_drain", 0.2).filter(|_| drain_timer(f).is_none()),
    },
    Rule {
        id: "S6",
        stacks: &[],
        title: "giving frames to the device takes a large part of a request's time",
        advice: "a device that takes frames without a system call (AF_XDP, DPDK), or more frames for each call",
        check: |f| {
            let mut found = stage_is(f, &["transmit"], 0.4)?;
            found.lines.push(phase_line(f, "driver_tx"));
            Some(found)
        },
    },
    Rule {
        id: "S7",
        stacks: &[],
        title: "requests wait behind others (head-of-line blocking)",
        advice: "burst and thread: smaller bursts, more threads, less work for each request; flow: fewer requests pipelined on a connection",
        check: |f| {
            let share: f64 = f.behind.values().sum();
            (share >= 0.2).then(|| {
                let lines = f.behind.iter().filter(|(_, share)| **share >= 0.01);
                let line = |(whom, share): (&&str, &f64)| {
                    let whom = match *whom {
                        "burst" => "frames of the same burst (part of tcp_in)",
                        "flow" => "earlier requests of the same connection (part of wait_app)",
                        _ => "requests of other connections of the thread (part of wait_app)",
                    };
                    format!("{} % of requests' time: behind {whom}", percent(*share))
                };
                let total = f.stage("total").map_or(0.0, |total| total.1);
                Evidence {
                    share,
                    ns_per_request: Some(share * total),
                    confidence: Measured,
                    lines: lines.map(line).collect(),
                }
            })
        },
    },
    Rule {
        id: "S8",
        stacks: &[],
        title: "segments are sent more than once",
        advice: "where the path loses nothing: the retransmission timer is shorter than what acknowledgements wait in queues (a longer floor, timestamps); else the path",
        check: |f| {
            let again = f.retransmissions_per_request;
            (again >= 0.02).then(|| Evidence {
                share: again / (1.0 + again),
                ns_per_request: None,
                confidence: Measured,
                lines: vec![
                    format!("{again:.2} segments sent again for each request"),
                    phase_line(f, "driver_tx"),
                ],
            })
        },
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
        // M1 and T1 know more of hand-overs.
        check: |f| {
            let told = ["mtcp", "tas"].contains(&f.stack.as_str());
            waits(f, "wait_send", 0.2).filter(|_| !told)
        },
    },
    Rule {
        id: "S5",
        stacks: &[],
        title: "every request costs an ACK of its own",
        advice: "delay ACKs so that they ride on the reply",
        check: |f| {
            // Of these two it is known why.
            let told = ["fstack", "mtcp"].contains(&f.stack.as_str());
            acks(f).filter(|_| !told)
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
        advice: "I/O that spins instead of sleeping (mTCP over DPDK; here: httpd --mtcp-spin); `spans` shows both waits",
        check: |f| {
            if f.requests > 0 {
                return stage_is(f, &["wait_wakeup", "wait_send"], 0.4);
            }
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
        id: "M4",
        stacks: &["mtcp"],
        title: "the list of ACKs is sent before the application has run: each request costs an ACK of its own",
        advice: "let the application run before the list is flushed, so that ACKs ride on replies",
        check: acks,
    },
    Rule {
        id: "F1",
        stacks: &["fstack"],
        title: "replies wait for the timer that drains the transmit queue",
        advice: "pkt_tx_delay = 0 (here: httpd --tx-drain-us 0); `spans` shows wait_drain before and after",
        check: |f| {
            if f.requests > 0 {
                return drain_timer(f);
            }
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
        id: "F4",
        stacks: &["fstack"],
        title: "a pure ACK leaves for each request while its segment is handled, before the reply: twice the frames",
        advice: "delayed ACKs (net.inet.tcp.delayed_ack), so that they ride on the reply",
        check: acks,
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
        id: "IX4",
        stacks: &["ix"],
        title: "requests cost little: replies carry the ACKs, nothing is locked",
        advice: "nothing to mend: it is why its rate is high",
        check: |f| {
            let light = f.acks_per_request <= 0.05 && f.phase("sync") <= 0.01;
            (f.requests > 0 && f.busy > 0.0 && light).then(|| {
                let line = format!(
                    "{:.2} segments with only an ACK a request",
                    f.acks_per_request
                );
                evidence(
                    f,
                    f.busy,
                    Sampled,
                    vec![line, phase_line(f, "sync"), busy_line(f)],
                )
            })
        },
    },
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
    stage_is(facts, &[stage], least)
}

/// Stages that together take at least so much of requests' time.
fn stage_is(facts: &Facts, stages: &[&str], least: f64) -> Option<Evidence> {
    let (share, ns) = facts.stages(stages);
    let line = |stage: &&str| {
        let (share, ns) = facts.stage(stage)?;
        Some(format!(
            "{} % of {} requests' time is {stage}, {ns:.0} ns each on average",
            percent(share),
            facts.requests
        ))
    };
    (share >= least).then(|| Evidence {
        share,
        ns_per_request: Some(ns),
        confidence: Measured,
        lines: stages.iter().filter_map(line).collect(),
    })
}

/// Replies wait, and it is a timer that lets them go.
fn drain_timer(facts: &Facts) -> Option<Evidence> {
    let by_timer = facts.stack == "fstack" && facts.timer_bursts >= 0.5;
    let mut found = waits(facts, "wait_drain", 0.2).filter(|_| by_timer)?;
    found.lines.push(format!(
        "{} % of transmit bursts were let go by the timer",
        percent(facts.timer_bursts)
    ));
    Some(found)
}

/// Every request costs an ACK of its own.
fn acks(facts: &Facts) -> Option<Evidence> {
    (facts.requests > 0 && facts.acks_per_request >= 0.8).then(|| {
        let line = format!(
            "{:.2} segments with only an ACK a request",
            facts.acks_per_request
        );
        let share = facts.phase("ack_only");
        evidence(
            facts,
            share,
            Measured,
            vec![line, phase_line(facts, "ack_only")],
        )
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
mod tests;
