//! Frames that no honest host would send.

/// TCP's flags (RFC 9293 3.1).
pub mod flags {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const TCP: usize = 20;

/// Xorshift (Marsaglia 2003): the same garbage in every run.
#[derive(Clone, Copy)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Some address and port of no host here.
    pub fn stranger(&mut self) -> ([u8; 4], u16) {
        let random = self.next();
        let [a, b, c, d, e, f, ..] = random.to_be_bytes();
        // Never 10.0.0.0/8, where the honest are.
        ([a | 0x80, b, c, d], u16::from_be_bytes([e, f]))
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Makes frames for one server.
#[derive(Clone, Copy)]
pub struct Forge {
    pub to: [u8; 6],
    pub from: [u8; 6],
}

impl Forge {
    fn frame(&self, kind: u16, rest: &[u8]) -> Vec<u8> {
        [&self.to, &self.from, &kind.to_be_bytes()[..], rest].concat()
    }

    /// Random bytes behind headers that are the sounder the larger `n % 4` is.
    pub fn noise(&self, random: &mut Random, n: usize) -> Vec<u8> {
        let len = random.next() as usize % 1400;
        let rest = random.bytes(len);
        match n % 4 {
            0 => [&self.to[..], &random.bytes(8 + len)].concat(),
            1 => self.frame(0x0806, &rest),
            2 => self.frame(0x0800, &rest),
            _ => {
                let from = random.stranger().0;
                let protocol = [6, 1, 17][n / 4 % 3];
                self.frame(0x0800, &ipv4(from, protocol, &rest))
            }
        }
    }

    /// A segment to the server's port with sound headers and sums.
    pub fn segment(
        &self,
        (address, port): ([u8; 4], u16),
        seq: u32,
        ack: u32,
        flags: u8,
        data: &[u8],
    ) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(TCP + data.len());
        tcp.extend(port.to_be_bytes());
        tcp.extend(super::PORT.to_be_bytes());
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([(TCP as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(data);
        sum_up(address, &mut tcp);
        self.frame(0x0800, &ipv4(address, 6, &tcp))
    }

    /// A segment with one thing wrong that its sums do not show, or one that they do.
    pub fn spoiled_segment(&self, random: &mut Random) -> Vec<u8> {
        let (from, len) = (random.stranger(), random.next() as usize % 60);
        let data = random.bytes(len);
        let numbers = random.next();
        let (seq, ack) = ((numbers >> 32) as u32, numbers as u32);
        let mut frame = self.segment(from, seq, ack, random.next() as u8, &data);
        let at = ETHERNET + random.next() as usize % (IPV4 + TCP);
        frame[at] ^= 1 << (random.next() % 8);
        if random.next().is_multiple_of(2) {
            let (ip, tcp) = frame[ETHERNET..].split_at_mut(IPV4);
            ip[10..12].fill(0);
            let sum = checksum(ip, 0);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            let source = [ip[12], ip[13], ip[14], ip[15]];
            sum_up(source, tcp);
        }
        if random.next().is_multiple_of(8) {
            frame.truncate(ETHERNET + random.next() as usize % (IPV4 + TCP));
        }
        frame
    }
}

/// Where a TCP segment goes and its flags; nowhere and none for any other frame.
pub fn segment_seen(frame: &[u8]) -> ([u8; 4], u8) {
    let tcp = frame.get(ETHERNET + 9) == Some(&6);
    let to = frame.get(ETHERNET + 16..ETHERNET + IPV4).filter(|_| tcp);
    let to = to.and_then(|to| to.try_into().ok()).unwrap_or_default();
    let flags = frame.get(ETHERNET + IPV4 + 13).filter(|_| tcp);
    (to, flags.copied().unwrap_or(0))
}

fn ipv4(from: [u8; 4], protocol: u8, rest: &[u8]) -> Vec<u8> {
    let total = (IPV4 + rest.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(from);
    header.extend(super::SERVER);
    let sum = checksum(&header, 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(rest);
    header
}

/// Puts the checksum of a segment to the server in.
fn sum_up(from: [u8; 4], tcp: &mut [u8]) {
    tcp[16..18].fill(0);
    let pseudo = [&from[..], &super::SERVER, &[0, 6]].concat();
    let start = words(&pseudo) + tcp.len() as u32;
    let sum = checksum(tcp, start);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}

fn words(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

/// RFC 1071.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
