//! Each rule on facts in which what it names is, and on facts in which it is not.

use super::super::Facts;
use super::super::explain;
use super::super::facts::Role;
use super::super::facts::{Function, Thread, Uneven};
use super::rules;
use crate::analyse::ledger::UNACCOUNTED;
use proptest::prelude::*;

mod thresholds;

fn facts(stack: &str, busy: f64, phases: &[(&str, f64)], functions: &[(&str, f64, f64)]) -> Facts {
    let function =
        |&(name, own, total): &(&str, f64, f64)| (name.to_owned(), Function { own, total });
    Facts {
        stack: stack.into(),
        busy,
        phases: phases.iter().map(|&(p, s)| (p.to_owned(), s)).collect(),
        functions: functions.iter().map(function).collect(),
        ..Facts::default()
    }
}

fn requests(stages: &[(&'static str, f64)], acks: f64) -> Facts {
    Facts {
        requests: 100,
        acks_per_request: acks,
        stages: stages
            .iter()
            .map(|&(name, mean)| (name, (mean, 100)))
            .collect(),
        ..facts("", 0.3, &[], &[])
    }
}

fn of(stack: &str, facts: Facts) -> Facts {
    Facts {
        stack: stack.into(),
        ..facts
    }
}

fn behind(share: f64) -> Facts {
    Facts {
        behind: [("burst", share)].into(),
        ..requests(&[("total", 1000.0)], 0.0)
    }
}

fn drained(by_timer: f64, wait: f64) -> Facts {
    let stages = [("total", 1000.0), ("wait_drain", wait)];
    Facts {
        timer_bursts: by_timer,
        ..of("fstack", requests(&stages, 0.0))
    }
}

fn polls_in_turn(off: f64) -> Facts {
    let mut facts = tas(0.3, 0.1, 0.0);
    let fast = facts.roles.get_mut("fast path").unwrap();
    fast.phases = [("off_cpu".to_owned(), off), ("empty_poll".to_owned(), 0.3)].into();
    facts
}

fn with_room(busy: f64) -> Facts {
    Facts {
        busiest: Some(Thread {
            name: "loop-0".into(),
            busy,
            ..Thread::default()
        }),
        ..requests(&[("total", 1000.0), ("wait_drain", 100.0)], 0.0)
    }
}

/// Connections that wait outside for this share of their time, before a thread that finds nothing to do so often.
fn between(share: f64, nothing: f64) -> Facts {
    let mut facts = with_room(1.0 - nothing);
    facts.outside = Some((1000.0 * share / (1.0 - share), share));
    facts.busiest.as_mut().unwrap().nothing = nothing;
    facts
}

fn tas(fast: f64, app: f64, copy: f64) -> Facts {
    let role = |busy| Role {
        share: 0.3,
        busy,
        phases: [("copy".to_owned(), copy)].into(),
    };
    Facts {
        roles: [
            ("fast path".to_owned(), role(fast)),
            ("application".to_owned(), role(app)),
        ]
        .into(),
        ..facts("tas", (fast + app) / 3.0, &[], &[])
    }
}

fn again(retransmissions_per_request: f64) -> Facts {
    Facts {
        retransmissions_per_request,
        ..requests(&[], 0.0)
    }
}

/// Two threads of a role, one of which has nearly all of the work, or both the same.
fn on_two(stack: &str, moves: Option<f64>) -> Facts {
    Facts {
        uneven: moves.map(|moves| Uneven {
            role: "core".into(),
            threads: 2,
            most: ("core-0".into(), 0.9),
            least: 0.9 - 2.0 * moves,
            moves,
        }),
        ..facts(stack, 0.5, &[], &[])
    }
}

fn bursts(received: f64, sent: f64) -> Facts {
    Facts {
        bursts: Some([received, sent]),
        ..facts("demikernel", 0.5, &[("driver_tx", 0.2)], &[])
    }
}

/// So many functions with the same share each.
fn flat(functions: usize) -> Facts {
    let phases = [("api", 0.17), ("alloc", 0.16)];
    let share = 1.0 / functions as f64;
    let names: Vec<_> = (0..functions).map(|n| format!("f{n}")).collect();
    let functions: Vec<_> = names.iter().map(|n| (n.as_str(), share, share)).collect();
    facts("fstack", 0.97, &phases, &functions)
}

/// Facts that show each rule, and facts that fall short of it.
fn cases() -> Vec<(&'static str, Facts, Facts)> {
    let total = |name, mean| requests(&[("total", 1000.0), (name, mean)], 0.0);
    let spins = [("empty_poll", 0.6), ("poll.side", 0.35)];
    vec![
        ("S1", total("wait_drain", 450.0), total("wait_drain", 150.0)),
        (
            "S2",
            total("wait_wakeup", 200.0),
            total("wait_wakeup", 100.0),
        ),
        ("S3", total("wait_app", 400.0), total("wait_app", 100.0)),
        ("S4", total("wait_send", 300.0), total("wait_send", 100.0)),
        ("S5", requests(&[], 1.0), requests(&[], 0.1)),
        ("S6", total("transmit", 450.0), total("transmit", 300.0)),
        ("S7", behind(0.25), behind(0.1)),
        ("S8", again(4.0), again(0.01)),
        (
            "M4",
            of("mtcp", requests(&[], 1.0)),
            of("mtcp", requests(&[], 0.5)),
        ),
        (
            "F4",
            of("fstack", requests(&[], 1.0)),
            of("fstack", requests(&[], 0.5)),
        ),
        (
            "IX4",
            of("ix", requests(&[], 0.0)),
            of("ix", requests(&[], 1.0)),
        ),
        (
            "M1",
            of("mtcp", total("wait_send", 800.0)),
            of("mtcp", total("wait_send", 300.0)),
        ),
        ("F1", drained(0.9, 450.0), drained(0.1, 450.0)),
        (
            "T1",
            Facts {
                crossed: 1.0,
                ..of("tas", total("wait_send", 350.0))
            },
            of("tas", total("wait_send", 350.0)),
        ),
        ("T3", polls_in_turn(0.4), polls_in_turn(0.0)),
        ("H2", with_room(0.4), with_room(0.9)),
        (
            "L1",
            facts("linux", 0.78, &[("copy", 0.25), ("irq", 0.1)], &[]),
            facts("linux", 0.78, &[("copy", 0.05), ("irq", 0.1)], &[]),
        ),
        (
            "L2",
            facts(
                "linux",
                0.78,
                &[("alloc", 0.27)],
                &[("__skb_gso_segment", 0.0, 0.16)],
            ),
            facts("linux", 0.78, &[("alloc", 0.27)], &[]),
        ),
        (
            "L3",
            facts(
                "linux",
                0.2,
                &[
                    ("idle", 0.8),
                    ("sync", 0.065),
                    ("irq", 0.02),
                    ("kernel_syscall", 0.018),
                ],
                &[],
            ),
            facts(
                "linux",
                0.2,
                &[("idle", 0.8), ("sync", 0.02), ("app", 0.18)],
                &[],
            ),
        ),
        (
            "M1",
            facts("mtcp", 0.07, &[("idle", 0.92), ("sync", 0.038)], &[]),
            facts("mtcp", 0.5, &[("idle", 0.5), ("sync", 0.038)], &[]),
        ),
        (
            "M2",
            facts(
                "mtcp",
                0.5,
                &[("idle", 0.5), ("copy", 0.22), ("csum", 0.12)],
                &[],
            ),
            facts("mtcp", 0.99, &[("copy", 0.22), ("csum", 0.12)], &[]),
        ),
        (
            "M3",
            facts(
                "mtcp",
                1.0,
                &[("csum", 0.13)],
                &[("pthread_spin_lock", 0.12, 0.12)],
            ),
            facts("mtcp", 1.0, &[("csum", 0.13)], &[]),
        ),
        (
            "F1",
            facts(
                "fstack",
                0.03,
                &spins,
                &[("main_loop", 0.13, 1.0), ("rte_rdtsc", 0.23, 0.23)],
            ),
            facts("fstack", 0.8, &[("copy", 0.3)], &[("main_loop", 0.13, 1.0)]),
        ),
        (
            "F2",
            facts("fstack", 0.03, &spins, &[("kni_process_tx", 0.08, 0.2)]),
            facts(
                "fstack",
                0.8,
                &[("poll.side", 0.05)],
                &[("kni_process_tx", 0.02, 0.05)],
            ),
        ),
        (
            "F3",
            facts("fstack", 0.8, &[("copy", 0.29)], &[("ff_write", 0.01, 0.6)]),
            facts("fstack", 0.8, &[("copy", 0.02)], &[("ff_write", 0.01, 0.1)]),
        ),
        (
            "IX1",
            facts(
                "ix",
                0.35,
                &[("empty_poll", 0.4), ("poll.side", 0.23), ("copy", 0.087)],
                &[("pp_stream_handler", 0.0, 0.033)],
            ),
            facts(
                "ix",
                0.97,
                &[("copy", 0.087)],
                &[("pp_stream_handler", 0.0, 0.033)],
            ),
        ),
        (
            "IX2",
            facts("ix", 0.08, &spins, &[("nvme_sched", 0.21, 0.21)]),
            facts(
                "ix",
                0.97,
                &[("poll.side", 0.01)],
                &[("nvme_sched", 0.01, 0.01)],
            ),
        ),
        ("T1", tas(0.02, 0.1, 0.0), tas(0.3, 0.1, 0.0)),
        ("T2", tas(0.28, 0.31, 0.27), tas(0.28, 0.31, 0.0)),
        (
            "T4",
            facts("tas", 0.4, &[("tcp_timer", 0.18)], &[]),
            facts("tas", 0.4, &[("tcp_timer", 0.01)], &[]),
        ),
        (
            "T5",
            Facts {
                functions: [(
                    "poll_queues".to_owned(),
                    Function {
                        own: 0.16,
                        total: 0.5,
                    },
                )]
                .into(),
                ..tas(0.02, 0.1, 0.0)
            },
            tas(0.02, 0.1, 0.0),
        ),
        (
            "D1",
            facts(
                "demikernel",
                0.1,
                &[("empty_poll", 0.9), ("tcp_rx", 0.012)],
                &[],
            ),
            facts(
                "demikernel",
                0.1,
                &[("empty_poll", 0.9), ("tcp_rx", 0.012), ("copy", 0.05)],
                &[],
            ),
        ),
        (
            "D2",
            facts("demikernel", 0.003, &[("empty_poll", 0.997)], &[]),
            facts("demikernel", 0.1, &[("empty_poll", 0.9)], &[]),
        ),
        (
            "D3",
            facts(
                "demikernel",
                0.1,
                &[],
                &[(
                    "demikernel::scheduler::scheduler::Scheduler::from_task_id",
                    0.4,
                    0.4,
                )],
            ),
            facts("demikernel", 0.1, &[], &[]),
        ),
        (
            "X1",
            facts("tas", 0.01, &[("empty_poll", 0.99)], &[]),
            facts("tas", 0.9, &[("empty_poll", 0.1)], &[]),
        ),
        (
            "X3",
            facts("ix", 0.9, &[], &[("generate_httphdr", 0.01, 0.07)]),
            facts("ix", 0.9, &[], &[]),
        ),
        ("H1", tas(0.95, 0.1, 0.0), tas(0.5, 0.1, 0.0)),
        ("H1", with_room(0.9), with_room(0.4)),
        ("H4", between(0.8, 0.6), between(0.8, 0.4)),
        ("H4", between(0.8, 0.6), between(0.3, 0.6)),
        ("H3", on_two("linux", Some(0.4)), on_two("ix", Some(0.4))),
        ("IX5", on_two("ix", Some(0.4)), on_two("ix", None)),
        (
            "IX6",
            facts("ix", 0.1, &spins, &[("nvme_sched", 0.8, 0.8)]),
            facts("ix", 0.1, &spins, &[("nvme_sched", 0.2, 0.2)]),
        ),
        ("F5", flat(150), flat(20)),
        ("D4", bursts(3.0, 1.0), bursts(3.0, 2.0)),
        (
            "D2",
            Facts {
                stalls: 3,
                ..facts("demikernel", 0.1, &[("empty_poll", 0.9)], &[])
            },
            facts("demikernel", 0.1, &[("empty_poll", 0.9)], &[]),
        ),
        (
            "T7",
            Facts {
                detours_per_request: 1.0,
                ..of("tas", requests(&[], 0.0))
            },
            Facts {
                detours_per_request: 0.01,
                ..of("tas", requests(&[], 0.0))
            },
        ),
    ]
}

/// Each rule speaks where its facts are there, is silent where they fall short, and has a case here.
#[test]
fn each_rule() {
    let ids = |facts: &Facts| explain(facts).iter().map(|f| f.id).collect::<Vec<_>>();
    let cases = cases();
    for (id, shows, lacks) in &cases {
        assert!(ids(shows).contains(id), "{id}: {:?}", ids(shows));
        assert!(!ids(lacks).contains(id), "{id}: {:?}", ids(lacks));
    }
    for (_, rule) in rules() {
        assert!(
            cases.iter().any(|c| c.0 == rule.id),
            "{} has no case",
            rule.id
        );
    }
}

/// Without facts there are no findings, and no rule of one stack speaks about another.
#[test]
fn nothing_from_nothing() {
    assert_eq!(explain(&Facts::default()), []);
    for (id, mut shows, _) in cases() {
        shows.stack = "another".into();
        let (_, rule) = rules().find(|(_, rule)| rule.id == id).unwrap();
        let found = explain(&shows).iter().any(|f| f.id == id);
        assert_eq!(found, rule.stacks.is_empty(), "{id}");
    }
}

/// What a reader asks first comes first: what limits the rate, what takes a good part of the time, how much room is left,
/// and what takes little.
#[test]
fn what_limits_first() {
    let told = |facts: &Facts| explain(facts).iter().map(|f| f.id).collect::<Vec<_>>();
    let waits = |nothing, outside| {
        let mut facts = between(outside, nothing);
        facts.stages.insert("wait_send", (450.0, 100));
        let header = Function {
            own: 0.0,
            total: 0.02,
        };
        facts.functions.insert("generate_httphdr".into(), header);
        facts
    };
    // Room is told after the cause, and before what is little of all work.
    assert_eq!(told(&waits(0.6, 0.1)), ["S4", "H2", "X3"]);
    let mut idle = waits(0.6, 0.1);
    idle.busy = 0.1;
    assert_eq!(told(&idle), ["S4", "X3", "H2"]);
    // Nothing here limits: the cause is of latency alone.
    assert_eq!(told(&waits(0.6, 0.8)), ["H4", "S4", "H2", "X3"]);
    // Of two causes the larger, whichever is first in the table.
    let mut two = waits(0.6, 0.1);
    two.stages.insert("wait_drain", (250.0, 100));
    assert_eq!(told(&two), ["S4", "S1", "H2", "X3"]);
    // Of what nobody can tell it is not known that it is work.
    let mut untold = waits(0.4, 0.1);
    assert!(told(&untold).contains(&"H1"));
    let thread = untold.busiest.as_mut().unwrap();
    thread.phases.insert(UNACCOUNTED.to_owned(), 0.2);
    assert!(!told(&untold).contains(&"H1"));
    // Requests wait behind a thread that works.
    assert_eq!(told(&waits(0.05, 0.8)), ["H1", "S4", "X3"]);
}

proptest! {
    /// Whatever roles and threads there are, no recording is told to be limited by its work and to have room.
    #[test]
    fn work_or_room(
        nothing in 0.0f64..1.0,
        roles in proptest::collection::btree_map("foreign|stack|loop", 0.0f64..1.0, 0..3),
        outside in 0.0f64..1.0,
    ) {
        let role = |(name, busy)| (name, Role { share: 0.5, busy, ..Role::default() });
        let roles = roles.into_iter().map(role).collect();
        let found = explain(&Facts { roles, ..between(outside, nothing) });
        let is = |id: &str| found.iter().any(|f| f.id == id);
        prop_assert!(!(is("H1") && (is("H2") || is("H4"))), "{:?}", found);
        prop_assert!(is("H1") || is("H2") || nothing > 0.99);
    }
}
