//! TIME-WAIT and what may take its place (RFC 6191, RFC 1122 4.2.2.13).

use crate::frame::{ACK, FIN, SYN};
use crate::peer::{Peer, options, plain};
use stack_tcp::{EventKind, Policy};

/// A connection that has sent `len` bytes and is in TIME-WAIT; the peer's next number is 2.
fn quiet(policy: Policy, clock: Option<u32>, len: usize) -> Peer {
    let mut peer = Peer::new(policy);
    peer.clock = clock;
    let conn = peer.accepted(options::MSS_1000);
    let mut acked = 1;
    while acked < 1 + len {
        acked += peer.writes(conn, (1 + len - acked).min(8000));
        peer.acks(1, acked as u32);
    }
    peer.closes(conn);
    peer.gets(&peer.segment(FIN | ACK, 1, 1 + len as u32 + 1));
    peer.sent();
    peer.events();
    peer
}

fn stamped() -> Policy {
    Policy {
        timestamps: true,
        ..plain()
    }
}

/// By numbers: only a SYN behind the last one opens anew.
#[test]
fn newer_numbers() {
    let mut peer = quiet(plain(), None, 10);
    peer.gets(&peer.segment(SYN, 1, 0));
    assert_eq!(peer.sent(), [". 12 ack 2"]);
    peer.gets(&peer.segment(SYN, 5000, 0));
    assert_eq!(peer.sent(), ["S. 0 ack 5001 <mss 1460>"]);
    peer.acks(5001, 1);
    assert!(matches!(peer.events()[..], [EventKind::Accepted(_)]));
    assert_eq!(peer.counters().time_wait_reused, 1);
}

/// By timestamps: a newer clock opens anew whatever the number, the same one with a newer number, an older one never.
#[test]
fn newer_clocks() {
    for (clock, seq, opens) in [
        (101, 3_000_000_000, true),
        (100, 5000, true),
        (100, 0, false),
        (99, 5000, false),
    ] {
        let mut peer = quiet(stamped(), Some(100), 10);
        peer.clock = Some(clock);
        peer.gets(&peer.segment(SYN, seq, 0));
        let reused = peer.counters().time_wait_reused == 1;
        assert_eq!(reused, opens, "{clock} {seq}");
        assert_eq!(peer.sent()[0].starts_with("S."), opens);
    }
}

/// A clock where there was none is newer; none where there was one has to have the newer number (RFC 6191 2).
#[test]
fn clocks_on_one_side() {
    let mut peer = quiet(stamped(), None, 10);
    peer.clock = Some(1);
    peer.gets(&peer.segment(SYN, 0, 0));
    assert!(peer.sent()[0].starts_with("S."));
    let mut peer = quiet(stamped(), Some(100), 10);
    peer.clock = None;
    peer.gets(&peer.segment(SYN, 5000, 0));
    assert!(peer.sent()[0].starts_with("S."));
}

/// The new numbers begin behind the old ones, even when those ran ahead of the clock they are made from.
#[test]
fn own_numbers_stay_ahead() {
    let mut peer = quiet(plain(), None, 10 << 20);
    let last = peer.iss.wrapping_add((10 << 20) + 2);
    peer.gets(&peer.segment(SYN, 5000, 0));
    peer.sent();
    let ahead = peer.iss.wrapping_sub(last);
    assert!((1 << 16..1 << 31).contains(&ahead), "{ahead}");
}

/// What is left of the old connection is answered, and not taken by the new one.
#[test]
fn old_segments() {
    let mut peer = quiet(plain(), None, 10);
    peer.data(1, 12, 10);
    assert_eq!(peer.sent(), [". 12 ack 2"]);
    let old_iss = peer.iss;
    peer.gets(&peer.segment(SYN, 500_000, 0));
    peer.sent();
    peer.acks(500_001, 1);
    let conn = peer.engine.pop_event().unwrap().conn;
    let new_iss = std::mem::replace(&mut peer.iss, old_iss);
    peer.data(2, 12, 10);
    assert_eq!(peer.engine.info(conn).unwrap().readable, 0);
    assert_eq!(peer.segments()[0].seq, new_iss.wrapping_add(1));
}
