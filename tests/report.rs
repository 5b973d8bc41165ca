//! From records to what is printed: a recording made up by hand, whose answers can be counted on fingers.
//!
//! `BLESS=1 cargo test` rewrites the golden text in `tests/data`.

use bypassprof::analyse::{Grouping, Join, Packs, Profile, Root};
use bypassprof::present::{flame, json, style::Style, table};
use bypassprof::trace::record::*;
use bypassprof::units::{Avma, ClockPair, FileOffset, Nanos};
use bypassprof_wire::{Flow, Slot, Tsc, points};
use std::path::Path;

const MS: u64 = 1_000_000;
/// Counter ticks per nanosecond of the made-up machine.
const TICKS: u64 = 3;
const POLL: u64 = 0x40_0010;
const SERVE: u64 = 0x40_0020;
const MAIN: u64 = 0x40_0031;

fn at(ms: u64) -> Nanos {
    Nanos::from_ns(ms * MS)
}

fn tsc(ms: u64) -> Tsc {
    Tsc::from_raw(ms * MS * TICKS)
}

fn clock(ms: u64) -> Meta {
    Meta::Clock(ClockPair {
        tsc_before: tsc(ms).raw() - 30,
        time: at(ms),
        tsc_after: tsc(ms).raw() + 30,
    })
}

fn named(position: u64, name: &str) -> AddressNames {
    AddressNames {
        at: position,
        frames: vec![NamedFrame {
            name: name.into(),
            file: "server.rs".into(),
            line: 7,
        }],
        why: None,
    }
}

fn thread(tid: Tid, name: &str) -> Meta {
    Meta::Thread(Thread {
        time: at(1000),
        pid: 10,
        tid,
        name: name.into(),
        ..Thread::default()
    })
}

/// A poller (thread 10, a ring) and a helper without probes (thread 11), from 1000 to 2000 ms.
fn metas() -> Vec<Meta> {
    let mapping = Mapping {
        time: at(1000),
        pid: 10,
        start: Avma(0x40_0000),
        len: 0x1000,
        offset: FileOffset(0),
        path: "/no/such/server".into(),
        build_id: "c0ffee".into(),
    };
    let symbols = Symbols {
        path: mapping.path.clone(),
        build_id: mapping.build_id.clone(),
        addresses: vec![
            named(POLL - 0x40_0000, "server::nic::rx_burst"),
            named(SERVE - 0x40_0000, "httpjob::answer"),
            named(MAIN - 1 - 0x40_0000, "main"),
        ],
    };
    vec![
        Meta::Session(Session {
            command: vec!["./server".into(), "--poll".into()],
            started: at(1000),
            events: vec![EventSource {
                name: "cpu-clock".into(),
                frequency_hz: 997,
                ..EventSource::default()
            }],
            ..Session::default()
        }),
        thread(10, "poller"),
        thread(11, "helper"),
        Meta::Mapping(mapping),
        Meta::Ring(Ring {
            pid: 10,
            tid: 10,
            base_tsc: tsc(1000).raw(),
            ..Ring::default()
        }),
        Meta::RingTotals(RingTotals {
            rounds: 1_000,
            empty_rounds: 900,
            dropped_slots: 5,
            ..RingTotals::default()
        }),
        clock(1000),
        clock(2000),
        Meta::Symbols(symbols),
        Meta::Lost(Lost {
            samples: 2,
            ..Lost::default()
        }),
        Meta::Notice(Notice {
            id: "no-pmu".into(),
            text: "no hardware counters here: samples are taken by cpu-clock".into(),
        }),
        Meta::End(End {
            time: at(2000),
            recorder_cpu_ns: 20 * MS,
            ..End::default()
        }),
    ]
}

fn sample(ms: u64, tid: Tid, frames: &[u64]) -> Sample {
    Sample {
        time: at(ms),
        pid: 10,
        tid,
        period: MS,
        frames: frames.to_vec(),
        ..Sample::default()
    }
}

