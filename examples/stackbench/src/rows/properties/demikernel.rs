//! Demikernel: shortest chain and lowest latency at idle (D1); slower with more connections (D3).

use super::{Evidence, Property, Verdict};
use crate::Failure;
use crate::events::{Told, quantile};
use crate::site::Stack;
use bypassprof_wire::points;
use std::rc::Rc;

/// Rows whose chain is in one thread, with the options that take published delays away.
const CHAINS: [(Stack, &[&str]); 5] = [
    (Stack::Demikernel, &[]),
    (Stack::Fstack, &["--tx-drain-us", "0"]),
    (Stack::Ix, &[]),
    (Stack::Smoltcp, &[]),
    (Stack::Lwip, &[]),
];
/// The other four of the study.
const OTHERS: [Stack; 4] = [Stack::Linux, Stack::Mtcp, Stack::Fstack, Stack::Tas];

/// D1: shown if nothing sleeps or is handed over, latency is the lowest of the six, and the chain the shortest of those in
/// one thread.
pub fn shortest_chain(evidence: &mut Evidence) -> Result<Property, Failure> {
    let own = evidence.small(Stack::Demikernel, 1, &[])?;
    let sync = [
        points::SLEEP,
        points::WAKE,
        points::HANDOFF,
        points::LOCK_WAIT,
    ];
    let sync: u64 = sync.iter().map(|&point| own.count(point)).sum();
    let mut runs = vec![Rc::clone(&own)];
    let (mut chains, mut ways) = (Vec::new(), Vec::new());
    for (stack, arguments) in CHAINS {
        match evidence.small(stack, 1, arguments) {
            Ok(run) => {
                let [inward, outward] = chain(run.application()?);
                ways.push((inward + outward, stack));
                chains.push(format!(
                    "{} {:.1} + {:.1}",
                    stack.name(),
                    run.events.us(inward),
                    run.events.us(outward)
                ));
                runs.push(run);
            }
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            // A row that is absent is told of in the table.
            Err(_) => {}
        }
    }
    let mut latencies = vec![(Stack::Demikernel, own.p50())];
    for stack in OTHERS.into_iter().chain([Stack::Ix]) {
        match evidence.small(stack, 1, &[]) {
            Ok(run) => latencies.push((stack, run.p50())),
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(_) => {}
        }
    }
    latencies.sort_by(|a, b| a.1.total_cmp(&b.1));
    let first = latencies[0].0;
    let list: Vec<_> = latencies
        .iter()
        .map(|(stack, us)| format!("{} {us:.0}", stack.name()))
        .collect();
    let seen = format!(
        "{sync} sleeps, wake-ups, hand-overs and waits for locks in {:.0} requests; a quick request (10 %) takes us from \
         frame to application + from there to the reply's segment: {}; latency p50 in us: {}",
        own.requests(),
        chains.join(", "),
        list.join(", ")
    );
    let property = Property::new(
        "D1",
        "lowest latency at idle: one thread, each frame sent at once, the shortest chain of poll, application, transmit",
    );
    let runs: Vec<_> = runs.iter().map(Rc::as_ref).collect();
    let property = property.seen(seen, &runs);
    let shortest = ways.iter().min().map(|(_, stack)| *stack);
    Ok(match (first, shortest) {
        _ if sync > 0 => property.verdict(Verdict::NotShown, "the chain has hand-overs"),
        (Stack::Demikernel, Some(Stack::Demikernel)) => {
            property.verdict(Verdict::Shown, "chain and outcome")
        }
        (Stack::Demikernel, _) => property.verdict(
            Verdict::InPart,
            "the lowest latency, but not by the shortest chain",
        ),
        (other, Some(Stack::Demikernel)) => property.verdict(
            Verdict::InPart,
            format!("the shortest chain, but {} has the lower latency here", other.name()),
        ),
        (other, _) => property.verdict(
            Verdict::NotShown,
            format!(
                "one thread and nothing in between, as published, but {} has the lower latency and other rows in one thread \
                 the shorter chain",
                other.name()
            ),
        ),
    })
}

