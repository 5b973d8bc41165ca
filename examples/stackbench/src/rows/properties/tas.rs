//! TAS: a request crosses two queues between threads and its reply waits for the next poll (T1); large replies pass
//! serial stages of which none is full (T2).

use super::{Evidence, Property, Verdict};
use crate::Failure;
use crate::events::quantile;
use crate::load::Load;
use crate::site::Stack;
use bypassprof_wire::{Event, points};

/// Queues as `handoff` names them: core to application, application to core.
const ARX: u32 = 0x100;
const ATX: u32 = 0x200;
/// The point at which an application publishes what it read and wrote.
const BUMP: &str = "tas_bump";

/// T1: shown if each request crosses both queues once, its reply is published after its handling, and latency is above
/// Demikernel's.
pub fn queue_hops(evidence: &mut Evidence) -> Result<Property, Failure> {
    let run = evidence.small(Stack::Tas, 1, &[])?;
    let other = evidence.small(Stack::Demikernel, 1, &[]);
    let (fast, application) = (
        run.events.thread("tas-fp-0")?,
        run.events.thread("tas-app-0")?,
    );
    let requests = run.requests();
    let ages = |thread: &crate::events::Told, queue: u32| -> Vec<u64> {
        let of_queue = |e: &&Event| e.args[0] & 0xff00 == queue;
        let hops = thread.at(points::HANDOFF).filter(of_queue);
        hops.map(|e| u64::from(e.args[2])).collect()
    };
    let (arx, atx) = (ages(application, ARX), ages(fast, ATX));
    let (hops_in, hops_out) = (arx.len() as f64 / requests, atx.len() as f64 / requests);
    let published = application.own(BUMP).filter(|e| e.args[2] > 0).count() as f64 / requests;
    let us = |ages: &[u64]| run.events.us(quantile(ages.iter().copied(), 0.5));
    let latency = other.as_ref().map(|other| other.p50());
    let seen = format!(
        "for each request {hops_in:.2} entries from core to application ({:.0} us old when read, in the middle), {published:.2} \
         publications of a reply, {hops_out:.2} entries back ({:.0} us old); latency p50 {:.0} us, Demikernel {}",
        us(&arx),
        us(&atx),
        run.p50(),
        latency
            .as_ref()
            .map_or("not there".to_string(), |l| format!("{l:.0} us"))
    );
    let property = Property::new(
        "T1",
        "latency above Demikernel's: two queues between cores on the way, replies are published by the next poll only",
    );
    let property = property.seen(seen, &[&run]);
    let hops = hops_in > 0.9 && hops_out > 0.9 && published > 0.9;
    Ok(match (hops, latency) {
        (true, Ok(latency)) if run.p50() > latency => property.verdict(
            Verdict::Shown,
            "both hops for each request, and the latency is above",
        ),
        (true, Ok(_)) => property.verdict(
            Verdict::InPart,
            "both hops for each request, but Demikernel is not quicker here",
        ),
        (true, Err(failure)) => property.verdict(
            Verdict::InPart,
            format!("both hops for each request; nothing to compare with: {failure}"),
        ),
        _ => property.verdict(Verdict::NotShown, "fewer hops than requests"),
    })
}

/// T2: shown if under large replies no thread is busy for more than half of the time; in part if none is busy throughout.
pub fn serial_stages(evidence: &mut Evidence) -> Result<Property, Failure> {
    const BODY: usize = 128 << 10;
    let load = Load {
        body: Some(BODY),
        ..Load::closed(1, evidence.time)
    };
    let body = BODY.to_string();
    let arguments = ["--body", &body, "--tas-rate", "0"];
    let name = "record-128k".to_string();
    let run = evidence.run(Stack::Tas, name, &arguments, load)?;
    let span = run.application()?.served().unwrap_or_default();
    let busy = |name: &str| -> Result<f64, Failure> {
        let thread = run.events.thread(name)?;
        Ok(thread.busy(span) as f64 / (span.1 - span.0).max(1) as f64)
    };
    let shares = [busy("tas-fp-0")?, busy("tas-sp")?, busy("tas-app-0")?];
    let seen = format!(
        "busy: fast path {:.0} %, slow path {:.0} %, application {:.0} %; {:.0} MB/s of 128 KiB replies at 1 connection",
        100.0 * shares[0],
        100.0 * shares[1],
        100.0 * shares[2],
        run.figures.bytes_per_second / 1e6
    );
    let most = shares.iter().copied().fold(0.0, f64::max);
    let property = Property::new(
        "T2",
        "large replies saturate no stage: fast path 28 % busy, application 31 %; serial hand-over between cores is the limit",
    );
    let property = property.seen(seen, &[&run]);
    Ok(if most < 0.5 {
        property.verdict(Verdict::Shown, "no stage is busy for half of the time")
    } else if most < 0.95 {
        property.verdict(
            Verdict::InPart,
            "no stage is full, but one is busy for more than half of the time: a frame sent is a system call here, \
             a write to a queue there",
        )
    } else {
        property.verdict(Verdict::NotShown, "one stage is full")
    })
}
