//! What the points of a third-party stack must say under a keep-alive load of small requests.

use super::recorded::Events;
use bypassprof_wire::points;

/// The length of a reply with a body of 64 bytes.
const REPLY: u32 = 151;
/// The length of loadgen's request.
const REQUEST: std::ops::RangeInclusive<u32> = 30..=100;

/// Bursts, segments in and out, deliveries, requests and sends, with arguments as such a load makes them.
pub fn are_sane(events: &Events, capacity: u32, connections: usize) {
    for event in events.at(points::RX_BURST) {
        let field = event.flow.raw();
        let (most, frames) = ((field >> 12) & 0xfff, field & 0xfff);
        assert!(
            frames >= 1 && frames <= most && most <= capacity,
            "{event:?}"
        );
    }
    for event in events.at(points::TX_BURST) {
        let field = event.flow.raw();
        let (accepted, asked) = ((field >> 12) & 0xfff, field & 0xfff);
        assert!(accepted <= asked && asked >= 1, "{event:?}");
    }
    let mut requests = 0;
    for event in events.at(points::TCP_IN) {
        let (flags, bytes) = (event.args[1] >> 24, event.args[1] & 0xff_ffff);
        if flags & 4 != 0 {
            // The load is over: nothing else in a reset means anything.
            continue;
        }
        // Acknowledgements all, but for the first of each connection.
        assert!(flags & 0x12 != 0 && event.args[3] > 0, "{event:?}");
        assert!(bytes == 0 || REQUEST.contains(&bytes), "{event:?}");
        // Once the connection's first segments have been seen, each request acknowledges the reply before it.
        assert!(
            event.args[2] == 0 || event.args[2] % REPLY <= 1,
            "{event:?}"
        );
        requests += usize::from(bytes > 0);
    }
    let mut replies = 0;
    for event in events.at(points::TCP_OUT) {
        let (kind, bytes) = (event.args[1] >> 24, event.args[1] & 0xff_ffff);
        assert!(kind <= 4 && (bytes == 0 || bytes == REPLY), "{event:?}");
        assert!(
            event.args[2] >= bytes && event.args[2] <= 10 * REPLY,
            "{event:?}"
        );
        replies += usize::from(kind == 0);
    }
    assert!(
        requests.abs_diff(replies) <= connections + replies / 10,
        "{requests} and {replies}"
    );
    for event in events.at(points::DELIVER) {
        assert!(REQUEST.contains(&event.args[0]), "{event:?}");
    }
    let started = events.at(points::APP_START).len();
    let ended = events.at(points::APP_END);
    assert!(started.abs_diff(ended.len()) <= 1);
    assert!(ended.iter().all(|event| event.args[0] == REPLY));
    for event in events.at(points::SEND_CALL) {
        let [asked, accepted, free, ..] = event.args;
        assert!(
            asked == REPLY && accepted == REPLY && free >= REPLY,
            "{event:?}"
        );
    }
    events.at(points::IDLE_BEGIN);
    let idle = events.at(points::IDLE_END);
    assert!(idle.iter().any(|event| event.args[0] > 0));
    let flows = |point| {
        let mut flows: Vec<_> = events.at(point).iter().map(|e| e.flow.raw()).collect();
        flows.sort_unstable();
        flows.dedup();
        flows
    };
    // All layers name a connection alike; one that was never asked for anything has no more than a handshake.
    let sent = flows(points::SEND_CALL);
    assert_eq!(flows(points::DELIVER), flows(points::APP_START));
    assert_eq!(flows(points::APP_START), sent);
    let out = flows(points::TCP_OUT);
    assert!(sent.iter().all(|flow| out.contains(flow)) && sent.len() <= connections);
}
