//! Rules about the kernel's stack: the ACK clock, segments cut in software, what surrounds a system call.
//!
//! In: facts; out: what they show. The table of `L` rules.

use super::super::Confidence::{Sampled, Suspected};
use super::super::Rule;
use super::evidence::{below_line, busy_line, evidence, own_line, phase_line};

/// Its rules.
pub const RULES: &[Rule] = &[
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
];
