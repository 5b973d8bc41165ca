//! Handshakes that go wrong.

use crate::link::{A, B, Pair, ip, meta};
use stack_tcp::sink::Frames;
use stack_tcp::{Closing, EventKind, Policy};

/// Where the TCP flags are in a frame whose IPv4 header has no options.
const FLAGS: usize = 14 + 20 + 13;
const RST: u8 = 4;

fn trusting() -> Policy {
    Policy {
        verify_checksums: false,
        ..Policy::default()
    }
}

/// A peer that acknowledges what was never sent holds a connection of an earlier life: it is reset, so that the next SYN
/// finds it gone, and our attempt goes on.
#[test]
fn half_open_peer_is_reset() {
    let mut pair = Pair::new(trusting(), trusting(), 1);
    pair.engines[B].listen(80, 4).unwrap();
    // The address is known from here on, so that the SYN leaves at once.
    pair.connect();
    let mut out = Frames::default();
    let now = pair.now;
    let conn = pair.engines[A].connect(now, ip(B), 80, &mut out).unwrap();
    let syn = out.frames.pop().unwrap();
    let mut answer = Frames::default();
    pair.engines[B].input(now, &syn, meta(), &mut answer);
    let good = answer.frames.pop().unwrap();
    let mut wrong = good.clone();
    wrong[14 + 20 + 11] ^= 0x55;
    pair.engines[A].input(now, &wrong, meta(), &mut out);
    assert_eq!(out.frames.len(), 1);
    assert_eq!(out.frames[0][FLAGS], RST);
    pair.on(A, |e, now, out| e.input(now, &good, meta(), out));
    assert_eq!(pair.event(A).kind, EventKind::Connected);
    assert_eq!(pair.engines[A].info(conn).unwrap().retransmits, 0);
}

/// A port without a listener resets, and the application hears why.
#[test]
fn closed_port_resets() {
    let mut pair = Pair::new(Policy::default(), Policy::default(), 1);
    let conn = pair
        .on(A, |e, now, out| e.connect(now, ip(B), 81, out))
        .unwrap();
    let event = pair.event(A);
    assert_eq!(event.conn, conn);
    assert_eq!(event.kind, EventKind::Closed(Closing::Reset));
    assert_eq!(pair.engines[B].counters().resets_out, 1);
}

/// A SYN that waited for the neighbour's address is the first one, not a retransmission.
#[test]
fn waiting_for_arp_is_no_retransmission() {
    let mut pair = Pair::new(Policy::default(), Policy::default(), 1);
    let (a, _) = pair.connect();
    assert_eq!(pair.engines[A].counters().retransmits, 0);
    assert!(pair.engines[A].info(a).unwrap().srtt > 0);
}
