//! What is lost is sent again: timer (RFC 6298), fast retransmit (RFC 5681), NewReno (RFC 6582), SACK (RFC 6675).

use crate::frame::SYN;
use crate::peer::{Peer, options, plain};
use stack_tcp::{Closing, Congestion, ConnId, EventKind, Policy, Recovery};
use std::time::Duration;

fn reno() -> Policy {
    Policy {
        congestion: Congestion::NewReno,
        ..plain()
    }
}

/// `segments` of 1000 bytes are out, and were seen; the round trip took 100 ms.
fn out(policy: Policy, segments: usize) -> (Peer, ConnId) {
    let mut peer = Peer::new(policy);
    let conn = peer.accepted(options::SACK);
    peer.writes(conn, 1000);
    peer.after(100);
    peer.acks(1, 1001);
    peer.writes(conn, segments * 1000);
    assert_eq!(peer.sent().len(), 1 + segments);
    (peer, conn)
}

/// The first timeout is a second, then it follows the measured time and its variation, with a floor (RFC 6298 2).
#[test]
fn timeouts_follow_the_path() {
    let mut slow = Policy { ..plain() };
    slow.rto.min = Duration::from_millis(1);
    let mut peer = Peer::new(slow);
    peer.gets(&peer.segment(SYN, 0, 0));
    peer.sent();
    peer.after(80);
    peer.acks(1, 1);
    let conn = peer.engine.pop_event().unwrap().conn;
    // SRTT 80 ms, RTTVAR 40 ms: 80 + 4 * 40.
    peer.writes(conn, 10);
    peer.sent();
    assert_eq!(peer.waits().0, 240);
    assert_eq!(peer.engine.info(conn).unwrap().srtt, 80_000_000);
}

/// Timeouts double and stay doubled until new data is measured: what was sent twice measures nothing (Karn, RFC 6298 5).
#[test]
fn backs_off_and_measures_only_what_is_sure() {
    let (mut peer, conn) = out(plain(), 1);
    let before = peer.engine.info(conn).unwrap().srtt;
    let first = peer.waits();
    assert_eq!(first.1, ["P. 1001:2001 ack 1"]);
    assert_eq!(peer.waits().0, 2 * first.0);
    peer.after(7);
    peer.acks(1, 2001);
    assert_eq!(peer.engine.info(conn).unwrap().srtt, before, "not measured");
    peer.writes(conn, 10);
    peer.sent();
    assert_eq!(peer.waits().0, 4 * first.0, "still doubled");
    peer.acks(1, 2011);
    peer.writes(conn, 10);
    peer.sent();
    peer.after(100);
    peer.acks(1, 2021);
    peer.writes(conn, 10);
    peer.sent();
    assert!(peer.waits().0 <= first.0, "a measurement ends it");
}

/// With timestamps the acknowledgement itself says which segment it is for (RFC 7323 4): the next timeout is a first one.
#[test]
fn timestamps_end_backing_off() {
    let mut peer = Peer::new(Policy {
        timestamps: true,
        ..plain()
    });
    peer.clock = Some(9);
    let conn = peer.accepted(options::MSS_1000);
    peer.writes(conn, 10);
    peer.sent();
    for _ in 0..3 {
        peer.waits();
    }
    peer.acks(1, 11);
    peer.writes(conn, 10);
    peer.sent();
    assert_eq!(peer.waits().0, 200);
}

/// An acknowledgement that comes after its segment was sent again is measured by its echo (RFC 7323 4): a path that became
/// slower than the timeout is not sent everything twice for ever.
#[test]
fn slower_path_is_learned() {
    let mut policy = Policy {
        timestamps: true,
        ..plain()
    };
    policy.rto.min = Duration::from_millis(1);
    let mut peer = Peer::new(policy);
    peer.clock = Some(9);
    let conn = peer.accepted(options::MSS_1000);
    peer.writes(conn, 10);
    peer.sent();
    let first = peer.heard_clock;
    let mut waited = 0;
    while waited < 70 {
        waited += peer.waits().0;
    }
    peer.heard_clock = first;
    peer.acks(1, 11);
    assert!(peer.engine.info(conn).unwrap().srtt >= 8_000_000);
    peer.writes(conn, 10);
    peer.sent();
    let next = peer.waits().0;
    assert!(next >= waited, "{next} ms after {waited}");
}

