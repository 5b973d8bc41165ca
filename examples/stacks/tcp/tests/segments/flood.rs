//! More SYNs than there is room for (RFC 4987), and cookies.

use crate::frame::{ACK, SYN};
use crate::peer::{Peer, options, plain, policy};
use stack_tcp::{ConnId, EventKind, Policy};

/// `n` SYNs from as many ports, none of which goes on.
fn flood(peer: &mut Peer, n: u16) {
    for port in 0..n {
        peer.port = 1000 + port;
        peer.gets(&peer.segment(SYN, 0, 0));
    }
    peer.port = 40_000;
}

fn opened(peer: &mut Peer) -> Option<ConnId> {
    let event = peer.engine.pop_event()?;
    assert!(matches!(event.kind, EventKind::Accepted(_)));
    Some(event.conn)
}

/// The backlog holds as many as it was made for; those beyond get a cookie, and nothing is kept for them.
#[test]
fn backlog_then_cookies() {
    let mut peer = Peer::new(plain());
    flood(&mut peer, 100);
    assert_eq!(peer.sent().len(), 100);
    assert_eq!(peer.engine.connections(), 4);
    assert_eq!(peer.counters().cookies_sent, 96);
}

/// Who answers a cookie has a connection with all that its SYN offered, and its data.
#[test]
fn cookies_come_back() {
    for (stamps, told) in [(true, (1448, 128 * 1000)), (false, (1460, 1000))] {
        let mut peer = Peer::new(policy());
        flood(&mut peer, 10);
        peer.sent();
        peer.clock = stamps.then_some(77);
        let mut syn = peer.segment(SYN, 0, 0);
        syn.options.extend(options::ALL);
        peer.gets(&syn);
        let answer = peer.sent().pop().unwrap();
        assert!(
            answer.contains("sackOK") == stamps && answer.contains("wscale") == stamps,
            "{answer}"
        );
        peer.after(1000);
        let mut first = peer.segment(ACK, 1, 1);
        first.window = 1000;
        first.payload = crate::peer::bytes(1, 100);
        peer.gets(&first);
        let conn = opened(&mut peer).unwrap();
        let info = peer.engine.info(conn).unwrap();
        assert_eq!((info.mss, info.peer_window), told);
        assert_eq!(peer.reads(conn, 1), 100);
        assert_eq!(peer.counters().cookies_accepted, 1);
        // SACK works, if it was agreed on.
        peer.data(201, 1, 10);
        let ack = peer.sent().pop().unwrap();
        assert_eq!(ack.contains("<sack 201:211>"), stamps, "{ack}");
        peer.writes(conn, 10);
        assert_eq!(peer.sent(), ["P. 1:11 ack 101"]);
    }
}

/// A number that is no cookie, an old cookie and one for other ends open nothing and are reset.
#[test]
fn wrong_cookies() {
    let mut peer = Peer::new(plain());
    flood(&mut peer, 10);
    peer.gets(&peer.segment(SYN, 0, 0));
    peer.sent();
    for (ack, port) in [(2, 40_000), (1, 40_001)] {
        peer.port = port;
        peer.acks(1, ack);
        assert!(peer.sent()[0].starts_with('R'));
    }
    peer.port = 40_000;
    peer.after(200_000);
    peer.sent();
    peer.acks(1, 1);
    assert!(peer.sent()[0].starts_with('R'));
    assert_eq!(opened(&mut peer), None);
    assert_eq!(peer.counters().cookies_accepted, 0);
}

/// While no cookie is out none is looked for: an acknowledgement out of the blue is reset.
#[test]
fn no_cookie_was_sent() {
    let mut peer = Peer::new(plain());
    peer.iss = 1000;
    peer.acks(1, 1);
    assert!(peer.sent()[0].starts_with('R'));
}

/// Without cookies the SYNs beyond the backlog are dropped; when the half-open ones end, there is room again.
#[test]
fn dropped_without_cookies() {
    let mut peer = Peer::new(Policy {
        syn_cookies: false,
        syn_retries: 2,
        ..plain()
    });
    flood(&mut peer, 10);
    assert_eq!(peer.sent().len(), 4);
    assert_eq!(peer.counters().drop_backlog, 6);
    peer.after(8000);
    assert_eq!(peer.engine.connections(), 0);
    peer.sent();
    peer.accepted(&[]);
}

/// A flood of 100,000 leaves no trace, and service goes on in the middle of it.
#[test]
fn service_goes_on() {
    let mut peer = Peer::new(Policy {
        syn_retries: 1,
        ..plain()
    });
    for round in 0..2 {
        flood(&mut peer, 50_000);
        peer.sent();
        peer.port = 60_000 + round;
        peer.gets(&peer.segment(SYN, 0, 0));
        peer.sent();
        peer.acks(1, 1);
        let conn = opened(&mut peer).unwrap();
        peer.data(1, 1, 10);
        assert_eq!(peer.reads(conn, 1), 10);
        peer.sent();
        peer.events();
    }
    peer.after(200_000);
    assert_eq!(peer.engine.connections(), 2);
}

/// A full table takes no more, and says so by silence; those in TIME-WAIT make room.
#[test]
fn full_tables() {
    let mut peer = Peer::with(plain(), |config| config.max_connections = 3);
    for port in 1..4 {
        peer.port = port;
        let conn = peer.accepted(&[]);
        if port == 2 {
            peer.closes(conn);
            peer.gets(&peer.segment(crate::frame::FIN | ACK, 1, 2));
            peer.sent();
        }
    }
    peer.port = 4;
    peer.accepted(&[]);
    assert_eq!(peer.counters().time_wait_evicted, 1);
    peer.port = 5;
    peer.gets(&peer.segment(SYN, 0, 0));
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.counters().drop_backlog, 1);
}
