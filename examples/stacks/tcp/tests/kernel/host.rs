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
    sum_on(7, bytes)
}

fn sum_on(sum: u64, bytes: &[u8]) -> u64 {
    let add = |sum: u64, &b: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(b));
    bytes.iter().fold(sum, add)
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
    // What is read may be owed back, and only what has gone back makes room to read on.
    loop {
        let read = job.read(engine, out, conn, now);
        let Some(all) = job.write(engine, conn) else {
            return true;
        };
        engine.output(conn, now, out);
        if !all {
            return false;
        }
        if read == 0 {
            break;
        }
    }
    match job.head.first() {
        Some(b'D') => job.head.len() == HEAD && job.sent == job.owed,
        _ => job.peer_closed,
    }
}

/// Bytes of a question: what, and how much.
const HEAD: usize = 9;
/// Who owes so much back reads no more.
const OWED: usize = 1 << 17;

impl Job {
    /// Reads what there is; how many bytes.
    fn read(&mut self, engine: &mut Engine, out: &mut Out, conn: ConnId, now: Time) -> usize {
        let mut buf = [0; 16 * 1024];
        let mut read = 0;
        while self.back.len() <= OWED {
            let n = engine.read(conn, &mut buf, now, out);
            if n == 0 {
                break;
            }
            read += n;
            let missing = HEAD - self.head.len();
            let (head, rest) = buf[..n].split_at(missing.min(n));
            self.head.extend(head);
            if missing > 0 && self.head.len() == HEAD && self.head[0] == b'D' {
                self.owed = u64::from_be_bytes(self.head[1..].try_into().unwrap()) as usize;
            }
            if self.head[0] == b'E' {
                self.back.extend(rest);
            } else {
                self.sum = sum_on(if self.came == 0 { 7 } else { self.sum }, rest);
                self.came += rest.len() as u64;
            }
        }
        if self.head.first() == Some(&b'U') && self.peer_closed && !self.replied {
            self.replied = true;
            self.back.extend(self.came.to_be_bytes());
            self.back.extend(self.sum.to_be_bytes());
        }
        read
    }

    /// Writes what is owed: whether all of it was taken; `None` if the connection takes nothing more.
    fn write(&mut self, engine: &mut Engine, conn: ConnId) -> Option<bool> {
        while self.sent < self.owed {
            let piece = pattern(self.sent, (self.owed - self.sent).min(16 * 1024));
            let n = engine.write(conn, &piece).ok()?;
            self.sent += n;
            if n < piece.len() {
                return Some(false);
            }
        }
        if !self.back.is_empty() {
            let n = engine.write(conn, &self.back).ok()?;
            self.back.drain(..n);
        }
        Some(self.back.is_empty())
    }
}
