//! One engine and a peer made by hand: segments in, segments out, with time.
//!
//! Segments are told in the way of tcpdump, with numbers relative to each side's first: `S. 0 ack 1`, `P. 1:101 ack 1`,
//! `. 101 ack 1 <sack 201:301>`. The engine is at 10.0.0.2, port 80 when it listens; the peer at 10.0.0.1, port 40000.

use crate::frame::{self, Segment};
use bypassprof_probe::Burst;
use stack_tcp::{
    Config, ConnId, Counters, Engine, EventKind, FrameMeta, FrameSink, Policy, Time, TxFrame,
    TxHints,
};
use std::time::Duration;

pub const OWN: [u8; 4] = [10, 0, 0, 2];
pub const PEER: [u8; 4] = [10, 0, 0, 1];
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The peer's first number in all tests: near the wrap, so that every test crosses it.
pub const IRS: u32 = u32::MAX - 40;

/// Keeps frames; says no when told to; cuts large ones if asked.
#[derive(Default)]
pub struct Wire {
    pub frames: Vec<Vec<u8>>,
    pub hints: Vec<TxHints>,
    pub full: bool,
    pub cut: usize,
}

impl FrameSink for Wire {
    fn frame(&mut self, len: usize, hints: TxHints) -> Option<TxFrame<'_>> {
        if self.full {
            return None;
        }
        self.frames.push(vec![0; len]);
        self.hints.push(hints);
        let bytes = self.frames.last_mut()?;
        Some(TxFrame { bytes, number: 0 })
    }

    fn largest_cut(&self) -> usize {
        self.cut
    }
}

pub struct Peer {
    pub engine: Engine,
    pub now: Time,
    pub wire: Wire,
    /// The engine's first number, known from its SYN.
    pub iss: u32,
    pub port: u16,
    pub own_port: u16,
    /// Timestamp of the peer's next segments, if it sends any, with the engine's last as echo.
    pub clock: Option<u32>,
    pub heard_clock: u32,
    /// Windows are part of what is told.
    pub windows: bool,
    pub summed: bool,
}

pub fn policy() -> Policy {
    Policy::default()
}

/// No options at all, and every segment acknowledged by itself.
pub fn plain() -> Policy {
    Policy {
        ack: stack_tcp::AckPolicy::Immediate,
        window_scaling: false,
        timestamps: false,
        sack: false,
        ..Policy::default()
    }
}

impl Peer {
    pub fn new(policy: Policy) -> Peer {
        Peer::with(policy, |_| {})
    }

    pub fn with(policy: Policy, change: impl FnOnce(&mut Config)) -> Peer {
        let mut config = Config::new(OWN_MAC, OWN.into(), 24);
        config.policy = policy;
        config.seed = 11;
        change(&mut config);
        let mut engine = Engine::new(config);
        engine.listen(80, 4).unwrap();
        Peer {
            engine,
            now: Time::from_millis(10_000),
            wire: Wire::default(),
            iss: 0,
            port: 40_000,
            own_port: 80,
            clock: None,
            heard_clock: 0,
            windows: false,
            summed: true,
        }
    }

    /// A frame comes in.
    pub fn frame(&mut self, frame: &[u8]) {
        let meta = FrameMeta {
            checksum_ok: false,
            frame_no: 0,
            burst: Burst::now(),
        };
        self.engine.input(self.now, frame, meta, &mut self.wire);
    }

    /// A segment of the peer's.
    pub fn segment(&self, flags: u8, seq: u32, ack: u32) -> Segment {
        let mut options = Vec::new();
        if let Some(clock) = self.clock {
            options.extend([1, 1, 8, 10]);
            options.extend(clock.to_be_bytes());
            options.extend(self.heard_clock.to_be_bytes());
        }
        Segment {
            ports: (self.port, self.own_port),
            seq: IRS.wrapping_add(seq),
            ack: if flags & frame::ACK == 0 {
                0
            } else {
                self.iss.wrapping_add(ack)
            },
            flags,
            window: 65_535,
            options,
            ..Segment::default()
        }
    }

    pub fn gets(&mut self, segment: &Segment) {
        let bytes = segment.bytes((PEER, OWN));
        let frame = frame::packet(
            (PEER_MAC, OWN_MAC),
            (PEER, OWN),
            6,
            segment.congestion,
            &bytes,
        );
        self.frame(&frame);
    }

    /// `gets` an acknowledgement.
    pub fn acks(&mut self, seq: u32, ack: u32) {
        self.gets(&self.segment(frame::ACK, seq, ack));
    }

    /// `gets` data.
    pub fn data(&mut self, seq: u32, ack: u32, len: usize) {
        let segment = Segment {
            payload: bytes(seq, len),
            ..self.segment(frame::ACK | frame::PSH, seq, ack)
        };
        self.gets(&segment);
    }

    /// `gets` an acknowledgement with SACK blocks.
    pub fn sacks(&mut self, ack: u32, blocks: &[(u32, u32)]) {
        let mut segment = self.segment(frame::ACK, 1, ack);
        segment
            .options
            .extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
        for (start, end) in blocks {
            segment
                .options
                .extend(self.iss.wrapping_add(*start).to_be_bytes());
            segment
                .options
                .extend(self.iss.wrapping_add(*end).to_be_bytes());
        }
        self.gets(&segment);
    }

    /// What the engine has sent since the last time, as segments.
    pub fn segments(&mut self) -> Vec<Segment> {
        self.wire.hints.clear();
        let frames = std::mem::take(&mut self.wire.frames);
        let summed = self.summed;
        let read = |frame: &Vec<u8>| Segment::parse(frame, summed);
        let segments: Vec<_> = frames.iter().filter_map(read).collect();
        for segment in &segments {
            if segment.flags & frame::SYN != 0 {
                self.iss = segment.seq;
            }
            if let Some((clock, _)) = segment.stamps() {
                self.heard_clock = clock;
            }
        }
        segments
    }

