//! Attacks by those who cannot see the connection (RFC 5961), and answers that must not be answered for ever.

use crate::frame::{ACK, RST, SYN, Segment};
use crate::peer::{Peer, bytes, plain};
use stack_tcp::EventKind;

/// A RST counts only at the very next number; elsewhere in the window it is asked back, outside it is nothing (3.2).
#[test]
fn resets() {
    let mut peer = Peer::new(plain());
    peer.accepted(&[]);
    peer.gets(&peer.segment(RST, 100, 0));
    assert_eq!(peer.sent(), [". 1 ack 1"]);
    assert_eq!(peer.counters().challenge_acks, 1);
    peer.gets(&peer.segment(RST, 0, 0));
    peer.gets(&peer.segment(RST, 1 << 20, 0));
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.events(), []);
    peer.gets(&peer.segment(RST, 1, 0));
    assert_eq!(
        peer.events(),
        [EventKind::Closed(stack_tcp::Closing::Reset)]
    );
}

/// A SYN for a connection that is there is asked back, wherever it points (4.2).
#[test]
fn syns() {
    let mut peer = Peer::new(plain());
    peer.accepted(&[]);
    for seq in [1, 100, 1 << 30, u32::MAX] {
        peer.after(1000);
        peer.gets(&peer.segment(SYN, seq, 0));
        assert_eq!(peer.sent(), [". 1 ack 1"], "{seq}");
    }
    assert_eq!(peer.engine.connections(), 1);
}

/// Data whose acknowledgement is impossible was made up: not taken (5.2).
#[test]
fn data() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    for ack in [2, 1 << 30, 1u32.wrapping_sub(70_000)] {
        peer.data(1, ack, 10);
        assert_eq!(peer.sent(), [". 1 ack 1"], "{ack}");
    }
    assert_eq!(peer.reads(conn, 1), 0);
    // An old one, by less than the largest window there was, may have been on its way.
    peer.data(1, 1u32.wrapping_sub(60_000), 10);
    assert_eq!(peer.reads(conn, 1), 10);
}

/// Challenges are limited, and nobody can tell by how many: the limit of each second is another one (7; CVE-2016-5696).
#[test]
fn challenges_are_limited() {
    let mut peer = Peer::new(plain());
    peer.accepted(&[]);
    let mut limits = Vec::new();
    for _ in 0..4 {
        peer.after(1000);
        for _ in 0..3000 {
            peer.gets(&peer.segment(RST, 100, 0));
        }
        limits.push(peer.sent().len());
    }
    assert!(
        limits.iter().all(|sent| (500..1500).contains(sent)),
        "{limits:?}"
    );
    limits.dedup();
    assert!(limits.len() > 1);
}

/// Two ends that disagree about their numbers do not answer each other's answers: without data at most two a second, with
/// data always.
#[test]
fn acknowledgement_loops() {
    let mut peer = Peer::new(plain());
    peer.accepted(&[]);
    let stray = peer.segment(ACK, 1 << 30, 1);
    for _ in 0..100 {
        peer.gets(&stray);
    }
    assert_eq!(peer.sent(), [". 1 ack 1"]);
    assert_eq!(peer.counters().limited, 99);
    peer.after(500);
    peer.gets(&stray);
    assert_eq!(peer.sent(), [". 1 ack 1"]);
    let asks = Segment {
        payload: bytes(0, 10),
        ..stray
    };
    (0..3).for_each(|_| peer.gets(&asks));
    assert_eq!(peer.sent().len(), 3);
}

/// Resets to strangers are limited as well.
#[test]
fn strangers_are_limited() {
    let mut peer = Peer::new(plain());
    peer.own_port = 81;
    for _ in 0..3000 {
        peer.gets(&peer.segment(SYN, 0, 0));
    }
    assert!((500..1500).contains(&peer.sent().len()));
    assert!(peer.counters().limited >= 1500);
}
