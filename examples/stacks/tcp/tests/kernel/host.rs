//! A host that is nothing but the engine on a device, in a thread of its own: what it serves is asked for in one byte.
//!
//! `D` and a length: that many bytes of the pattern, then the end. `U`: everything to its end, then its length and sum.
//! `E`: the same back.

use bypassprof_probe::Burst;
use netlab::Namespace;
use stack_netio::{AnyDevice, Device, DeviceSpec, Segment, TxOffload};
use stack_tcp::{
    Config, ConnId, Counters, Engine, EventKind, FrameMeta, FrameSink, Policy, Time, TxFrame,
    TxHints,
};
use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const PORT: u16 = 8080;
const ADDRESS: [u8; 4] = [10, 123, 0, 2];

/// `len` bytes of the stream that both sides know, from `at` on.
pub fn pattern(at: usize, len: usize) -> Vec<u8> {
    (at..at + len)
        .map(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0])
        .collect()
}

/// A sum in which every byte's place counts.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum: u64, &b| {
        sum.wrapping_mul(31).wrapping_add(u64::from(b))
    })
}

/// How a host stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub counters: Counters,
    pub connections: usize,
    pub jobs: usize,
}

enum Ask {
    Standing(Sender<Standing>),
    Connect([u8; 4], u16),
    Stop,
}

pub struct Host {
    asks: Sender<Ask>,
    thread: JoinHandle<()>,
}

impl Host {
    pub fn start(namespace: &Namespace, device: &str, policy: Policy) -> Host {
        let spec: DeviceSpec = device.parse().unwrap();
        let open = || stack_netio::open(&spec, ADDRESS.into()).unwrap();
        let device = namespace.enter(open).unwrap();
        let (asks, asked) = mpsc::channel();
        let thread = std::thread::spawn(move || Loop::new(device, policy).run(&asked));
        Host { asks, thread }
    }

    pub fn connect(&self, ip: [u8; 4], port: u16) {
        self.asks.send(Ask::Connect(ip, port)).unwrap();
    }

    pub fn standing(&self) -> Standing {
        let (answer, answered) = mpsc::channel();
        self.asks.send(Ask::Standing(answer)).unwrap();
        answered.recv().unwrap()
    }

