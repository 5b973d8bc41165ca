//! Opening (RFC 9293 3.5), and the options that are agreed on there.

use crate::frame::{ACK, RST, SYN, Segment};
use crate::peer::{IRS, OWN, PEER, Peer, options, plain, policy};
use stack_tcp::{Closing, EventKind, Policy};

/// Options are answered only if they were offered, and the window of a SYN is not scaled (RFC 7323 2.2).
#[test]
fn options_are_what_both_have() {
    let all = "<mss 1460, wscale 2, sackOK, ts>";
    for (offer, stamps, answer) in [
        (options::ALL, true, all),
        (options::ALL, false, "<mss 1460, wscale 2, sackOK>"),
        (options::SACK, false, "<mss 1460, sackOK>"),
        (options::SCALE_7, false, "<mss 1460, wscale 2>"),
        (&[][..], false, "<mss 1460>"),
        // A length that lies ends the list: nothing behind it is believed.
        (&[2, 4, 5, 180, 3, 9, 7, 1][..], false, "<mss 1460>"),
    ] {
        let mut peer = Peer::new(policy());
        peer.windows = true;
        peer.clock = stamps.then_some(7);
        let mut syn = peer.segment(SYN, 0, 0);
        syn.options.extend(offer);
        peer.gets(&syn);
        assert_eq!(peer.sent(), [format!("S. 0 ack 1 win 65535 {answer}")]);
    }
}

/// Our own SYN offers everything; what the answer lacks is not used (RFC 7323 2.1, RFC 2018 2).
#[test]
fn active_open_uses_what_the_answer_has() {
    let mut peer = Peer::new(policy());
    peer.knows_peer();
    peer.engine
        .connect(peer.now, PEER.into(), 40_000, &mut peer.wire)
        .unwrap();
    let syn = peer.segments().pop().unwrap();
    assert_eq!(
        syn.each_option().iter().map(|o| o.0).collect::<Vec<_>>(),
        [2, 3, 4, 8]
    );
    peer.own_port = syn.ports.0;
    peer.gets(&peer.segment(SYN | ACK, 0, 1));
    let ack = peer.segments().pop().unwrap();
    assert!(ack.options.is_empty());
    // Nothing was said of a size: 536 bytes (RFC 9293 3.7.1).
    let conn = peer.engine.pop_event().unwrap().conn;
    peer.writes(conn, 1000);
    assert_eq!(peer.sent(), [". 1:537 ack 1", "P. 537:1001 ack 1"]);
}

/// Segments hold what the peer takes less our options (RFC 6691).
#[test]
fn timestamps_are_counted_in_segments() {
    let mut peer = Peer::new(policy());
    peer.clock = Some(7);
    let conn = peer.accepted(options::MSS_1000);
    peer.writes(conn, 1000);
    assert_eq!(peer.sent(), [". 1:989 ack 1", "P. 989:1001 ack 1"]);
}

/// Both open at once: each answers the other's SYN, and one connection comes of it (RFC 9293 figure 8).
#[test]
fn simultaneous_open() {
    let mut peer = Peer::new(plain());
    peer.knows_peer();
    peer.engine
        .connect(peer.now, PEER.into(), 40_000, &mut peer.wire)
        .unwrap();
    let syn = peer.segments().pop().unwrap();
    peer.own_port = syn.ports.0;
    peer.gets(&peer.segment(SYN, 0, 0));
    assert_eq!(peer.sent(), ["S. 0 ack 1 <mss 1460>"]);
    assert_eq!(peer.events(), []);
    peer.gets(&peer.segment(SYN | ACK, 0, 1));
    assert_eq!(peer.events(), [EventKind::Connected]);
    peer.data(1, 1, 10);
    assert_eq!(peer.events(), [EventKind::Readable]);
    assert_eq!(peer.engine.connections(), 1);
}

/// A SYN is sent again after 1, 2, 4 ... seconds, then the application hears (RFC 6298 2.1, RFC 9293 3.8.3).
#[test]
fn syn_is_retried_and_given_up() {
    let mut peer = Peer::new(Policy {
        syn_retries: 3,
        ..plain()
    });
    peer.knows_peer();
    peer.engine
        .connect(peer.now, PEER.into(), 40_000, &mut peer.wire)
        .unwrap();
    assert_eq!(peer.sent().len(), 1);
    for wait in [1000, 2000, 4000] {
        assert_eq!(peer.waits(), (wait, vec!["S 0 <mss 1460>".to_string()]));
    }
    peer.after(8000);
    assert_eq!(peer.events(), [EventKind::Closed(Closing::TimedOut)]);
    assert_eq!(peer.counters().retransmits, 3);
}

