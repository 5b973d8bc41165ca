//! Congestion marks (RFC 3168, RFC 8257) and rates.

use crate::frame::{ACK, CWR, ECE, SYN, Segment};
use crate::peer::{Peer, bytes, options, plain};
use stack_tcp::{Congestion, ConnId, Policy};
use std::time::Duration;

const MARKED: u8 = 3;
const CAPABLE: u8 = 2;

fn marking(policy: Policy) -> (Peer, ConnId) {
    let mut peer = Peer::new(Policy {
        ecn: true,
        ..policy
    });
    let mut syn = peer.segment(SYN | ECE | CWR, 0, 0);
    syn.options.extend(options::MSS_1000);
    peer.gets(&syn);
    assert!(peer.sent()[0].starts_with("SE. 0 ack 1"));
    peer.acks(1, 1);
    let conn = peer.engine.pop_event().unwrap().conn;
    (peer, conn)
}

fn marked(peer: &mut Peer, at: u32, congestion: u8, flags: u8) {
    let segment = Segment {
        congestion,
        payload: bytes(at, 10),
        ..peer.segment(ACK | flags, at, 1)
    };
    peer.gets(&segment);
}

/// Marks are agreed on in the handshake, and only if both sides want them.
#[test]
fn agreement() {
    let mut peer = Peer::new(plain());
    peer.gets(&peer.segment(SYN | ECE | CWR, 0, 0));
    assert!(peer.sent()[0].starts_with("S. 0"));
    let mut peer = Peer::new(Policy {
        ecn: true,
        ..plain()
    });
    peer.gets(&peer.segment(SYN, 0, 0));
    assert!(peer.sent()[0].starts_with("S. 0"));
}

/// New data says that it may be marked; acknowledgements and what is sent again do not (RFC 3168 6.1.4, 6.1.5).
#[test]
fn what_may_be_marked() {
    let (mut peer, conn) = marking(plain());
    peer.writes(conn, 500);
    assert_eq!(peer.segments()[0].congestion, CAPABLE);
    peer.data(1, 1, 10);
    assert_eq!(peer.segments()[0].congestion, 0);
    peer.after(300);
    assert_eq!(peer.segments()[0].congestion, 0);
}

/// A mark is told until the peer says that it has slowed down (RFC 3168 6.1.3).
#[test]
fn marks_are_told_until_heard() {
    let (mut peer, _) = marking(plain());
    marked(&mut peer, 1, MARKED, 0);
    marked(&mut peer, 11, CAPABLE, 0);
    marked(&mut peer, 21, CAPABLE, CWR);
    assert_eq!(peer.sent(), ["E. 1 ack 11", "E. 1 ack 21", ". 1 ack 31"]);
    assert_eq!(peer.counters().marks_in, 1);
}

/// We slow down once a window, and say so (RFC 3168 6.1.2).
#[test]
fn slows_down_once_a_window() {
    let (mut peer, conn) = marking(Policy {
        congestion: Congestion::NewReno,
        ..plain()
    });
    peer.writes(conn, 10_000);
    peer.sent();
    for ack in [1001, 2001] {
        peer.gets(&peer.segment(ACK | ECE, 1, ack));
    }
    assert_eq!(peer.engine.info(conn).unwrap().cwnd, 5000);
    peer.acks(1, 10_001);
    peer.writes(conn, 2000);
    assert_eq!(
        peer.sent(),
        ["W. 10001:11001 ack 1", "P. 11001:12001 ack 1"]
    );
}

fn rated() -> Policy {
    let congestion = Congestion::DctcpRate {
        initial: 1_000_000,
        step: 1_000_000,
    };
    Policy {
        congestion,
        ..plain()
    }
}

/// TAS's control tells each mark as it comes (RFC 8257 3.2), at once when that changes.
#[test]
fn rates_tell_each_mark() {
    let (mut peer, _) = marking(rated());
    marked(&mut peer, 1, MARKED, 0);
    marked(&mut peer, 11, CAPABLE, 0);
    assert_eq!(peer.sent(), ["E. 1 ack 11", ". 1 ack 21"]);
}

/// A rate spreads segments in time: a megabyte a second is a segment of 1000 bytes each millisecond.
#[test]
fn rates_pace() {
    let (mut peer, conn) = marking(rated());
    peer.writes(conn, 4000);
    assert_eq!(peer.sent(), [". 1:1001 ack 1"]);
    for at in [1001, 2001] {
        assert_eq!(
            peer.waits(),
            (1, vec![format!(". {at}:{} ack 1", at + 1000)])
        );
    }
    assert_eq!(peer.waits().1, ["P. 3001:4001 ack 1"]);
    peer.engine.set_rate(conn, 100_000);
    peer.pass(Duration::from_millis(1));
    peer.writes(conn, 2000);
    assert_eq!(peer.sent(), [". 4001:5001 ack 1"]);
    assert_eq!(peer.waits().0, 10);
}

/// Unmarked round trips double the rate, marked ones hold it back.
#[test]
fn rates_follow_marks() {
    for (mark, seconds) in [(0, false), (ECE, true)] {
        let (mut peer, conn) = marking(rated());
        peer.writes(conn, 200_000);
        let (mut acked, start) = (1, peer.now);
        while acked < 200_001 {
            for segment in peer.segments() {
                let end = segment.seq.wrapping_sub(peer.iss) + segment.payload.len() as u32;
                acked = acked.max(end);
            }
            peer.after(1);
            peer.gets(&peer.segment(ACK | mark, 1, acked));
        }
        let took = peer.now.since(start);
        assert_eq!(took > Duration::from_millis(120), seconds, "{took:?}");
    }
}
