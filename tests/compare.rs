//! Made-up runs of a server of which all is known, compared: contributions add up to the gap whatever is compared, what
//! was planted comes first with its size, and two runs of the same thing do not differ.

pub mod run;

use crate::support::Place;
use bypassprof::analyse::compare::workload::remarks;
use bypassprof::analyse::compare::{Comparison, Gap, Side};
use bypassprof::analyse::explain::Facts;
use bypassprof::analyse::explain::across::{Pair, across, stack_of};
use bypassprof::analyse::filter::Flows;
use bypassprof::analyse::{Filter, Ledger};
use bypassprof::present::compare as present;
use bypassprof::present::explain::across as causes;
use bypassprof::present::style::Style;
use bypassprof::units::Nanos;
use proptest::prelude::*;
use run::{LOAD, Load, compared, compared_of, write};
use serde_json::Value;

/// Contributions and the causes made of them add up to the gap, and every change lies in its interval.
fn adds_up(gap: &Gap) {
    let sum: f64 = gap.contributions.iter().map(|c| c.change.by).sum();
    let whole = gap.change.a.max(gap.change.b).max(1e-9);
    assert!((sum - gap.change.by).abs() < 1e-9 * whole, "{gap:#?}");
    for part in &gap.contributions {
        let c = &part.change;
        assert!(c.low <= c.by && c.by <= c.high, "{part:#?}");
        if let Some(split) = part.split {
            let both = split.by_count + split.by_price;
            assert!((both - c.by).abs() < 1e-9 * whole, "{part:#?}");
        }
    }
}

fn load() -> impl Strategy<Value = Load> {
    let lengths = proptest::array::uniform6(0u64..20_000);
    let counts = (0u64..400, 0u64..3, 1u64..5, 1u64..5000);
    (any::<u64>(), lengths, counts, 100u64..50_000).prop_map(
        |(
            seed,
            [receive, tcp, app, copy, drain, idle],
            (requests, acks, connections, body),
            every,
        )| {
            Load {
                seed,
                requests,
                receive,
                tcp,
                app,
                copy,
                drain,
                acks,
                idle,
                connections,
                body: body as u32,
                sample_every: every,
                ..LOAD
            }
        },
    )
}

/// All requests, those of one flow, or the long ones.
fn filter() -> impl Strategy<Value = Filter> {
    let flow = (100u32..104).prop_map(|flow| Filter {
        flows: vec![Flows::one(flow)],
        ..Filter::default()
    });
    let long = (0u64..60_000).prop_map(|least| Filter {
        at_least: Some(Nanos::from_ns(least)),
        ..Filter::default()
    });
    prop_oneof![Just(Filter::default()), flow, long]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is compared, of all requests or of some: both gaps are the sums of their parts and of their causes, and what is printed says so.
    #[test]
    fn contributions_add_up(a in load(), b in load(), filter in filter()) {
        let (first, other) = (compared_of("a", &a, &filter), compared_of("b", &b, &filter));
        let remarks = remarks(&first, &other);
        let comparison = Comparison::of(&first, &other);
        for gap in [Some(&comparison.work), comparison.latency.as_ref()].into_iter().flatten() {
            adds_up(gap);
        }
        let stacks = [stack_of(&first.profile), stack_of(&other.profile)];
        let pair = Pair { comparison: &comparison, stacks: [&stacks[0], &stacks[1]] };
        for causes in across(&pair) {
            let sum: f64 = causes.causes.iter().map(|c| c.size).sum();
            let whole = causes.gap.a.max(causes.gap.b).max(1e-9);
            prop_assert!((sum + causes.noise - causes.gap.by).abs() < 1e-9 * whole);
        }
        let pairs = present::Pairs { first, others: vec![(comparison, other, remarks)] };
        let text = present::table::compare(&pairs, Style::PLAIN);
        prop_assert!(text.contains("work on CPUs") && text.contains("trust:"));
        prop_assert!(causes::text(&pairs, Style::PLAIN).contains("trust:"));
        let json: Value = serde_json::from_str(&present::json::compare(&pairs).unwrap()).unwrap();
        prop_assert_eq!(&json["schema"], "bypassprof.compare/1");
        let json: Value = serde_json::from_str(&causes::json(&pairs).unwrap()).unwrap();
        prop_assert_eq!(&json["schema"], "bypassprof.explain/1");
    }
}

