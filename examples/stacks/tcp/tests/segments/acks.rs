//! When data is acknowledged (RFC 5681 4.2, RFC 1122 4.2.3.2), in order and out of it.

use crate::frame::{ACK, Segment};
use crate::peer::{Peer, bytes, options, plain};
use stack_tcp::{AckPolicy, OutputMode, Policy};
use std::time::Duration;

fn delayed(timeout_ms: u64, every: u8) -> Policy {
    Policy {
        ack: AckPolicy::Delayed {
            timeout: Duration::from_millis(timeout_ms),
            every,
        },
        ..plain()
    }
}

/// Every second segment at once, a single one after the timeout.
#[test]
fn every_second_or_late() {
    let mut peer = Peer::new(delayed(40, 2));
    peer.accepted(&[]);
    peer.data(1, 1, 100);
    assert_eq!(peer.waits(), (40, vec![". 1 ack 101".to_string()]));
    peer.data(101, 1, 100);
    assert_eq!(peer.sent(), [""; 0]);
    peer.data(201, 1, 100);
    assert_eq!(peer.sent(), [". 1 ack 301"]);
}

/// IX's millisecond, and a policy that waits for more segments.
#[test]
fn other_policies() {
    let mut peer = Peer::new(delayed(1, 4));
    peer.accepted(&[]);
    for at in [1, 11, 21] {
        peer.data(at, 1, 10);
    }
    assert_eq!(peer.sent(), [""; 0]);
    peer.data(31, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 41"]);
    peer.data(41, 1, 10);
    assert_eq!(peer.waits(), (1, vec![". 1 ack 51".to_string()]));
}

/// A reply carries the acknowledgement; no other follows.
#[test]
fn replies_carry_it() {
    let mut peer = Peer::new(delayed(40, 2));
    let conn = peer.accepted(&[]);
    peer.data(1, 1, 100);
    peer.writes(conn, 50);
    assert_eq!(peer.sent(), ["P. 1:51 ack 101"]);
    peer.acks(101, 51);
    peer.after(100);
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.counters().pure_acks, 0);
}

/// A piece that someone on the way has joined from several counts as several.
#[test]
fn joined_segments_count() {
    let mut peer = Peer::new(delayed(40, 2));
    peer.accepted(options::MSS_1000);
    peer.data(1, 1, 1900);
    assert_eq!(peer.sent(), [". 1 ack 1901"]);
}

/// What comes out of order, or fills a hole, or was there before, is answered at once.
#[test]
fn holes_are_told_at_once() {
    let mut peer = Peer::new(delayed(40, 2));
    let conn = peer.accepted(&[]);
    peer.data(11, 1, 10);
    peer.data(31, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 1", ". 1 ack 1"]);
    peer.data(1, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 21"]);
    peer.data(1, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 21"]);
    peer.data(15, 1, 20);
    assert_eq!(peer.sent(), [". 1 ack 41"]);
    assert_eq!(peer.reads(conn, 1), 40);
}

/// SACK blocks: the one that changed last first, the others behind it, at most three beside timestamps (RFC 2018 4).
#[test]
fn sack_blocks() {
    let mut peer = Peer::new(Policy {
        sack: true,
        timestamps: true,
        ..plain()
    });
    peer.clock = Some(5);
    let conn = peer.accepted(options::SACK);
    for at in [11, 31, 51, 71] {
        peer.data(at, 1, 10);
    }
    let told = peer.sent();
    assert_eq!(told[0], ". 1 ack 1 <sack 11:21>");
    assert_eq!(told[3], ". 1 ack 1 <sack 71:81 51:61 31:41>");
    peer.data(21, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 1 <sack 11:41 71:81 51:61>"]);
    // Data that goes out has no room for them: they go first.
    peer.data(41, 1, 5);
    peer.sent();
    peer.data(91, 1, 10);
    peer.writes(conn, 10);
    assert_eq!(
        peer.sent(),
        [". 1 ack 1 <sack 91:101 71:81 51:61>", "P. 1:11 ack 1"]
    );
    peer.data(1, 1, 10);
    assert_eq!(peer.sent(), [". 11 ack 46 <sack 91:101 71:81 51:61>"]);
}

/// Overlaps in every way: each byte is taken once (RFC 9293 3.10.7.4).
#[test]
fn overlaps() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    for (at, len) in [(21, 20), (31, 30), (15, 3), (1, 5), (3, 20), (10, 60)] {
        peer.data(at, 1, len);
    }
    assert_eq!(peer.reads(conn, 1), 69);
    assert_eq!(peer.counters().bytes_in, 69);
}

/// More holes than are kept apart: those beyond are refused and come again.
#[test]
fn many_holes() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    for piece in 0..100 {
        peer.data(11 + 20 * piece, 1, 10);
    }
    let counters = peer.counters();
    assert_eq!((counters.out_of_order, counters.drop_memory), (64, 36));
    for piece in 0..101 {
        peer.data(1 + 20 * piece, 1, 20);
    }
    assert_eq!(peer.reads(conn, 1), 2020);
}

/// In deferred mode nothing leaves before its list is served: acknowledgements, then data.
#[test]
fn lists() {
    let mut peer = Peer::new(Policy {
        output: OutputMode::Deferred,
        ..plain()
    });
    let conn = peer.accepted(&[]);
    peer.data(1, 1, 10);
    peer.engine.write(conn, b"reply").unwrap();
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.engine.flush_acks(peer.now, 10, &mut peer.wire), 1);
    assert_eq!(peer.sent(), [". 1 ack 11"]);
    assert_eq!(peer.engine.flush_data(peer.now, 10, &mut peer.wire), 1);
    assert_eq!(peer.sent(), ["P. 1:6 ack 11"]);
    assert_eq!(peer.engine.flush_data(peer.now, 10, &mut peer.wire), 0);
}

/// No more is buffered for all connections than is allowed; what is refused is not acknowledged.
#[test]
fn memory_is_bounded() {
    let mut peer = Peer::with(plain(), |config| config.buffer_memory = 1500);
    let conn = peer.accepted(&[]);
    peer.data(1, 1, 1000);
    peer.data(1001, 1, 1000);
    assert_eq!(peer.sent(), [". 1 ack 1001"]);
    assert_eq!(peer.counters().drop_memory, 1);
    assert_eq!(peer.writes(conn, 1000), 500);
    assert_eq!(peer.reads(conn, 1), 1000);
    peer.gets(&Segment {
        payload: bytes(1001, 1000),
        ..peer.segment(ACK, 1001, 1)
    });
    assert_eq!(peer.reads(conn, 1001), 1000);
}
