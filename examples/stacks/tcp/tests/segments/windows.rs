//! Windows that close and open (RFC 9293 3.8.6), small segments (3.7.4, 3.8.6.2), urgent data.

use crate::frame::{ACK, FIN, PSH, Segment, URG};
use crate::peer::{Peer, bytes, options, plain};
use stack_tcp::{EventKind, Policy};

fn window(peer: &mut Peer, ack: u32, window: u16) {
    let segment = Segment {
        window,
        ..peer.segment(ACK, 1, ack)
    };
    peer.gets(&segment);
}

/// A closed window is asked after in ever longer pauses; the byte that asks is no retransmission when it goes for good, and
/// the answers are no duplicates (RFC 9293 3.8.6.1).
#[test]
fn zero_window_is_probed() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(options::MSS_1000);
    window(&mut peer, 1, 0);
    peer.writes(conn, 3000);
    assert_eq!(peer.sent(), [""; 0]);
    for wait in [200, 400, 800, 1600, 3200] {
        assert_eq!(peer.waits(), (wait, vec![". 1:2 ack 1".to_string()]));
        window(&mut peer, 1, 0);
    }
    window(&mut peer, 1, 5000);
    assert_eq!(
        peer.sent(),
        [". 1:1001 ack 1", ". 1001:2001 ack 1", "P. 2001:3001 ack 1"]
    );
    // It was closed, not lost: the next timeout is a first one, and nothing counts as lost.
    assert_eq!(peer.waits().0, 200);
    let counters = peer.counters();
    assert_eq!((counters.window_probes, counters.fast_recoveries), (5, 0));
    assert_eq!(counters.retransmits, 1);
}

/// A window that stays small, though it was large once, is used when the timer runs: a peer whose buffer shrank gets its
/// data in pieces, not byte by byte (RFC 9293 3.8.6.2.1, the override timeout).
#[test]
fn small_windows_are_used_in_the_end() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(options::MSS_1000);
    window(&mut peer, 1, 0);
    peer.writes(conn, 3000);
    window(&mut peer, 1, 600);
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.waits().1, [". 1:601 ack 1"]);
    window(&mut peer, 601, 600);
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.waits().1, [". 601:1201 ack 1"]);
    window(&mut peer, 1201, 5000);
    assert_eq!(peer.sent(), [". 1201:2201 ack 1", "P. 2201:3001 ack 1"]);
    assert_eq!(peer.counters().retransmits, 0);
}

/// A probe's byte that was taken is not sent again.
#[test]
fn probe_may_be_accepted() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(options::MSS_1000);
    window(&mut peer, 1, 0);
    peer.writes(conn, 500);
    peer.waits();
    window(&mut peer, 2, 1000);
    assert_eq!(peer.sent(), ["P. 2:501 ack 1"]);
    assert_eq!(peer.counters().retransmits, 0);
}

/// A peer that answers is asked for ever while the application waits (RFC 1122 4.2.2.17), and not when it has gone.
#[test]
fn persistence() {
    let mut peer = Peer::new(Policy {
        retries: 4,
        ..plain()
    });
    let conn = peer.accepted(&[]);
    window(&mut peer, 1, 0);
    peer.writes(conn, 10);
    for _ in 0..12 {
        peer.waits();
        window(&mut peer, 1, 0);
    }
    assert_eq!(peer.events(), []);
    peer.closes(conn);
    peer.waits();
    assert_eq!(peer.engine.connections(), 0);
}

/// A FIN also waits for a window that is closed, and asks.
#[test]
fn fin_asks_too() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    window(&mut peer, 1, 0);
    peer.writes(conn, 1);
    peer.shuts(conn);
    assert_eq!(peer.waits().1, [". 1:2 ack 1"]);
    window(&mut peer, 2, 0);
    assert_eq!(peer.sent(), ["F. 2 ack 1"]);
}

/// Our own window closes with what is not read, and its opening is told once it is worth it (RFC 9293 3.8.6.2.2).
#[test]
fn own_window() {
    let mut peer = Peer::new(Policy {
        receive_buffer: 4000,
        ..plain()
    });
    let conn = peer.accepted(&[]);
    peer.windows = true;
    for (at, left) in [(1, 2540), (1461, 1080)] {
        peer.data(at, 1, 1460);
        assert_eq!(peer.sent(), [format!(". 1 ack {} win {left}", at + 1460)]);
    }
    peer.data(2921, 1, 1080);
    assert_eq!(peer.sent(), [". 1 ack 4001 win 0"]);
    // What does not fit is answered, not kept.
    peer.data(4001, 1, 1);
    assert_eq!(peer.sent(), [". 1 ack 4001 win 0"]);
    let mut buf = [0; 1000];
    peer.engine.read(conn, &mut buf, peer.now, &mut peer.wire);
    assert_eq!(peer.sent(), [""; 0]);
    peer.engine.read(conn, &mut buf, peer.now, &mut peer.wire);
    assert_eq!(peer.sent(), [". 1 ack 4001 win 2000"]);
}

