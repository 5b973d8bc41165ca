//! From a frame's headers to its flow: what events say of a frame that was looked at.
//!
//! In: the first bytes of an Ethernet frame, as far as they lie together; out: the flow, and of TCP its number and flags.
//! It reads headers alone, never what they carry, and refuses to guess: what is cut off, a later fragment, or a protocol
//! without ports has no flow.

use crate::Flow;

/// What the headers of a frame say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// The flow of a TCP or UDP packet, else [`Flow::NONE`].
    pub flow: Flow,
    /// TCP's sequence number; 0 of others.
    pub sequence: u32,
    /// TCP's flags from FIN (1) to CWR (128); 0 of others.
    pub flags: u8,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
/// VLAN tags and IPv6 extensions that are followed.
const MOST_LAYERS: usize = 4;

/// Reads the headers of a frame.
pub fn headers(frame: &[u8]) -> Headers {
    layers(frame).unwrap_or_default()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn layers(frame: &[u8]) -> Option<Headers> {
    let mut at = 12;
    for _ in 0..MOST_LAYERS {
        match half(frame, at)? {
            0x8100 | 0x88a8 => at += 4,
            0x0800 => return ipv4(frame.get(at + 2..)?),
            0x86dd => return ipv6(frame.get(at + 2..)?),
            _ => return None,
        }
    }
    None
}

fn ipv4(packet: &[u8]) -> Option<Headers> {
    let first = *packet.first()?;
    let length = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || length < 20 || half(packet, 6)? & 0x1fff != 0 {
        return None;
    }
    let (from, to) = (word(packet, 12)?, word(packet, 16)?);
    transport(
        *packet.get(9)?,
        packet.get(length..)?,
        |from_port, to_port| Flow::ipv4(from, from_port, to, to_port),
    )
}

fn ipv6(packet: &[u8]) -> Option<Headers> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let address = |at: usize| {
        Some(u128::from_be_bytes(
            packet.get(at..at + 16)?.try_into().ok()?,
        ))
    };
    let (from, to) = (address(8)?, address(24)?);
    let (mut next, mut at) = (*packet.get(6)?, 40);
    for _ in 0..MOST_LAYERS {
        match next {
            // Hop-by-hop, routing and destination options: as long as they say.
            0 | 43 | 60 => {
                let length = 8 * (usize::from(*packet.get(at + 1)?) + 1);
                (next, at) = (*packet.get(at)?, at + length);
            }
            44 if half(packet, at + 2)? & 0xfff8 == 0 => (next, at) = (*packet.get(at)?, at + 8),
            _ => break,
        }
    }
    transport(next, packet.get(at..)?, |from_port, to_port| {
        Flow::ipv6(from, from_port, to, to_port)
    })
}

