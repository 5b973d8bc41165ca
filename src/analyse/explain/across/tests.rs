//! Rules asked about gaps that a test made: each where its evidence is there, and where it is not.

use super::*;
use crate::analyse::compare::Split;

fn change(a: f64, b: f64) -> Change {
    Change {
        a,
        b,
        by: b - a,
        low: b - a - 1.0,
        high: b - a + 1.0,
        believed: (b - a).abs() > 2.0,
    }
}

fn counted(a: f64, b: f64) -> Change {
    Change {
        believed: a != b,
        ..change(a, b)
    }
}

fn gap(rows: &[(&'static str, f64, f64)], splits: &[(&str, Counted, f64, f64)]) -> Gap {
    let contributions = rows.iter().map(|&(cause, a, b)| Contribution {
        cause,
        sort: Sort::Work,
        change: change(a, b),
        basis: Basis::Sampled,
        split: splits.iter().find(|s| s.0 == cause).map(|s| Split {
            counted: s.1,
            times: [1.0, 2.0],
            by_count: s.2,
            by_price: s.3,
        }),
    });
    let sum = |of: fn(&(&str, f64, f64)) -> f64| rows.iter().map(of).sum();
    Gap {
        change: change(sum(|r| r.1), sum(|r| r.2)),
        basis: Basis::Measured,
        contributions: contributions.collect(),
    }
}

fn comparison(
    work: Gap,
    latency: &[(&'static str, f64, f64)],
    counts: &[(Counted, f64, f64)],
) -> Comparison {
    Comparison {
        unit: Unit::PerRequest,
        work,
        latency: Some(gap(latency, &[])),
        wall: None,
        no_work: Vec::new(),
        counts: counts.iter().map(|&(w, a, b)| (w, counted(a, b))).collect(),
    }
}

/// What each rule takes, the stack of the slower side, and its evidence: a count that moves.
fn cases() -> Vec<(&'static str, &'static str, Comparison)> {
    let work = |row: &'static str, split: &[(&str, Counted, f64, f64)], counts: &[_]| {
        comparison(gap(&[(row, 100.0, 200.0)], split), &[], counts)
    };
    let waits =
        |row: &'static str, counts: &[_]| comparison(gap(&[], &[]), &[(row, 100.0, 200.0)], counts);
    let acks = [(Counted::Acks, 0.0, 1.0)];
    let wakes = [(Counted::Wakes, 0.0, 2.0)];
    let crossing = [
        (Counted::Handoffs, 0.0, 2.0),
        (Counted::HandoffNs, 0.0, 900.0),
    ];
    let locks = [(Counted::LockWaits, 0.0, 1.0), (Counted::LockNs, 0.0, 90.0)];
    let bursts = [(Counted::TxBursts, 0.1, 1.0)];
    let by_bursts = [("driver_tx", Counted::TxBursts, 100.0, 0.0)];
    vec![
        (
            "F1",
            "fstack",
            waits("wait_drain", &[(Counted::TimerDrains, 0.0, 1.0)]),
        ),
        ("M1", "mtcp", waits("wait_wakeup", &wakes)),
        ("T1", "tas", waits("wait_app", &crossing)),
        (
            "IX1",
            "ix",
            waits("wait_send", &[(Counted::ShortSends, 0.0, 2.0)]),
        ),
        ("C7", "ix", waits("wait_app", &crossing)),
        ("S1", "ix", waits("wait_drain", &[])),
        ("C8", "ix", waits("wait_cpu", &[])),
        ("S2", "linux", waits("wait_wakeup", &[])),
        ("S3", "ix", waits("wait_app", &[])),
        ("S4", "ix", waits("wait_send", &[])),
        ("F4", "fstack", work("ack_only", &[], &acks)),
        ("M4", "mtcp", work("ack_only", &[], &acks)),
        ("S5", "tas", work("ack_only", &[], &acks)),
        ("C2", "ix", work("driver_tx", &by_bursts, &bursts)),
        ("C3", "ix", work("sync", &[], &locks)),
        ("C4", "linux", work("sync", &[], &wakes)),
        ("C5", "ix", work("copy", &[], &[])),
        ("C6", "ix", work("kernel_syscall", &[], &[])),
        ("M3", "ix", work("csum", &[], &[])),
        ("L2", "ix", work("alloc", &[], &[])),
    ]
}

fn found(stacks: [&str; 2], comparison: &Comparison) -> Vec<(&'static str, f64)> {
    let pair = Pair { comparison, stacks };
    let causes = across(&pair).into_iter().flat_map(|c| c.causes);
    causes.map(|c| (c.id, c.size)).collect()
}

/// Between two runs of one stack, what is handed over came in on the wrong queue; another stack does it by design.
#[test]
fn misdirected_flows() {
    let crossing = [
        (Counted::Handoffs, 0.0, 1.0),
        (Counted::HandoffNs, 0.0, 900.0),
    ];
    let waits = comparison(gap(&[], &[]), &[("receive", 100.0, 200.0)], &crossing);
    assert_eq!(found(["fstack", "fstack"], &waits), [("C1", 100.0)]);
    assert_eq!(found(["ix", "fstack"], &waits), [("W", 100.0)]);
    let rows = [("wait_handoff", 0.0, 50.0), ("receive", 100.0, 200.0)];
    let waits = comparison(gap(&[], &[]), &rows, &crossing);
    let stacks = ["fstack", "fstack"];
    let all = across(&Pair {
        comparison: &waits,
        stacks,
    });
    let [crossed] = &all[1].causes[..] else {
        panic!("one cause: {all:?}");
    };
    let told = crossed.evidence.iter();
    let told = told.filter(|line| line.starts_with("wait_handoff"));
    assert_eq!(told.count(), 1, "{crossed:?}");
}

/// Each rule speaks where its evidence is there, with all of the gap, whichever side has more; and has a case here.
#[test]
fn each_rule() {
    for (id, stack, forth) in cases() {
        assert_eq!(found(["x", stack], &forth), [(id, 100.0)], "{id}");
        let mut back = forth.clone();
        let swap = |c: &mut Change| {
            *c = Change {
                believed: c.believed,
                ..change(c.b, c.a)
            }
        };
        for gap in [Some(&mut back.work), back.latency.as_mut()]
            .into_iter()
            .flatten()
        {
            swap(&mut gap.change);
            gap.contributions
                .iter_mut()
                .for_each(|c| swap(&mut c.change));
            let splits = gap
                .contributions
                .iter_mut()
                .filter_map(|c| c.split.as_mut());
            splits.for_each(|s| s.by_count = -s.by_count);
        }
        back.counts.iter_mut().for_each(|c| swap(&mut c.1));
        assert_eq!(found([stack, "x"], &back), [(id, -100.0)], "{id}");
    }
    for rule in WORK.iter().chain(LATENCY) {
        let has = rule.id == "C1" || cases().iter().any(|c| c.0 == rule.id);
        assert!(has, "{} has no case", rule.id);
    }
}

/// What happens once in more than a hundred requests makes no gap of all of them: a timer that let a few bursts go, a lock
/// whose holder was preempted.
#[test]
fn rare_events_are_no_cause() {
    for (each, drains, locks) in [(0.009, "S1", "P"), (0.011, "F1", "C3")] {
        let counts = [
            (Counted::TimerDrains, 0.0, each),
            (Counted::LockWaits, 0.0, each),
            (Counted::LockNs, 0.0, 100.0),
        ];
        let work = gap(&[("sync", 100.0, 200.0)], &[]);
        let both = comparison(work, &[("wait_drain", 100.0, 200.0)], &counts);
        let expected = [(locks, 100.0), (drains, 100.0)];
        assert_eq!(found(["fstack", "fstack"], &both), expected, "{each}");
    }
}

/// A count that did not move, or moved the other way, speaks for nothing.
#[test]
fn counts_have_to_move() {
    for acks in [(0.5, 0.5), (1.0, 0.0)] {
        let work = gap(&[("ack_only", 100.0, 200.0)], &[]);
        let counts = [(Counted::Acks, acks.0, acks.1)];
        let found = found(["fstack", "fstack"], &comparison(work, &[], &counts));
        assert_eq!(found, [("P", 100.0)], "{acks:?}");
    }
}

/// Without evidence a rule is silent, and the piece is named after where it lies; rules of one stack say nothing of
/// others.
#[test]
fn no_evidence_no_cause() {
    for (id, _, shows) in cases() {
        let rule = WORK.iter().chain(LATENCY).find(|r| r.id == id).unwrap();
        if !rule.stacks.is_empty() {
            let others = found(["another", "another"], &shows);
            assert!(others.iter().all(|f| f.0 != id), "{id}: {others:?}");
        }
        let bare = Comparison {
            counts: Vec::new(),
            ..shows
        };
        let needs_counts = rule.needs.lines(
            &Pair {
                comparison: &bare,
                stacks: ["", ""],
            },
            1.0,
        );
        if needs_counts.is_none() {
            let stack = rule.stacks.first().copied().unwrap_or("x");
            let found = found(["x", stack], &bare);
            assert!(found.iter().all(|f| f.0 != id), "{id}: {found:?}");
            assert_eq!(found.iter().map(|f| f.1).sum::<f64>(), 100.0, "{id}");
        }
    }
}

/// More bursts and dearer ones are two causes; what is not believed is noise; all adds up.
#[test]
fn pieces_and_noise() {
    let splits = [("driver_tx", Counted::TxBursts, 70.0, 30.0)];
    let work = gap(&[("driver_tx", 100.0, 200.0), ("app", 50.0, 51.0)], &splits);
    let comparison = comparison(work, &[], &[(Counted::TxBursts, 0.5, 1.0)]);
    let pair = Pair {
        comparison: &comparison,
        stacks: ["ix", "ix"],
    };
    let all = across(&pair);
    let causes: Vec<_> = all[0].causes.iter().map(|c| (c.id, c.size)).collect();
    assert_eq!(causes, [("C2", 70.0), ("P", 30.0)]);
    assert_eq!(all[0].noise, 1.0);
    assert_eq!(all[0].causes[0].confidence, Confidence::Estimated);
    assert!(all[0].causes[1].title.contains("each time"), "{:?}", all[0]);
}

/// The largest cause comes first, whichever side is slower and wherever its rule stands in the table.
#[test]
fn largest_first() {
    for [small, large] in [
        [(100.0, 150.0), (100.0, 400.0)],
        [(150.0, 100.0), (400.0, 100.0)],
    ] {
        let rows = [("copy", small.0, small.1), ("alloc", large.0, large.1)];
        let causes = found(["ix", "ix"], &comparison(gap(&rows, &[]), &[], &[]));
        let ids: Vec<_> = causes.iter().map(|c| c.0).collect();
        assert_eq!(ids, ["L2", "C5"], "{causes:?}");
    }
}

/// Nothing differs: no cause.
#[test]
fn noise_has_no_cause() {
    let work = gap(&[("app", 100.0, 101.0), ("sync", 5.0, 4.0)], &[]);
    let comparison = comparison(work, &[("app", 50.0, 51.0)], &[]);
    assert_eq!(found(["ix", "ix"], &comparison), []);
}
