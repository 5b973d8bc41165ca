//! Rules about IX: its send window, side polls, and why its requests cost little.
//!
//! In: facts; out: what they show. The table of `IX` rules.

use super::super::Confidence::{Sampled, Suspected};
use super::super::Rule;
use super::evidence::{below_line, busy_line, evidence, phase_line, side_poll};

/// Its rules.
pub const RULES: &[Rule] = &[
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
];
