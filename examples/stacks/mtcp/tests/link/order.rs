//! What leaves in which round: the acknowledgement before the reply, one list after the other.

use crate::parts::{Bodies, STEP, config};
use stack_memlink::{Client, Link, LinkDevice, Loss, PORT};
use stack_mtcp::create;
use stack_tcp::Time;

/// Flags and payload bytes of a TCP segment.
fn segment(frame: &[u8]) -> Option<(u8, usize)> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || ip[9] != 6 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let tcp = &ip[20..];
    Some((tcp[13], total - 20 - usize::from(tcp[12] >> 4) * 4))
}

/// Each request is acknowledged by a segment of its own before its reply leaves, since the application has not run yet
/// when the acknowledgement list is served (M4 of the study).
#[test]
fn every_request_costs_a_pure_acknowledgement() {
    const STREAMS: usize = 10;
    let link = Link::default();
    let (mut stack, mut mtcp) = create(config(8192), LinkDevice::new(&link, 64, 64), 0);
    stack.listen(PORT).unwrap();
    let (mut app, mut client) = (Bodies::new(64), Client::new(64, 43));
    let (mut now, mut loss) = (Time::ZERO, Loss::one_in(None));
    for _ in 0..STREAMS {
        client.connect(now);
    }
    let (mut acks, mut replies) = (Vec::new(), Vec::new());
    for round in 0..200 {
        now = now + STEP;
        client.send(&link, &mut loss);
        stack.round(now);
        app.turn(&mut mtcp);
        let all_whole = client.whole == STREAMS;
        for frame in client.receive(&link, &mut loss, now) {
            match segment(&frame) {
                Some((0x10, 0)) if !all_whole => acks.push(round),
                Some((_, 64)) => replies.push(round),
                _ => {}
            }
        }
    }
    assert_eq!(client.whole, STREAMS);
    assert_eq!((acks.len(), replies.len()), (STREAMS, STREAMS));
    assert!(acks.last() < replies.first(), "{acks:?} {replies:?}");
    assert_eq!(stack.engine().counters().retransmits, 0);
}
