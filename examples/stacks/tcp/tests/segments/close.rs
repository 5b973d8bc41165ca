//! Closing in every order (RFC 9293 3.6), and what the application hears.

use crate::frame::{ACK, FIN, PSH, RST, Segment};
use crate::peer::{Peer, bytes, plain};
use stack_tcp::{Closing, EventKind, Policy};

fn fin(peer: &mut Peer, seq: u32, ack: u32) {
    peer.gets(&peer.segment(FIN | ACK, seq, ack));
}

/// We close first: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT, and the name is free after the quiet time.
#[test]
fn active_close() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.shuts(conn);
    assert_eq!(peer.sent(), ["F. 1 ack 1"]);
    peer.acks(1, 2);
    assert_eq!(peer.events(), []);
    peer.data(1, 2, 10);
    fin(&mut peer, 11, 2);
    assert_eq!(peer.sent(), [". 2 ack 11", ". 2 ack 12"]);
    let heard = [
        EventKind::Readable,
        EventKind::PeerClosed,
        EventKind::Closed(Closing::Done),
    ];
    assert_eq!(peer.events(), heard);
    assert_eq!(peer.reads(conn, 1), 10);
    peer.closes(conn);
    peer.after(59_999);
    assert_eq!(peer.engine.connections(), 1);
    peer.after(2);
    assert_eq!(peer.engine.connections(), 0);
    assert_eq!(peer.events(), []);
}

/// The peer closes first: CLOSE-WAIT, LAST-ACK, gone; what we still have goes out before our FIN.
#[test]
fn passive_close() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    fin(&mut peer, 1, 1);
    assert_eq!(peer.sent(), [". 1 ack 2"]);
    assert_eq!(peer.events(), [EventKind::PeerClosed]);
    peer.writes(conn, 100);
    peer.closes(conn);
    assert_eq!(peer.sent(), ["P. 1:101 ack 2", "F. 101 ack 2"]);
    peer.acks(2, 102);
    assert_eq!(peer.engine.connections(), 0);
}

/// Both close at once: CLOSING, then TIME-WAIT on our side.
#[test]
fn simultaneous_close() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.shuts(conn);
    assert_eq!(peer.sent(), ["F. 1 ack 1"]);
    fin(&mut peer, 1, 1);
    assert_eq!(peer.sent(), [". 2 ack 2"]);
    assert_eq!(peer.events(), [EventKind::PeerClosed]);
    peer.acks(2, 2);
    assert_eq!(peer.events(), [EventKind::Closed(Closing::Done)]);
    assert_eq!(peer.engine.connections(), 1);
}

/// FIN and the acknowledgement of ours in one segment: FIN-WAIT-1 straight to TIME-WAIT.
#[test]
fn three_segment_close() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.shuts(conn);
    peer.sent();
    fin(&mut peer, 1, 2);
    assert_eq!(peer.sent(), [". 2 ack 2"]);
    assert_eq!(
        peer.events(),
        [EventKind::PeerClosed, EventKind::Closed(Closing::Done)]
    );
}

/// Half closed, the other half carries data both before and after (RFC 9293 3.6).
#[test]
fn half_close_still_receives() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.writes(conn, 5);
    peer.shuts(conn);
    assert_eq!(peer.sent(), ["P. 1:6 ack 1", "F. 6 ack 1"]);
    assert!(peer.engine.write(conn, b"x").is_err());
    peer.acks(1, 7);
    for at in [1, 1001, 2001] {
        peer.data(at, 7, 1000);
    }
    assert_eq!(peer.reads(conn, 1), 3000);
    assert_eq!(
        peer.sent(),
        [". 7 ack 1001", ". 7 ack 2001", ". 7 ack 3001"]
    );
}

