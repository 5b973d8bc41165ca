//! A flow by itself: segments and bumps in, sums of bytes out.

use super::*;
use crate::entry::Atx;
use proptest::prelude::*;
use stack_tcp::wire::tcp::{Segment, flags};

const FIRST: u32 = 0xffff_ff00;

fn flow(rx: u32, tx: u32) -> (Flow, Arc<Region>) {
    let (region, _file) = Region::create(1 << 20).unwrap();
    let region = Arc::new(region);
    let mut flow = Flow::default();
    flow.open(Start {
        key: Key::default(),
        label: Label::NONE,
        mac: [0; 6],
        core: 0,
        context: 0,
        opaque: Opaque::default(),
        region: region.clone(),
        rx: ByteRing::new(0, rx),
        tx: ByteRing::new(1 << 19, tx),
        rx_next: Seq(FIRST),
        tx_next: Seq(FIRST),
        window: 65_535,
        scale: 0,
        peer_clock: Some(1),
        mss: 100,
        rate: 0,
    });
    (flow, region)
}

fn segment(seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Segment<'_> {
    Segment {
        source_port: 1,
        destination_port: 2,
        seq: Seq(FIRST.wrapping_add(seq)),
        ack: Seq(FIRST.wrapping_add(ack)),
        flags: flags | stack_tcp::wire::tcp::flags::ACK,
        window: 65_535,
        options: Options {
            timestamps: Some((1, 1)),
            ..Options::default()
        },
        marked: false,
        payload,
    }
}

fn write(flow: &mut Flow, bytes: u32, done: bool) {
    let atx = Atx {
        tx_bump: bytes,
        done,
        ..Atx::default()
    };
    flow.bump(&atx).unwrap();
}

fn send_all(flow: &mut Flow) -> Vec<Outgoing> {
    let mut out = Vec::new();
    while let (Some(outgoing), _) = flow.sendable(false, flow.mss) {
        flow.sent(&outgoing, 0);
        out.push(outgoing);
    }
    out
}

/// One hole is bridged: data beyond it is kept and handed over with what fills it; a second hole is not.
#[test]
fn one_interval_out_of_order_is_kept() {
    let (mut flow, region) = flow(1024, 1024);
    assert_eq!(flow.receive(&segment(10, 0, 0, b"89"), 0).rx_bump, 0);
    assert_eq!(flow.receive(&segment(20, 0, 0, b"zz"), 0).rx_bump, 0);
    assert_eq!(flow.receive(&segment(12, 0, 0, b"ab"), 0).rx_bump, 0);
    let taken = flow.receive(&segment(0, 0, 0, b"0123456789"), 0);
    assert_eq!((taken.rx_bump, taken.ack), (14, true));
    let mut out = [0; 14];
    ByteRing::new(0, 1024).read(&region, 0, &mut out);
    assert_eq!(&out, b"012345678989ab");
    assert_eq!(flow.rx_next_seq, Seq(FIRST.wrapping_add(14)));
}

/// Three duplicates rewind to the first unacknowledged byte, once for one loss; an acknowledgement of what was sent
/// before the rewind is taken.
#[test]
fn duplicates_rewind_once() {
    let (mut flow, _) = flow(1024, 1024);
    write(&mut flow, 500, false);
    assert_eq!(send_all(&mut flow).len(), 5);
    for n in 1..=3 {
        let taken = flow.receive(&segment(0, 0, 0, b""), 0);
        assert_eq!(taken.rewound, n == 3);
    }
    assert_eq!((flow.tx_avail, flow.tx_sent), (500, 0));
    let again = send_all(&mut flow);
    assert!(again.len() == 5 && again.iter().all(|o| o.again));
    for _ in 0..10 {
        assert!(!flow.receive(&segment(0, 0, 0, b""), 0).rewound);
    }
    flow.rewind();
    let taken = flow.receive(&segment(0, 500, 0, b""), 0);
    assert_eq!((taken.tx_bump, flow.tx_avail, flow.tx_sent), (500, 0, 0));
    assert_eq!(flow.cnt_rx_ack_bytes, 500);
}