fn json(place: &Place, args: &[&str]) -> Value {
    let run = place.run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// A planted slowdown: what of the load is changed, where it must come first in the work and in the latency, by how much
/// for a request, and which rule must name it.
struct Planted {
    change: fn(&mut Load),
    work: Option<&'static str>,
    latency: &'static str,
    size: f64,
    id: &'static str,
}

const PLANTED: &[Planted] = &[
    Planted {
        change: |l| l.copy += 1_500,
        work: Some("copy"),
        latency: "app",
        size: 1_500.0,
        id: "C5",
    },
    Planted {
        change: |l| l.drain += 100_000,
        work: None,
        latency: "wait_drain",
        size: 100_000.0,
        id: "F1",
    },
    Planted {
        change: |l| l.acks = 1,
        work: Some("ack_only"),
        latency: "tcp_in",
        size: 2_000.0,
        id: "S5",
    },
];

/// What was planted comes first, with its size: exact where events bound it, within the interval where samples tell. The
/// other way round it comes first as well.
#[test]
fn planted_slowdowns_are_found() {
    let place = Place::new();
    write(&place.path("a.mcap"), &LOAD);
    for planted in PLANTED {
        let mut slow = Load { seed: 2, ..LOAD };
        (planted.change)(&mut slow);
        write(&place.path("b.mcap"), &slow);
        let forth = json(&place, &["compare", "--json", "a.mcap", "b.mcap"]);
        let back = json(&place, &["compare", "--json", "b.mcap", "a.mcap"]);
        for (answer, sign) in [(&forth, 1.0), (&back, -1.0)] {
            assert_eq!(answer["significant"], true, "{answer:#}");
            let first = &answer["latency"]["contributions"][0];
            assert_eq!(first["cause"], planted.latency, "{answer:#}");
            let size = sign * number(&first["ns_per_request"]);
            assert!((size / planted.size - 1.0).abs() < 0.1, "{first:#}");
            let Some(work) = planted.work else { continue };
            let first = &answer["contributions"][0];
            assert_eq!(first["cause"], work, "{answer:#}");
            let ends = [number(&first["low"]), number(&first["high"])];
            let planted = sign * planted.size;
            assert!(ends[0] <= planted && planted <= ends[1], "{first:#}");
        }
        let explained = json(&place, &["explain", "--json", "a.mcap", "b.mcap"]);
        let findings = explained["findings"].as_array().unwrap();
        let named = findings.iter().find(|f| f["id"] == planted.id);
        let named = named.unwrap_or_else(|| panic!("{}: {explained:#}", planted.id));
        assert_eq!(named["slower"], "B");
        let size = number(&named["size_ns_per_request"]);
        assert!((size / planted.size - 1.0).abs() < 0.25, "{named:#}");
    }
}

/// Of forty pairs of runs that differ by the same, about 95 % have the truth in their intervals, whether these rest on
/// samples or on events; and the intervals are no wider than they need to be.
#[test]
fn intervals_hold_the_truth() {
    const PAIRS: u64 = 40;
    let short = Load {
        requests: 1_500,
        ..LOAD
    };
    let mut inside = [0; 4];
    let mut widest = [0.0f64; 4];
    for seed in 1..=PAIRS {
        let first = Load {
            seed,
            ..short.clone()
        };
        let second = Load {
            seed: seed + PAIRS,
            copy: LOAD.copy + 1_500,
            drain: LOAD.drain + 4_000,
            ..short.clone()
        };
        let comparison = Comparison::of(&compared("a", &first), &compared("b", &second));
        let latency = comparison.latency.as_ref().unwrap();
        let part = |gap: &Gap, cause: &str| {
            let mut parts = gap.contributions.iter();
            parts.find(|c| c.cause == cause).unwrap().change
        };
        let changes = [
            (part(&comparison.work, "copy"), 1_500.0),
            (comparison.work.change, 1_500.0),
            (part(latency, "wait_drain"), 4_000.0),
            (latency.change, 5_500.0),
        ];
        for (at, (change, truth)) in changes.into_iter().enumerate() {
            inside[at] += u64::from(change.low <= truth && truth <= change.high);
            widest[at] = widest[at].max((change.high - change.low) / truth);
        }
    }
    for (at, count) in inside.into_iter().enumerate() {
        // Less than 34 of 40 is one chance in a hundred if each has 95 in a hundred.
        assert!((34..=PAIRS).contains(&count), "{at}: {inside:?} of {PAIRS}");
        assert!(widest[at] < 0.6, "{at}: {widest:?} of the truth");
    }
}

/// However long other programs have the CPU in between, more than a hundred times as long as the server takes: what was
/// planted is found, in its size, and what the others took is not in it.
#[test]
fn busy_machine() {
    let place = Place::new();
    let kept = 3_000_000;
    write(&place.path("a.mcap"), &Load { kept, ..LOAD });
    let planted = Load {
        seed: 2,
        kept,
        drain: LOAD.drain + 50_000,
        ..LOAD
    };
    write(&place.path("b.mcap"), &planted);
    let explained = json(&place, &["explain", "--json", "a.mcap", "b.mcap"]);
    let findings = explained["findings"].as_array().unwrap().iter();
    let mut of_server = findings.filter(|f| f["gap"] == "latency" && f["id"] != "C8");
    let found = of_server.next().unwrap_or_else(|| panic!("{explained:#}"));
    assert_eq!(
        (&found["id"], &found["slower"]),
        (&"F1".into(), &"B".into())
    );
    let size = number(&found["size_ns_per_request"]);
    assert!((size / 50_000.0 - 1.0).abs() < 0.1, "{found:#}");
    assert!(of_server.next().is_none(), "{explained:#}");
}

/// Of one recording too: what lets bursts go is told by its own number.
#[test]
fn drained_by_timer() {
    let place = Place::new();
    let load = Load {
        requests: 500,
        drain: 100_000,
        ..LOAD
    };
    write(&place.path("a.mcap"), &load);
    let found = json(&place, &["explain", "--json", "a.mcap"]);
    let mut found = found["findings"].as_array().unwrap().iter();
    assert!(found.any(|f| f["id"] == "F1"));
}

/// What the recorder takes is no work of the program, neither of a gap nor of the busiest thread.
#[test]
fn recorder_is_no_work() {
    let watched = Load {
        seed: 2,
        recorder: 20_000,
        ..LOAD
    };
    let (bare, watched) = (compared("a", &LOAD), compared("b", &watched));
    let comparison = Comparison::of(&bare, &watched);
    let mut no_work = comparison.no_work.iter();
    let taken = no_work.find(|row| row.0 == "recorder").unwrap().1;
    assert!((18_000.0..22_000.0).contains(&taken.by), "{taken:?}");
    let whole = comparison.work.change;
    assert!(whole.by.abs() < 1_500.0, "{whole:?}");
    let ledger = Ledger::of(&watched.profile, None);
    let facts = Facts::of(&watched.profile, &ledger, None);
    let thread = facts.busiest.unwrap();
    let both = thread.busy + thread.phases["recorder"];
    assert!(
        thread.phases["recorder"] > 0.3 && (both - ledger.program().busy().unwrap()).abs() < 1e-9
    );
}

/// What other programs had the CPU for is one row, in its size; the stage that it fell into has none of it, and the whole is
/// not said to differ.
#[test]
fn other_programs() {
    let kept = Load {
        seed: 2,
        kept: 20_000,
        ..LOAD
    };
    let (quiet, busy) = (compared("a", &LOAD), compared("b", &kept));
    assert!(remarks(&quiet, &busy).iter().any(|r| r.id == "disturbed"));
    let comparison = Comparison::of(&quiet, &busy);
    let latency = comparison.latency.unwrap();
    let row = |cause: &str| {
        let mut rows = latency.contributions.iter();
        rows.find(|c| c.cause == cause).unwrap().change
    };
    assert!(
        (row("wait_cpu").by / 20_000.0 - 1.0).abs() < 0.1,
        "{latency:#?}"
    );
    for other in ["app", "unaccounted"] {
        assert!(
            row(other).by.abs() < 1_000.0 && !row(other).believed,
            "{latency:#?}"
        );
    }
    assert!(!latency.change.believed && comparison.wall.is_some_and(|w| !w.believed));
}

/// What comes after a time on another program's caches is slower: a stage is believed to differ only by more than that
/// may make.
#[test]
fn cold_caches() {
    for (kept, believed) in [(1_000_000, false), (100_000, true)] {
        let load = |seed, more| Load {
            seed,
            kept,
            copy: LOAD.copy + more,
            ..LOAD
        };
        let (a, b) = (compared("a", &load(1, 0)), compared("b", &load(2, 3_000)));
        let latency = Comparison::of(&a, &b).latency.unwrap();
        let app = latency.contributions.iter().find(|c| c.cause == "app");
        let change = app.unwrap().change;
        assert!((change.by / 3_000.0 - 1.0).abs() < 0.1, "{change:?}");
        assert_eq!(change.believed, believed, "{change:?}");
    }
}

/// Two runs of the same thing: no finding, whichever they are.
#[test]
fn the_same_twice() {
    let sides: Vec<Side> = (1..=4)
        .map(|seed| compared("x", &Load { seed, ..LOAD }))
        .collect();
    for a in &sides {
        for b in &sides {
            let comparison = Comparison::of(a, b);
            assert!(comparison.is_noise(), "{:#?}", comparison.work);
            let pair = Pair {
                comparison: &comparison,
                stacks: ["fstack"; 2],
            };
            assert!(across(&pair).iter().all(|c| c.causes.is_empty()));
        }
    }
}

/// What cannot be compared is refused with what to do about it, or said with the answer.
#[test]
fn what_is_not_the_same_workload() {
    let place = Place::new();
    let short = Load {
        requests: 2_000,
        ..LOAD
    };
    write(&place.path("a.mcap"), &short);
    let mut others = [short.clone(), short.clone(), short.clone()];
    others[0].body = 165;
    others[1].connections = 8;
    others[2].requests = 0;
    let words = [
        "replies of 151 bytes",
        "4 connections in",
        "holds no requests",
    ];
    for (load, words) in others.iter().zip(words) {
        write(&place.path("b.mcap"), load);
        for command in ["compare", "explain"] {
            let run = place.run(&[command, "a.mcap", "b.mcap"]);
            assert_eq!(run.code, Some(1), "{}", run.out);
            assert!(
                run.err.contains(words) && run.err.contains("try:"),
                "{}",
                run.err
            );
        }
        let anyway = place.run(&["compare", "--anyway", "a.mcap", "b.mcap"]);
        let possible = load.requests > 0;
        assert_eq!(
            anyway.code,
            Some(if possible { 0 } else { 1 }),
            "{}",
            anyway.err
        );
        assert!(!possible || anyway.out.contains(words), "{}", anyway.out);
    }
    let window = [
        "compare",
        "--json",
        "--window",
        "20ms..50ms",
        "a.mcap",
        "a.mcap",
    ];
    let part = json(&place, &window);
    let loaded: Vec<f64> = part["a"]["loaded_ns"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect();
    assert!(loaded[0] >= 20e6 && loaded[1] <= 50e6, "{loaded:?}");
    assert!(part["trust"]["filtered"].is_string(), "{part:#}");
    let one = place.run(&["compare", "a.mcap"]);
    assert_eq!(one.code, Some(2), "{}", one.err);
    let three = json(
        &place,
        &[
            "compare", "--json", "--anyway", "a.mcap", "a.mcap", "a.mcap",
        ],
    );
    assert_eq!(three["significant"], false);
    assert_eq!(three["others"].as_array().unwrap().len(), 1);
}

/// Folded stacks have no requests: shares are compared, and marked as an estimate.
#[test]
fn only_samples() {
    let place = Place::new();
    let import = |name: &str, copies: u32| {
        let text = format!(
            "srv-?/5;main_loop 600\nsrv-?/5;main_loop;tcp_input {}\nsrv-?/5;main_loop;ff_write;memcpy {copies}\n",
            400 - copies
        );
        std::fs::write(place.path("x.folded"), text).unwrap();
        let run = place.run(&[
            "import", "--folded", "x.folded", "--period", "1", "-o", name,
        ]);
        assert_eq!(run.code, Some(0), "{}", run.err);
    };
    import("a.mcap", 100);
    import("b.mcap", 300);
    let answer = json(&place, &["compare", "--json", "a.mcap", "b.mcap"]);
    assert_eq!(answer["unit"], "share");
    assert!(answer["gap_ns_per_request"].is_null() && answer["latency"].is_null());
    let rows = answer["contributions"].as_array().unwrap();
    let copy = rows.iter().find(|r| r["cause"] == "copy").unwrap();
    assert!((number(&copy["share"]) - 0.2).abs() < 1e-6, "{copy:#}");
    assert_eq!(
        (&copy["significant"], &copy["basis"]),
        (&true.into(), &"estimated".into())
    );
    let text = place.run(&["compare", "a.mcap", "b.mcap"]).out;
    assert!(text.contains("estimate"), "{text}");
    let run = place.run(&["flamegraph", "b.mcap", "--busy", "--per", "request"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("counted no requests"), "{}", run.err);
    let run = place.run(&["flamegraph", "b.mcap", "--diff", "a.mcap", "-o", "d.svg"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let svg = std::fs::read_to_string(place.path("d.svg")).unwrap();
    for part in ["+ memcpy", "- tcp_input", "in both", "trust: 2000 samples"] {
        assert!(svg.contains(part), "{part} is not in the picture");
    }
}
