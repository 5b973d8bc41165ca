//! Frames that nobody sent: those that the stack is shown in a peer's name, and answers that the border gives in its place.
//!
//! In: addresses, numbers, flags; out: whole frames with sums that are right. It refuses to know when they are due.

use stack_border::{Segment, checksum, flags};
use std::net::SocketAddrV4;

/// Ethernet, IPv4 and TCP headers without options.
pub const HEADERS: usize = 14 + 20 + 20;
/// An ARP packet in its frame.
const ARP: usize = 42;

/// From a peer to us, by addresses and our Ethernet address.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub mac: [u8; 6],
}

/// A segment without data, with the largest window.
pub fn segment(way: Way, (seq, ack): (u32, u32), bits: u8) -> [u8; HEADERS] {
    let mut frame = [0; HEADERS];
    // The stack looks at the destination only.
    frame[..6].copy_from_slice(&way.mac);
    headers(&mut frame, (way.from, way.to), (seq, ack), bits);
    frame[48..50].copy_from_slice(&u16::MAX.to_be_bytes());
    checksum::make_right(&mut frame);
    frame
}

/// A segment without data back to whoever sent `frame`, in which `came` is.
pub fn answer(
    frame: &[u8],
    came: &Segment,
    numbers: (u32, u32),
    bits: u8,
) -> Option<[u8; HEADERS]> {
    let mut answer = [0; HEADERS];
    answer[..6].copy_from_slice(frame.get(6..12)?);
    answer[6..12].copy_from_slice(frame.get(..6)?);
    headers(&mut answer, (came.to, came.from), numbers, bits);
    checksum::make_right(&mut answer);
    Some(answer)
}

/// The reset that answers a segment of no connection (RFC 9293, 3.10.7.1).
pub fn refusal(frame: &[u8], came: &Segment) -> Option<[u8; HEADERS]> {
    match came.has(flags::ACK) {
        true => answer(frame, came, (came.ack, 0), flags::RST),
        false => {
            let all = came.seq.wrapping_add(came.span());
            answer(frame, came, (0, all), flags::RST | flags::ACK)
        }
    }
}

/// The ARP reply (RFC 826) by which `peer`, whose segment is in `frame`, tells `ours` its Ethernet address.
pub fn introduction(frame: &[u8], came: &Segment, ours: [u8; 6]) -> Option<[u8; ARP]> {
    let theirs = frame.get(6..12)?;
    let mut reply = [0; ARP];
    reply[..6].copy_from_slice(&ours);
    reply[6..12].copy_from_slice(theirs);
    // Ethernet, IPv4, lengths, reply; sender, target.
    reply[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    reply[22..28].copy_from_slice(theirs);
    reply[28..32].copy_from_slice(&came.from.ip().octets());
    reply[32..38].copy_from_slice(&ours);
    reply[38..].copy_from_slice(&came.to.ip().octets());
    Some(reply)
}

fn headers(
    frame: &mut [u8; HEADERS],
    (from, to): (SocketAddrV4, SocketAddrV4),
    (seq, ack): (u32, u32),
    bits: u8,
) {
    frame[12] = 8;
    let ip = [0x45, 0, 0, (HEADERS - 14) as u8, 0, 0, 0x40, 0, 64, 6];
    frame[14..24].copy_from_slice(&ip);
    frame[26..30].copy_from_slice(&from.ip().octets());
    frame[30..34].copy_from_slice(&to.ip().octets());
    checksum::make_header_right(frame);
    frame[34..36].copy_from_slice(&from.port().to_be_bytes());
    frame[36..38].copy_from_slice(&to.port().to_be_bytes());
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame[42..46].copy_from_slice(&ack.to_be_bytes());
    (frame[46], frame[47]) = (5 << 4, bits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 40_000);
    const OURS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 8080);
    const WAY: Way = Way {
        from: PEER,
        to: OURS,
        mac: [2; 6],
    };

    /// What is pretended is a sound segment from the peer; what answers it goes back with the numbers that RFC 9293 asks for.
    #[test]
    fn frames_are_sound() {
        let came = segment(WAY, (7, 9), flags::ACK | flags::FIN);
        let read = Segment::of(&came).unwrap();
        assert!(checksum::is_right(&came));
        assert_eq!((read.from, read.to, read.window), (PEER, OURS, u16::MAX));
        assert_eq!((read.seq, read.ack, read.len), (7, 9, 0));

        let refused = Segment::of(&refusal(&came, &read).unwrap()).unwrap();
        assert_eq!((refused.from, refused.to), (OURS, PEER));
        assert_eq!((refused.seq, refused.flags), (9, flags::RST));

        let syn = segment(WAY, (7, 0), flags::SYN);
        let back = refusal(&syn, &Segment::of(&syn).unwrap()).unwrap();
        let refused = Segment::of(&back).unwrap();
        assert!(checksum::is_right(&back) && back[..6] == syn[6..12]);
        assert_eq!((refused.seq, refused.ack), (0, 8));
        assert_eq!(refused.flags, flags::RST | flags::ACK);
        assert_eq!(refusal(&syn[..5], &read), None);
    }
}
