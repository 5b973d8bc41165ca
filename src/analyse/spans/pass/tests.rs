//! Requests joined from slots that a test wrote, stage by stage.

use super::*;
use crate::analyse::packs::Pack;
use crate::trace::record::{OwnPoint, Ring};
use bypassprof_wire::{Flow, Point, Tsc, points};
use proptest::prelude::*;
use std::sync::LazyLock;

const HEAD: fn(u64, Point, u32, u32) -> Slot =
    |tsc, point, flow, arg| Slot::head(Tsc::from_raw(tsc), point, Flow::from_raw(flow), arg);

static PACKS: LazyLock<Packs> = LazyLock::new(|| {
    let mut packs = Packs::built_in();
    let pack = "name = \"x\"\nabout = \"\"\n[[point]]\nname = \"my_*\"\nmeans = \"wake\"";
    packs.add(Pack::parse("x.toml", pack).unwrap()).unwrap();
    packs
});

fn pass() -> Pass {
    showing(1)
}

/// A pass that keeps so many of the slowest requests.
fn showing(show: usize) -> Pass {
    let ring = Ring {
        base_tsc: 1,
        points: vec![OwnPoint {
            id: points::FIRST_OWN,
            name: "my_wake".into(),
        }],
        ..Ring::default()
    };
    Pass::new(&[Meta::Ring(ring)], &PACKS, Filter::default(), show)
}

/// The slots of a request of flow `flow` from `tsc` on, 4 of them.
fn request(tsc: u64, flow: u32) -> [Slot; 4] {
    let own = Point::from_id(points::FIRST_OWN);
    [
        HEAD(tsc, points::DELIVER, flow, 64),
        HEAD(tsc + 10, own, 0, 1),
        HEAD(tsc + 30, points::APP_START, flow, 1),
        HEAD(tsc + 100, points::APP_END, flow, 500),
    ]
}

/// A program's own point means what a pack says: waiting for the wake-up is told from waiting for the application.
#[test]
fn own_points() {
    let mut pass = pass();
    pass.slots(0, 0, &request(1000, 5));
    let spans = pass.finish(None);
    assert_eq!(spans.counts.complete, 1);
    assert_eq!(
        spans.slowest[0].stages,
        [
            None,
            None,
            None,
            Some(10),
            Some(20),
            Some(70),
            None,
            None,
            None
        ]
    );
    assert_eq!(spans.slowest[0].total, 100);
}

/// The slowest of the requests, picked while they go by, are told as by a pass that knew how long they are.
#[test]
fn slowest_in_one_pass() {
    let fresh = |filter| {
        let ring = Ring {
            base_tsc: 1,
            ..Ring::default()
        };
        Pass::new(&[Meta::Ring(ring)], &PACKS, filter, 3).telling_ways()
    };
    let slots = (0..200u32).flat_map(|number| {
        let (start, flow) = (1000 * u64::from(number + 1), number % 7);
        let [deliver, _, begin, _] = request(start, flow);
        let end = start + 100 + u64::from(number * 37 % 101);
        [deliver, begin, HEAD(end, points::APP_END, flow, 1)]
    });
    let slots: Vec<_> = slots.collect();
    let mut one = fresh(Filter::default()).slowest(0.1).on_two_threads();
    one.slots(0, 0, &slots);
    let threshold = one.pick().unwrap();
    assert_eq!((threshold.of, threshold.told), (200, true));
    let mut two = fresh(Filter {
        at_least: Some(threshold.least),
        ..Filter::default()
    });
    two.slots(0, 0, &slots);
    two.close_all();
    let ways = one.take_ways();
    assert!((20..24).contains(&ways.len()), "{}", ways.len());
    assert_eq!(ways, two.take_ways());
    let [one, two] = [one, two].map(|pass| pass.finish(None));
    assert_eq!((one.counts, one.trust), (two.counts, two.trust));
    assert_eq!(one.slowest, two.slowest);
    assert_eq!((one.stages, one.behind), (two.stages, two.behind));
    assert_eq!((one.outside, one.bursts), (two.outside, two.bursts));
}

/// What lies between two requests of a flow is told, and its part of flows' time; a flow's first has nothing before it.
#[test]
fn between_requests() {
    let mut pass = pass();
    let slots = [(1000, 5), (2000, 5), (2050, 6)].map(|(tsc, flow)| request(tsc, flow));
    pass.slots(0, 0, slots.as_flattened());
    let spans = pass.finish(None);
    assert_eq!((spans.outside.len(), spans.outside.max()), (1, 900));
    assert_eq!(spans.outside_share(), Some(0.9));
}