fn transport(protocol: u8, packet: &[u8], flow: impl Fn(u16, u16) -> Flow) -> Option<Headers> {
    let flow = |bytes| Some(flow(half(bytes, 0)?, half(bytes, 2)?));
    match protocol {
        TCP => Some(Headers {
            flow: flow(packet)?,
            sequence: word(packet, 4)?,
            flags: *packet.get(13)?,
        }),
        UDP => Some(Headers {
            flow: flow(packet)?,
            ..Headers::default()
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(parts: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(parts.concat());
        frame
    }

    /// From port 40000 to 8080, number 0x01020304, ACK and PSH.
    const SEGMENT: [u8; 20] = [
        0x9c, 0x40, 0x1f, 0x90, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0,
    ];

    fn v4(protocol: u8, fragment: u8, options: &[u8]) -> Vec<u8> {
        let length = 0x40 | (5 + options.len() / 4) as u8;
        let mut packet = vec![
            length, 0, 0, 40, 0, 0, 0, fragment, 64, protocol, 0, 0, 10, 123, 0, 1, 10, 123, 0, 2,
        ];
        packet.extend(options);
        packet
    }

    /// The flow is the one that stacks and applications name, whatever lies around the segment.
    #[test]
    fn segments() {
        let v4_flow = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000);
        let plain = frame(&[&[8, 0], &v4(6, 0, &[]), &SEGMENT]);
        let tagged = frame(&[
            &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0],
            &v4(6, 0, &[1; 8]),
            &SEGMENT,
        ]);
        for bytes in [plain, tagged] {
            let expected = Headers {
                flow: v4_flow,
                sequence: 0x0102_0304,
                flags: 0x18,
            };
            assert_eq!(headers(&bytes), expected);
            // Cut anywhere before the flags, nothing is said; after them, all.
            let needed = bytes.len() - 6;
            for len in 0..bytes.len() {
                let seen = headers(&bytes[..len]);
                assert_eq!(seen == expected, len >= needed, "{len}");
            }
        }
        let udp = headers(&frame(&[&[8, 0], &v4(17, 0, &[]), &SEGMENT[..8]]));
        assert_eq!((udp.flow, udp.sequence, udp.flags), (v4_flow, 0, 0));
        let mut v6 = vec![0x60, 0, 0, 0, 0, 40, 60, 64];
        v6.extend(1u128.to_be_bytes());
        v6.extend(2u128.to_be_bytes());
        v6.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        let told = headers(&frame(&[&[0x86, 0xdd], &v6, &SEGMENT]));
        assert_eq!(told.flow, Flow::ipv6(1, 40_000, 2, 8080));
        assert_eq!(told.flags, 0x18);
    }

    /// Later fragments have no ports, ARP has no addresses that count, and ICMP no ports.
    #[test]
    fn no_flows() {
        for bytes in [
            frame(&[&[8, 0], &v4(6, 1, &[]), &SEGMENT]),
            frame(&[&[8, 0], &v4(1, 0, &[]), &SEGMENT]),
            frame(&[&[8, 6], &v4(6, 0, &[]), &SEGMENT]),
            frame(&[&[8, 0], &[0x41], &SEGMENT, &SEGMENT]),
        ] {
            assert_eq!(headers(&bytes), Headers::default());
        }
    }

    proptest! {
        /// Whatever stands in a frame, and wherever it is cut: what is said is what the whole says, or nothing.
        #[test]
        fn any_bytes(
            types in prop::sample::select(vec![[8, 0], [0x86, 0xdd], [0x81, 0], [8, 6]]),
            layers in prop::collection::vec(prop::sample::select(vec![0x45u8, 0x60, 6, 17, 44, 0, 8, 0x81]), 0..24),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let bytes = frame(&[&types, &layers, &rest]);
            let whole = headers(&bytes);
            for len in 0..bytes.len() {
                let cut = headers(&bytes[..len]);
                prop_assert!(cut == whole || cut == Headers::default(), "{len} of {bytes:?}");
            }
        }

        /// Segments between any addresses are told by their flow, the same from both ends, with number and flags.
        #[test]
        fn any_segment(from in any::<(u32, u16)>(), to in any::<(u32, u16)>(), sequence: u32, flags: u8) {
            let segment = |(a, p): (u32, u16), (b, q): (u32, u16)| {
                let mut packet = v4(6, 0, &[]);
                packet[12..16].copy_from_slice(&a.to_be_bytes());
                packet[16..20].copy_from_slice(&b.to_be_bytes());
                let ports = [p.to_be_bytes(), q.to_be_bytes()].concat();
                let (number, rest) = (sequence.to_be_bytes(), [0, 0, 0, 0, 0x50, flags]);
                headers(&frame(&[&[8, 0], &packet, &ports, &number, &rest]))
            };
            let there = segment(from, to);
            prop_assert_eq!(there, segment(to, from));
            let flow = Flow::ipv4(from.0, from.1, to.0, to.1);
            prop_assert_eq!(there, Headers { flow, sequence, flags });
        }
    }
}
