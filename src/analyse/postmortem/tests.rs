//! A request that is cut off at each step of its way is told to be in the stage that it was in.

use super::*;
use crate::trace::record::{End, Ring as RingRecord, RingTotals};
use crate::units::ClockPair;
use bypassprof_wire::{Flow, Point, points};

const FLOW: Flow = Flow::from_raw(0x77);

/// A tick is a nanosecond.
fn metas() -> Vec<Meta> {
    let clock = |at: u64| {
        Meta::Clock(ClockPair {
            tsc_before: at,
            time: Nanos::from_ns(at),
            tsc_after: at,
        })
    };
    let ring = RingRecord {
        ring: 3,
        pid: 40,
        tid: 41,
        name: "worker".to_owned(),
        base_tsc: 1,
        ..RingRecord::default()
    };
    vec![clock(1), Meta::Ring(ring), clock(1_000_000)]
}

fn head(at: u64, point: Point, arg: u32) -> Slot {
    Slot::head(Tsc::from_raw(at), point, FLOW, arg)
}

/// The way of a request, and what is told if it ends behind each slot: stage of the thread, stage of the request.
fn way() -> Vec<(Slot, Option<&'static str>, Option<&'static str>)> {
    let burst = Slot::head(Tsc::from_raw(100), points::RX_BURST, Flow::from_raw(1), 9);
    let sent = Slot::head(
        Tsc::from_raw(700),
        points::TX_BURST,
        Flow::from_raw(0x1001),
        5,
    );
    vec![
        (burst, Some("receive"), None),
        (head(200, points::TCP_IN, 9), Some("tcp_in"), None),
        // The continuation says that it carries data.
        (Slot::cont(64, 0, 0), Some("tcp_in"), Some("tcp_in")),
        (
            head(300, points::DELIVER, 64),
            Some("tcp_in"),
            Some("wait_app"),
        ),
        (head(400, points::APP_START, 1), Some("app"), Some("app")),
        (
            head(500, points::APP_END, 150),
            Some("wait_send"),
            Some("wait_send"),
        ),
        (
            head(600, points::TCP_OUT, 5),
            Some("wait_drain"),
            Some("wait_send"),
        ),
        (
            Slot::cont(150, 0, 0),
            Some("wait_drain"),
            Some("wait_drain"),
        ),
        (sent, Some("transmit"), None),
    ]
}

fn told(metas: &[Meta], slots: &[Slot]) -> PostMortem {
    let mut reading = Reading::new(metas, &Packs::built_in(), 4);
    // A device that is known to take frames, so that what left TCP waits for it.
    let before = [Slot::head(
        Tsc::from_raw(50),
        points::TX_BURST,
        Flow::from_raw(0x1001),
        4,
    )];
    reading.slots(3, 0, &before);
    reading.slots(3, 1, slots);
    reading.finish(None)
}

#[test]
fn each_step() {
    let way = way();
    for (at, &(_, thread, request)) in way.iter().enumerate() {
        let slots: Vec<Slot> = way[..=at].iter().map(|w| w.0).collect();
        let told = told(&metas(), &slots);
        let worker = &told.threads[0];
        assert_eq!((worker.tid, worker.name.as_str()), (41, "worker"));
        assert_eq!(worker.doing.stage, thread, "behind slot {at}");
        let stages: Vec<_> = told.requests.iter().map(|r| r.stage).collect();
        assert_eq!(stages, Vec::from_iter(request), "behind slot {at}");
        for request in &told.requests {
            assert_eq!((request.flow, request.thread.0), (FLOW.raw(), 41));
        }
        assert!(worker.events.len() <= 4);
        assert_eq!(told.lost, 0);
        assert!(told.ended.text.starts_with("not known"));
        assert_eq!(told.missing.len(), 1);
    }
}

/// A thread that stood still in the middle of a burst, which its segments carry the stamp of.
#[test]
fn stood_still() {
    let late = 900_000_000;
    let slots = [
        Slot::head(Tsc::from_raw(100), points::RX_BURST, Flow::from_raw(1), 9),
        head(late, points::DELIVER, 64),
        head(100, points::TCP_IN, 9),
        Slot::cont(64, 0, 0),
    ];
    let told = told(&metas(), &slots);
    let stages: Vec<_> = told
        .requests
        .iter()
        .map(|r| (r.stage, r.began.ns()))
        .collect();
    assert_eq!(stages, [("wait_app", late - 100)]);
}

/// The thread that was hit comes first and gives the flow and the stage; what was lost is counted once.
#[test]
fn hit_and_lost() {
    let mut metas = metas();
    let other = RingRecord {
        ring: 4,
        pid: 40,
        tid: 42,
        base_tsc: 1,
        ..RingRecord::default()
    };
    metas.push(Meta::Ring(other));
    metas.push(Meta::RingTotals(RingTotals {
        ring: 4,
        dropped_slots: 30,
        ..RingTotals::default()
    }));
    metas.push(Meta::Crash(Crash {
        pid: 40,
        tid: Some(41),
        signal: Some(11),
        code: Some(1),
        address: Some(0xdead),
        ..Crash::default()
    }));
    metas.push(Meta::End(End {
        signal: Some(11),
        ..End::default()
    }));
    let mut reading = Reading::new(&metas, &Packs::built_in(), 10);
    let slots: Vec<Slot> = way()[..3].iter().map(|w| w.0).collect();
    reading.slots(3, 0, &slots);
    // What comes before a gap may lack its end, and is left out.
    let cut = head(5100, points::TCP_OUT, 1);
    reading.slots(4, 0, &[head(5000, points::DROP, 4 << 24), cut]);
    // Ten positions are missing; the ring itself counted thirty.
    reading.slots(4, 12, &[head(9000, points::FULL, 64)]);
    let told = reading.finish(Some("torn".to_owned()));
    let ended = &told.ended;
    assert_eq!(
        (ended.flow, ended.stage),
        (Some(FLOW.raw()), Some("tcp_in"))
    );
    assert_eq!(
        ended.text,
        "killed by SIGSEGV (nothing is mapped there) at address 0xdead"
    );
    let [hit, other] = told.threads.as_slice() else {
        panic!("{told:#?}")
    };
    assert_eq!((hit.tid, hit.quiet_for), (41, Some(Nanos::from_ns(8800))));
    assert_eq!(
        (other.tid, other.lost, other.drops, other.full),
        (42, 30, 1, 1)
    );
    assert_eq!((told.lost, told.pid), (30, 40));
    assert_eq!(told.newest, Some(Nanos::from_ns(9000)));
    assert_eq!(other.events[0].what, "dropped at tcp, reason 0");
}

/// The function is that of the innermost frame, but for ways of dying; if that one has no name, no other one is told for it.
#[test]
fn function_of_the_innermost_frame() {
    let frame = |name: &str, inlined| FrameName {
        name: name.to_owned(),
        inlined,
        ..FrameName::default()
    };
    let function = |frames: &[FrameName]| {
        let thread = ThreadEnd {
            tid: 7,
            stack: Some(Stack {
                frames: frames.to_vec(),
                ..Stack::default()
            }),
            ..ThreadEnd::default()
        };
        let crash = Crash {
            tid: Some(7),
            signal: Some(6),
            ..Crash::default()
        };
        Ended::of(&crash, &[thread]).function
    };
    let serve = frame("serve", false);
    let found = [frame("abort", false), frame("unwrap", true), serve.clone()];
    assert_eq!(function(&found), Some("serve".to_owned()));
    assert_eq!(function(&[frame("", false), serve]), None);
}
