//! Frames as bytes, written and read here once more, so that the engine's own reading and writing is tested too.

/// A segment of the peer's, or one that the engine sent. Sequence numbers are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub ports: (u16, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub congestion: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

pub fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|c| match c {
        [a, b] => u32::from(u16::from_be_bytes([*a, *b])),
        _ => u32::from(c[0]) << 8,
    });
    let mut total: u32 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn pseudo(source: [u8; 4], destination: [u8; 4], segment: &[u8]) -> Vec<u8> {
    let mut bytes = [source, destination].concat();
    bytes.extend([0, 6]);
    bytes.extend((segment.len() as u16).to_be_bytes());
    bytes.extend(segment);
    bytes
}

/// An IPv4 packet in an Ethernet frame.
pub fn packet(
    macs: ([u8; 6], [u8; 6]),
    ips: ([u8; 4], [u8; 4]),
    protocol: u8,
    congestion: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut ip = vec![0x45, congestion];
    ip.extend((20 + payload.len() as u16).to_be_bytes());
    ip.extend([0, 7, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend([ips.0, ips.1].concat());
    let check = sum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&check);
    let mut frame = [macs.1, macs.0].concat();
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(payload);
    frame
}

impl Segment {
    pub fn bytes(&self, ips: ([u8; 4], [u8; 4])) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([((20 + options.len()) as u8 / 4) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(options);
        bytes.extend(&self.payload);
        let check = sum(&pseudo(ips.0, ips.1, &bytes)).to_be_bytes();
        bytes[16..18].copy_from_slice(&check);
        bytes
    }

    /// Reads a frame of the engine's and checks every length and sum in it; `None` if it is no TCP.
    pub fn parse(frame: &[u8], summed: bool) -> Option<Segment> {
        if frame[12..14] != [8, 0] || frame[23] != 6 {
            return None;
        }
        let ip = &frame[14..];
        assert_eq!(sum(&ip[..20]), 0, "the header's sum");
        assert_eq!(usize::from(be16(ip, 2)), ip.len(), "the packet's length");
        let ends = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap();
        let tcp = &ip[20..];
        if summed {
            assert_eq!(
                sum(&pseudo(ends(12), ends(16), tcp)),
                0,
                "the segment's sum"
            );
        }
        let header = usize::from(tcp[12] >> 4) * 4;
        Some(Segment {
            ports: (be16(tcp, 0), be16(tcp, 2)),
            seq: be32(tcp, 4),
            ack: be32(tcp, 8),
            flags: tcp[13],
            window: be16(tcp, 14),
            urgent: be16(tcp, 18),
            congestion: ip[1] & 3,
            options: tcp[20..header].to_vec(),
            payload: tcp[header..].to_vec(),
        })
    }

    /// The options, each with its value.
    pub fn each_option(&self) -> Vec<(u8, &[u8])> {
        let mut found = Vec::new();
        let mut rest = &self.options[..];
        while let [kind, tail @ ..] = rest {
            match kind {
                0 => break,
                1 => rest = tail,
                _ => {
                    let len = usize::from(tail[0]);
                    found.push((*kind, &rest[2..len]));
                    rest = &rest[len..];
                }
            }
        }
        found
    }

    /// The timestamp and its echo.
    pub fn stamps(&self) -> Option<(u32, u32)> {
        let (_, value) = self.each_option().into_iter().find(|o| o.0 == 8)?;
        Some((be32(value, 0), be32(value, 4)))
    }
}

pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