/// FIN goes with the last data, is sent again after a rewind, and both sides' FINs finish the flow.
#[test]
fn both_sides_close() {
    let (mut flow, _) = flow(1024, 1024);
    write(&mut flow, 150, true);
    let out = send_all(&mut flow);
    assert_eq!((out.len(), out[0].fin, out[1].fin), (2, false, true));
    flow.rewind();
    assert!(send_all(&mut flow)[1].fin);
    let taken = flow.receive(&segment(0, 150, flags::FIN, b"bye"), 0);
    assert_eq!((taken.fin, taken.rx_bump, taken.finished), (true, 3, false));
    let taken = flow.receive(&segment(4, 151, 0, b""), 0);
    assert!(taken.finished && flow.next() == Seq(FIRST.wrapping_add(151)));
}

/// A bump that returns more than was received, or writes more than there is room, changes nothing.
#[test]
fn bumps_are_checked() {
    let (mut flow, _) = flow(1024, 1024);
    flow.receive(&segment(0, 0, 0, b"1234"), 0);
    let bad = [(5, 0), (0, 1025), (u32::MAX, u32::MAX)];
    for (rx_bump, tx_bump) in bad {
        let atx = Atx {
            rx_bump,
            tx_bump,
            ..Atx::default()
        };
        assert_eq!(flow.bump(&atx), Err(BadBump));
    }
    assert_eq!((flow.rx_avail, flow.tx_avail), (1020, 0));
}

/// What was on its way when the peer shut its window comes again when it opens, as if it had never been sent: it is no
/// loss that congestion control has to know.
#[test]
fn what_a_shut_window_refused_comes_again() {
    let (mut flow, _) = flow(1024, 1024);
    write(&mut flow, 500, false);
    assert_eq!(send_all(&mut flow).len(), 5);
    let told = |window| Segment {
        window,
        ..segment(0, 200, 0, b"")
    };
    assert!(!flow.receive(&told(0), 0).rewound);
    assert_eq!((flow.tx_avail, flow.tx_sent), (0, 300));
    let taken = flow.receive(&told(150), 0);
    assert!(taken.rewound && taken.send);
    let again: Vec<_> = send_all(&mut flow).iter().map(|o| o.len).collect();
    assert_eq!(again, [100]);
    assert_eq!(flow.cnt_tx_drops, 0);
}

/// A full ring tells a window of zero, and its emptying has to be told.
#[test]
fn an_opened_window_is_told() {
    let (mut flow, _) = flow(1024, 1024);
    flow.receive(&segment(0, 0, 0, &[7; 1024]), 0);
    assert_eq!(flow.window(), 0);
    let read = |rx_bump| Atx {
        rx_bump,
        ..Atx::default()
    };
    assert_eq!(flow.bump(&read(50)), Ok(false));
    assert_eq!(flow.bump(&read(50)), Ok(true));
    assert_eq!(flow.window(), 100);
}

proptest! {
    /// Any segments and bumps leave the record's sums in order: what is written, sent and free fits the rings.
    #[test]
    fn any_segments_keep_the_sums(
        steps in prop::collection::vec((0u32..2000, 0u32..2000, any::<u8>(), 0usize..300, any::<u16>(), 0u32..400), 0..60)
    ) {
        let (mut flow, _region) = flow(1024, 1024);
        let payload = [9; 300];
        for (seq, ack, bits, len, window, bump) in steps {
            let mut s = segment(seq, ack, bits & (flags::FIN | flags::PSH), &payload[..len]);
            s.window = window;
            let taken = flow.receive(&s, 0);
            prop_assert!(taken.rx_bump <= 1024 && taken.tx_bump <= 1024);
            let _ = flow.bump(&Atx { rx_bump: bump / 4, tx_bump: bump, done: bump == 399, ..Atx::default() });
            send_all(&mut flow);
            prop_assert!(flow.rx_avail <= 1024);
            prop_assert!(u64::from(flow.tx_avail) + u64::from(flow.tx_sent) <= 1024);
            prop_assert!(flow.rx_ooo_len <= flow.rx_avail);
        }
    }
}