/// After a timeout one segment, then everything behind it again as acknowledgements come (RFC 5681 3.1).
#[test]
fn timeout_begins_again_slowly() {
    let (mut peer, conn) = out(reno(), 6);
    assert_eq!(peer.waits().1, [". 1001:2001 ack 1"]);
    assert_eq!(peer.engine.info(conn).unwrap().cwnd, 1000);
    peer.acks(1, 2001);
    assert_eq!(peer.sent(), [". 2001:3001 ack 1", ". 3001:4001 ack 1"]);
    // All of it had arrived but the first: nothing of it is sent a third time.
    peer.acks(1, 7001);
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.counters().timeouts, 1);
}

/// A timeout is the end after so many tries.
#[test]
fn gives_up() {
    let (mut peer, _) = out(
        Policy {
            retries: 3,
            ..plain()
        },
        1,
    );
    for _ in 0..3 {
        assert_eq!(peer.waits().1, ["P. 1001:2001 ack 1"]);
    }
    assert_eq!(peer.waits().1, ["R. 2001 ack 1"]);
    assert_eq!(peer.events(), [EventKind::Closed(Closing::TimedOut)]);
}

/// The first two duplicates let new data out (RFC 3042); the third brings the missing segment and halves the window.
#[test]
fn fast_retransmit() {
    let (mut peer, conn) = out(reno(), 10);
    peer.writes(conn, 5000);
    assert_eq!(peer.engine.info(conn).unwrap().cwnd, 10_000);
    peer.acks(1, 1001);
    assert_eq!(peer.sent(), [". 11001:12001 ack 1"]);
    peer.acks(1, 1001);
    assert_eq!(peer.sent(), [". 12001:13001 ack 1"]);
    peer.acks(1, 1001);
    assert_eq!(peer.sent(), [". 1001:2001 ack 1"]);
    // Half of the 12 segments that were out, and three that have left.
    assert_eq!(peer.engine.info(conn).unwrap().cwnd, 6000);
    // Each more says that one more has left: nine in all make room for the next.
    for _ in 0..6 {
        peer.acks(1, 1001);
        peer.sent();
    }
    peer.acks(1, 13_001);
    assert_eq!(peer.engine.info(conn).unwrap().cwnd, 6000);
    assert_eq!(peer.counters().retransmits, 1);
}

/// Acknowledgements with data, with a new window or for nothing that is out are no duplicates (RFC 5681 2).
#[test]
fn what_is_no_duplicate() {
    let (mut peer, _) = out(reno(), 4);
    for at in 0..3 {
        peer.data(1 + 10 * at, 1001, 10);
    }
    for window in 1..4 {
        let mut segment = peer.segment(crate::frame::ACK, 31, 1001);
        segment.window = 60_000 + window;
        peer.gets(&segment);
    }
    assert_eq!(peer.counters().retransmits, 0);
    peer.acks(31, 5001);
    (0..5).for_each(|_| peer.acks(31, 5001));
    assert_eq!(peer.counters().fast_recoveries, 0);
}

/// NewReno: an acknowledgement of a part brings the next hole at once, and recovery ends when all is there (RFC 6582 3.2).
#[test]
fn partial_acknowledgement() {
    let (mut peer, conn) = out(reno(), 8);
    for _ in 0..3 {
        peer.acks(1, 1001);
    }
    assert_eq!(peer.sent(), [". 1001:2001 ack 1"]);
    peer.acks(1, 3001);
    assert_eq!(peer.sent(), [". 3001:4001 ack 1"]);
    peer.acks(1, 6001);
    assert_eq!(peer.sent(), [". 6001:7001 ack 1"]);
    peer.acks(1, 9001);
    assert_eq!(peer.sent(), [""; 0]);
    let counters = peer.counters();
    assert_eq!((counters.fast_recoveries, counters.timeouts), (1, 0));
    assert_eq!(peer.engine.info(conn).unwrap().cwnd, 4000);
}

