//! What is emitted is what is read.

use crate::harness::{Program, Recorder, session_dir};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::points;

/// Every event arrives in order with all its arguments, the totals agree, and the thread and its points have names.
#[test]
fn events_arrive() {
    let dir = session_dir();
    let mut program = Program::start("events", dir.path());
    let recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    program.go();
    program.expect("done");
    assert_eq!(
        recorder.control.own_points(),
        [(256, "cache_miss".to_string())]
    );
    let reads = recorder.finish();
    assert!(program.finish().success());
    let [read] = &reads[..] else {
        panic!("{} rings", reads.len());
    };
    assert_eq!((read.events.len(), read.bad, read.lost), (5000, 0, 0));
    assert_eq!(read.totals.events, 5000);
    assert_eq!((read.totals.requests, read.totals.rx_bytes), (1000, 100));
    assert_eq!(read.name, "worker");
    for (i, five) in read.events.chunks(5).enumerate() {
        let ids = [9, 7, 6, 256, 10];
        assert!(
            five.iter()
                .zip(ids)
                .all(|(event, id)| event.point.id() == id)
        );
        assert!(
            five.iter()
                .all(|event| event.args[0] == i as u32 && event.flow.raw() == 7)
        );
        assert_eq!(five[1].args[1..7], [1, 2, 3, 4, 5, 6]);
        assert_eq!(five[2].args[1..4], [1, 2, 3]);
        assert_eq!(five[2].tsc, five[4].tsc);
        assert!(five[0].tsc <= five[1].tsc && five[1].tsc <= five[2].tsc);
    }
}

/// Empty rounds are counted, their beginning and end are events; work that was not reported shows by its events, and
/// sleeping is no work.
#[test]
fn rounds_are_told() {
    for part in ["rounds", "unstamped"] {
        let dir = session_dir();
        let mut program = Program::start(part, dir.path());
        let recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
        program.go();
        program.expect("done");
        let reads = recorder.finish();
        assert!(program.finish().success());
        let read = &reads[0];
        // 0 + 1 + ... + 99 rounds that did nothing, and 25 that only slept.
        assert_eq!(
            (read.totals.empty_rounds, read.totals.rounds),
            (4975, 5050),
            "{part}"
        );
        assert_eq!((read.totals.rx_bursts, read.totals.rx_packets), (25, 50));
        assert_eq!((read.totals.tx_bursts, read.totals.tx_packets), (25, 25));
        let of = |point| read.events.iter().filter(move |event| event.point == point);
        let counted: u64 = of(points::IDLE_END).map(|event| event.wide()).sum();
        let idle = of(points::IDLE_BEGIN).count();
        // The last round slept: that stretch has not ended.
        let open = 100;
        assert_eq!(counted + open, 4975, "{part}");
        assert_eq!((idle, of(points::IDLE_END).count()), (75, 75), "{part}");
        let states: Vec<_> = read
            .events
            .iter()
            .filter(|e| matches!(e.point, points::IDLE_BEGIN | points::IDLE_END))
            .map(|e| (e.point, e.tsc))
            .collect();
        assert!(
            states.windows(2).all(|pair| pair[0].0 != pair[1].0),
            "{part}"
        );
    }
}
