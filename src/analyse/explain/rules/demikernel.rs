//! Rules about Demikernel: why it is quick when idle, stalls, look-ups of tokens.
//!
//! In: facts; out: what they show. The table of `D` rules.

use super::super::Confidence::{Measured, Sampled, Suspected};
use super::super::Rule;
use super::evidence::{busy_line, evidence, own_line, phase_line};

/// Its rules.
pub const RULES: &[Rule] = &[
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
            if f.requests == 0 && f.stalls > 0 && f.nothing() >= 0.5 {
                let stalls = format!(
                    "{} times a flow had to send and sent nothing for long",
                    f.stalls
                );
                let lines = vec![busy_line(f), stalls];
                return Some(evidence(f, f.nothing(), Measured, lines));
            }
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
        id: "D4",
        stacks: &["demikernel"],
        title: "frames are received in bursts and sent one by one: each pays for a burst of its own",
        advice: "collect what a round sends and give it to the device at its end",
        check: |f| {
            let [received, sent] = f.bursts?;
            (sent <= 1.05 && received >= 1.5).then(|| {
                let lines = vec![
                    format!(
                        "{received:.1} frames in a receive burst, {sent:.2} in a transmit burst"
                    ),
                    phase_line(f, "driver_tx"),
                ];
                evidence(f, f.phase("driver_tx"), Measured, lines)
            })
        },
    },
];