/// Ticks of a quick request (10 %): from its frame to the application, from there to its reply's first segment.
fn chain(thread: &Told) -> [u64; 2] {
    let (mut came, mut started) = (None, None);
    let (mut inward, mut outward) = (Vec::new(), Vec::new());
    for event in &thread.events {
        let tsc = event.tsc.raw();
        match event.point {
            points::TCP_IN if event.args[1] & 0xff_ffff > 0 => came = Some(tsc),
            points::APP_START => {
                inward.extend(came.take().map(|came| tsc.saturating_sub(came)));
                started = Some(tsc);
            }
            points::TCP_OUT if event.args[1] >> 24 == 0 => {
                outward.extend(started.take().map(|started| tsc.saturating_sub(started)));
            }
            _ => {}
        }
    }
    [quantile(inward, 0.1), quantile(outward, 0.1)]
}

/// D3: shown if work for a request grows with connections, and more than where no list of tokens is scanned.
pub fn tokens(evidence: &mut Evidence) -> Result<Property, Failure> {
    const STEPS: [u32; 4] = [4, 16, 64, 250];
    let mut told = Vec::new();
    let mut growth = Vec::new();
    let mut runs = Vec::new();
    for wait in ["any", "next"] {
        let mut costs = Vec::new();
        let mut scanned = Vec::new();
        for connections in STEPS {
            let run =
                evidence.small(Stack::Demikernel, connections, &["--demikernel-wait", wait])?;
            let thread = run.application()?;
            costs.push(run.events.us(thread.quick_work()));
            let tokens: Vec<u64> = thread
                .own("wait_any")
                .map(|e| u64::from(e.args[0]))
                .collect();
            scanned.push(quantile(tokens, 0.5));
            runs.push(run);
        }
        let list = |f: &dyn Fn(usize) -> String| {
            let steps: Vec<_> = (0..STEPS.len()).map(f).collect();
            steps.join(", ")
        };
        let mut words = format!(
            "wait_{wait}: {} us of work a request",
            list(&|i| format!("{:.0}", costs[i]))
        );
        if wait == "any" {
            words.push_str(&format!(
                ", {} tokens waited for",
                list(&|i| scanned[i].to_string())
            ));
        }
        told.push(words);
        growth.push(costs[STEPS.len() - 1] / costs[0]);
    }
    let steps: Vec<_> = STEPS.iter().map(u32::to_string).collect();
    let seen = format!("at {} connections {}", steps.join(", "), told.join("; "));
    let property = Property::new(
        "D3",
        "slows with connections: each wait scans all tokens (67 % of the time with 2 of them)",
    );
    let runs: Vec<_> = runs.iter().map(Rc::as_ref).collect();
    let property = property.seen(seen, &runs);
    let (any, next) = (growth[0], growth[1]);
    let why = format!(
        "from the first step to the last {any:.1} times the work, {next:.1} times without a list of tokens"
    );
    Ok(match (any > 1.3, any > next * 1.1) {
        (true, true) => property.verdict(Verdict::Shown, why),
        (true, false) => property.verdict(Verdict::InPart, why),
        _ => property.verdict(Verdict::NotShown, why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use points::{APP_START, TCP_IN, TCP_OUT};

    /// From a frame with bytes to the application, from there to the first segment with bytes; acknowledgements between
    /// them are not it.
    #[test]
    fn a_request_has_two_ways() {
        let ack = 1 << 24;
        let thread = Told::of(&[
            (10, TCP_IN, [0, 40, 0, 0]),
            (15, TCP_OUT, [0, ack, 0, 0]),
            (17, APP_START, [0; 4]),
            (18, TCP_OUT, [1, ack, 0, 0]),
            (20, TCP_OUT, [2, 151, 0, 0]),
            (30, TCP_IN, [1, 0, 0, 0]),
        ]);
        assert_eq!(chain(&thread), [7, 3]);
    }
}
