//! What a connection's segments tell about it, remembered from one to the next.
//!
//! In: the segments of both directions; out: bytes newly acknowledged, kinds, bytes in flight, the peer's window. One table
//! of fixed size: a connection whose place another one took is seen anew, and its first segment tells less. It refuses
//! to know what the stack inside really thinks.

use crate::segment::{Segment, flags};
use bypassprof_probe::Flow;

/// Connections remembered at once: a power of two.
const PLACES: usize = 1 << 14;

/// The codes of `tcp_out`'s kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes for the first time.
    Data = 0,
    /// Nothing but an acknowledgement.
    PureAck = 1,
    /// Bytes sent before.
    Retransmission = 2,
    /// One byte into a closed window, or a keep-alive.
    Probe = 3,
    /// SYN, FIN or RST without data.
    Control = 4,
}

/// What a segment that leaves says, together with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it is for.
    pub kind: Kind,
    /// Bytes sent and not acknowledged, with this one.
    pub in_flight: u32,
    /// The peer's window, scaled; 0 if none was seen.
    pub window: u32,
    /// Code of `tcp_out`'s limit: 3 if the peer's window has no room for as much again, else 0.
    pub limit: u32,
}

/// One connection as seen from outside.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    flow: Flow,
    /// The peer's scale, if both sides offered one.
    peer_scale: u8,
    offered: Option<u8>,
    /// Whether `una` and `next` mean something.
    sent_any: bool,
    /// Oldest byte of ours that is not acknowledged.
    una: u32,
    /// The byte after the last one of ours.
    next: u32,
    window: u32,
    /// The counter when the last segment left; 0 if nobody listened.
    last_sent: u64,
}

/// The connections of one stack.
#[derive(Debug)]
pub struct Watch {
    places: Box<[Seen]>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            places: vec![Seen::default(); PLACES].into(),
        }
    }
}

impl Watch {
    fn place(&mut self, flow: Flow) -> &mut Seen {
        let place = &mut self.places[flow.raw() as usize & (PLACES - 1)];
        if place.flow != flow {
            *place = Seen {
                flow,
                ..Seen::default()
            };
        }
        place
    }

    /// A segment of the peer's: the bytes it newly acknowledges, and its window.
    pub fn arrived(&mut self, flow: Flow, segment: &Segment) -> (u32, u32) {
        let seen = self.place(flow);
        if segment.has(flags::SYN) {
            *seen = Seen {
                flow,
                offered: segment.scale,
                ..Seen::default()
            };
            seen.window = u32::from(segment.window);
            return (0, seen.window);
        }
        seen.window = u32::from(segment.window) << seen.peer_scale;
        let mut acked = segment.ack.wrapping_sub(seen.una);
        if !seen.sent_any || !segment.has(flags::ACK) || acked > seen.next.wrapping_sub(seen.una) {
            acked = 0;
        }
        seen.una = seen.una.wrapping_add(acked);
        (acked, seen.window)
    }

    /// A segment of ours, at a moment of the CPU's counter.
    pub fn left(&mut self, flow: Flow, segment: &Segment, now: u64) -> Sent {
        let seen = self.place(flow);
        if segment.has(flags::SYN) {
            seen.peer_scale = match (seen.offered, segment.scale) {
                (Some(theirs), Some(_)) => theirs,
                _ => 0,
            };
            (seen.sent_any, seen.una, seen.next) = (true, segment.seq, segment.seq);
        } else if !seen.sent_any {
            (seen.sent_any, seen.una, seen.next) = (true, segment.seq, segment.seq);
        }
        seen.last_sent = now;
        // Before what was sent already, in the arithmetic of RFC 9293 section 3.4.
        let again = (segment.seq.wrapping_sub(seen.next) as i32) < 0;
        let end = segment.seq.wrapping_add(segment.span());
        if (end.wrapping_sub(seen.next) as i32) > 0 {
            seen.next = end;
        }
        let control = segment.flags & (flags::SYN | flags::FIN | flags::RST) != 0;
        let kind = match (segment.len, control) {
            (0, true) => Kind::Control,
            (0, false) if again && segment.seq.wrapping_add(1) == seen.una => Kind::Probe,
            (0, false) => Kind::PureAck,
            (1, _) if seen.window == 0 => Kind::Probe,
            (1, _) if segment.seq.wrapping_add(1) == seen.una => Kind::Probe,
            (_, _) if again => Kind::Retransmission,
            _ => Kind::Data,
        };
        let in_flight = seen.next.wrapping_sub(seen.una);
        let room = seen.window.saturating_sub(in_flight);
        Sent {
            kind,
            in_flight,
            window: seen.window,
            limit: if segment.len > 0 && room < segment.len {
                3
            } else {
                0
            },
        }
    }

