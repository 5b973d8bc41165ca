//! Rules about mTCP: two threads that hand over to each other, checksums and locks, its list of ACKs.
//!
//! In: facts; out: what they show. The table of `M` rules.

use super::super::Confidence::{Sampled, Suspected};
use super::super::Rule;
use super::evidence::{acks, busy_line, evidence, own_line, phase_line, stage_is};

/// Its rules.
pub const RULES: &[Rule] = &[
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
];