    /// The same, told.
    pub fn sent(&mut self) -> Vec<String> {
        let segments = self.segments();
        segments.iter().map(|s| self.tell(s)).collect()
    }

    fn tell(&self, segment: &Segment) -> String {
        let mut text: String = [
            (frame::SYN, 'S'),
            (frame::FIN, 'F'),
            (frame::RST, 'R'),
            (frame::PSH, 'P'),
            (frame::ECE, 'E'),
            (frame::CWR, 'W'),
            (frame::ACK, '.'),
        ]
        .into_iter()
        .filter(|(flag, _)| segment.flags & flag != 0)
        .map(|(_, letter)| letter)
        .collect();
        let seq = segment.seq.wrapping_sub(self.iss);
        text += &format!(" {seq}");
        if !segment.payload.is_empty() {
            text += &format!(":{}", seq.wrapping_add(segment.payload.len() as u32));
        }
        if segment.flags & frame::ACK != 0 {
            text += &format!(" ack {}", segment.ack.wrapping_sub(IRS));
        }
        if self.windows {
            text += &format!(" win {}", segment.window);
        }
        let options: Vec<String> = segment
            .each_option()
            .into_iter()
            .filter_map(|(kind, value)| match kind {
                2 => Some(format!("mss {}", frame::be16(value, 0))),
                3 => Some(format!("wscale {}", value[0])),
                4 => Some("sackOK".to_string()),
                5 => {
                    let edge = |b: &[u8]| frame::be32(b, 0).wrapping_sub(IRS);
                    let blocks = value
                        .chunks(8)
                        .map(|b| format!("{}:{}", edge(b), edge(&b[4..])));
                    Some(format!("sack {}", blocks.collect::<Vec<_>>().join(" ")))
                }
                8 if segment.flags & frame::SYN != 0 => Some("ts".to_string()),
                _ => None,
            })
            .collect();
        if !options.is_empty() {
            text += &format!(" <{}>", options.join(", "));
        }
        text
    }

    /// Time goes on by so many milliseconds; timers run when they are due.
    pub fn after(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.engine.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.engine.poll_timers(self.now, &mut self.wire);
        }
        self.now = end;
        self.engine.poll_timers(end, &mut self.wire);
    }

    /// Waits until the engine sends something by itself: whole milliseconds that took, and what it was.
    pub fn waits(&mut self) -> (u64, Vec<String>) {
        let start = self.now;
        assert!(
            self.wire.frames.is_empty(),
            "something is to be seen already"
        );
        while self.wire.frames.is_empty() {
            let next = self
                .engine
                .next_deadline()
                .expect("nothing will ever be sent");
            self.now = self.now.max(next);
            self.engine.poll_timers(self.now, &mut self.wire);
        }
        let took = self.now.since(start).as_millis() as u64;
        (took, self.sent())
    }

    /// A handshake from the peer, with these options in its SYN; the connection.
    pub fn accepted(&mut self, options: &[u8]) -> ConnId {
        let mut syn = self.segment(frame::SYN, 0, 0);
        syn.options.extend(options);
        self.gets(&syn);
        let answer = self.sent();
        assert!(answer[0].starts_with("S. 0 ack 1"), "{answer:?}");
        self.acks(1, 1);
        assert_eq!(self.sent(), [""; 0]);
        let event = self.engine.pop_event().unwrap();
        assert!(matches!(event.kind, EventKind::Accepted(_)));
        event.conn
    }

    /// The peer answers ARP before it is asked.
    pub fn knows_peer(&mut self) {
        self.frame(&arp(2, PEER_MAC, PEER, OWN_MAC, OWN));
    }

    pub fn writes(&mut self, conn: ConnId, len: usize) -> usize {
        let n = self.engine.write(conn, &vec![b'x'; len]).unwrap();
        self.engine.output(conn, self.now, &mut self.wire);
        n
    }

    /// Reads all there is; checks that it is the peer's stream from `at` on.
    pub fn reads(&mut self, conn: ConnId, at: u32) -> usize {
        let mut buf = vec![0; 1 << 17];
        let n = self.engine.read(conn, &mut buf, self.now, &mut self.wire);
        assert!(buf[..n] == bytes(at, n));
        n
    }

    pub fn shuts(&mut self, conn: ConnId) {
        self.engine.shutdown(conn, self.now, &mut self.wire);
    }

    pub fn closes(&mut self, conn: ConnId) {
        self.engine.close(conn, self.now, &mut self.wire);
    }

    pub fn events(&mut self) -> Vec<EventKind> {
        std::iter::from_fn(|| self.engine.pop_event())
            .map(|e| e.kind)
            .collect()
    }

    pub fn counters(&self) -> Counters {
        *self.engine.counters()
    }
}

/// The peer's stream.
pub fn bytes(seq: u32, len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (seq.wrapping_add(i).wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect()
}

pub fn arp(op: u8, from: [u8; 6], ip: [u8; 4], to: [u8; 6], to_ip: [u8; 4]) -> Vec<u8> {
    let whom = if op == 1 { [0xff; 6] } else { to };
    let mut frame = [whom, from].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, op]);
    frame.extend(from);
    frame.extend(ip);
    frame.extend(to);
    frame.extend(to_ip);
    frame
}

/// Options of a SYN.
pub mod options {
    pub const MSS_1000: &[u8] = &[2, 4, 3, 232];
    pub const SACK: &[u8] = &[2, 4, 3, 232, 1, 1, 4, 2];
    pub const SCALE_7: &[u8] = &[2, 4, 3, 232, 1, 3, 3, 7];
    pub const ALL: &[u8] = &[2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];
}
