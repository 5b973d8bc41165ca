//! What a request costs the engine, and that it is the same however many connections there are.
//!
//! `cargo bench -p stack-tcp --bench engine`. A server's engine answers 64-byte requests with 151 bytes, as the servers of
//! the study do; a client that is nothing but bytes asks. The connections that talk are always the same 64, among as many
//! others as the line says, all open, each with a timer: work per packet must not depend on those. The last line talks to
//! all in turn instead: then each packet's connection comes from memory, and that is what it costs. A bulk transfer
//! between two engines follows, segment by segment and with frames that a device would cut.
//!
//! Parts are interleaved over rounds and the best of each counts. Figures are nanoseconds of one machine in one run.

use bypassprof_probe::Burst;
use stack_tcp::{
    Config, ConnId, Engine, EventKind, FrameMeta, FrameSink, KeepAlive, Policy, Time, TxFrame,
    TxHints,
};
use std::time::{Duration, Instant};

const OWN: [u8; 4] = [10, 0, 0, 2];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const REQUEST: usize = 64;
const REPLY: usize = 151;
const ACTIVE: usize = 64;
const ROUNDS: usize = 15;
/// Requests of one timed part.
const PART: usize = 20_000;

/// Frames in memory that is used again.
struct Sink {
    slots: Vec<Vec<u8>>,
    used: usize,
    cut: usize,
}

impl Sink {
    fn new(cut: usize) -> Sink {
        Sink {
            slots: (0..4096)
                .map(|_| Vec::with_capacity(cut.max(1514)))
                .collect(),
            used: 0,
            cut,
        }
    }
}

impl FrameSink for Sink {
    fn frame(&mut self, len: usize, _hints: TxHints) -> Option<TxFrame<'_>> {
        let bytes = self.slots.get_mut(self.used)?;
        self.used += 1;
        bytes.resize(len, 0);
        Some(TxFrame { bytes, number: 0 })
    }

    fn largest_cut(&self) -> usize {
        self.cut
    }
}

fn meta() -> FrameMeta {
    FrameMeta {
        checksum_ok: true,
        frame_no: 0,
        burst: Burst::now(),
    }
}

/// The other end of one connection.
struct Client {
    conn: ConnId,
    ip: [u8; 4],
    port: u16,
    next: u32,
    heard: u32,
}

impl Client {
    fn frame(&self, flags: u8, payload: &[u8], frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend(MAC);
        frame.extend(PEER_MAC);
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((40 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.ip);
        frame.extend(OWN);
        frame.extend(self.port.to_be_bytes());
        frame.extend(80u16.to_be_bytes());
        frame.extend(self.next.to_be_bytes());
        frame.extend(self.heard.to_be_bytes());
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
    }
}

/// A server's engine with open connections.
struct Server {
    engine: Engine,
    sink: Sink,
    clients: Vec<Client>,
    now: Time,
    frame: Vec<u8>,
}

impl Server {
    fn new(connections: usize) -> Server {
        let mut config = Config::new(MAC, OWN.into(), 8);
        config.max_connections = connections + 1;
        config.policy = Policy {
            keepalive: Some(KeepAlive {
                idle: Duration::from_secs(7200),
                interval: Duration::from_secs(75),
                probes: 9,
            }),
            ..Policy::default()
        };
        let mut server = Server {
            engine: Engine::new(config),
            sink: Sink::new(0),
            clients: Vec::new(),
            now: Time::from_millis(1),
            frame: Vec::new(),
        };
        server
            .engine
            .listen(80, connections)
            .expect("the port is free");
        for n in 0..connections {
            server.open(n);
        }
        server
    }

    fn open(&mut self, n: usize) {
        let mut client = Client {
            conn: ConnId::from_raw(0),
            ip: [10, 1, (n >> 22) as u8, (n >> 14) as u8],
            port: (n & 0x3fff) as u16 + 1,
            next: 7,
            heard: 0,
        };
        client.frame(2, &[], &mut self.frame);
        self.engine
            .input(self.now, &self.frame, meta(), &mut self.sink);
        let answer = &self.sink.slots[0];
        client.heard =
            u32::from_be_bytes(answer[38..42].try_into().expect("a segment")).wrapping_add(1);
        client.next += 1;
        client.frame(16, &[], &mut self.frame);
        self.engine
            .input(self.now, &self.frame, meta(), &mut self.sink);
        self.sink.used = 0;
        let event = self.engine.pop_event().expect("it is accepted");
        assert!(matches!(event.kind, EventKind::Accepted(_)));
        client.conn = event.conn;
        self.clients.push(client);
    }

