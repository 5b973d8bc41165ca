//! F-Stack: latency is the transmit drain's interval (F1); one pure acknowledgement for each request (F4).

use super::{Evidence, Property, Verdict};
use crate::Failure;
use crate::events::quantile;
use crate::site::Stack;
use bypassprof_wire::points;
use std::rc::Rc;

/// The drain delay of the study's F-Stack, in us.
const DELAY: f64 = 100.0;

/// F1: shown if bursts leave by the timer, and latency falls by a good part of the delay when there is none.
pub fn drain_interval(evidence: &mut Evidence) -> Result<Property, Failure> {
    let mut p50 = [0.0; 2];
    let mut told = Vec::new();
    let mut runs = Vec::new();
    let mut by_timer = 0.0;
    for (slot, delay) in p50.iter_mut().zip(["100", "0"]) {
        let run = evidence.small(Stack::Fstack, 1, &["--tx-drain-us", delay])?;
        let stack = run.application()?;
        let bursts = stack.count(points::TX_BURST) as f64;
        let timer = stack
            .at(points::TX_BURST)
            .filter(|e| e.args[2] == 2)
            .count() as f64;
        let ages: Vec<u64> = stack
            .at(points::TX_BURST)
            .map(|e| u64::from(e.args[1]))
            .collect();
        let us = |share| run.events.us(quantile(ages.iter().copied(), share));
        *slot = run.p50();
        if delay == "100" {
            by_timer = timer / bursts;
        }
        told.push(format!(
            "delay {delay} us: {:.0} % of bursts by the timer, oldest frame {:.0} us old in the middle ({:.0} at 90 %), \
             latency p50 {:.0} us",
            100.0 * timer / bursts,
            us(0.5),
            us(0.9),
            run.p50()
        ));
        runs.push(run);
    }
    let property = Property::new(
        "F1",
        "latency is flat near 100 us while the core polls: frames wait for the transmit drain, whose default is 100 us",
    );
    let runs: Vec<_> = runs.iter().map(Rc::as_ref).collect();
    let property = property.seen(told.join("; "), &runs);
    let fell = p50[0] - p50[1];
    Ok(match (by_timer > 0.9, fell > DELAY * 0.3) {
        (true, true) => property.verdict(
            Verdict::Shown,
            format!("the delay's removal takes {fell:.0} us away"),
        ),
        (true, false) => property.verdict(
            Verdict::InPart,
            format!("frames wait for the timer, but without it latency falls by {fell:.0} us only"),
        ),
        _ => property.verdict(
            Verdict::NotShown,
            "bursts leave by other causes than the timer",
        ),
    })
}

/// F4: shown if pure acknowledgements are as many as requests.
pub fn own_acknowledgements(evidence: &mut Evidence) -> Result<Property, Failure> {
    let one = evidence.small(Stack::Fstack, 1, &["--tx-drain-us", "100"])?;
    let many = evidence.small(Stack::Fstack, 64, &[])?;
    let (acks, acks_64) = (one.segments(1), many.segments(1));
    let property = Property::new(
        "F4",
        "one pure acknowledgement for each request doubles transmit work",
    );
    let property = property.seen(super::acknowledgements(&one, &many), &[&one, &many]);
    Ok(match (acks > 0.9, acks_64 > 0.9) {
        (true, true) => property.verdict(Verdict::Shown, "one for each request, at any load"),
        (true, false) => property.verdict(Verdict::InPart, "at 1 connection, fewer at 64"),
        _ => property.verdict(Verdict::NotShown, "acknowledgements ride on replies"),
    })
}