fn head(ms: u64, point: bypassprof_wire::Point) -> Slot {
    Slot::head(tsc(ms), point, Flow::NONE, 0)
}

/// 200 ms of work, 300 of polling (of which 100 preempted), 400 of work, 100 unknown after loss.
fn profile() -> Profile {
    let mut join = Join::new(&metas(), Packs::built_in());
    let slots = [
        Slot::epoch(tsc(1000)),
        head(1200, points::IDLE_BEGIN),
        head(1500, points::IDLE_END),
        head(1900, points::APP_END),
        Slot::lost(tsc(2000), 5),
    ];
    // The file holds the second half of a block's samples first, as two CPUs' buffers would.
    for ms in (1505..1895).step_by(10).chain((1005..1500).step_by(10)) {
        let polling = (1200..1500).contains(&ms);
        if !(1300..1400).contains(&ms) {
            join.sample(&sample(ms, 10, &[if polling { POLL } else { SERVE }, MAIN]));
        }
    }
    join.sample(&sample(1950, 10, &[SERVE, MAIN]));
    join.sample(&sample(1955, 11, &[0x99_0000]));
    for (ms, tid, kind) in [
        (1300, 10, SwitchKind::OutPreempted),
        (1400, 10, SwitchKind::In),
        (1950, 11, SwitchKind::In),
        (1960, 11, SwitchKind::OutWaiting),
    ] {
        join.switch(&Switch {
            time: at(ms),
            pid: 10,
            tid,
            cpu: 0,
            kind,
        });
    }
    join.slots(0, 0, &slots);
    join.finish(None)
}

fn near(share: Option<f64>, expected: f64) {
    let share = share.expect("a share");
    assert!((share - expected).abs() < 1e-6, "{share}, not {expected}");
}

/// Shares are exact where events and switches bound them.
#[test]
fn shares_of_threads() {
    let profile = profile();
    let poller = &profile.threads[0];
    near(poller.useful(), 0.6);
    near(poller.empty_poll(), 0.2);
    near(Some(poller.off_cpu()), 0.1);
    near(Some(poller.unknown()), 0.1);
    let helper = &profile.threads[1];
    assert_eq!((helper.useful(), helper.empty_poll()), (None, None));
    near(Some(helper.on_cpu()), 0.01);
    near(profile.useful_share(), 0.6 / 0.9);
}

/// Each sample lands in its function and in its thread's state.
#[test]
fn samples_join_states() {
    let profile = profile();
    let rows = profile.rows(Grouping::Symbol);
    let row = |name: &str| rows.iter().find(|r| r.name == name).unwrap();
    let all = (39 + 20 + 20 + 2) as f64;
    near(Some(row("httpjob::answer").own), 60.0 / all);
    near(Some(row("httpjob::answer").useful), 59.0 / all);
    near(Some(row("httpjob::answer").empty_poll), 0.0);
    near(Some(row("server::nic::rx_burst").empty_poll), 20.0 / all);
    near(Some(row("main").total), 80.0 / all);
    near(Some(row("main").own), 0.0);
    let phases = profile.rows(Grouping::Phase);
    assert_eq!(phases[0].name, "app");
    assert_eq!(phases[1].name, "poll");
    let roots: Vec<_> = profile.weights.keys().map(|k| k.1).collect();
    assert!(roots.contains(&Root::Unknown) && roots.contains(&Root::NoProbes));
    assert_eq!((profile.trust.samples, profile.trust.samples_lost), (81, 2));
    assert_eq!((profile.trust.events, profile.trust.events_dropped), (3, 5));
    assert_eq!(profile.trust.late_records, 0);
}

/// `--busy` leaves no empty polling in tables and pictures.
#[test]
fn busy_only() {
    let mut profile = profile();
    assert!(
        flame::tree(&profile)
            .to_folded()
            .contains("empty polling;poller;main;server::nic")
    );
    profile.only_busy();
    assert!(!flame::tree(&profile).to_folded().contains("empty polling"));
    assert!(
        profile
            .rows(Grouping::Phase)
            .iter()
            .all(|r| r.empty_poll == 0.0)
    );
}