/// A FIN that comes before the data in front of it waits for it.
#[test]
fn early_fin_waits() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    let last = Segment {
        payload: bytes(11, 10),
        ..peer.segment(FIN | PSH | ACK, 11, 1)
    };
    peer.gets(&last);
    assert_eq!(peer.sent(), [". 1 ack 1"]);
    peer.data(1, 1, 10);
    assert_eq!(peer.sent(), [". 1 ack 22"]);
    assert_eq!(peer.events(), [EventKind::Readable, EventKind::PeerClosed]);
    assert_eq!(peer.reads(conn, 1), 20);
}

/// Closing with unread data resets (RFC 2525 2.17); data after the application has gone does, too (RFC 9293 3.10.7.4).
#[test]
fn unread_data_is_not_taken_for_read() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.data(1, 1, 10);
    peer.closes(conn);
    assert_eq!(peer.sent(), [". 1 ack 11", "R. 1 ack 11"]);
    assert_eq!(peer.engine.connections(), 0);

    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.closes(conn);
    peer.acks(1, 2);
    peer.data(1, 2, 10);
    assert_eq!(peer.sent(), ["F. 1 ack 1", "R. 2 ack 1"]);
    assert_eq!(peer.engine.connections(), 0);
}

/// A peer that never closes its half does not hold a place for ever once the application is gone.
#[test]
fn fin_wait_2_ends() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.closes(conn);
    peer.acks(1, 2);
    peer.after(60_001);
    assert_eq!(peer.engine.connections(), 0);
}

/// A lost FIN is sent again, and so is the last acknowledgement of the peer's.
#[test]
fn lost_fins() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.shuts(conn);
    assert_eq!(peer.sent(), ["F. 1 ack 1"]);
    assert_eq!(peer.waits(), (200, vec!["F. 1 ack 1".to_string()]));
    fin(&mut peer, 1, 2);
    assert_eq!(peer.sent(), [". 2 ack 2"]);
    peer.after(30_000);
    fin(&mut peer, 1, 2);
    assert_eq!(peer.sent(), [". 2 ack 2"]);
    // The quiet time begins again (RFC 9293 3.10.7.4).
    peer.after(45_000);
    assert_eq!(peer.engine.info(conn).map(|i| i.local_port), Some(80));
}

/// A RST is told where something may be lost, and not where all was said: in LAST-ACK with nothing but the FIN out it is an
/// end like another; in TIME-WAIT it is not heeded (RFC 1337) and nothing is told twice.
#[test]
fn resets_at_the_end() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.gets(&peer.segment(RST | ACK, 1, 1));
    assert_eq!(peer.events(), [EventKind::Closed(Closing::Reset)]);
    peer.closes(conn);
    assert_eq!(peer.engine.connections(), 0);

    for (unread, told) in [(0, Closing::Done), (50, Closing::Reset)] {
        let mut peer = Peer::new(plain());
        let conn = peer.accepted(&[]);
        fin(&mut peer, 1, 1);
        peer.writes(conn, unread);
        peer.shuts(conn);
        peer.events();
        peer.gets(&peer.segment(RST | ACK, 2, 1));
        assert_eq!(peer.events(), [EventKind::Closed(told)]);
    }

    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.shuts(conn);
    fin(&mut peer, 1, 2);
    peer.events();
    peer.gets(&peer.segment(RST | ACK, 2, 2));
    peer.after(1000);
    assert_eq!(peer.engine.connections(), 1);
    peer.after(60_000);
    assert_eq!(peer.events(), []);
}

/// A FIN nobody answers is given up after as many tries as data.
#[test]
fn fin_is_given_up() {
    let mut peer = Peer::new(Policy {
        retries: 3,
        ..plain()
    });
    let conn = peer.accepted(&[]);
    peer.closes(conn);
    peer.after(200 + 400 + 800 + 1600 + 10);
    assert_eq!(
        peer.sent(),
        [
            "F. 1 ack 1",
            "F. 1 ack 1",
            "F. 1 ack 1",
            "F. 1 ack 1",
            "R. 2 ack 1"
        ]
    );
    assert_eq!(peer.engine.connections(), 0);
}
