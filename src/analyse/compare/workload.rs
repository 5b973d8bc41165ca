//! Whether two recordings can be compared: the same work, told in the same way, on the same machine.
//!
//! In: two [`Side`]s; out: [`Remark`]s, some of which refuse. A difference in rate is no remark: with a closed loop it is
//! the answer.

use super::side::{Key, Side, Unit};
use super::tally::Counted;
use super::{DISTURBED, preempted};
use crate::analyse::spans::STAGES;

/// Something that the reader of a comparison must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Short stable name.
    pub id: &'static str,
    /// The sentence.
    pub text: String,
    /// What forbids the comparison.
    pub refuses: Refusal,
}

/// Whether a remark forbids the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It does not.
    No,
    /// It does, unless the user insists.
    UnlessAsked,
    /// It does: there would be nothing to say.
    Always,
}

/// Replies may differ so much in length and loads in connections and still be the same workload.
const SAME_BYTES: f64 = 0.05;
const SAME_CONNECTIONS: f64 = 0.1;
/// Counters that differ so much in speed are two machines'.
const SAME_SPEED: f64 = 0.01;
/// So much of all slots may be missing without a word.
const FEW_DROPPED: f64 = 0.001;

/// All remarks on two sides, the gravest first.
pub fn remarks(a: &Side, b: &Side) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut say = |id, refuses, text: String| remarks.push(Remark { id, text, refuses });
    let (no, ask, never) = (Refusal::No, Refusal::UnlessAsked, Refusal::Always);
    let names = format!("{} and {}", a.name, b.name);
    let either = |is: fn(&Side) -> bool| [a, b].into_iter().filter(move |s| is(s));
    if a.unit != b.unit {
        let without = either(|s| s.unit == Unit::Share).map(|s| s.name.as_str());
        let without: Vec<_> = without.collect();
        say(
            "no-requests",
            never,
            format!("{} holds no requests, the other does", without.join(", ")),
        );
    } else if a.unit == Unit::Share {
        say(
            "shares",
            no,
            "no requests are counted: shares of all threads' time or samples are compared, an estimate of what costs more; intervals are of sampling alone".into(),
        );
    }
    if a.events != b.events {
        let without: Vec<_> = either(|s| !s.events).map(|s| s.name.as_str()).collect();
        say(
            "no-events",
            ask,
            format!(
                "{} has no events: work is told from empty polling in another way",
                without.join(", ")
            ),
        );
    }
    for side in either(|s| s.profile.user_only) {
        if side.profile.packs.first().is_some_and(|p| p == "linux") {
            say(
                "kernel-not-seen",
                never,
                format!(
                    "{}: its TCP runs in the kernel, and the kernel was not seen: it is left out",
                    side.name
                ),
            );
        }
    }
    if a.profile.user_only != b.profile.user_only {
        say(
            "kernel-in-one",
            ask,
            format!("of {names} only one has samples of the kernel"),
        );
    }
    workload(a, b, &mut say);
    machine(a, b, &mut say);
    for side in [a, b] {
        let trust = &side.profile.trust;
        let all = (trust.events + trust.events_dropped).max(1) as f64;
        if trust.events_dropped as f64 / all > FEW_DROPPED {
            let percent = 100.0 * trust.events_dropped as f64 / all;
            say(
                "events-lost",
                no,
                format!(
                    "{}: {percent:.1} % of the slots were lost: what is divided by requests is too large by about as much",
                    side.name
                ),
            );
        }
        if side.windows == 0 && side.unit == Unit::PerRequest {
            say(
                "no-windows",
                no,
                format!(
                    "{}: too short under load, or without times or an end: scatter over the run is not known, intervals are of sampling alone",
                    side.name
                ),
            );
        }
        let preempted = preempted(side);
        if preempted > DISTURBED {
            say(
                "disturbed",
                no,
                format!(
                    "{}: threads had to leave the CPU to others while they could have run, {:.0} % of the time under load: throughput says nothing, and latency holds it",
                    side.name,
                    100.0 * preempted
                ),
            );
        }
        if let Some(damage) = &trust.damage {
            say("damaged", no, format!("{}: {damage}", side.name));
        }
    }
    remarks.sort_by_key(|r| std::cmp::Reverse(r.refuses));
    remarks
}