/// Duplicates of what was sent before a timeout do not begin another recovery (RFC 6582 4).
#[test]
fn no_recovery_from_old_duplicates() {
    let (mut peer, _) = out(reno(), 8);
    peer.waits();
    for _ in 0..6 {
        peer.acks(1, 1001);
    }
    assert_eq!(peer.counters().fast_recoveries, 0);
}

fn sack() -> Policy {
    Policy {
        sack: true,
        ..reno()
    }
}

/// SACK: only the holes are sent again, as many as the window allows, none of them twice (RFC 6675 5).
#[test]
fn sack_fills_holes() {
    let (mut peer, conn) = out(sack(), 10);
    // 1, 3 and 5 of the ten are lost.
    peer.sacks(1001, &[(2001, 3001)]);
    peer.sacks(1001, &[(4001, 5001), (2001, 3001)]);
    assert_eq!(peer.counters().retransmits, 0);
    peer.sacks(1001, &[(6001, 7001), (4001, 5001), (2001, 3001)]);
    assert_eq!(peer.sent(), [". 1001:2001 ack 1"]);
    peer.sacks(1001, &[(6001, 8001), (4001, 5001), (2001, 3001)]);
    peer.sacks(1001, &[(6001, 9001), (4001, 5001), (2001, 3001)]);
    peer.sacks(1001, &[(6001, 11_001), (4001, 5001), (2001, 3001)]);
    assert_eq!(peer.sent(), [". 3001:4001 ack 1", ". 5001:6001 ack 1"]);
    peer.sacks(3001, &[(6001, 11_001), (4001, 5001)]);
    peer.acks(1, 11_001);
    let counters = peer.counters();
    assert_eq!((counters.retransmits, counters.timeouts), (3, 0));
    assert_eq!(peer.engine.info(conn).unwrap().cwnd, 5000);
}

/// Three segments' worth of SACK is a loss even without three duplicates: acknowledgements get lost, too (RFC 6675 5).
#[test]
fn sacked_bytes_count() {
    let (mut peer, _) = out(sack(), 10);
    peer.sacks(1001, &[(2001, 5001)]);
    assert_eq!(peer.sent(), [". 1001:2001 ack 1"]);
}

/// SACK blocks that cannot be true are not believed: behind what is acknowledged, beyond what was sent, turned around.
#[test]
fn impossible_sack_blocks() {
    let (mut peer, _) = out(sack(), 5);
    for block in [(1, 501), (4001, 90_001), (5001, 3001), (2001, 2001)] {
        peer.sacks(1001, &[block]);
        peer.acks(1, 1001);
        peer.acks(1, 1001);
        if peer.counters().fast_recoveries > 0 {
            break;
        }
    }
    // Three duplicates are three duplicates; but nothing is taken for arrived.
    assert_eq!(peer.sent()[..1], [". 1001:2001 ack 1"]);
    peer.acks(1, 6001);
    assert_eq!(peer.counters().timeouts, 0);
}

/// mTCP and TAS go back to the first byte that is missing and send everything behind it again.
#[test]
fn go_back_n() {
    let (mut peer, _) = out(
        Policy {
            recovery: Recovery::GoBackN,
            ..reno()
        },
        5,
    );
    for _ in 0..3 {
        peer.acks(1, 1001);
    }
    let told = peer.sent();
    assert_eq!(told[0], ". 1001:2001 ack 1");
    assert!(
        told.len() >= 2 && told[1] == ". 2001:3001 ack 1",
        "{told:?}"
    );
}

/// A full sink is no loss: what it refused is sent as soon as there is room, once.
#[test]
fn full_sinks() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(options::MSS_1000);
    peer.wire.full = true;
    peer.writes(conn, 2000);
    peer.data(1, 1, 10);
    assert!(peer.counters().sink_full > 0);
    assert_eq!(peer.engine.next_deadline(), Some(stack_tcp::Time::ZERO));
    peer.wire.full = false;
    peer.engine.poll_timers(peer.now, &mut peer.wire);
    assert_eq!(peer.sent(), [". 1:1001 ack 11", "P. 1001:2001 ack 11"]);
    let counters = peer.counters();
    assert_eq!((counters.retransmits, counters.bytes_out), (0, 2000));
}
