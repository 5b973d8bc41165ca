//! Evidence that several rules rest on, and the lines that tell it.
//!
//! In: facts; out: [`Evidence`] and its lines. It refuses to know what follows from them.

use super::super::Confidence::{self, Estimated, Measured, Sampled};
use super::super::{Evidence, Facts, Whole};

/// A share of all threads' time.
pub fn evidence(facts: &Facts, share: f64, confidence: Confidence, lines: Vec<String>) -> Evidence {
    Evidence {
        share,
        of: Whole::Threads,
        ns_per_request: facts.ns_per_request.map(|ns| ns * share),
        confidence,
        lines,
    }
}

/// A stage that takes at least so much of requests' time.
pub fn waits(facts: &Facts, stage: &str, least: f64) -> Option<Evidence> {
    stage_is(facts, &[stage], least)
}

/// Stages that together take at least so much of requests' time.
pub fn stage_is(facts: &Facts, stages: &[&str], least: f64) -> Option<Evidence> {
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
        of: Whole::Requests,
        ns_per_request: Some(ns),
        confidence: Measured,
        lines: stages.iter().filter_map(line).collect(),
    })
}

/// Replies wait, and it is a timer that lets them go.
pub fn drain_timer(facts: &Facts) -> Option<Evidence> {
    let by_timer = facts.stack == "fstack" && facts.timer_bursts >= 0.5;
    let mut found = waits(facts, "wait_drain", 0.2).filter(|_| by_timer)?;
    found.lines.push(format!(
        "{} % of transmit bursts were let go by the timer",
        percent(facts.timer_bursts)
    ));
    Some(found)
}

/// Every request costs an ACK of its own.
pub fn acks(facts: &Facts) -> Option<Evidence> {
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

/// Polls of something that the service never uses.
pub fn side_poll(facts: &Facts, least: f64, symbols: &[&str]) -> Option<Evidence> {
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

/// Threads of one role that do not share its work.
pub fn uneven(facts: &Facts) -> Option<Evidence> {
    let uneven = facts.uneven.as_ref()?;
    let basis = if facts.estimated { Estimated } else { Sampled };
    let (name, most) = &uneven.most;
    let line = format!(
        "{name} is busy {} %, the idler half of the {} threads of its role ({}) {} %",
        percent(*most),
        uneven.threads,
        uneven.role,
        percent(uneven.least)
    );
    Some(evidence(facts, uneven.moves, basis, vec![line]))
}

/// A share as people read it.
pub fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// How much of the time a phase takes.
pub fn phase_line(facts: &Facts, phase: &str) -> String {
    format!("{} % of the time is {phase}", percent(facts.phase(phase)))
}

/// How busy the program is.
pub fn busy_line(facts: &Facts) -> String {
    let tilde = if facts.estimated { "~" } else { "" };
    format!("busy {tilde}{} %", percent(facts.busy))
}

/// How busy a role is.
pub fn role_line(role: &str, busy: f64) -> String {
    format!("{role} is busy {} %", percent(busy))
}

/// How many samples end in functions.
pub fn own_line(what: &str, share: f64) -> String {
    format!("{} % of samples end in {what}", percent(share))
}

/// How many samples are in or below functions.
pub fn below_line(what: &str, share: f64) -> String {
    format!("{} % of samples are in or below {what}", percent(share))
}
