//! Intervals of a thread that works, polls and sleeps, against what it did.

use super::*;
use crate::trace::record::{Ring, RingTotals};
use bypassprof_wire::{Flow, Tsc, points};

const MS: u64 = 1_000_000;

fn pair(ns: u64) -> ClockPair {
    ClockPair {
        tsc_before: ns,
        time: Nanos::from_ns(ns),
        tsc_after: ns,
    }
}

fn at(ms: u64) -> Nanos {
    Nanos::from_ns(ms * MS)
}

fn live() -> Live {
    let mut live = Live::new([pair(MS), pair(100 * MS)], false).unwrap();
    let ring = Ring {
        pid: 7,
        tid: 8,
        name: "poller".into(),
        base_tsc: 1,
        listening: at(100),
        ..Ring::default()
    };
    live.take(&Piece::from(Meta::Ring(ring)));
    live
}

fn totals(live: &mut Live, ms: u64, packets: u64, rounds: u64, empty: u64) {
    live.take(&Piece::from(Meta::RingTotals(RingTotals {
        time: at(ms),
        rx_packets: packets,
        rx_bursts: packets / 2,
        rounds,
        empty_rounds: empty,
        ..RingTotals::default()
    })));
}

fn switch(live: &mut Live, ms: u64, kind: SwitchKind) {
    live.take(&Piece::Switches(vec![Switch {
        time: at(ms),
        pid: 7,
        tid: 8,
        cpu: 1,
        kind,
    }]));
}

/// State goes on from one interval into the next, rates are those between readings, and silence is as good as its counts.
#[test]
fn intervals() {
    let mut live = live();
    totals(&mut live, 100, 1_000, 50, 0);
    switch(&mut live, 100, SwitchKind::In);
    let slot = |ms: u64, point| Slot::head(Tsc::from_raw(ms * MS), point, Flow::NONE, 0);
    let slots = vec![slot(100, points::IDLE_END), slot(350, points::IDLE_BEGIN)];
    live.take(&Piece::Slots(0, 0, slots));
    totals(&mut live, 600, 2_000, 100, 40);
    let (view, _) = live.settle(at(620));
    let thread = &view.threads[0];
    assert_eq!((thread.name.as_str(), thread.cpu), ("poller", Some(1)));
    assert_eq!(thread.times.useful, Some(0.5));
    assert_eq!(thread.times.empty_poll, Some(0.5));
    assert_eq!(thread.rates.rx_packets, Some(2_000.0));
    assert_eq!(view.since_start.rx_packets, 1_000);
    // It goes on polling, and is off its CPU for a part of the time.
    switch(&mut live, 700, SwitchKind::OutPreempted);
    switch(&mut live, 800, SwitchKind::In);
    totals(&mut live, 1_100, 2_000, 500, 440);
    let (view, _) = live.settle(at(1_120));
    let times = view.threads[0].times;
    assert_eq!(times.useful, Some(0.0));
    assert_eq!((times.empty_poll, times.off_cpu), (Some(0.8), Some(0.2)));
    assert_eq!(view.trust.late_records, 0);
}

/// A thread that ends is told once more, what it counted stays, and a gap in its slots is time that is not known.
#[test]
fn gaps_and_ends() {
    let mut live = live();
    totals(&mut live, 100, 0, 0, 0);
    switch(&mut live, 100, SwitchKind::In);
    let slot = |ms: u64, point| Slot::head(Tsc::from_raw(ms * MS), point, Flow::NONE, 0);
    live.take(&Piece::Slots(0, 0, vec![slot(100, points::IDLE_END)]));
    live.take(&Piece::Slots(0, 5, vec![slot(350, points::IDLE_END)]));
    totals(&mut live, 600, 30, 10, 0);
    let exit = record::Exit {
        time: at(600),
        pid: 7,
        tid: 8,
    };
    live.take(&Piece::from(Meta::Exit(exit)));
    let (view, _) = live.settle(at(620));
    let thread = &view.threads[0];
    assert!(thread.ended);
    assert_eq!(thread.times.unknown, Some(0.5));
    for ms in (1..9).map(|s| 620 + s * 1_000) {
        let (view, _) = live.settle(at(ms));
        assert!(view.threads.is_empty());
        assert_eq!(view.since_start.rx_packets, 30);
    }
    assert!(live.rings.is_empty());
}