    /// Bytes sent and not acknowledged, and the counter when the last segment left; `None` where nobody listened then.
    pub fn outstanding(&mut self, flow: Flow) -> Option<(u32, u64)> {
        let seen = self.place(flow);
        let bytes = seen.next.wrapping_sub(seen.una);
        (seen.last_sent > 0).then_some((bytes, seen.last_sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::frame;

    const FLOW: Flow = Flow::from_raw(77);

    fn seg(seq: u32, ack: u32, flags: u8, payload: usize) -> Segment {
        Segment::of(&frame(seq, ack, flags, &[], &vec![0; payload])).unwrap()
    }

    fn scaled(seq: u32, ack: u32, flags: u8) -> Segment {
        Segment::of(&frame(seq, ack, flags, &[1, 3, 3, 2], &[])).unwrap()
    }

    /// A connection's life: handshake with window scale, data, acknowledgement, the same data again, FIN.
    #[test]
    fn a_connection_is_followed() {
        let mut watch = Watch::default();
        let base = u32::MAX - 50;
        assert_eq!(watch.arrived(FLOW, &scaled(9, 0, flags::SYN)), (0, 4096));
        let sent = watch.left(FLOW, &scaled(base, 10, flags::SYN | flags::ACK), 5);
        assert_eq!((sent.kind, sent.in_flight), (Kind::Control, 1));
        let (acked, window) = watch.arrived(FLOW, &seg(10, base.wrapping_add(1), flags::ACK, 40));
        assert_eq!((acked, window), (1, 4 * 4096));
        let data = seg(base.wrapping_add(1), 50, flags::ACK, 100);
        let sent = watch.left(FLOW, &data, 6);
        assert_eq!(
            (sent.kind, sent.in_flight, sent.limit),
            (Kind::Data, 100, 0)
        );
        assert_eq!(watch.left(FLOW, &data, 7).kind, Kind::Retransmission);
        assert_eq!(watch.outstanding(FLOW), Some((100, 7)));
        assert_eq!(watch.arrived(FLOW, &seg(50, 50, flags::ACK, 0)).0, 100);
        // An acknowledgement of what was never sent acknowledges nothing.
        assert_eq!(watch.arrived(FLOW, &seg(50, 5000, flags::ACK, 0)).0, 0);
        assert_eq!(
            watch.left(FLOW, &seg(50, 50, flags::ACK, 0), 8).kind,
            Kind::PureAck
        );
        assert_eq!(
            watch.left(FLOW, &seg(49, 50, flags::ACK, 0), 8).kind,
            Kind::Probe
        );
        let sent = watch.left(FLOW, &seg(50, 50, flags::ACK | flags::FIN, 0), 9);
        assert_eq!((sent.kind, sent.in_flight), (Kind::Control, 1));
    }

    /// What does not fit twice into the peer's window is limited by the peer.
    #[test]
    fn the_peers_window_limits() {
        let mut watch = Watch::default();
        watch.arrived(FLOW, &seg(9, 0, flags::SYN, 0));
        watch.left(FLOW, &seg(0, 10, flags::SYN | flags::ACK, 0), 1);
        watch.arrived(FLOW, &seg(10, 1, flags::ACK, 0));
        assert_eq!(watch.left(FLOW, &seg(1, 10, flags::ACK, 1400), 1).limit, 0);
        let sent = watch.left(FLOW, &seg(1401, 10, flags::ACK, 1400), 1);
        assert_eq!((sent.limit, sent.in_flight, sent.window), (3, 2800, 4096));
    }

    /// A connection that is seen for the first time in its middle tells what it can.
    #[test]
    fn a_stranger_is_taken_as_it_is() {
        let mut watch = Watch::default();
        assert_eq!(watch.arrived(FLOW, &seg(5, 7, flags::ACK, 1)), (0, 4096));
        let sent = watch.left(FLOW, &seg(7, 6, flags::ACK, 10), 3);
        assert_eq!((sent.kind, sent.in_flight), (Kind::Data, 10));
    }
}
