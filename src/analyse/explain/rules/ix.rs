//! Rules about IX: its send window, side polls, why its requests cost little, and how it spreads over cores.
//!
//! In: facts; out: what they show. The table of `IX` rules.

use super::super::Confidence::{Sampled, Suspected};
use super::super::Rule;
use super::evidence::{below_line, busy_line, evidence, own_line, phase_line, side_poll, uneven};

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
    Rule {
        id: "IX5",
        stacks: &["ix"],
        title: "a few cores have nearly all flows: more cores add little",
        advice: "look at how the device spreads flows (its hash key and table of queues); `spans --thread NAME` shows requests by core",
        check: uneven,
    },
    Rule {
        id: "IX6",
        stacks: &["ix"],
        title: "empty rounds are spent in one function that writes where all cores write",
        advice: "a cache line for each core's word; record `-e '{cycles,LLC-load-misses}'` to be sure",
        check: |f| {
            let own = f.own(&["nvme_sched"]);
            (f.nothing() >= 0.1 && own >= 0.5 * f.nothing()).then(|| {
                let lines = vec![busy_line(f), own_line("nvme_sched", own)];
                evidence(f, own, Suspected, lines)
            })
        },
    },
];
