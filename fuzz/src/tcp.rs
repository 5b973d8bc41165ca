//! The TCP engine under a peer and an application that do anything at any time.
//!
//! In: bytes as a script; out: nothing but what the engine does. Random frames would never get past a handshake, so the
//! script's segments are placed relative to the numbers the engine last used, and so are the routers' complaints about
//! segments of the engine's. Whole frames of any bytes go in as well.

use bypassprof_probe::Burst;
use stack_tcp::{
    Config, Congestion, ConnId, Engine, EventKind, FrameMeta, FrameSink, KeepAlive, Policy, Time,
    TxFrame, TxHints,
};
use std::net::Ipv4Addr;
use std::time::Duration;

const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OWN: Ipv4Addr = Ipv4Addr::new(10, 123, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 123, 0, 1);
const PORT: u16 = 8080;
/// Where a TCP header begins behind Ethernet and an IPv4 header without options.
const TCP_AT: usize = 14 + 20;

/// What the script still holds; an end reads as zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The peer's view: what it would send and acknowledge next if it were honest.
#[derive(Default)]
struct Peer {
    next: u32,
    ack: u32,
}

impl Peer {
    /// Learns from a frame that the engine sent.
    fn hear(&mut self, frame: &[u8]) {
        let word = |at: usize| {
            let bytes = frame.get(TCP_AT + at..TCP_AT + at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let is_tcp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&6);
        let (true, Some(seq), Some(ack)) = (is_tcp, word(4), word(8)) else {
            return;
        };
        let header = usize::from(frame[TCP_AT + 12] >> 4) * 4;
        let payload = frame.len().saturating_sub(TCP_AT + header) as u32;
        let flags = frame[TCP_AT + 13];
        let marks = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        self.ack = seq.wrapping_add(payload + marks);
        if flags & 0x10 != 0 {
            self.next = ack;
        }
    }

    /// A segment as the script wants it: flags, distance to the honest numbers, window, port, options, payload; with
    /// `marks` also what is said of congestion.
    fn segment(&self, script: &mut Script, marks: u8) -> Vec<u8> {
        let flags = script.byte();
        let mut near = |honest: u32| honest.wrapping_add_signed(i32::from(script.byte() as i8) * 8);
        let (seq, ack) = (near(self.next), near(self.ack));
        let shape = script.byte();
        let mut options = script.bytes(usize::from(shape & 7) * 4).to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let payload = script.bytes(usize::from(shape >> 3) * 47);
        let window = u16::from(script.byte()) << 8;

        let total = (20 + 20 + options.len() + payload.len()) as u16;
        let mut frame = packet(total, 6, marks & 3);
        frame.extend([0x9c, 0x40 | (flags >> 6)]);
        frame.extend(PORT.to_be_bytes());
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        let header = ((20 + options.len()) as u8 / 4) << 4;
        frame.extend([header, flags & 0x3f | marks & 0xc0]);
        frame.extend(window.to_be_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(options);
        frame.extend(payload);
        frame
    }
}

/// Ethernet and IPv4 headers of a packet from the peer.
fn packet(total: u16, protocol: u8, marks: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(OWN_MAC);
    frame.extend(PEER_MAC);
    frame.extend([8, 0, 0x45, marks]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(PEER.octets());
    frame.extend(OWN.octets());
    frame
}

/// A router's complaint about a segment of the engine's: code, size of the next link, distance to the honest number.
fn complaint(peer: &Peer, script: &mut Script) -> Vec<u8> {
    let kind = script.byte();
    let size = [script.byte(), script.byte()];
    let near = i32::from(script.byte() as i8) * 8;
    let mut icmp = vec![
        3,
        kind & 15,
        0,
        0,
        0,
        0,
        size[0],
        size[1],
        0x45,
        0,
        5,
        220,
        0,
        0,
        0x40,
        0,
        64,
        6,
        0,
        0,
    ];
    icmp.extend(OWN.octets());
    icmp.extend(PEER.octets());
    icmp.extend(PORT.to_be_bytes());
    icmp.extend([0x9c, 0x40 | (kind >> 6)]);
    icmp.extend(peer.ack.wrapping_add_signed(near).to_be_bytes());
    let words = icmp
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let check = !((sum & 0xffff) + (sum >> 16)) as u16;
    icmp[2..4].copy_from_slice(&check.to_be_bytes());
    let mut frame = packet(20 + icmp.len() as u16, 1, 0);
    frame.extend(icmp);
    frame
}

/// Keeps frames, and cuts none or large ones.
#[derive(Default)]
struct Wire {
    frames: Vec<(Vec<u8>, TxHints)>,
    cut: usize,
}

impl FrameSink for Wire {
    fn frame(&mut self, len: usize, hints: TxHints) -> Option<TxFrame<'_>> {
        self.frames.push((vec![0; len], hints));
        let (bytes, _) = self.frames.last_mut()?;
        Some(TxFrame { bytes, number: 0 })
    }

    fn largest_cut(&self) -> usize {
        self.cut
    }
}

/// What is sent fits the link, whole or cut.
fn check(frame: &[u8], hints: &TxHints, most: usize) {
    let len = match hints.cut {
        Some(cut) => {
            assert!(hints.checksum.is_some() && cut.payload > 0 && frame.len() < 1 << 16);
            usize::from(cut.header) + usize::from(cut.payload)
        }
        None => frame.len(),
    };
    assert!(len <= most, "{len} bytes on a link of {most}");
}

fn policy(which: u8) -> Policy {
    match which % 8 {
        0 => Policy::fstack(),
        1 => Policy::mtcp(),
        2 => Policy::ix(),
        3 => Policy::tas(),
        4 => Policy::default(),
        5 => Policy {
            ecn: true,
            nagle: true,
            congestion: Congestion::NewReno,
            keepalive: Some(KeepAlive {
                idle: Duration::from_millis(500),
                interval: Duration::from_millis(100),
                probes: 3,
            }),
            ..Policy::default()
        },
        6 => Policy {
            ecn: true,
            congestion: Congestion::DctcpRate {
                initial: 100_000,
                step: 100_000,
            },
            ..Policy::default()
        },
        _ => Policy {
            receive_buffer: 3000,
            send_buffer: 3000,
            ..Policy::default()
        },
    }
}

/// Runs a script. What the engine sends fits the link, it ends whatever the script did, and nothing is left in the end.
pub fn tcp(data: &[u8]) {
    let mut script = Script(data);
    let which = script.byte();
    let policy = policy(which);
    let config = Config {
        max_connections: 64,
        buffer_memory: 1 << 20,
        policy,
        ..Config::new(OWN_MAC, OWN, 24)
    };
    let most = 14 + usize::from(config.mtu);
    let mut engine = Engine::new(config);
    // The later policies meet cookies soon, and every other one of them a device that cuts.
    let backlog = if which % 8 < 4 { 16 } else { 1 };
    engine.listen(PORT, backlog).expect("the port is free");
    let mut now = Time::from_millis(1);
    let mut sent = Wire {
        cut: if which % 2 == 0 {
            0
        } else {
            9000 * usize::from(which % 8 > 4)
        },
        ..Wire::default()
    };
    let (mut peer, mut conns) = (Peer::default(), Vec::new());
    let mut buffer = [0; 2048];
    while !script.0.is_empty() {
        let turn = script.byte();
        let conn = |conns: &[ConnId]| {
            conns
                .get(usize::from(turn >> 4) % conns.len().max(1))
                .copied()
        };
        match (turn & 15, conn(&conns)) {
            (0..=5, _) => input(&mut engine, now, &peer.segment(&mut script, 0), &mut sent),
            (6, _) => input(&mut engine, now, &complaint(&peer, &mut script), &mut sent),
            (7, _) => {
                let marks = script.byte();
                let segment = peer.segment(&mut script, marks);
                input(&mut engine, now, &segment, &mut sent);
            }
            (8, _) => {
                let len = usize::from(script.byte());
                input(&mut engine, now, script.bytes(len), &mut sent);
            }
            (9, _) => {
                now = Time::from_nanos(now.as_nanos() + (1000 << (script.byte() % 26)));
                engine.poll_timers(now, &mut sent);
            }
            (10, _) => conns.extend(engine.connect(now, PEER, 40_000, &mut sent)),
            (11, Some(conn)) => {
                let _ = engine.write(conn, &buffer[..usize::from(script.byte()) * 8]);
                engine.output(conn, now, &mut sent);
            }
            (12, Some(conn)) => {
                engine.read(conn, &mut buffer, now, &mut sent);
            }
            (13, Some(conn)) => engine.shutdown(conn, now, &mut sent),
            (14, Some(conn)) => engine.close(conn, now, &mut sent),
            (15, Some(conn)) => engine.abort(conn, now, &mut sent),
            _ => {}
        }
        engine.flush_acks(now, 64, &mut sent);
        engine.flush_data(now, 64, &mut sent);
        while let Some(event) = engine.pop_event() {
            if let EventKind::Accepted(_) = event.kind {
                conns.push(event.conn);
            }
        }
        for (frame, hints) in sent.frames.drain(..) {
            check(&frame, &hints, most);
            peer.hear(&frame);
        }
    }
    for conn in conns {
        engine.abort(conn, now, &mut sent);
    }
    // What is left ends by itself: half-open ones, quiet times.
    let mut rounds = 0;
    while let Some(next) = engine.next_deadline() {
        now = now.max(next);
        engine.poll_timers(now, &mut sent);
        sent.frames.clear();
        rounds += 1;
        assert!(rounds < 100_000, "timers without end");
    }
    assert_eq!(engine.connections(), 0);
}

fn input(engine: &mut Engine, now: Time, frame: &[u8], out: &mut Wire) {
    let meta = FrameMeta {
        checksum_ok: true,
        frame_no: 0,
        burst: Burst::now(),
    };
    engine.input(now, frame, meta, out);
}