/// Whether both had the same to do, as far as requests tell: replies of one length on as many connections.
pub fn is_same_work(a: &Side, b: &Side) -> bool {
    let mut is_same = a.unit == Unit::PerRequest && b.unit == Unit::PerRequest;
    workload(a, b, &mut |_, refuses, _| is_same &= refuses == Refusal::No);
    is_same
}

fn workload(a: &Side, b: &Side, say: &mut impl FnMut(&'static str, Refusal, String)) {
    if a.unit != Unit::PerRequest || b.unit != Unit::PerRequest {
        return;
    }
    let differ = |x: f64, y: f64, most: f64| (x - y).abs() > most * x.max(y);
    let bytes = [a, b].map(|s| s.value(Key::Count(Counted::ReplyBytes)).value);
    if differ(bytes[0], bytes[1], SAME_BYTES) {
        say(
            "reply-bytes",
            Refusal::UnlessAsked,
            format!(
                "another workload: replies of {:.0} bytes in {}, of {:.0} in {}",
                bytes[0], a.name, bytes[1], b.name
            ),
        );
    }
    let flows = [a, b].map(|s| s.tally.connections());
    // Connections that come and go are as many as the run is long.
    let lasting = [a, b]
        .iter()
        .zip(flows)
        .all(|(s, n)| s.requests >= 4.0 * n as f64);
    if lasting && differ(flows[0] as f64, flows[1] as f64, SAME_CONNECTIONS) {
        say(
            "connections",
            Refusal::UnlessAsked,
            format!(
                "another workload: {} connections in {}, {} in {}",
                flows[0], a.name, flows[1], b.name
            ),
        );
    }
    // That no thread had to wake up, or to hand over, is no lack of events.
    let told = |at: &usize| !["wait_wakeup", "wait_handoff"].contains(&STAGES[*at].name);
    let only: Vec<_> = (0..STAGES.len() - 1)
        .filter(told)
        .filter(|&at| a.tells(Key::Stage(at)) != b.tells(Key::Stage(at)))
        .map(|at| STAGES[at].name)
        .collect();
    if a.told > 0.0 && b.told > 0.0 && !only.is_empty() {
        say(
            "stages",
            Refusal::No,
            format!(
                "told on one side only: {}: the gap in latency holds what the other side cannot tell",
                only.join(", ")
            ),
        );
    }
    if (a.told > 0.0) != (b.told > 0.0) {
        let without = if a.told > 0.0 { b } else { a };
        say(
            "no-spans",
            Refusal::No,
            format!(
                "{}: no request can be told from beginning to end: latency is not compared",
                without.name
            ),
        );
    }
}

fn machine(a: &Side, b: &Side, say: &mut impl FnMut(&'static str, Refusal, String)) {
    let (x, y) = (&a.profile.session, &b.profile.session);
    if x.cpu_model != y.cpu_model {
        say(
            "cpu",
            Refusal::No,
            format!("other CPUs: {} and {}", x.cpu_model, y.cpu_model),
        );
    } else if x.host != y.host {
        say(
            "host",
            Refusal::No,
            format!("other machines: {} and {}", x.host, y.host),
        );
    }
    if x.kernel != y.kernel {
        say(
            "kernel",
            Refusal::No,
            format!("other kernels: {} and {}", x.kernel, y.kernel),
        );
    }
    if let (Some(p), Some(q)) = (a.profile.ns_per_tick, b.profile.ns_per_tick)
        && (p - q).abs() > SAME_SPEED * p.max(q)
    {
        say(
            "counter",
            Refusal::No,
            format!(
                "counters of other speeds: {:.3} and {:.3} GHz; times are compared, not cycles",
                1.0 / p,
                1.0 / q
            ),
        );
    }
    if a.profile.event != b.profile.event {
        say(
            "event",
            Refusal::No,
            format!(
                "sampled by other events: {} and {}",
                a.profile.event, b.profile.event
            ),
        );
    }
}