    /// Requests from `active` clients in turn, timers looked at once a burst of 32; nanoseconds for each.
    fn requests(&mut self, active: usize) -> f64 {
        let mut buf = [0; 2048];
        let active = active.min(self.clients.len());
        let started = Instant::now();
        for n in 0..PART {
            // Far apart in memory, each as often as any other.
            let at = (n * 7919) % active;
            let client = &mut self.clients[at];
            client.frame(24, &[b'r'; REQUEST], &mut self.frame);
            client.next = client.next.wrapping_add(REQUEST as u32);
            client.heard = client.heard.wrapping_add(REPLY as u32);
            self.engine
                .input(self.now, &self.frame, meta(), &mut self.sink);
            while let Some(event) = self.engine.pop_event() {
                let n = self
                    .engine
                    .read(event.conn, &mut buf, self.now, &mut self.sink);
                assert_eq!(n, REQUEST);
                let written = self.engine.write(event.conn, &buf[..REPLY]);
                assert_eq!(written, Ok(REPLY));
                self.engine.output(event.conn, self.now, &mut self.sink);
            }
            if n % 32 == 31 {
                self.now = self.now + Duration::from_micros(20);
                self.engine.poll_timers(self.now, &mut self.sink);
                self.sink.used = 0;
            }
        }
        started.elapsed().as_nanos() as f64 / PART as f64
    }
}

/// A megabyte over and over from one engine to another; nanoseconds for each KiB, both engines together.
fn bulk(cut: usize) -> f64 {
    let engine = |last: u8| {
        let mac = [2, 0, 0, 0, 0, last];
        let mut config = Config::new(mac, [10, 0, 0, last].into(), 24);
        config.policy.verify_checksums = false;
        config.policy.offload_checksums = true;
        config.policy.send_buffer = 1 << 20;
        Engine::new(config)
    };
    let mut engines = [engine(1), engine(2)];
    engines[1].listen(80, 1).expect("the port is free");
    let mut sinks = [Sink::new(cut), Sink::new(cut)];
    let mut now = Time::from_millis(1);
    let ip = [10, 0, 0, 2].into();
    let conn = engines[0]
        .connect(now, ip, 80, &mut sinks[0])
        .expect("there is room");
    let mut other = None;
    let data = vec![b'a'; 1 << 16];
    let mut buf = vec![0; 1 << 16];
    let (mut got, mut started) = (0u64, Instant::now());
    const WARM: u64 = 8 << 20;
    while got < 5 * WARM {
        let warm = got < WARM;
        let _ = engines[0].write(conn, &data);
        engines[0].output(conn, now, &mut sinks[0]);
        for side in 0..2 {
            let [one, two] = &mut sinks;
            let (from, to) = if side == 0 { (one, two) } else { (two, one) };
            for slot in &from.slots[..from.used] {
                engines[1 - side].input(now, slot, meta(), to);
            }
            from.used = 0;
        }
        while let Some(event) = engines[1].pop_event() {
            other.get_or_insert(event.conn);
        }
        while engines[0].pop_event().is_some() {}
        if let Some(conn) = other {
            got += engines[1].read(conn, &mut buf, now, &mut sinks[1]) as u64;
        }
        now = now + Duration::from_micros(50);
        for (engine, sink) in engines.iter_mut().zip(&mut sinks) {
            engine.poll_timers(now, sink);
        }
        if warm && got >= WARM {
            started = Instant::now();
        }
    }
    started.elapsed().as_nanos() as f64 / (4.0 * WARM as f64 / 1024.0)
}

fn main() {
    let sizes = [64, 1000, 10_000, 100_000];
    let mut servers: Vec<Server> = sizes.iter().map(|&n| Server::new(n)).collect();
    let mut best = [f64::MAX; 4];
    let mut everyone = f64::MAX;
    for _ in 0..ROUNDS {
        for (server, best) in servers.iter_mut().zip(&mut best) {
            *best = best.min(server.requests(ACTIVE));
        }
        everyone = everyone.min(servers[3].requests(usize::MAX));
    }
    println!(
        "requests of {REQUEST} B answered with {REPLY} B, ns each, {ACTIVE} connections in turn:"
    );
    for (n, ns) in sizes.iter().zip(best) {
        println!("  {n:>7} open: {ns:6.0}   x {:.2}", ns / best[0]);
    }
    println!(
        "  100000 open, all in turn: {everyone:6.0}   x {:.2}",
        everyone / best[0]
    );
    let mut ways = [(0, f64::MAX), (65_549, f64::MAX)];
    for _ in 0..5 {
        for (cut, best) in &mut ways {
            *best = best.min(bulk(*cut));
        }
    }
    println!("bulk, two engines, ns for each KiB, sums left to the device:");
    println!(
        "  segment by segment: {:6.1}   frames to be cut: {:6.1}",
        ways[0].1, ways[1].1
    );
}
