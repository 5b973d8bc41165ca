//! What of a link a stack gets to see: ARP, echo requests, and whole TCP segments from addresses that a host may have.
//!
//! In: any frame; out: which of these it is, or the layer that refuses it. It stands in front of stacks that end, or
//! keep memory, on packets of kinds that a server has no use for: fragments, UDP, UDP-Lite, packets from themselves.

use crate::segment::{ETHERNET, Segment, address, u16_at};
use std::net::Ipv4Addr;

/// A frame that a stack may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Of ARP for IPv4 over Ethernet (RFC 826).
    Arp,
    /// An echo request (RFC 792) in one piece.
    Echo,
    /// A TCP segment in one piece.
    Segment(Segment),
}

/// Who refuses a frame: the codes of `drop`'s layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// No kind of frame that is of use here, or not whole.
    Ethernet = 2,
    /// A packet of another protocol, in pieces, not whole, or with addresses that cannot be.
    Ip = 3,
    /// A TCP header that is not whole.
    Tcp = 4,
}

/// The reason in `drop` events for what was kept from a stack that would have taken it.
pub const KEPT: u32 = 1;

impl Layer {
    /// The second argument of a `drop` event for a frame that was kept from the stack.
    pub fn kept(self) -> u32 {
        ((self as u32) << 24) | KEPT
    }
}

/// Looks at a frame that was received for a stack with this address.
pub fn look(frame: &[u8], ours: Ipv4Addr) -> Result<Fit, Layer> {
    match frame.get(12..ETHERNET) {
        Some([8, 6]) => arp(frame),
        Some([8, 0]) => ip(frame, ours),
        _ => Err(Layer::Ethernet),
    }
}

/// Lengths and kinds of the addresses, request or reply, and a sender that is one.
fn arp(frame: &[u8]) -> Result<Fit, Layer> {
    let packet = frame.get(ETHERNET..ETHERNET + 28).ok_or(Layer::Ethernet)?;
    let known = packet[..6] == [0, 1, 8, 0, 6, 4] && matches!(packet[6..8], [0, 1 | 2]);
    // A group's address is nobody's own; a probe (RFC 5227) has no sender yet.
    let sender = address(&packet[14..18]);
    let sound = packet[8] & 1 == 0 && (sender.is_unspecified() || is_a_hosts(sender));
    (known && sound).then_some(Fit::Arp).ok_or(Layer::Ethernet)
}

fn ip(frame: &[u8], ours: Ipv4Addr) -> Result<Fit, Layer> {
    let packet = &frame[ETHERNET..];
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return Err(Layer::Ip);
    }
    let (header, total) = (
        usize::from(packet[0] & 15) * 4,
        usize::from(u16_at(packet, 2)),
    );
    let in_pieces = u16_at(packet, 6) & 0x3fff != 0;
    let whole = header >= 20 && header <= total && total <= packet.len() && !in_pieces;
    let (from, to) = (address(&packet[12..16]), address(&packet[16..20]));
    if !whole || from == ours || !is_a_hosts(from) || to != ours {
        return Err(Layer::Ip);
    }
    match packet[9] {
        6 => Segment::of(frame).map(Fit::Segment).ok_or(Layer::Tcp),
        1 if total - header >= 8 && packet[header] == 8 => Ok(Fit::Echo),
        _ => Err(Layer::Ip),
    }
}

/// Whether a host can have this address: not the network's own, no group's, not everybody's (RFC 1122, 3.2.1.3).
fn is_a_hosts(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224..=255, ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::frame;
    use proptest::prelude::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 123, 0, 2);

    fn arp_from(sender: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2]);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(OURS.octets());
        frame
    }

    /// An IPv4 packet of a protocol with a payload that begins with 8, as an echo request does.
    fn packet(protocol: u8) -> Vec<u8> {
        let mut bytes = frame(1, 2, 0x10, &[], b"12345678");
        bytes[23] = protocol;
        bytes[34] = 8;
        bytes
    }

    /// What a server lives on is let through.
    #[test]
    fn what_is_of_use_fits() {
        let bytes = frame(1, 2, 0x10, &[], b"x");
        let segment = Segment::of(&bytes).unwrap();
        assert_eq!(look(&bytes, OURS), Ok(Fit::Segment(segment)));
        assert_eq!(look(&arp_from([10, 123, 0, 1]), OURS), Ok(Fit::Arp));
        assert_eq!(look(&arp_from([0; 4]), OURS), Ok(Fit::Arp));
        assert_eq!(look(&packet(1), OURS), Ok(Fit::Echo));
    }

    /// Everything else is refused by its layer: other protocols, pieces, senders that cannot be.
    #[test]
    fn the_rest_does_not() {
        for protocol in [2, 17, 136] {
            assert_eq!(look(&packet(protocol), OURS), Err(Layer::Ip));
        }
        let change = |at: usize, to: u8| {
            let mut bytes = packet(6);
            bytes[at] = to;
            look(&bytes, OURS)
        };
        // More fragments; a length beyond the frame; senders: ourselves, a group, loopback; another receiver.
        for (at, to) in [(20, 0x20), (16, 9), (29, 2), (26, 224), (26, 127), (33, 3)] {
            assert_eq!(change(at, to), Err(Layer::Ip), "{at}");
        }
        // A TCP header longer than the segment; no kind of frame that is known.
        assert_eq!(change(46, 0xf0), Err(Layer::Tcp));
        assert_eq!(change(12, 9), Err(Layer::Ethernet));
        assert_eq!(look(&arp_from([224, 0, 0, 1]), OURS), Err(Layer::Ethernet));
        assert_eq!(
            look(&arp_from([10, 123, 0, 1])[..40], OURS),
            Err(Layer::Ethernet)
        );
    }

    proptest! {
        /// Any bytes are looked at, behind any beginning of a frame.
        #[test]
        fn any_bytes_are_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..90), cut in 0usize..60) {
            let _ = look(&bytes, OURS);
            let sound = frame(1, 2, 0x10, &[], b"");
            let _ = look(&[&sound[..cut.min(sound.len())], &bytes].concat(), OURS);
        }
    }
}