/// After a handshake that lost segments the first window is one segment (RFC 5681 3.1) and the first timeout three seconds
/// (RFC 6298 5.7).
#[test]
fn lossy_handshake_begins_slowly() {
    let mut peer = Peer::new(plain());
    peer.knows_peer();
    let conn = peer
        .engine
        .connect(peer.now, PEER.into(), 40_000, &mut peer.wire)
        .unwrap();
    peer.sent();
    peer.waits();
    peer.own_port = 49_152;
    peer.gets(&peer.segment(SYN | ACK, 0, 1));
    peer.sent();
    peer.writes(conn, 5000);
    assert_eq!(peer.sent(), [". 1:537 ack 1"]);
    assert_eq!(peer.waits().0, 3000);
}

/// A lost SYN-ACK is sent again, by itself and for a SYN that comes again; its RST forgets it (RFC 9293 3.10.7.4).
#[test]
fn half_open_connections() {
    let mut peer = Peer::new(plain());
    let syn = peer.segment(SYN, 0, 0);
    peer.gets(&syn);
    assert_eq!(peer.sent(), ["S. 0 ack 1 <mss 1460>"]);
    peer.gets(&syn);
    assert_eq!(peer.sent(), ["S. 0 ack 1 <mss 1460>"]);
    assert_eq!(
        peer.waits(),
        (1000, vec!["S. 0 ack 1 <mss 1460>".to_string()])
    );
    peer.gets(&peer.segment(RST, 1, 0));
    assert_eq!(peer.engine.connections(), 0);
    assert_eq!(peer.events(), []);
}

/// Data may come with the last segment of the handshake.
#[test]
fn data_ends_the_handshake() {
    let mut peer = Peer::new(plain());
    peer.gets(&peer.segment(SYN, 0, 0));
    peer.sent();
    peer.data(1, 1, 100);
    let kinds = peer.events();
    assert!(matches!(
        kinds[..],
        [EventKind::Accepted(_), EventKind::Readable]
    ));
    assert_eq!(peer.sent(), [". 1 ack 101"]);
}

/// What belongs to nothing is reset so that its sender believes it (RFC 9293 3.10.7.1), and a RST is never answered.
#[test]
fn strangers_are_reset() {
    let mut peer = Peer::new(plain());
    peer.own_port = 81;
    peer.iss = 500;
    peer.gets(&peer.segment(SYN, 0, 0));
    let reset = peer.segments().pop().unwrap();
    assert_eq!(
        (reset.flags, reset.seq, reset.ack),
        (RST | ACK, 0, IRS.wrapping_add(1))
    );
    peer.acks(0, 7);
    let reset = peer.segments().pop().unwrap();
    assert_eq!((reset.flags, reset.seq), (RST, 507));
    peer.gets(&peer.segment(RST, 0, 0));
    assert_eq!(peer.sent(), [""; 0]);
}

/// Segments from addresses that no other host can have are not answered (RFC 1122 3.2.1.3), our own included ("LAND").
#[test]
fn impossible_sources_are_not_answered() {
    let mut peer = Peer::new(plain());
    for source in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], OWN] {
        let syn: Segment = peer.segment(SYN, 0, 0);
        let bytes = syn.bytes((source, OWN));
        let macs = (crate::peer::PEER_MAC, crate::peer::OWN_MAC);
        peer.frame(&crate::frame::packet(macs, (source, OWN), 6, 0, &bytes));
    }
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.counters().drop_not_ours, 4);
}

/// Initial numbers go up with time for one pair of ends, and say nothing about those of another (RFC 6528).
#[test]
fn initial_numbers() {
    let mut peer = Peer::new(plain());
    let mut number = |port: u16, after: u64| {
        peer.after(after);
        peer.port = port;
        peer.gets(&peer.segment(SYN, 0, 0));
        peer.sent();
        let iss = peer.iss;
        peer.gets(&peer.segment(RST, 1, 0));
        iss
    };
    let (first, second) = (number(1000, 0), number(1000, 100));
    // 4 us a number.
    assert_eq!(second.wrapping_sub(first), 25_000);
    let others: Vec<u32> = (1001..1009)
        .map(|port| number(port, 0).wrapping_sub(second))
        .collect();
    assert!(others.iter().all(|gap| *gap > 1 << 16), "{others:?}");
}