/// Where events were lost between two requests, nobody knows what lay there.
#[test]
fn lost_between_requests() {
    let mut pass = pass();
    let lost = Slot::lost(Tsc::from_raw(1500), 3);
    let slots = [&request(1000, 5)[..], &[lost], &request(2000, 5)].concat();
    pass.slots(0, 0, &slots);
    let spans = pass.finish(None);
    assert_eq!((spans.counts.complete, spans.outside.len()), (2, 0));
}

/// Two requests pipelined on one flow, and one of another flow in the same burst: each is behind those before it, in
/// the burst, of its flow, and of its thread. The burst that takes the replies begins when its oldest frame is as old
/// as the burst says.
#[test]
fn behind_others() {
    let mut pass = showing(9).telling_ways();
    let segment = |tsc, flow, frame| {
        let head = HEAD(tsc, points::TCP_IN, flow, frame);
        [head, Slot::cont(64, 0, 0)]
    };
    let mut slots = vec![HEAD(1000, points::RX_BURST, 2, 0)];
    slots.extend(segment(1000, 5, 0));
    slots.push(HEAD(1010, points::DELIVER, 5, 64));
    slots.extend(segment(1000, 6, 1));
    slots.push(HEAD(1025, points::DELIVER, 6, 64));
    for (tsc, flow, frame) in [(1030, 5, 0), (1050, 5, 1), (1090, 6, 2)] {
        slots.push(HEAD(tsc, points::APP_START, flow, 1));
        slots.push(HEAD(tsc + 15, points::APP_END, flow, 10));
        slots.push(HEAD(tsc + 16, points::TCP_OUT, flow, frame));
        slots.push(Slot::cont(10, 0, 0));
    }
    slots.push(HEAD(1200, points::TX_BURST, 3 << 12 | 3, 0));
    slots.push(Slot::cont(100, 3, 0));
    pass.slots(0, 0, &slots);
    pass.close_all();
    let mut ways = pass.take_ways();
    ways.sort_by_key(|w| (w.flow, w.ends));
    let behind: Vec<_> = ways.iter().map(|w| (w.flow, w.behind)).collect();
    assert_eq!(
        behind,
        [(5, [0, 0, 0]), (5, [0, 15, 0]), (6, [10, 0, 30])],
        "{ways:#?}"
    );
    assert!(ways.iter().all(|w| w.ends[7..] == [Some(1146), Some(1200)]));
}

/// A request that is on its way is told with the number that its ring has in the file, whatever was told of first, and
/// on as many threads as the work is done.
#[test]
fn in_flight_by_number() {
    let fresh = || {
        let ring = |ring| {
            Meta::Ring(Ring {
                ring,
                base_tsc: 1,
                ..Ring::default()
            })
        };
        Pass::new(&[7, 0, 3].map(ring), &PACKS, Filter::default(), 0)
    };
    for pass in [fresh(), fresh().on_two_threads()] {
        let mut pass = pass;
        pass.slots(0, 0, &request(900, 4));
        pass.slots(3, 0, &request(1000, 5)[..3]);
        pass.slots(7, 0, &request(1500, 6)[..1]);
        let mut told: Vec<_> = pass.in_flight().iter().map(|r| (r.flow, r.ring)).collect();
        told.sort_unstable();
        assert_eq!(told, [(5, 3), (6, 7)]);
    }
}

/// Requests in whose time events were lost are counted and left out, whether the writer lost them or the file (there,
/// with them, how the request came in); those before and after are whole.
#[test]
fn torn() {
    let mut pass = pass();
    pass.slots(0, 0, &request(1000, 5));
    let [deliver, wake, start, end] = request(2000, 5);
    let lost = Slot::lost(Tsc::from_raw(2050), 3);
    pass.slots(0, 4, &[deliver, wake, start, lost, end]);
    pass.slots(0, 9, &request(3000, 5)[..2]);
    pass.slots(0, 20, &request(3000, 5)[2..]);
    pass.slots(0, 22, &request(4000, 5));
    pass.slots(0, 26, &request(5000, 6)[..3]);
    let counts = pass.finish(None).counts;
    let left_out = (counts.torn, counts.headless, counts.unfinished);
    assert_eq!((counts.complete, left_out), (2, (1, 1, 1)), "{counts:?}");
}

/// Packets that left a fast path and flows that stand still are counted.
#[test]
fn detours_and_stalls() {
    let mut pass = pass();
    pass.slots(0, 0, &request(1000, 5));
    let detour = |tsc| HEAD(tsc, points::SLOW_PATH, 5, 2);
    let stall = [HEAD(2020, points::STALL, 5, 100), Slot::cont(1, 2, 0)];
    pass.slots(0, 4, &[detour(2000), detour(2010), stall[0], stall[1]]);
    let counts = pass.finish(None).counts;
    assert_eq!((counts.complete, counts.detours, counts.stalls), (1, 2, 1));
}

