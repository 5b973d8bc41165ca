//! The ledger adds up: on any recording, however it was cut and whatever is missing in it.

use crate::support::{Place, Run};
use bypassprof::analyse::estimate::Idle;
use bypassprof::analyse::ledger::{Account, Level};
use bypassprof::analyse::{Join, Ledger, Packs, Profile};
use bypassprof::present::ledger as present;
use bypassprof::present::style::Style;
use bypassprof::trace::record::*;
use bypassprof::units::{Avma, ClockPair, FileOffset, Nanos};
use bypassprof_wire::{Flow, Slot, Tsc, points};
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;

const MS: u64 = 1_000_000;
const TICKS: u64 = 2;
const START: u64 = 0x40_0000;
/// Functions of the made-up program: of every kind that rules tell apart.
const FUNCTIONS: &[&str] = &[
    "main_loop",
    "kni_process_tx",
    "tcp_input",
    "ff_write",
    "memcpy",
    "who_knows",
    "asm_sysvec_x",
];
const THREADS: u32 = 3;
const LENGTH_MS: u64 = 1000;

fn at(ms: u64) -> Nanos {
    Nanos::from_ns((1000 + ms) * MS)
}

fn tsc(ms: u64) -> Tsc {
    Tsc::from_raw((1000 + ms) * MS * TICKS)
}

/// What one made-up recording holds.
#[derive(Clone, Debug)]
struct Made {
    samples: Vec<(u64, u32, usize, u64)>,
    switches: Vec<(u64, u32, bool)>,
    slots: Vec<(u64, u8)>,
    user_only: bool,
    clocks: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let samples = (0..LENGTH_MS, 0..THREADS, 0..FUNCTIONS.len(), 1u64..3 * MS);
    let switches = (0..LENGTH_MS, 0..THREADS, any::<bool>());
    (
        proptest::collection::vec(samples, 0..60),
        proptest::collection::vec(switches, 0..30),
        proptest::collection::vec((0..LENGTH_MS, 0u8..5), 0..30),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(samples, switches, slots, user_only, clocks)| Made {
            samples,
            switches,
            slots,
            user_only,
            clocks,
        })
}

fn metas(made: &Made) -> Vec<Meta> {
    let mut metas = vec![
        Meta::Session(Session {
            command: vec!["x".into()],
            started: at(0),
            events: vec![EventSource {
                name: "cpu-clock".into(),
                frequency_hz: 997,
                user_only: made.user_only,
                ..EventSource::default()
            }],
            ..Session::default()
        }),
        Meta::Mapping(Mapping {
            pid: 10,
            start: Avma(START),
            len: 0x1000,
            offset: FileOffset(0),
            path: "/no/such/x".into(),
            build_id: "ab".into(),
            ..Mapping::default()
        }),
        Meta::Symbols(Symbols {
            path: "/no/such/x".into(),
            build_id: "ab".into(),
            addresses: (FUNCTIONS.iter().enumerate())
                .map(|(n, name)| AddressNames {
                    at: n as u64 * 16,
                    frames: vec![NamedFrame {
                        name: (*name).into(),
                        ..NamedFrame::default()
                    }],
                    why: None,
                })
                .collect(),
        }),
        Meta::Ring(Ring {
            pid: 10,
            tid: 10,
            base_tsc: tsc(0).raw(),
            ..Ring::default()
        }),
        Meta::RingTotals(RingTotals {
            rounds: 10,
            requests: 7,
            rx_packets: 9,
            tx_packets: 11,
            tx_bytes: 1300,
            ..RingTotals::default()
        }),
        Meta::End(End {
            time: at(LENGTH_MS),
            ..End::default()
        }),
    ];
    for tid in 10..10 + THREADS {
        metas.push(Meta::Thread(Thread {
            time: at(0),
            pid: 10,
            tid,
            name: format!("t{tid}"),
            ..Thread::default()
        }));
    }
    if made.clocks {
        for ms in [0, LENGTH_MS] {
            metas.push(Meta::Clock(ClockPair {
                tsc_before: tsc(ms).raw() - 3,
                time: at(ms),
                tsc_after: tsc(ms).raw() + 3,
            }));
        }
    }
    metas
}

