//! The TCP engine under a peer and an application that do anything at any time.
//!
//! In: bytes as a script; out: nothing but what the engine does. Random frames would never get past a handshake, so the
//! script's segments are placed relative to the numbers the engine last used. Whole frames of any bytes go in as well.

use bypassprof_probe::Burst;
use stack_tcp::sink::Frames;
use stack_tcp::{Config, ConnId, Engine, EventKind, FrameMeta, Policy, Time};
use std::net::Ipv4Addr;

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

    /// A segment as the script wants it: flags, distance to the honest numbers, window, port, options, payload.
    fn segment(&self, script: &mut Script) -> Vec<u8> {
        let flags = script.byte();
        let mut near = |honest: u32| honest.wrapping_add_signed(i32::from(script.byte() as i8) * 8);
        let (seq, ack) = (near(self.next), near(self.ack));
        let shape = script.byte();
        let mut options = script.bytes(usize::from(shape & 7) * 4).to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let payload = script.bytes(usize::from(shape >> 3) * 47);
        let window = u16::from(script.byte()) << 8;

        let total = (20 + 20 + options.len() + payload.len()) as u16;
        let mut frame = Vec::new();
        frame.extend(OWN_MAC);
        frame.extend(PEER_MAC);
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(PEER.octets());
        frame.extend(OWN.octets());
        frame.extend([0x9c, 0x40 | (flags >> 6)]);
        frame.extend(PORT.to_be_bytes());
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        frame.extend([((20 + options.len()) as u8 / 4) << 4, flags & 0x3f]);
        frame.extend(window.to_be_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(options);
        frame.extend(payload);
        frame
    }
}

/// Runs a script. What the engine sends fits the link, and it ends whatever the script did.
pub fn tcp(data: &[u8]) {
    let mut script = Script(data);
    let policy = match script.byte() % 4 {
        0 => Policy::fstack(),
        1 => Policy::mtcp(),
        2 => Policy::ix(),
        _ => Policy::tas(),
    };
    let config = Config {
        max_connections: 64,
        buffer_memory: 1 << 20,
        policy,
        ..Config::new(OWN_MAC, OWN, 24)
    };
    let most = 14 + usize::from(config.mtu);
    let mut engine = Engine::new(config);
    engine.listen(PORT, 16).expect("the port is free");
    let mut now = Time::from_millis(1);
    let (mut peer, mut sent, mut conns) = (Peer::default(), Frames::default(), Vec::new());
    let mut buffer = [0; 2048];
    while !script.0.is_empty() {
        let turn = script.byte();
        let conn = |conns: &[ConnId]| {
            conns
                .get(usize::from(turn >> 4) % conns.len().max(1))
                .copied()
        };
        match (turn & 15, conn(&conns)) {
            (0..=7, _) => input(&mut engine, now, &peer.segment(&mut script), &mut sent),
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
        for frame in sent.frames.drain(..) {
            assert!(
                frame.len() <= most,
                "{} bytes on a link of {most}",
                frame.len()
            );
            peer.hear(&frame);
        }
    }
}

fn input(engine: &mut Engine, now: Time, frame: &[u8], out: &mut Frames) {
    let meta = FrameMeta {
        checksum_ok: true,
        frame_no: 0,
        burst: Burst::now(),
    };
    engine.input(now, frame, meta, out);
}
