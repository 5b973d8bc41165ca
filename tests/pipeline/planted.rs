//! What makes the pipeline slower, by name: each alone, its price measured by the program itself.
//!
//! In: a name; out: what the program does besides, and what that took. It refuses to know what finds it.

use super::request::{BEGUN, HANDED, Request};
use super::{do_ack, do_copy, do_driver, do_spin, poll_device};
use crate::busy::{cpu_ns, now};
use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Length of what is planted into each request, in us of an idle CPU.
const LENGTH_US: u64 = 120;
/// The delay of the drain.
const DRAIN_NS: u64 = 100_000;
/// What a burst costs however long it is, where batches are compared.
const DOORBELL_US: u64 = 250;

/// What is planted, and what it took.
pub struct Planted {
    what: What,
    turns_per_us: u64,
    /// CPU time and wall time of it.
    spent: [u64; 2],
    beside: Option<JoinHandle<u64>>,
}

enum What {
    /// The pipeline as it is.
    Nothing,
    /// The application copies its reply once more.
    Copy,
    /// The application takes a lock that another thread holds most of the time.
    Lock(Arc<Mutex<()>>, Arc<AtomicBool>),
    /// Replies wait for a timer.
    Drain,
    /// Bursts of so many requests, each burst with a price of its own.
    Batch(u32),
    /// Another core receives all frames and hands them over: what is asked of it, what it hands over.
    Misdirected(mpsc::Sender<u32>, mpsc::Receiver<[u64; 3]>),
    /// TCP acknowledges each request by itself.
    Ack,
}

impl Planted {
    /// By its name.
    pub fn new(name: &str, turns_per_us: u64) -> Planted {
        let mut beside = None;
        let what = match name {
            "nothing" => What::Nothing,
            "copy" => What::Copy,
            "lock" => {
                let (lock, end) = (Arc::default(), Arc::default());
                let (held, ended) = (Arc::clone(&lock), Arc::clone(&end));
                beside = Some(std::thread::spawn(move || hold(&held, &ended)));
                What::Lock(lock, end)
            }
            "drain" => What::Drain,
            "batch8" => What::Batch(8),
            "batch2" => What::Batch(2),
            "misdirected" => {
                let (ask, asked) = mpsc::channel();
                let (hand, handed) = mpsc::channel();
                let turns = 30 * turns_per_us;
                beside = Some(std::thread::spawn(move || other_core(turns, &asked, &hand)));
                What::Misdirected(ask, handed)
            }
            "ack" => What::Ack,
            _ => panic!("nobody plants {name}"),
        };
        Planted {
            what,
            turns_per_us,
            spent: [0; 2],
            beside,
        }
    }

    /// Requests of a burst.
    pub fn burst(&self) -> u32 {
        match self.what {
            What::Batch(n) => n,
            _ => 2,
        }
    }

    /// Connections.
    pub fn flows(&self) -> u32 {
        match self.what {
            What::Batch(_) => 8,
            _ => 2,
        }
    }

    /// Whether another core receives the frames.
    pub fn is_misdirected(&self) -> bool {
        matches!(self.what, What::Misdirected(..))
    }

    /// Of the next frames another core will receive: they arrive now.
    pub fn ask_other_core(&self) {
        if let What::Misdirected(ask, _) = &self.what {
            ask.send(self.burst()).unwrap();
        }
    }

    /// Frames that another core received. They are handled when this core looks into its ring, not before.
    pub fn take_from_other_core(&mut self, requests: &mut [Request]) {
        let What::Misdirected(_, handed) = &self.what else {
            return;
        };
        for request in requests {
            let [begun, at, stamp] = handed.recv().unwrap();
            // The probes of this core do not know when the other one received it.
            request.ends[BEGUN] = at;
            request.ends[HANDED] = at.max(begun);
            request.handed = stamp;
        }
    }

    /// In the driver, once a burst.
    pub fn in_driver(&mut self, _burst: u32) {
        if let What::Batch(_) = self.what {
            let turns = DOORBELL_US * self.turns_per_us;
            self.measured(1, || do_driver(turns));
        }
    }

    /// After TCP has taken a request in.
    pub fn after_tcp(&mut self, flow: Flow, frame: &mut impl FnMut() -> u32) {
        if let What::Ack = self.what {
            let turns = LENGTH_US * self.turns_per_us;
            let frame = frame();
            self.measured(1, || {
                do_ack(turns);
                probe::emit_with6(points::TCP_OUT, flow, frame, [1 << 24, 0, 0, 0, 0, 0]);
            });
        }
    }

    /// At the end of the application's work for a request.
    pub fn in_application(&mut self, flow: Flow) {
        let turns = LENGTH_US * self.turns_per_us;
        match &self.what {
            What::Copy => self.measured(1, || do_copy(turns)),
            What::Lock(lock, _) => {
                let (lock, turns) = (Arc::clone(lock), self.turns_per_us);
                self.measured(1, || take(&lock, turns, flow));
            }
            _ => {}
        }
    }

    /// Before the replies to a burst of requests are given to the device.
    pub fn before_drain(&mut self, rounds: &mut PollLoop, burst: u32) {
        if let What::Drain = self.what {
            let turns = self.turns_per_us;
            self.measured(u64::from(burst), || {
                let end = now() + DRAIN_NS;
                while now() < end {
                    rounds.end();
                    rounds.begin();
                    poll_device(turns);
                }
            });
        }
    }

    /// Counts what something takes, for each of `times` requests.
    fn measured(&mut self, times: u64, mut something: impl FnMut()) {
        let (cpu, wall) = (cpu_ns(), now());
        something();
        self.spent[0] += times * (cpu_ns() - cpu);
        self.spent[1] += times * (now() - wall);
    }

    /// Ends what runs beside; gives CPU time and wall time of what was planted, and CPU time of what ran beside.
    pub fn end(self) -> [u64; 3] {
        // A flag that carries no data; it is seen at the next turn.
        if let What::Lock(_, end) = &self.what {
            end.store(true, Ordering::Relaxed);
        }
        drop(self.what);
        let beside = self.beside.map(|thread| thread.join().unwrap());
        let [cpu, wall] = self.spent;
        [cpu, wall, beside.unwrap_or(0)]
    }
}

/// Waits for a lock as spin locks do.
#[inline(never)]
fn take(lock: &Mutex<()>, turns_per_us: u64, flow: Flow) {
    let start = probe::now().raw();
    while lock.try_lock().is_err() {
        do_spin(turns_per_us);
    }
    let waited = probe::now().raw() - start;
    probe::emit(points::LOCK_WAIT, flow, waited as u32);
}

/// Holds a lock most of the time, asleep; gives what CPU time that takes.
fn hold(lock: &Mutex<()>, end: &AtomicBool) -> u64 {
    while !end.load(Ordering::Relaxed) {
        let held = lock.lock();
        std::thread::sleep(Duration::from_micros(200));
        drop(held);
        std::thread::sleep(Duration::from_micros(50));
    }
    cpu_ns()
}

/// Another core, which receives what is not for it; gives its CPU time.
fn other_core(turns: u64, asked: &mpsc::Receiver<u32>, hand: &mpsc::Sender<[u64; 3]>) -> u64 {
    probe::name_thread("other core");
    let mut rounds = PollLoop::new();
    let mut frame = 0;
    for burst in asked {
        rounds.begin();
        let begun = now();
        do_driver(turns);
        rounds.rx_burst(1, burst, 32, frame);
        frame += burst;
        for _ in 0..burst {
            if hand.send([begun, now(), probe::now().raw()]).is_err() {
                break;
            }
        }
        rounds.end();
    }
    cpu_ns()
}
