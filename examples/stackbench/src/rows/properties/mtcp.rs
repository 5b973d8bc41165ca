//! mTCP: latency at idle is sleep and wake (M1); two packets leave for each request (M4).

use super::{Evidence, Property, Verdict};
use crate::Failure;
use crate::events::quantile;
use crate::site::Stack;
use bypassprof_wire::{Event, points};

/// M1: shown if the application is woken once for each request and the stack sleeps, writes that find it asleep wait for
/// its next wake-up, and most of a request's time is waiting.
pub fn sleep_and_wake(evidence: &mut Evidence) -> Result<Property, Failure> {
    let run = evidence.small(Stack::Mtcp, 1, &[])?;
    let (stack, application) = (
        run.events.thread("mtcp-stack-0")?,
        run.events.thread("mtcp-app-0")?,
    );
    let requests = run.requests();
    let woken = application.count(points::WAKE) as f64 / requests;
    let sleeps = stack.count(points::SLEEP) as f64 / requests;
    let asleep = |e: &&Event| e.args[3] == 1;
    let found_asleep = application.at(points::SEND_CALL).filter(asleep).count() as f64 / requests;
    let sends = stack.at(points::HANDOFF).filter(|e| e.args[0] == 1);
    let ages: Vec<u64> = sends.map(|e| u64::from(e.args[2])).collect();
    let late = quantile(ages.iter().copied(), 0.9);
    let middle = quantile(ages, 0.5);
    let served = application.served().unwrap_or_default();
    let working = stack.busy(served) + application.busy(served);
    let idle = 1.0 - working as f64 / (served.1 - served.0).max(1) as f64;
    let property = Property::new(
        "M1",
        "latency at idle is high: idle 92 %, a sleep and a wake for each request, and the application cannot wake the stack",
    );
    let seen = format!(
        "for each request {woken:.2} wake-ups of the application and {sleeps:.2} sleeps of the stack; {:.0} % of writes \
         find it asleep; a write waits {:.0} us in the middle, {:.0} us at 90 %; both threads idle {:.0} % of the time; \
         latency p50 {:.0} us",
        100.0 * found_asleep,
        run.events.us(middle),
        run.events.us(late),
        100.0 * idle,
        run.p50()
    );
    let counts = woken > 0.9 && sleeps > 0.5;
    Ok(property.seen(seen, &[&run]).verdict(
        match (counts, idle > 0.5) {
            (true, true) => Verdict::Shown,
            (true, false) => Verdict::InPart,
            _ => Verdict::NotShown,
        },
        match (counts, idle > 0.5) {
            (true, true) => "the published chain, event by event",
            (true, false) => {
                "sleeps and wake-ups are there, but the core is busy for half of the time or more"
            }
            _ => "fewer sleeps or wake-ups than requests",
        },
    ))
}

/// M4: shown if pure acknowledgements are as many as segments with data, one by one and under load.
pub fn own_acknowledgements(evidence: &mut Evidence) -> Result<Property, Failure> {
    let one = evidence.small(Stack::Mtcp, 1, &[])?;
    let many = evidence.small(Stack::Mtcp, 64, &[])?;
    let seen = super::acknowledgements(&one, &many);
    let (acks, acks_64) = (one.segments(1), many.segments(1));
    let property = Property::new(
        "M4",
        "about 2 packets leave for each request: the acknowledgement list is flushed before the application ran",
    );
    let property = property.seen(seen, &[&one, &many]);
    Ok(match (acks > 0.9, acks_64 > 0.9) {
        (true, true) => property.verdict(Verdict::Shown, "one acknowledgement of its own for each request, at any load"),
        (true, false) => property.verdict(
            Verdict::InPart,
            "at 1 connection; at 64 requests that are in one round share acknowledgements with data",
        ),
        _ => property.verdict(Verdict::NotShown, "acknowledgements ride on replies"),
    })
}
