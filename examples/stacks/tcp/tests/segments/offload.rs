//! What the device does: checksums, and cutting large segments.

use crate::frame::{self, Segment};
use crate::peer::{OWN, PEER, Peer, options, plain};
use stack_tcp::{Congestion, Cut, Policy};

/// The engine's side of the sum: the pseudo header's, not inverted, for the device to go on with.
fn partial(segment: &[u8]) -> u16 {
    let mut pseudo = [OWN, PEER].concat();
    pseudo.extend([0, 6]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    !frame::sum(&pseudo)
}

/// Offloaded sums are begun here and finished by the device; the hint says where.
#[test]
fn sums_are_left_to_the_device() {
    let mut peer = Peer::new(Policy {
        offload_checksums: true,
        ..plain()
    });
    peer.summed = false;
    let conn = peer.accepted(&[]);
    peer.writes(conn, 100);
    let hints = peer.wire.hints[0];
    assert_eq!((hints.checksum, hints.cut), (Some((34, 16)), None));
    let mut frame = peer.wire.frames[0].clone();
    assert_eq!(frame::be16(&frame, 34 + 16), partial(&frame[34..]));
    // What the device does:
    let check = frame::sum(&frame[34..]).to_be_bytes();
    frame[50..52].copy_from_slice(&check);
    assert!(Segment::parse(&frame, true).is_some());
}

/// Without verification a wrong sum is taken, with it not; what the device has verified is not summed again.
#[test]
fn received_sums() {
    for (verify, device, taken) in [(true, false, 0), (true, true, 10), (false, false, 10)] {
        let mut peer = Peer::new(Policy {
            verify_checksums: verify,
            ..plain()
        });
        let conn = peer.accepted(&[]);
        let segment = Segment {
            payload: crate::peer::bytes(1, 10),
            ..peer.segment(frame::ACK, 1, 1)
        };
        let mut bytes = segment.bytes((PEER, OWN));
        bytes[16] ^= 0x10;
        let macs = (crate::peer::PEER_MAC, crate::peer::OWN_MAC);
        let frame = frame::packet(macs, (PEER, OWN), 6, 0, &bytes);
        let meta = stack_tcp::FrameMeta {
            checksum_ok: device,
            frame_no: 0,
            burst: bypassprof_probe::Burst::now(),
        };
        peer.engine.input(peer.now, &frame, meta, &mut peer.wire);
        assert_eq!(peer.reads(conn, 1), taken);
        assert_eq!(peer.counters().drop_checksum, u64::from(taken == 0));
    }
}

/// A sink that cuts gets frames of whole segments, as large as it takes and windows allow; the rest is a frame of its own
/// end. Counters count segments.
#[test]
fn large_frames_are_cut() {
    let mut peer = Peer::new(Policy {
        congestion: Congestion::None,
        ..plain()
    });
    peer.wire.cut = 10_000;
    peer.summed = false;
    let conn = peer.accepted(options::MSS_1000);
    let before = peer.counters().segments_out;
    peer.writes(conn, 25_500);
    let hints: Vec<_> = peer.wire.hints.iter().map(|h| h.cut).collect();
    let cut = Cut {
        header: 54,
        payload: 1000,
    };
    assert_eq!(hints, [Some(cut); 3]);
    assert!(peer.wire.hints.iter().all(|h| h.checksum.is_some()));
    assert!(peer.wire.frames.iter().all(|f| f.len() <= 10_000));
    assert_eq!(
        peer.sent(),
        [
            ". 1:9001 ack 1",
            ". 9001:18001 ack 1",
            "P. 18001:25501 ack 1"
        ]
    );
    assert_eq!(peer.counters().segments_out - before, 26);
    // A hole is one segment.
    for _ in 0..3 {
        peer.acks(1, 1);
    }
    assert_eq!(peer.sent(), [". 1:1001 ack 1"]);
    assert_eq!(peer.counters().retransmits, 1);
}

/// Windows cut frames at whole segments; nothing is larger than an IPv4 packet can be.
#[test]
fn windows_cut_frames() {
    let mut peer = Peer::new(Policy {
        window_scaling: true,
        congestion: Congestion::None,
        ..plain()
    });
    peer.wire.cut = 1 << 20;
    peer.summed = false;
    let conn = peer.accepted(options::SCALE_7);
    let mut small = peer.segment(frame::ACK, 1, 1);
    small.window = 20;
    peer.gets(&small);
    peer.writes(conn, 200_000);
    assert_eq!(peer.sent(), [". 1:2001 ack 1"]);
    let mut large = peer.segment(frame::ACK, 1, 2001);
    large.window = 2000;
    peer.gets(&large);
    assert_eq!(peer.sent()[0], ". 2001:67001 ack 1");
}

/// An offer of the device is no reason to send more than the congestion window.
#[test]
fn congestion_windows_cut_frames() {
    let mut peer = Peer::new(plain());
    peer.wire.cut = 65_535;
    peer.summed = false;
    let conn = peer.accepted(options::MSS_1000);
    peer.writes(conn, 30_000);
    assert_eq!(peer.sent(), [". 1:10001 ack 1"]);
}
