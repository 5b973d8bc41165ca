//! What the published stacks are known for, seen in ours: the properties that `docs/design/stacks.md` 10 names M1, M4, F1
//! and F4. Counts are asserted; times are printed (`--nocapture`), since they depend on the machine. Needs root; says so
//! and passes without.

use crate::events::Thread;
use crate::traced::{named, of_kind, traced};
use crate::veth::{GET, connect, joined, lab};
use bypassprof_wire::{Event, points};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Requests of a run, one after the other on one connection.
const REQUESTS: usize = 300;

/// One run at idle: what the threads told, and what a tick is in microseconds.
struct Idle {
    threads: Vec<Thread>,
    tick: f64,
    /// Mean time of a request as the client sees it, in microseconds.
    request: f64,
}

/// Asks `stack` again and again, each time when the reply is there.
fn idle(stack: &str, arguments: &[&str]) -> Option<Idle> {
    let lab = lab()?;
    let (client, namespace) = joined(&lab);
    let arguments = [&["--dev", "packet:http-s"], arguments].concat();
    let mut spent = Duration::ZERO;
    let threads = traced(&namespace, stack, &arguments, |address| {
        // Away from the first CPU, which mTCP's pair has for itself.
        let cpus = sched_getaffinity(None).unwrap();
        let last = (0..CpuSet::MAX_CPU).rfind(|&cpu| cpus.is_set(cpu)).unwrap();
        let mut own = CpuSet::new();
        own.set(last);
        sched_setaffinity(None, &own).unwrap();
        let mut stream = connect(&client, address);
        let start = Instant::now();
        for _ in 0..REQUESTS {
            stream.write_all(GET.as_bytes()).unwrap();
            let mut left = 151;
            while left > 0 {
                left -= stream.read(&mut [0; 200]).unwrap();
            }
        }
        spent = start.elapsed();
    });
    let requests = |t: &Thread| -> Vec<u64> {
        let starts = t.at(points::APP_START);
        starts.iter().map(|e| e.tsc.raw()).collect()
    };
    let starts: Vec<u64> = threads.iter().flat_map(requests).collect();
    assert_eq!(starts.len(), REQUESTS);
    let micros = spent.as_secs_f64() * 1e6;
    // From the first request to the last, one less than all of them.
    let ticks = (starts[REQUESTS - 1] - starts[0]) as f64 * REQUESTS as f64 / (REQUESTS - 1) as f64;
    Some(Idle {
        threads,
        tick: micros / ticks,
        request: micros / REQUESTS as f64,
    })
}

impl Idle {
    fn thread(&self, name: &str) -> &Thread {
        named(&self.threads, name)
    }

    /// The middle and the nine-tenths value of some ticks, in microseconds.
    fn spread(&self, ticks: impl IntoIterator<Item = u32>) -> (f64, f64) {
        let mut ticks: Vec<u32> = ticks.into_iter().collect();
        ticks.sort_unstable();
        let at = |share: f64| f64::from(ticks[(ticks.len() as f64 * share) as usize]) * self.tick;
        (at(0.5), at(0.9))
    }
}

fn per_request(count: usize) -> f64 {
    count as f64 / REQUESTS as f64
}

/// M1: at idle each request puts both threads of a core to sleep and wakes them, and replies lie in the send queue until
/// the stack's sleep is over, because the application cannot wake it. M4: each request is acknowledged by itself.
#[test]
fn mtcp_sleeps_for_each_request_and_acknowledges_it_alone() {
    let Some(idle) = idle("mtcp", &[]) else {
        return;
    };
    let (stack, application) = (idle.thread("mtcp-stack-0"), idle.thread("mtcp-app-0"));
    let switches = application.at(points::WAKE).len();
    let sleeps = stack.at(points::SLEEP).len();
    let is_timeout = |e: &&&Event| e.args[0] == 2;
    let timeouts = stack.at(points::WAKE).iter().filter(is_timeout).count();
    let slept = |e: &&&Event| e.args[3] == 1;
    let asleep = application
        .at(points::SEND_CALL)
        .iter()
        .filter(slept)
        .count();
    let jobs = stack.at(points::HANDOFF);
    let (middle, high) = idle.spread(jobs.iter().filter(|e| e.args[0] == 1).map(|e| e.args[2]));
    println!(
        "M1: per request {:.2} wake-ups of the application, {:.2} sleeps of the stack, {:.2} of them to the end; \
         {:.0} % of writes found it asleep; a write waited {middle:.0} us ({high:.0} us at 90 %) of {:.0} us a request",
        per_request(switches),
        per_request(sleeps),
        per_request(timeouts),
        100.0 * per_request(asleep),
        idle.request
    );
    assert!(per_request(switches) > 0.9 && sleeps > 0);
    // What was written while the stack slept is taken after its next wake-up. A stack that wakes just between the
    // writer's look at it and the event's stamp seems to break that, so a few may.
    let too_early = |call: &&&Event| {
        let mut later = stack.events.iter().filter(|e| e.tsc > call.tsc);
        let decides = |e: &&Event| {
            e.point == points::WAKE || (e.point == points::HANDOFF && e.flow == call.flow)
        };
        later
            .find(decides)
            .is_some_and(|e| e.point == points::HANDOFF)
    };
    let calls = application.at(points::SEND_CALL);
    let early = calls.iter().filter(slept).filter(too_early).count();
    assert!(early * 10 <= asleep, "{early} of {asleep}");

    let (acks, data) = (of_kind(stack, 1), of_kind(stack, 0));
    println!(
        "M4: per request {:.2} pure acknowledgements, {:.2} segments with data",
        per_request(acks),
        per_request(data)
    );
    assert_eq!(data, REQUESTS);
    assert!((0.95..1.1).contains(&per_request(acks)), "{acks}");
}

/// F1: at idle frames leave by the drain timer, after anything up to its delay; with no delay they leave at once. F4:
/// each request is acknowledged by itself.
#[test]
fn fstack_frames_wait_for_the_drain_timer() {
    for delay in ["100", "0"] {
        let Some(idle) = idle("fstack", &["--tx-drain-us", delay]) else {
            return;
        };
        let stack = idle.thread("fstack-0");
        let bursts = stack.at(points::TX_BURST);
        let by_timer = bursts.iter().filter(|e| e.args[2] == 2).count();
        let (middle, high) = idle.spread(bursts.iter().map(|e| e.args[1]));
        println!(
            "F1: drain after {delay} us: {:.0} % of bursts by the timer; the oldest frame waited {middle:.0} us \
             ({high:.0} us at 90 %) of {:.0} us a request",
            100.0 * by_timer as f64 / bursts.len() as f64,
            idle.request
        );
        if delay == "0" {
            // What TCP's own clock sends meets the drain of the same round.
            assert!(by_timer < bursts.len() / 10);
        } else {
            assert_eq!(by_timer, bursts.len());
        }

        let (acks, data) = (of_kind(stack, 1), of_kind(stack, 0));
        println!(
            "F4: per request {:.2} pure acknowledgements, {:.2} segments with data",
            per_request(acks),
            per_request(data)
        );
        assert_eq!(data, REQUESTS);
        assert!((0.95..1.1).contains(&per_request(acks)), "{acks}");
    }
}
