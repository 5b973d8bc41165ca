//! Ethernet addresses: asked for, answered, aged (RFC 826, RFC 1122 2.3.2), and what waits for them.

use crate::frame::{ACK, SYN, Segment};
use crate::peer::{OWN, OWN_MAC, PEER, PEER_MAC, Peer, arp, plain};
use stack_tcp::{Closing, ConnId, EventKind};

const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn connect(peer: &mut Peer, to: [u8; 4]) -> ConnId {
    peer.engine
        .connect(peer.now, to.into(), 40_000, &mut peer.wire)
        .unwrap()
}

/// The ARP requests that were sent, by whom they look for.
fn asked(peer: &mut Peer) -> Vec<[u8; 4]> {
    let frames = std::mem::take(&mut peer.wire.frames);
    let requests = frames.iter().filter(|f| f[12..14] == [8, 6] && f[21] == 1);
    requests.map(|f| f[38..42].try_into().unwrap()).collect()
}

/// Who has our address? We.
#[test]
fn answers() {
    let mut peer = Peer::new(plain());
    peer.frame(&arp(1, PEER_MAC, PEER, [0; 6], OWN));
    assert_eq!(
        peer.wire.frames.pop().unwrap()[..42],
        arp(2, OWN_MAC, OWN, PEER_MAC, PEER)[..]
    );
    peer.frame(&arp(1, PEER_MAC, PEER, [0; 6], [10, 0, 0, 7]));
    assert_eq!(peer.wire.frames.len(), 0);
    // A sender without an address asks whether ours is taken (RFC 5227), and is not remembered.
    peer.frame(&arp(1, PEER_MAC, [0; 4], [0; 6], OWN));
    assert_eq!(peer.wire.frames.len(), 1);
}

/// A SYN waits for the neighbour's address; all that wait for it leave together.
#[test]
fn syns_wait() {
    let mut peer = Peer::new(plain());
    connect(&mut peer, PEER);
    connect(&mut peer, PEER);
    assert_eq!(asked(&mut peer), [PEER]);
    peer.frame(&arp(2, PEER_MAC, PEER, OWN_MAC, OWN));
    assert_eq!(peer.segments().iter().filter(|s| s.flags == SYN).count(), 2);
    assert_eq!(peer.counters().retransmits, 0);
}

/// Others' networks are reached through the router, and its address is the one that is asked for.
#[test]
fn routers() {
    let router = [10, 0, 0, 254];
    let mut peer = Peer::with(plain(), |config| config.gateway = Some(router.into()));
    connect(&mut peer, [192, 168, 1, 1]);
    assert_eq!(asked(&mut peer), [router]);
    peer.after(1001);
    assert_eq!(asked(&mut peer), [router]);
    peer.frame(&arp(2, OTHER_MAC, router, OWN_MAC, OWN));
    assert_eq!(peer.wire.frames[0][..6], OTHER_MAC);
}

/// A neighbour is asked for once a second at most; who never answers is not there, and the application hears soon.
#[test]
fn absent() {
    let mut peer = Peer::new(plain());
    for _ in 0..50 {
        connect(&mut peer, PEER);
    }
    assert_eq!(asked(&mut peer).len(), 1);
    peer.after(7500);
    assert_eq!(
        peer.events(),
        vec![EventKind::Closed(Closing::Unreachable); 50]
    );
    assert!(peer.counters().unresolved > 0);
}

/// What was learnt a minute ago is used and asked for again; after twenty minutes it is forgotten.
#[test]
fn ages() {
    let mut peer = Peer::new(plain());
    peer.knows_peer();
    for (wait, arps, syns) in [(1000, 0, 1), (60_000, 1, 1), (1_200_000, 1, 0)] {
        peer.after(wait);
        peer.wire.frames.clear();
        connect(&mut peer, PEER);
        let tcp = peer
            .wire
            .frames
            .iter()
            .filter(|f| f[12..14] == [8, 0])
            .count();
        assert_eq!((asked(&mut peer).len(), tcp), (arps, syns), "{wait}");
        peer.port += 1;
    }
}

/// A peer that has got another address and is silent is asked for again, and found.
#[test]
fn moved() {
    let mut peer = Peer::new(plain());
    let conn = peer.accepted(&[]);
    peer.writes(conn, 10);
    peer.sent();
    peer.waits();
    peer.after(401);
    assert_eq!(asked(&mut peer), [PEER]);
    peer.frame(&arp(2, OTHER_MAC, PEER, OWN_MAC, OWN));
    peer.after(801);
    assert_eq!(peer.wire.frames[0][..6], OTHER_MAC);
}

/// A peer that repeats what we have may not hear us: it is answered where it is now.
#[test]
fn repeats_from_elsewhere() {
    let mut peer = Peer::new(plain());
    peer.accepted(&[]);
    peer.data(1, 1, 10);
    assert_eq!(peer.wire.frames[0][..6], PEER_MAC);
    peer.wire.frames.clear();
    let again = Segment {
        payload: crate::peer::bytes(1, 10),
        ..peer.segment(ACK, 1, 1)
    };
    let bytes = again.bytes((PEER, OWN));
    peer.frame(&crate::frame::packet(
        (OTHER_MAC, OWN_MAC),
        (PEER, OWN),
        6,
        0,
        &bytes,
    ));
    assert_eq!(peer.wire.frames[0][..6], OTHER_MAC);
}

/// Nobody else can say that they are us, and no group is a neighbour.
#[test]
fn lies() {
    let mut peer = Peer::new(plain());
    peer.frame(&arp(2, OTHER_MAC, OWN, OWN_MAC, OWN));
    peer.frame(&arp(2, [1, 0, 94, 0, 0, 1], PEER, OWN_MAC, OWN));
    connect(&mut peer, PEER);
    assert_eq!(asked(&mut peer), [PEER]);
    peer.gets(&peer.segment(ACK, 0, 0));
}