/// The text is the golden one.
#[test]
fn text() {
    let text = table::report(&profile(), None, 20, Style::PLAIN);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/report.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).expect("run once with BLESS=1");
    assert_eq!(text, golden);
}

/// The keys that scripts rely on.
#[test]
fn json_keys() {
    let text = json::report(&profile(), usize::MAX).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["schema"], "bypassprof.report/1");
    for key in [
        "name",
        "module",
        "self_share",
        "total_share",
        "useful_share",
        "empty_poll_share",
    ] {
        assert!(!value["functions"][0][key].is_null(), "functions: {key}");
    }
    let thread = &value["threads"][0];
    for key in [
        "pid",
        "tid",
        "name",
        "on_cpu_share",
        "useful_share",
        "empty_poll_share",
        "off_cpu_share",
    ] {
        assert!(!thread[key].is_null(), "threads: {key}");
    }
    assert!(value["threads"][1]["useful_share"].is_null());
    let trust = &value["trust"];
    for key in [
        "samples",
        "samples_lost",
        "stacks_truncated_share",
        "stacks_unknown_share",
        "stacks_without_symbol_share",
        "events",
        "events_dropped",
        "clock_error_ns",
        "observer_share",
    ] {
        assert!(!trust[key].is_null(), "trust: {key}");
    }
}

/// The picture shows both roots, the phases and the line of trust, and is the same every time.
#[test]
fn picture() {
    let draw = || {
        let mut svg = Vec::new();
        flame::draw(&profile(), &mut svg).unwrap();
        String::from_utf8(svg).unwrap()
    };
    let svg = draw();
    for word in [
        "useful",
        "empty polling",
        "httpjob::answer",
        "trust: 81 samples, 2 lost",
        "legend",
    ] {
        assert!(svg.contains(word), "{word}");
    }
    assert_eq!(svg, draw());
}

/// Without the two clocks nothing is claimed about states.
#[test]
fn no_clock_no_claim() {
    let mut metas = metas();
    metas.retain(|m| !matches!(m, Meta::Clock(_)));
    let mut join = Join::new(&metas, Packs::built_in());
    join.slots(
        0,
        0,
        &[Slot::epoch(tsc(1000)), head(1200, points::IDLE_BEGIN)],
    );
    join.sample(&sample(1100, 10, &[SERVE]));
    let profile = join.finish(Some("cut short".into()));
    assert_eq!(profile.trust.clock_error_ns, None);
    assert_eq!(profile.threads[0].useful(), Some(0.0));
    near(Some(profile.threads[0].unknown()), 1.0);
    assert!(profile.trust.line().ends_with("file damaged: cut short"));
}

/// A long run is settled as it is read: what waits does not grow with it.
#[test]
fn long_run() {
    let mut metas = metas();
    let hour = 3_600_000;
    metas.retain(|m| !matches!(m, Meta::End(_)));
    metas.push(clock(1000 + hour));
    let mut join = Join::new(&metas, Packs::built_in());
    let mut position = 0;
    let mut push = |join: &mut Join, slots: &[Slot]| {
        join.slots(0, position, slots);
        position += slots.len() as u64;
    };
    push(&mut join, &[Slot::epoch(tsc(1000))]);
    for ms in (1000..1000 + hour).step_by(20) {
        push(
            &mut join,
            &[head(ms, points::IDLE_END), head(ms + 5, points::IDLE_BEGIN)],
        );
        join.sample(&sample(ms + 2, 10, &[SERVE]));
        join.sample(&sample(ms + 12, 10, &[POLL]));
        assert!(join.waiting() < 2_000, "{} wait at {ms} ms", join.waiting());
    }
    let profile = join.finish(None);
    assert!((profile.threads[0].useful().unwrap() - 0.25).abs() < 0.001);
    assert_eq!(profile.trust.late_records, 0);
}