fn profile(made: &Made) -> Profile {
    static PACKS: LazyLock<Packs> = LazyLock::new(Packs::built_in);
    let mut join = Join::new(&metas(made), PACKS.clone());
    for &(ms, tid, function, period) in &made.samples {
        join.sample(&Sample {
            time: at(ms),
            pid: 10,
            tid: 10 + tid,
            period,
            frames: vec![START + function as u64 * 16],
            ..Sample::default()
        });
    }
    for &(ms, tid, on) in &made.switches {
        join.switch(&Switch {
            time: at(ms),
            pid: 10,
            tid: 10 + tid,
            cpu: 0,
            kind: if on {
                SwitchKind::In
            } else {
                SwitchKind::OutWaiting
            },
        });
    }
    let mut slots = vec![Slot::epoch(tsc(0))];
    let mut events = made.slots.clone();
    events.sort_unstable();
    for (ms, kind) in events {
        slots.push(match kind {
            0 => Slot::lost(tsc(ms), 3),
            1 => Slot::head(tsc(ms), points::IDLE_BEGIN, Flow::NONE, 0),
            2 => Slot::head(tsc(ms), points::IDLE_END, Flow::NONE, 1),
            3 => Slot::head(tsc(ms), points::RX_BURST, Flow::NONE, 0),
            _ => Slot::head(tsc(ms), points::APP_END, Flow::from_raw(7), 0),
        });
    }
    join.slots(0, 0, &slots);
    join.finish(None)
}

