//! Each number that a rule compares with: just beyond it the rule speaks, just short of it it is silent.

use super::*;

/// On which side of its number a rule speaks.
#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Above,
    Below,
}
use Speaks::{Above, Below};

/// A rule, facts in which one quantity is as large as one likes, and where the rule turns.
struct Turn(&'static str, fn(f64) -> Facts, f64, Speaks);

fn stage(name: &'static str, share: f64) -> Facts {
    requests(&[("total", 1000.0), (name, 1000.0 * share)], 0.0)
}

fn crossed(share: f64, waits: f64) -> Facts {
    Facts {
        crossed: share,
        ..of("tas", stage("wait_send", waits))
    }
}

fn spinning(polling: f64, sync: f64) -> Facts {
    let phases = [("idle", polling), ("sync", sync)];
    facts("mtcp", 0.1, &phases, &[])
}

fn idle_and_copies(idle: f64, copy: f64) -> Facts {
    facts("mtcp", 0.5, &[("idle", idle), ("copy", copy)], &[])
}

fn interrupted(busy: f64, copy: f64, irq: f64) -> Facts {
    facts("linux", busy, &[("copy", copy), ("irq", irq)], &[])
}

fn cut(alloc: f64, segments: f64) -> Facts {
    let functions = [("__skb_gso_segment", 0.0, segments)];
    facts("linux", 0.8, &[("alloc", alloc)], &functions)
}

fn around(idle: f64, sync: f64) -> Facts {
    facts("linux", 0.2, &[("idle", idle), ("sync", sync)], &[])
}

fn drains_nothing(polling: f64, clock: f64) -> Facts {
    let functions = [("rte_rdtsc", clock, clock)];
    facts("fstack", 0.1, &[("empty_poll", polling)], &functions)
}

fn side(stack: &str, share: f64, name: &str) -> Facts {
    facts(stack, 0.1, &[("poll.side", share)], &[(name, 0.1, 0.1)])
}

fn writes(copy: f64, write: f64) -> Facts {
    facts(
        "fstack",
        0.8,
        &[("copy", copy)],
        &[("ff_write", 0.0, write)],
    )
}

fn window(polling: f64, copy: f64, goes_on: f64) -> Facts {
    let phases = [("empty_poll", polling), ("copy", copy)];
    let functions = [("pp_stream_handler", 0.0, goes_on)];
    facts("ix", 0.5, &phases, &functions)
}

fn light(acks: f64, sync: f64) -> Facts {
    Facts {
        acks_per_request: acks,
        requests: 100,
        ..facts("ix", 0.3, &[("sync", sync)], &[])
    }
}

fn shared_line(polling: f64, own: f64) -> Facts {
    facts(
        "ix",
        0.5,
        &[("empty_poll", polling)],
        &[("nvme_sched", own, own)],
    )
}

fn layers(busy: f64, api: f64) -> Facts {
    Facts {
        busy,
        phases: [("api".to_owned(), api)].into(),
        ..flat(150)
    }
}

fn off_and_polls(off: f64, polls: f64) -> Facts {
    let mut facts = polls_in_turn(off);
    let fast = facts.roles.get_mut("fast path").unwrap();
    fast.phases.insert("empty_poll".to_owned(), polls);
    facts
}

fn probing(share: f64) -> Facts {
    let own = Function {
        own: share,
        total: share,
    };
    Facts {
        functions: [("poll_queues".to_owned(), own)].into(),
        ..tas(0.02, 0.1, 0.0)
    }
}

fn detours(detours_per_request: f64) -> Facts {
    Facts {
        detours_per_request,
        ..of("tas", requests(&[], 0.0))
    }
}

fn shortest(busy: f64, copy: f64, sync: f64, tcp: f64) -> Facts {
    let phases = [("copy", copy), ("sync", sync), ("tcp_rx", tcp)];
    facts("demikernel", busy, &phases, &[])
}

fn stalled(polling: f64) -> Facts {
    Facts {
        stalls: 3,
        ..facts("demikernel", 0.1, &[("empty_poll", polling)], &[])
    }
}

fn silent(busy: f64, polling: f64) -> Facts {
    facts("demikernel", busy, &[("empty_poll", polling)], &[])
}

const TURNS: &[Turn] = &[
    Turn("S1", |x| stage("wait_drain", x), 0.2, Above),
    Turn("S2", |x| stage("wait_wakeup", x), 0.15, Above),
    Turn("S3", |x| stage("wait_app", x), 0.3, Above),
    Turn("S4", |x| stage("wait_send", x), 0.2, Above),
    Turn("S5", |x| requests(&[], x), 0.8, Above),
    Turn("S6", |x| stage("transmit", x), 0.4, Above),
    Turn("S7", behind, 0.2, Above),
    Turn("S8", again, 0.02, Above),
    Turn("M1", |x| of("mtcp", stage("wait_send", x)), 0.4, Above),
    Turn("M1", |x| spinning(x, 0.05), 0.8, Above),
    Turn("M1", |x| spinning(0.9, x), 0.03, Above),
    Turn("M2", |x| idle_and_copies(x, 0.3), 0.25, Above),
    Turn("M2", |x| idle_and_copies(x, 0.3), 0.75, Below),
    Turn("M2", |x| idle_and_copies(0.5, x), 0.2, Above),
    Turn(
        "M3",
        |x| {
            facts(
                "mtcp",
                1.0,
                &[("csum", x)],
                &[("pthread_spin_lock", 0.1, 0.1)],
            )
        },
        0.1,
        Above,
    ),
    Turn(
        "M3",
        |x| {
            facts(
                "mtcp",
                1.0,
                &[("csum", 0.2)],
                &[("pthread_spin_lock", x, x)],
            )
        },
        0.05,
        Above,
    ),
    Turn("M4", |x| of("mtcp", requests(&[], x)), 0.8, Above),
    Turn("F1", |x| drained(x, 450.0), 0.5, Above),
    Turn("F1", |x| drained(0.9, 1000.0 * x), 0.2, Above),
    Turn("F1", |x| drains_nothing(x, 0.2), 0.85, Above),
    Turn("F1", |x| drains_nothing(0.9, x), 0.1, Above),
    Turn("F2", |x| side("fstack", x, "kni_process_tx"), 0.2, Above),
    Turn("F3", |x| writes(x, 0.5), 0.15, Above),
    Turn("F3", |x| writes(0.3, x), 0.3, Above),
    Turn("F4", |x| of("fstack", requests(&[], x)), 0.8, Above),
    Turn("F5", |x| layers(x, 0.3), 0.5, Above),
    Turn("F5", |x| layers(0.9, x), 0.2, Above),
    Turn("L1", |x| interrupted(x, 0.3, 0.2), 0.5, Above),
    Turn("L1", |x| interrupted(0.8, x, 0.2), 0.15, Above),
    Turn("L1", |x| interrupted(0.8, 0.3, x), 0.08, Above),
    Turn("L2", |x| cut(x, 0.2), 0.15, Above),
    Turn("L2", |x| cut(0.2, x), 0.05, Above),
    Turn("L3", |x| around(x, 0.4), 0.5, Above),
    Turn("L3", |x| around(0.5, x), 0.2, Above),
    Turn("IX1", |x| window(x, 0.1, 0.1), 0.35, Above),
    Turn("IX1", |x| window(0.5, x, 0.1), 0.03, Above),
    Turn("IX1", |x| window(0.5, 0.1, x), 0.002, Above),
    Turn("IX2", |x| side("ix", x, "nvme_sched"), 0.2, Above),
    Turn("IX4", |x| light(x, 0.0), 0.05, Below),
    Turn("IX4", |x| light(0.0, x), 0.01, Below),
    Turn("IX6", |x| shared_line(x, 0.5), 0.1, Above),
    Turn("IX6", |x| shared_line(0.6, x), 0.3, Above),
    Turn("T1", |x| crossed(1.0, x), 0.2, Above),
    Turn("T1", |x| crossed(x, 0.4), 0.5, Above),
    Turn("T1", |x| tas(x, 0.1, 0.0), 0.15, Below),
    Turn("T1", |x| tas(0.1, x, 0.0), 0.2, Below),
    Turn("T2", |x| tas(x, 0.3, 0.2), 0.15, Above),
    Turn("T2", |x| tas(x, 0.3, 0.2), 0.7, Below),
    Turn("T2", |x| tas(0.3, x, 0.2), 0.15, Above),
    Turn("T2", |x| tas(0.3, x, 0.2), 0.7, Below),
    Turn("T2", |x| tas(0.3, 0.3, x), 0.1, Above),
    Turn("T3", |x| off_and_polls(x, 0.3), 0.1, Above),
    Turn("T3", |x| off_and_polls(0.3, x), 0.1, Above),
    Turn(
        "T4",
        |x| facts("tas", 0.4, &[("tcp_timer", x)], &[]),
        0.05,
        Above,
    ),
    Turn("T5", probing, 0.09, Above),
    Turn("T7", detours, 0.1, Above),
    Turn("D1", |x| shortest(x, 0.0, 0.0, 0.01), 0.02, Above),
    Turn("D1", |x| shortest(x, 0.0, 0.0, 0.01), 0.3, Below),
    Turn("D1", |x| shortest(0.1, x, 0.0, 0.01), 0.02, Below),
    Turn("D1", |x| shortest(0.1, 0.0, x, 0.01), 0.005, Below),
    Turn("D1", |x| shortest(0.1, 0.0, 0.0, x), 0.002, Above),
    Turn("D2", stalled, 0.5, Above),
    Turn("D2", |x| silent(x, 0.99), 0.01, Below),
    Turn("D2", |x| silent(0.0, x), 0.98, Above),
    Turn(
        "D3",
        |x| facts("demikernel", 0.1, &[], &[("hash_one", x, x)]),
        0.3,
        Above,
    ),
    Turn("D4", |x| bursts(x, 1.0), 1.5, Above),
    Turn("D4", |x| bursts(3.0, x), 1.05, Below),
    Turn(
        "X1",
        |x| facts("", 0.1, &[("empty_poll", x)], &[]),
        0.5,
        Above,
    ),
    Turn(
        "X3",
        |x| facts("", 0.9, &[], &[("generate_httphdr", 0.0, x)]),
        0.01,
        Above,
    ),
    Turn("H1", |x| tas(x, 0.1, 0.0), 0.85, Above),
    Turn("H1", with_room, 0.5, Above),
    Turn("H4", |x| between(x, 0.6), 0.5, Above),
    Turn("H4", |x| between(0.8, x), 0.5, Above),
    Turn("H2", with_room, 0.01, Above),
    Turn("H2", with_room, 0.5, Below),
];

/// Rules without a number of their own: how uneven threads have to be is said where they are looked at.
const WITHOUT: &[&str] = &["IX5", "H3"];

#[test]
fn each_rule_turns_at_its_number() {
    for &Turn(id, facts, at, speaks) in TURNS {
        for (factor, side) in [(1.005, Above), (0.995, Below)] {
            let found = explain(&facts(at * factor)).iter().any(|f| f.id == id);
            assert_eq!(found, side == speaks, "{id} at {}", at * factor);
        }
    }
    for (_, rule) in rules() {
        let turns = TURNS.iter().any(|turn| turn.0 == rule.id);
        assert_ne!(turns, WITHOUT.contains(&rule.id), "{}", rule.id);
    }
}
