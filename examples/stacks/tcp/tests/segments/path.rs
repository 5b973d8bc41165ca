//! What the network says on the way: path MTU (RFC 1191), unreachable peers (RFC 1122 4.2.3.9, RFC 5927), echo (RFC 792).

use crate::frame::{self, SYN, Segment};
use crate::peer::{OWN, OWN_MAC, PEER, PEER_MAC, Peer, plain};
use stack_tcp::{Closing, ConnId, EventKind, Policy};

fn icmp(peer: &mut Peer, kind: u8, code: u8, rest: u16, quoted: &[u8]) {
    let mut bytes = vec![kind, code, 0, 0, 0, 0];
    bytes.extend(rest.to_be_bytes());
    bytes.extend(quoted);
    let check = frame::sum(&bytes).to_be_bytes();
    bytes[2..4].copy_from_slice(&check);
    let router = [10, 0, 0, 254];
    peer.frame(&frame::packet(
        (PEER_MAC, OWN_MAC),
        (router, OWN),
        1,
        0,
        &bytes,
    ));
}

/// What a router quotes of the engine's segment at `seq`: the IPv4 header and eight bytes.
fn quote(peer: &Peer, seq: u32, length: u16) -> Vec<u8> {
    let segment = Segment {
        ports: (peer.own_port, peer.port),
        seq: peer.iss.wrapping_add(seq),
        ..Segment::default()
    };
    let bytes = segment.bytes((OWN, PEER));
    let mut packet =
        frame::packet((OWN_MAC, PEER_MAC), (OWN, PEER), 6, 0, &bytes[..8])[14..].to_vec();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

fn too_large(peer: &mut Peer, seq: u32, mtu: u16) {
    let quoted = quote(peer, seq, 1500);
    icmp(peer, 3, 4, mtu, &quoted);
}

fn bulk(peer: &mut Peer) -> ConnId {
    let conn = peer.accepted(&[2, 4, 5, 180]);
    peer.writes(conn, 2920);
    assert_eq!(peer.sent(), [". 1:1461 ack 1", "P. 1461:2921 ack 1"]);
    conn
}

/// What was too large goes again at once in smaller pieces, without a smaller window (RFC 1191 6.5).
#[test]
fn narrower_paths() {
    let mut peer = Peer::new(plain());
    let conn = bulk(&mut peer);
    let before = peer.engine.info(conn).unwrap();
    too_large(&mut peer, 1, 1040);
    assert_eq!(
        peer.sent(),
        [". 1:1001 ack 1", ". 1001:2001 ack 1", "P. 2001:2921 ack 1"]
    );
    let after = peer.engine.info(conn).unwrap();
    assert_eq!((after.mss, after.cwnd), (1000, before.cwnd));
    peer.acks(1, 2921);
    let counters = peer.counters();
    assert_eq!((counters.paths_narrowed, counters.timeouts), (1, 0));
}

/// New connections to that peer begin with the size that was found, for ten minutes (RFC 1191 6.3).
#[test]
fn paths_are_remembered() {
    let mut peer = Peer::new(plain());
    bulk(&mut peer);
    too_large(&mut peer, 1, 1040);
    for (wait, mss) in [(1000, 1000), (600_000, 1460)] {
        peer.after(wait);
        peer.port += 1;
        peer.sent();
        peer.events();
        let conn = peer.accepted(&[2, 4, 5, 180]);
        assert_eq!(peer.engine.info(conn).unwrap().mss, mss);
    }
}

/// Reports are believed only about what is out (RFC 5927 7), never below 552 bytes, never upwards; old routers, which tell
/// no size, mean the next smaller usual one.
#[test]
fn reports_are_doubted() {
    for (seq, told, mss) in [
        (1, 68, 512),
        (1, 0, 1452),
        (1, 1500, 1460),
        (1, 9000, 1460),
        (2921, 1000, 1460),
        (0, 1000, 1460),
        (1 << 30, 1000, 1460),
    ] {
        let mut peer = Peer::new(plain());
        let conn = bulk(&mut peer);
        too_large(&mut peer, seq, told);
        assert_eq!(peer.engine.info(conn).unwrap().mss, mss, "{seq} {told}");
        let doubted = u64::from(mss == 1460);
        assert_eq!(peer.counters().drop_icmp, doubted, "{seq} {told}");
    }
}

/// Quotes that are cut short, of other protocols or of packets that we did not send, change nothing.
#[test]
fn broken_quotes() {
    let mut peer = Peer::new(plain());
    let conn = bulk(&mut peer);
    let whole = quote(&peer, 1, 1500);
    for len in 0..whole.len() {
        icmp(&mut peer, 3, 4, 1000, &whole[..len]);
    }
    for (at, value) in [(9, 17), (12, 11), (16, 11), (0, 0x4f), (21, 0)] {
        let mut broken = whole.clone();
        broken[at] = value;
        icmp(&mut peer, 3, 4, 1000, &broken);
    }
    assert_eq!(peer.engine.info(conn).unwrap().mss, 1460);
    assert_eq!(peer.sent(), [""; 0]);
}

/// A connection is not ended by "unreachable", which may pass; if it does not, that is the reason told in the end.
#[test]
fn soft_errors() {
    let mut peer = Peer::new(Policy {
        retries: 3,
        ..plain()
    });
    let conn = bulk(&mut peer);
    let quoted = quote(&peer, 1, 1500);
    for (kind, code) in [(3, 0), (3, 1), (3, 3), (3, 13), (11, 0)] {
        icmp(&mut peer, kind, code, 0, &quoted);
    }
    assert_eq!(peer.events(), []);
    // Progress forgets it.
    peer.acks(1, 1461);
    assert_eq!(peer.engine.info(conn).unwrap().inflight, 1460);
    let quoted = quote(&peer, 1461, 1500);
    icmp(&mut peer, 3, 1, 0, &quoted);
    peer.after(60_000);
    assert_eq!(peer.events(), [EventKind::Closed(Closing::Unreachable)]);
}

/// An attempt to connect ends at once only where the port itself is refused.
#[test]
fn refused_attempts() {
    for (code, ends) in [(1, false), (3, true), (2, true)] {
        let mut peer = Peer::new(plain());
        peer.knows_peer();
        peer.engine
            .connect(peer.now, PEER.into(), 40_000, &mut peer.wire)
            .unwrap();
        peer.sent();
        peer.own_port = 49_152;
        let quoted = quote(&peer, 0, 44);
        icmp(&mut peer, 3, code, 0, &quoted);
        assert_eq!(
            peer.events() == [EventKind::Closed(Closing::Unreachable)],
            ends,
            "{code}"
        );
    }
}

/// An echo request comes back as it was; so many a second.
#[test]
fn echo() {
    let mut peer = Peer::new(plain());
    icmp(&mut peer, 8, 0, 77, b"are you there?");
    let reply = peer.wire.frames.pop().unwrap();
    assert_eq!(reply[..12], [PEER_MAC, OWN_MAC].concat());
    assert_eq!(
        (reply[34], &reply[40..42], &reply[42..]),
        (0, &[0, 77][..], &b"are you there?"[..])
    );
    assert_eq!(
        (frame::sum(&reply[14..34]), frame::sum(&reply[34..])),
        (0, 0)
    );
    for _ in 0..3000 {
        icmp(&mut peer, 8, 0, 1, b"");
    }
    assert!(peer.wire.frames.len() < 1500);
}

/// Ports and protocols that nobody serves are told to be unreachable (RFC 1122 3.2.2.1), with the packet's beginning.
#[test]
fn unserved_protocols() {
    let mut peer = Peer::new(plain());
    for (protocol, code) in [(17, 3), (132, 2)] {
        peer.frame(&frame::packet(
            (PEER_MAC, OWN_MAC),
            (PEER, OWN),
            protocol,
            0,
            &[7; 30],
        ));
        let reply = peer.wire.frames.pop().unwrap();
        assert_eq!((reply[23], reply[34], reply[35]), (1, 3, code));
        assert_eq!(frame::sum(&reply[34..]), 0);
        assert_eq!(reply.len(), 14 + 20 + 8 + 20 + 8);
        assert_eq!((reply[42 + 9], reply[42 + 20]), (protocol, 7));
    }
}

/// Pieces of packets are dropped and counted: nobody cuts what we send.
#[test]
fn fragments() {
    let mut peer = Peer::new(plain());
    let bytes = peer.segment(SYN, 0, 0).bytes((PEER, OWN));
    let mut frame = frame::packet((PEER_MAC, OWN_MAC), (PEER, OWN), 6, 0, &bytes);
    frame[20] = 0x20;
    frame[24..26].fill(0);
    let check = frame::sum(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&check);
    peer.frame(&frame);
    assert_eq!(peer.counters().drop_fragment, 1);
}