fn adds_up(account: &Account) {
    let sum: f64 = account.entries.iter().map(|e| e.cycles).sum();
    assert!((sum / account.cycles - 1.0).abs() < 1e-9, "{account:#?}");
    assert_eq!(
        account.thousandths().iter().sum::<u32>(),
        1000,
        "{account:#?}"
    );
    for entry in &account.entries {
        assert!(entry.cycles > 0.0, "{account:#?}");
        assert!(
            0.0 <= entry.low && entry.low <= entry.cycles * (1.0 + 1e-9),
            "{account:#?}"
        );
        assert!(entry.cycles <= entry.high * (1.0 + 1e-9), "{account:#?}");
        assert!(entry.high <= account.cycles * (1.0 + 1e-9), "{account:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every account adds up to 100.0 % and to all its cycles, threads add up to roles and to the program, and every
    /// value lies in its interval; compared with an idle recording or not.
    #[test]
    fn accounts_add_up(made in made(), idle in made()) {
        let profile = profile(&made);
        let idle = Idle::of(&self::profile(&idle));
        for idle in [None, Some(&idle)] {
            let ledger = Ledger::of(&profile, idle);
            let mut threads = std::collections::BTreeMap::new();
            for account in &ledger.accounts {
                if account.cycles > 0.0 {
                    adds_up(account);
                }
                if account.level == Level::Thread {
                    for entry in &account.entries {
                        *threads.entry(entry.phase).or_insert(0.0) += entry.cycles;
                    }
                }
            }
            for entry in &ledger.program().entries {
                let sum: f64 = threads[entry.phase];
                prop_assert!((sum / entry.cycles - 1.0).abs() < 1e-9);
            }
            prop_assert_eq!(ledger.program().entries.len(), threads.len());
            // Every thread is in one role's account, or in none where no pack knows its role.
            for role in ledger.accounts.iter().filter(|a| a.level == Level::Role) {
                let of = ledger.accounts.iter().filter(|a| a.level == Level::Thread);
                let of: Vec<_> = of.filter(|a| a.role == role.name).collect();
                prop_assert_eq!(of.len(), role.threads);
                let cycles: f64 = of.iter().map(|a| a.cycles).sum();
                prop_assert!((cycles - role.cycles).abs() <= 1e-9 * role.cycles);
                for entry in &role.entries {
                    let parts = of.iter().flat_map(|a| &a.entries);
                    let sum: f64 = parts.filter(|e| e.phase == entry.phase).map(|e| e.cycles).sum();
                    prop_assert!((sum / entry.cycles - 1.0).abs() < 1e-9);
                }
            }
            // What is printed is the same, and nothing in it fails.
            let text = present::table::ledger(&ledger, None, Style::PLAIN);
            prop_assert!(text.contains("program") && text.contains("trust:"));
            let json: Value = serde_json::from_str(&present::json::ledger(&ledger, None).unwrap()).unwrap();
            prop_assert_eq!(json["rows"].as_array().unwrap().len(), ledger.accounts.iter().map(|a| a.entries.len()).sum::<usize>());
            prop_assert!(present::picture::svg(&ledger).ends_with("</svg>\n"));
        }
    }
}

/// A poller of which all is known: the parts are exact, and so are their prices.
#[test]
fn known_parts() {
    let made = Made {
        samples: (0..1000)
            .map(|ms| {
                (
                    ms,
                    0,
                    if (200..600).contains(&ms) {
                        0
                    } else {
                        3 + (ms % 2) as usize
                    },
                    MS,
                )
            })
            .collect(),
        switches: vec![(600, 0, false), (700, 0, true)],
        slots: vec![(200, 1), (600, 2)],
        user_only: false,
        clocks: true,
    };
    let ledger = Ledger::of(&profile(&made), None);
    let json: Value =
        serde_json::from_str(&present::json::ledger(&ledger, Some(Level::Thread)).unwrap())
            .unwrap();
    let row = |phase: &str| {
        let rows = json["rows"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|r| r["phase"] == phase && r["thread"] == "t10 10/10");
        row.unwrap_or_else(|| panic!("no {phase}: {json:#}"))
            .clone()
    };
    let near = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!(
            (value - expected).abs() < 1e-6 * expected.abs().max(1.0),
            "{value}, not {expected}"
        );
    };
    for (phase, basis, share) in [
        ("off_cpu", "measured", 0.1),
        ("empty_poll", "measured", 0.4),
    ] {
        let row = row(phase);
        assert_eq!(row["basis"], basis);
        near(&row["share"], share);
        near(&row["low"], row["high"].as_f64().unwrap());
    }
    let copy = row("copy");
    near(&copy["share"], 0.25);
    near(&copy["cycles"], 0.25 * (LENGTH_MS * MS * TICKS) as f64);
    near(&copy["per_request"], copy["cycles"].as_f64().unwrap() / 7.0);
    near(&copy["per_packet"], copy["cycles"].as_f64().unwrap() / 20.0);
    near(&copy["per_byte"], copy["cycles"].as_f64().unwrap() / 1300.0);
    assert!(copy["share_low"].as_f64() > Some(0.22) && copy["share_high"].as_f64() < Some(0.28));
    near(&row("api")["share"], 0.25);
}

/// The command: text, JSON, picture, packs of one's own, and what it says when it cannot.
#[test]
fn command() {
    let place = Place::new();
    let stacks = "srv-?/5;main_loop 60\nsrv-?/5;main_loop;my_parser 30\nsrv-?/5;main_loop;ff_write;memcpy 10\n";
    std::fs::write(place.path("a.folded"), stacks).unwrap();
    let ok = |args: &[&str]| {
        let run = place.run(args);
        assert_eq!(run.code, Some(0), "{}", run.err);
        run.out
    };
    ok(&["import", "--folded", "a.folded", "--period", "1"]);
    let text = ok(&["ledger", "--svg", "bars.svg"]);
    for line in [
        "~60.0",
        "10.0",
        "poll symbols",
        "100.0",
        "packs: fstack, freebsd, dpdk",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(
        std::fs::read_to_string(place.path("bars.svg"))
            .unwrap()
            .contains("empty_poll")
    );
    let report = ok(&["report"]);
    assert!(
        report.contains("~60.0") && report.contains("estimated"),
        "{report}"
    );
    ok(&["flamegraph", "-o", "flames.svg"]);
    let flames = std::fs::read_to_string(place.path("flames.svg")).unwrap();
    assert!(flames.contains("empty polling (estimated)"));
    let pack = "name = \"mine\"\nabout = \"my server\"\nsymbols = [\"my_*\"]\n\n[[rule]]\nphase = \"app\"\nsymbols = [\"my_*\"]\n";
    std::fs::write(place.path("mine.toml"), pack).unwrap();
    let json: Value =
        serde_json::from_str(&ok(&["ledger", "--json", "--pack", "mine.toml"])).unwrap();
    assert_eq!(json["packs"][0], "mine");
    let rows = json["rows"].as_array().unwrap();
    let app = rows
        .iter()
        .find(|r| r["phase"] == "app" && r["level"] == "program")
        .unwrap();
    assert_eq!(app["share"], 0.3);
    assert!(
        ok(&["packs", "--check", "mine.toml", "bypassprof.mcap"])
            .contains("100.0 by the innermost")
    );
    assert!(ok(&["packs"]).contains("demikernel"));
    assert!(ok(&["packs", "--show", "ix"]).contains("name = \"ix\""));
    std::fs::write(place.path("mine.toml"), pack.replace("app", "apps")).unwrap();
    let run = place.run(&["ledger", "--pack", "mine.toml"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.err.contains("mine.toml:6: there is no phase `apps`"),
        "{}",
        run.err
    );
    let run = place.run(&["packs", "--show", "nothing"]);
    assert_eq!(run.code, Some(2));
    std::fs::write(place.path("b.folded"), "srv-?/5;work 1\nwhat\n").unwrap();
    let run = Run::of(&mut place.bypassprof(&["import", "--folded", "b.folded"]));
    assert!(run.err.contains("b.folded:2: "), "{}", run.err);
}