    /// Waits until it stands as wanted, for a generous while.
    pub fn until(&self, wanted: impl Fn(&Standing) -> bool) {
        let start = Instant::now();
        loop {
            let standing = self.standing();
            if wanted(&standing) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{standing:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(self) -> Standing {
        let standing = self.standing();
        self.asks.send(Ask::Stop).unwrap();
        self.thread.join().unwrap();
        standing
    }
}

struct Out(AnyDevice);

impl FrameSink for Out {
    fn frame(&mut self, len: usize, hints: TxHints) -> Option<TxFrame<'_>> {
        let left = TxOffload {
            checksum: hints.checksum,
            segment: hints.cut.map(|cut| Segment {
                header: cut.header,
                payload: cut.payload,
            }),
        };
        if self.0.tx_queued() >= 32 {
            self.0.tx_burst();
        }
        let bytes = self.0.tx_frame_with(len, left)?;
        Some(TxFrame { bytes, number: 0 })
    }

    fn largest_cut(&self) -> usize {
        self.0.offloads().segmentation.unwrap_or(0)
    }
}

/// What one connection is asked for.
#[derive(Default)]
struct Job {
    head: Vec<u8>,
    /// Bytes of the pattern sent, of those asked for.
    sent: usize,
    owed: usize,
    /// Bytes to go back.
    back: Vec<u8>,
    came: u64,
    sum: u64,
    peer_closed: bool,
    replied: bool,
}

struct Loop {
    out: Out,
    engine: Engine,
    jobs: HashMap<ConnId, Job>,
    start: Instant,
}

impl Loop {
    fn new(device: AnyDevice, mut policy: Policy) -> Loop {
        policy.offload_checksums |= device.offloads().checksum;
        let mut config = Config::new(device.mac(), ADDRESS.into(), 24);
        config.mtu = device.mtu();
        config.policy = policy;
        config.seed = 99;
        let mut engine = Engine::new(config);
        engine.listen(PORT, 128).unwrap();
        Loop {
            out: Out(device),
            engine,
            jobs: HashMap::new(),
            start: Instant::now(),
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.start.elapsed().as_nanos() as u64 + 1_000_000_000)
    }

    fn run(mut self, asks: &Receiver<Ask>) {
        loop {
            match asks.try_recv() {
                Ok(Ask::Stop) => return,
                Ok(Ask::Standing(answer)) => {
                    let standing = Standing {
                        counters: *self.engine.counters(),
                        connections: self.engine.connections(),
                        jobs: self.jobs.len(),
                    };
                    let _ = answer.send(standing);
                }
                Ok(Ask::Connect(ip, port)) => {
                    let now = self.now();
                    let conn = self
                        .engine
                        .connect(now, ip.into(), port, &mut self.out)
                        .unwrap();
                    self.jobs.insert(conn, Job::default());
                }
                Err(_) => {}
            }
            if !self.turn() {
                // The machine has few cores and the kernel needs them, too.
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    fn turn(&mut self) -> bool {
        let now = self.now();
        let frames = self.out.0.rx_burst(64);
        let mut held = Vec::with_capacity(frames);
        for index in 0..frames {
            let frame = self.out.0.rx_frame(index);
            held.push((frame.bytes.to_vec(), frame.checksum_ok));
        }
        self.out.0.rx_release();
        for (bytes, checksum_ok) in held {
            let meta = FrameMeta {
                checksum_ok,
                frame_no: 0,
                burst: Burst::now(),
            };
            self.engine.input(now, &bytes, meta, &mut self.out);
        }
        self.engine.poll_timers(now, &mut self.out);
        self.engine.flush_acks(now, usize::MAX, &mut self.out);
        self.engine.flush_data(now, usize::MAX, &mut self.out);
        while let Some(event) = self.engine.pop_event() {
            let job = self.jobs.entry(event.conn).or_default();
            let over = match event.kind {
                EventKind::PeerClosed => {
                    job.peer_closed = true;
                    false
                }
                EventKind::Closed(_) => true,
                _ => false,
            };
            let done = over || serve(&mut self.engine, &mut self.out, event.conn, job, now);
            if done {
                self.jobs.remove(&event.conn);
                self.engine.close(event.conn, now, &mut self.out);
            }
        }
        self.out.0.tx_burst();
        frames > 0
    }
}

/// Does what can be done now; whether the connection is to be closed.
fn serve(engine: &mut Engine, out: &mut Out, conn: ConnId, job: &mut Job, now: Time) -> bool {
    let mut buf = [0; 16 * 1024];
    loop {
        // Whoever has much to send back reads no more until it is gone.
        if job.back.len() > 1 << 17 {
            break;
        }
        let n = engine.read(conn, &mut buf, now, out);
        if n == 0 {
            break;
        }
        let mut bytes = &buf[..n];
        let missing = 9 - job.head.len().min(9);
        let (head, rest) = bytes.split_at(missing.min(n));
        job.head.extend(head);
        bytes = rest;
        if job.head.len() == 9 && missing > 0 && job.head[0] == b'D' {
            job.owed = u64::from_be_bytes(job.head[1..9].try_into().unwrap()) as usize;
        }
        match job.head[0] {
            b'E' => job.back.extend(bytes),
            _ => {
                if job.came == 0 {
                    job.sum = 7;
                }
                job.came += bytes.len() as u64;
                let add = |sum: u64, &b: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(b));
                job.sum = bytes.iter().fold(job.sum, add);
            }
        }
    }
    let what = job.head.first().copied();
    if what == Some(b'U') && job.peer_closed && !job.replied {
        job.replied = true;
        job.back.extend(job.came.to_be_bytes());
        job.back.extend(job.sum.to_be_bytes());
    }
    let mut full = false;
    while !full && job.sent < job.owed {
        let piece = pattern(job.sent, (job.owed - job.sent).min(16 * 1024));
        let Ok(n) = engine.write(conn, &piece) else {
            return true;
        };
        job.sent += n;
        full = n < piece.len();
    }
    if !job.back.is_empty() {
        let Ok(n) = engine.write(conn, &job.back) else {
            return true;
        };
        job.back.drain(..n);
        full = !job.back.is_empty();
    }
    engine.output(conn, now, out);
    if full {
        return false;
    }
    match what {
        Some(b'D') => job.head.len() == 9 && job.sent == job.owed,
        _ => job.peer_closed,
    }
}
