//! Rules about F-Stack: its drain timer, side polls, large writes, ACKs of their own, many layers.
//!
//! In: facts; out: what they show. The table of `F` rules.

use super::super::Confidence::{Sampled, Suspected};
use super::super::Rule;
use super::evidence::{
    acks, below_line, busy_line, drain_timer, evidence, own_line, percent, phase_line, side_poll,
};

/// Its rules.
pub const RULES: &[Rule] = &[
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
        id: "F5",
        stacks: &["fstack"],
        title: "no function stands out: a request goes through all layers of BSD's sockets, and each takes a little",
        advice: "calls of ff_api that go through fewer layers (zero-copy send, one read and one write a request)",
        check: |f| {
            let layers = f.phases(&["api", "alloc"]);
            let top = f.top(15);
            (f.busy >= 0.5 && f.functions.len() >= 60 && top <= 0.5 && layers >= 0.2).then(|| {
                let lines = vec![
                    busy_line(f),
                    format!(
                        "{} functions, the largest 15 of which take {} %",
                        f.functions.len(),
                        percent(top)
                    ),
                    phase_line(f, "api"),
                    phase_line(f, "alloc"),
                ];
                evidence(f, layers, Sampled, lines)
            })
        },
    },
];
