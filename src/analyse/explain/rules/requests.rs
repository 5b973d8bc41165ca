//! Rules that read requests, of whichever stack: where they wait, and what is sent for them besides replies.
//!
//! In: facts; out: what they show. The table of `S` rules.

use super::super::Confidence::Measured;
use super::super::{Evidence, Rule, Whole};
use super::evidence::{acks, drain_timer, percent, phase_line, stage_is, waits};

/// Its rules.
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
                    of: Whole::Requests,
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
                of: Whole::Segments,
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
];