/// A thread without a device of its own receives and sends through that of its process: the burst, the time in the
/// queue between the two threads and the drain are those of the frame.
#[test]
fn through_another_threads_device() {
    let ring = |ring, pid| {
        Meta::Ring(Ring {
            ring,
            pid,
            base_tsc: 1,
            ..Ring::default()
        })
    };
    let metas = [ring(0, 1), ring(1, 1), ring(2, 2)];
    let mut pass = Pass::new(&metas, &PACKS, Filter::default(), 1);
    let cont = |a, b| Slot::cont(a, b, 0);
    pass.slots(
        0,
        0,
        &[
            HEAD(1000, points::RX_BURST, 1, 77),
            HEAD(1900, points::TX_BURST, 1 << 12 | 1, 5),
            cont(0, 0),
        ],
    );
    pass.slots(
        1,
        0,
        &[
            HEAD(1200, points::HANDOFF, 7, 0),
            cont(0, 120),
            HEAD(1210, points::TCP_IN, 7, 77),
            cont(100, 0),
            HEAD(1300, points::DELIVER, 7, 100),
            HEAD(1310, points::APP_START, 7, 0),
            HEAD(1500, points::APP_END, 7, 500),
            HEAD(1600, points::TCP_OUT, 7, 5),
            cont(500, 0),
        ],
    );
    // Another process's device is no way out of this one.
    pass.slots(2, 0, &[HEAD(1700, points::RX_BURST, 1, 77)]);
    let spans = pass.finish(None);
    assert_eq!(spans.counts.complete, 1);
    assert_eq!(
        spans.slowest[0].stages.map(Option::unwrap_or_default),
        [80, 130, 90, 0, 10, 190, 100, 300, 0]
    );
    assert_eq!(spans.slowest[0].total, 900);
}

/// A frame that another core received comes with nothing but the time that it waited in the ring between them.
#[test]
fn misdirected() {
    let mut pass = pass();
    pass.slots(
        0,
        0,
        &[
            HEAD(900, points::RX_BURST, 1, 77),
            HEAD(1200, points::HANDOFF, 0, 1),
            Slot::cont(0, 150, 0),
            HEAD(1200, points::TCP_IN, 7, 77 + (1 << 31)),
            Slot::cont(100, 0, 0),
            HEAD(1300, points::DELIVER, 7, 100),
            HEAD(1310, points::APP_START, 7, 0),
            HEAD(1500, points::APP_END, 7, 500),
            HEAD(1500, points::TCP_OUT, 7, 5),
            Slot::cont(500, 0, 0),
        ],
    );
    let spans = pass.finish(None);
    let told = [None, Some(150), Some(100), None, Some(10), Some(190)];
    assert_eq!(spans.slowest[0].stages[..6], told);
    assert_eq!(spans.slowest[0].total, 450);
}

/// What was handed over for one flow says nothing of another flow's segment, and that a thread woke up before there was
/// anything for it is no wake-up for what came then.
#[test]
fn not_its_own() {
    let mut pass = pass();
    pass.slots(
        0,
        0,
        &[
            HEAD(1200, points::HANDOFF, 9, 0),
            Slot::cont(0, 150, 0),
            HEAD(1210, points::TCP_IN, 7, 77),
            Slot::cont(100, 0, 0),
            HEAD(1250, points::WAKE, 0, 1),
            HEAD(1300, points::DELIVER, 7, 100),
            HEAD(1310, points::APP_START, 7, 0),
            HEAD(1500, points::APP_END, 7, 500),
            HEAD(1600, points::TCP_OUT, 7, 5),
            Slot::cont(500, 0, 0),
        ],
    );
    let spans = pass.finish(None);
    let told = [None, None, Some(90), None, Some(10), Some(190), Some(100)];
    assert_eq!(spans.slowest[0].stages[..7], told);
}

/// A request that was answered while another thread on its way lost events is torn: who knows what these were.
#[test]
fn torn_on_another_thread() {
    let ring = |ring| {
        Meta::Ring(Ring {
            ring,
            pid: 1,
            base_tsc: 1,
            ..Ring::default()
        })
    };
    for torn in [0, 1] {
        let mut pass = Pass::new(&[ring(0), ring(1)], &PACKS, Filter::default(), 1);
        pass.slots(
            0,
            0,
            &[
                HEAD(1210, points::TCP_IN, 7, 77),
                Slot::cont(100, 0, 0),
                HEAD(1300, points::DELIVER, 7, 100),
                HEAD(1600, points::TCP_OUT, 7, 5),
                Slot::cont(500, 0, 0),
                HEAD(2000, points::RX_BURST, 1, 78),
            ],
        );
        let mut app = vec![
            HEAD(1310, points::APP_START, 7, 0),
            HEAD(1500, points::APP_END, 7, 500),
        ];
        if torn > 0 {
            app.push(Slot::lost(Tsc::from_raw(1690), 3));
        }
        pass.slots(1, 0, &app);
        let counts = pass.finish(None).counts;
        assert_eq!((counts.torn, counts.complete), (torn, 1 - torn));
    }
}