/// A window that was told is not taken back (RFC 9293 3.8.6.2.1); data beyond it is cut off.
#[test]
fn data_beyond_the_window() {
    let mut peer = Peer::new(Policy {
        receive_buffer: 1000,
        ..plain()
    });
    let conn = peer.accepted(&[]);
    peer.windows = true;
    peer.data(1, 1, 1460);
    assert_eq!(peer.sent(), [". 1 ack 1001 win 0"]);
    assert_eq!(peer.reads(conn, 1), 1000);
}

/// A peer that takes its window back is not sent more, and what is out there is sent again when it is due.
#[test]
fn shrinking_windows() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(options::MSS_1000);
    peer.writes(conn, 3000);
    peer.sent();
    window(&mut peer, 1, 0);
    peer.writes(conn, 1000);
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.waits(), (200, vec![". 1:2 ack 1".to_string()]));
    window(&mut peer, 1, 8000);
    assert_eq!(
        peer.sent().first().map(String::as_str),
        Some(". 1:1001 ack 1")
    );
}

/// An acknowledgement that was under way longer does not bring an old window back (RFC 9293 3.10.7.4, SND.WL1 and WL2).
#[test]
fn old_windows_are_ignored() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(options::MSS_1000);
    peer.writes(conn, 2000);
    peer.sent();
    window(&mut peer, 2001, 2000);
    window(&mut peer, 1001, 60_000);
    peer.writes(conn, 5000);
    assert_eq!(peer.sent(), [". 2001:3001 ack 1", ". 3001:4001 ack 1"]);
}

/// Windows are scaled as agreed (RFC 7323 2.3).
#[test]
fn scaled_windows() {
    let mut peer = Peer::new(Policy {
        window_scaling: true,
        ..plain()
    });
    let conn = peer.accepted(options::SCALE_7);
    window(&mut peer, 1, 16);
    assert_eq!(peer.engine.info(conn).unwrap().peer_window, 2048);
    peer.windows = true;
    peer.data(1, 1, 10);
    // 128 KiB less 10 bytes, in units of four.
    assert_eq!(peer.sent(), [". 1 ack 11 win 32766"]);
}

/// Nagle holds back what is small while something is out, and not without (RFC 9293 3.7.4).
#[test]
fn nagle() {
    for (nagle, second) in [(false, vec!["P. 11:21 ack 1"]), (true, vec![])] {
        let mut peer = Peer::new(Policy { nagle, ..plain() });
        let conn = peer.accepted(options::MSS_1000);
        peer.writes(conn, 10);
        assert_eq!(peer.sent(), ["P. 1:11 ack 1"]);
        peer.writes(conn, 10);
        assert_eq!(peer.sent(), second);
        // A full segment goes at once; the rest of it waits.
        peer.writes(conn, 1500);
        let full = if nagle {
            ". 11:1011 ack 1"
        } else {
            ". 21:1021 ack 1"
        };
        assert_eq!(peer.sent()[0], full);
        if nagle {
            peer.acks(1, 1011);
            assert_eq!(peer.sent(), ["P. 1011:1521 ack 1"]);
            peer.writes(conn, 10);
            peer.shuts(conn);
            // Nothing more will join it.
            assert_eq!(peer.sent(), ["FP. 1521:1531 ack 1"]);
        }
    }
}

/// A window that would cut segments into crumbs is not used up to the last byte (RFC 9293 3.8.6.2.1).
#[test]
fn silly_windows() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(options::MSS_1000);
    window(&mut peer, 1, 2300);
    peer.writes(conn, 5000);
    assert_eq!(peer.sent(), [". 1:1001 ack 1", ". 1001:2001 ack 1"]);
}

/// The urgent pointer changes nothing, wherever it points: the data comes in its place (RFC 6093).
#[test]
fn urgent_data_is_data() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    for (at, urgent) in [(1, 1), (11, 0), (21, 65_535)] {
        let segment = Segment {
            urgent,
            payload: bytes(at, 10),
            ..peer.segment(ACK | PSH | URG, at, 1)
        };
        peer.gets(&segment);
    }
    assert_eq!(peer.sent(), [". 1 ack 11", ". 1 ack 21", ". 1 ack 31"]);
    assert_eq!(peer.reads(conn, 1), 30);
    peer.gets(&peer.segment(FIN | ACK | URG, 31, 1));
    assert_eq!(peer.events().last(), Some(&EventKind::PeerClosed));
    peer.closes(conn);
    peer.acks(32, 2);
    assert_eq!(peer.events(), []);
}
