//! Connections on which nothing happens (RFC 9293 3.8.4).

use crate::peer::{Peer, plain};
use stack_tcp::{Closing, EventKind, KeepAlive, Policy};
use std::time::Duration;

fn alive() -> Policy {
    Policy {
        keepalive: Some(KeepAlive {
            idle: Duration::from_secs(10),
            interval: Duration::from_secs(2),
            probes: 3,
        }),
        ..plain()
    }
}

/// A probe is a number the peer has had, without data; whoever answers stays.
#[test]
fn answered() {
    let mut peer = Peer::new(alive());
    peer.accepted(&[]);
    for _ in 0..5 {
        assert_eq!(peer.waits(), (10_000, vec![". 0 ack 1".to_string()]));
        peer.acks(1, 1);
    }
    assert_eq!(peer.counters().keepalive_probes, 5);
}

/// Whoever does not is reset after the last probe, and the application hears.
#[test]
fn unanswered() {
    let mut peer = Peer::new(alive());
    let conn = peer.accepted(&[]);
    assert_eq!(peer.waits().0, 10_000);
    assert_eq!(peer.waits().0, 2000);
    assert_eq!(peer.waits().0, 2000);
    assert_eq!(peer.waits(), (2000, vec!["R. 1 ack 1".to_string()]));
    assert_eq!(peer.events(), [EventKind::Closed(Closing::TimedOut)]);
    peer.closes(conn);
    assert_eq!(peer.engine.connections(), 0);
}

/// Anything that comes is a sign of life; what is out is the retransmission timer's.
#[test]
fn not_idle() {
    let mut peer = Peer::new(alive());
    let conn = peer.accepted(&[]);
    for at in 1..10 {
        peer.after(9000);
        peer.data(at, 1, 1);
    }
    assert_eq!(peer.counters().keepalive_probes, 0);
    peer.sent();
    peer.writes(conn, 10);
    peer.after(30_000);
    assert!(peer.sent().iter().all(|told| told == "P. 1:11 ack 10"));
}

/// Probes of the peer's are answered: without data, and with a byte that was had before.
#[test]
fn probes_are_answered() {
    let mut peer = Peer::new(plain());
    peer.accepted(&[]);
    peer.data(1, 1, 10);
    peer.sent();
    peer.acks(10, 1);
    assert_eq!(peer.sent(), [". 1 ack 11"]);
    peer.data(10, 1, 1);
    assert_eq!(peer.sent(), [". 1 ack 11"]);
}