proptest! {
    /// Whatever rings say, nothing fails, every request is in one count, and stages add up to the whole way.
    #[test]
    fn any_events(
        events in proptest::collection::vec((0u64..4000, 1u16..22, 0u32..3, 0u32..3, 0u32..3), 0..200),
        cut in 0usize..200,
    ) {
        let mut pass = showing(1000);
        let starts = events.iter().filter(|e| e.1 == points::APP_START.id()).count() as u64;
        let slots = events.iter().flat_map(|&(tsc, point, flow, a, b)| {
            // A burst of up to two frames, segments of up to two bytes.
            let field = if point <= points::TX_BURST.id() { flow << 12 | a } else { flow };
            [HEAD(tsc, Point::from_id(point), field, a), Slot::cont(b, 0, 0)]
        });
        let slots: Vec<_> = slots.collect();
        let cut = cut.min(slots.len());
        pass.slots(0, 0, &slots[..cut]);
        pass.slots(0, cut as u64 + u64::from(cut % 3 == 0), &slots[cut..]);
        let spans = pass.finish(None);
        let counts = spans.counts;
        let known = counts.complete + counts.torn + counts.unfinished + counts.headless;
        prop_assert!(known <= starts, "{counts:?} of {starts}");
        prop_assert_eq!(spans.slowest.len() as u64, counts.complete);
        for request in &spans.slowest {
            prop_assert_eq!(request.stages.iter().flatten().sum::<u64>(), request.total);
        }
        prop_assert!(spans.slowest.is_sorted_by(|a, b| a.total >= b.total));
    }

    /// Every event of every ring counts once, and requests are the same, however the file cuts rings into blocks.
    #[test]
    fn blocks_do_not_matter(
        events in proptest::collection::vec((0u32..3, 0u64..50, 1u16..22, 0u32..3, 0u32..3), 1..200),
        cuts in proptest::collection::vec(1usize..9, 1..40),
    ) {
        let ring = |ring| Meta::Ring(Ring { ring, pid: 1, base_tsc: 1, ..Ring::default() });
        let fresh = || {
            let metas = [ring(0), ring(1), ring(2)];
            Pass::new(&metas, &PACKS, Filter::default(), 1000)
        };
        // Stamps of all rings together only grow, so that no two orders are right.
        let mut tsc = 1000;
        let mut rings = [vec![], vec![], vec![]];
        for &(ring, step, point, flow, a) in &events {
            tsc += 1 + step;
            let field = if point <= points::TX_BURST.id() { a << 12 | a } else { flow };
            let slots = [HEAD(tsc, Point::from_id(point), field, a), Slot::cont(a, 0, 0)];
            rings[ring as usize].extend(slots);
        }
        let answer = |mut pass: Pass, blocks: &mut dyn Iterator<Item = usize>| {
            let mut at = [0; 3];
            while at.iter().zip(&rings).any(|(at, slots)| *at < slots.len()) {
                for (ring, slots) in rings.iter().enumerate() {
                    let end = (at[ring] + blocks.next().unwrap_or(usize::MAX)).min(slots.len());
                    pass.slots(ring as u32, at[ring] as u64, &slots[at[ring]..end]);
                    at[ring] = end;
                }
            }
            pass.finish(None)
        };
        let whole = answer(fresh(), &mut std::iter::repeat(1 << 20));
        let cut = answer(fresh().on_two_threads(), &mut cuts.iter().copied().cycle());
        prop_assert_eq!(whole.trust.events, events.len() as u64);
        prop_assert_eq!(cut.trust.events, events.len() as u64);
        prop_assert_eq!(whole.counts, cut.counts);
        prop_assert_eq!(&whole.slowest, &cut.slowest);
        for (a, b) in whole.stages.iter().zip(&cut.stages) {
            prop_assert_eq!(a, b);
        }
        // Histograms hold what the requests hold.
        let totals: u64 = whole.slowest.iter().map(|r| r.total).sum();
        let stages: u64 = whole.slowest.iter().flat_map(|r| r.stages).flatten().sum();
        prop_assert_eq!(totals, stages);
        let counted = whole.stages.last().map(|h| h.len());
        prop_assert_eq!(counted, Some(whole.counts.complete));
    }
}
