//! Timestamps (RFC 7323): echoes, and old duplicates told by them.

use crate::frame::{ACK, RST, Segment};
use crate::peer::{Peer, bytes, options, plain};
use stack_tcp::{ConnId, Policy};

fn stamped(clock: u32) -> (Peer, ConnId) {
    let mut peer = Peer::new(Policy {
        timestamps: true,
        ..plain()
    });
    peer.clock = Some(clock);
    let conn = peer.accepted(options::MSS_1000);
    (peer, conn)
}

/// An old duplicate, told by its timestamp, is answered and not taken (5.3 R1); a newer one is, across the clock's wrap.
#[test]
fn old_duplicates() {
    let (mut peer, conn) = stamped(u32::MAX);
    peer.data(1, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 11"]);
    peer.clock = Some(u32::MAX - 1);
    peer.data(11, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 11"]);
    assert_eq!(peer.counters().drop_window, 1);
    peer.clock = Some(3);
    peer.data(11, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 21"]);
    assert_eq!(peer.reads(conn, 1), 20);
}

/// After 24 days of silence the clock may have wrapped: no timestamp is old (5.5).
#[test]
fn silence_makes_clocks_young() {
    let day = 24 * 3600 * 1000;
    for (days, taken) in [(23, 0), (25, 10)] {
        let (mut peer, conn) = stamped(5000);
        peer.after(days * day);
        peer.clock = Some(1000);
        peer.data(1, 1, 10);
        assert_eq!(peer.reads(conn, 1), taken, "{days} days");
    }
}

/// A segment without the timestamp that was agreed on is dropped in silence, unless it is a RST (3.2).
#[test]
fn missing_timestamps() {
    let (mut peer, conn) = stamped(7);
    let bare = Segment {
        options: Vec::new(),
        payload: bytes(1, 10),
        ..peer.segment(ACK, 1, 1)
    };
    peer.gets(&bare);
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.reads(conn, 1), 0);
    peer.gets(&Segment {
        options: Vec::new(),
        ..peer.segment(RST, 1, 0)
    });
    assert_eq!(peer.counters().resets_in, 1);
}

/// The echo is of the last segment that moved the left edge, not of one behind a hole (4.3).
#[test]
fn echoes() {
    let (mut peer, _) = stamped(100);
    let echo = |peer: &mut Peer| peer.segments().pop().unwrap().stamps().unwrap().1;
    peer.clock = Some(110);
    peer.data(11, 1, 10);
    assert_eq!(echo(&mut peer), 100);
    peer.clock = Some(120);
    peer.data(1, 1, 10);
    assert_eq!(echo(&mut peer), 120);
}

/// Our clock ticks in milliseconds (5.4).
#[test]
fn own_clock() {
    let (mut peer, _) = stamped(1);
    let clock = |peer: &mut Peer, at| {
        peer.data(at, 1, 1);
        peer.segments().pop().unwrap().stamps().unwrap().0
    };
    let first = clock(&mut peer, 1);
    peer.after(50);
    assert_eq!(clock(&mut peer, 2).wrapping_sub(first), 50);
}
