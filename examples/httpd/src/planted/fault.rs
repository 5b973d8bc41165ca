//! Ways to die on purpose, each at a place that is known: what post mortems are tried with.
//!
//! In: options; out: a segmentation fault inside TCP, a deadlock of two threads, or memory taken until the kernel ends the
//! process.
#![allow(unsafe_code)]

use clap::{Args, ValueEnum};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// The options.
#[derive(Args, Clone, Copy, Debug)]
pub struct FaultOptions {
    /// fstack, linux: die on purpose; `segfault` is inside the TCP engine and fstack's alone.
    #[arg(long, value_name = "KIND", value_enum)]
    pub plant_fault: Option<Kind>,
    /// At which request; `segfault`: at which segment with data.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub plant_fault_at: u64,
}

/// Ways to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Follow a bad pointer.
    Segfault,
    /// Take two locks in one order while another thread takes them in the other.
    Deadlock,
    /// Take memory until there is none.
    Leak,
}

/// Segments with data until the fault.
static SEGMENTS_LEFT: AtomicU64 = AtomicU64::new(0);

/// What happens to one thread's requests.
#[derive(Debug)]
pub struct Fault {
    kind: Kind,
    left: u64,
    kept: Vec<Vec<u8>>,
}

impl FaultOptions {
    /// Whether the fault is one of the TCP engine's.
    pub fn is_in_tcp(&self) -> bool {
        self.plant_fault == Some(Kind::Segfault)
    }

    /// What TCP is to call for every segment with data.
    pub fn in_tcp(&self) -> Option<fn()> {
        SEGMENTS_LEFT.store(self.plant_fault_at, Ordering::Relaxed);
        self.is_in_tcp().then_some(count_segment as fn())
    }

    /// What is to be called for every request.
    pub fn in_requests(&self) -> Option<Fault> {
        let kind = self.plant_fault.filter(|kind| *kind != Kind::Segfault)?;
        Some(Fault {
            kind,
            left: self.plant_fault_at,
            kept: Vec::new(),
        })
    }
}

fn count_segment() {
    if SEGMENTS_LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        follow_bad_pointer(0xdead_b000);
    }
}

/// Dies here.
#[inline(never)]
fn follow_bad_pointer(address: usize) {
    let pointer = std::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: none. That nothing is mapped there is the purpose, and all that comes of it is the signal.
    let byte = unsafe { *pointer };
    std::hint::black_box(byte);
}

impl Fault {
    /// A request is about to be answered.
    pub fn request(&mut self) {
        self.left = self.left.saturating_sub(1);
        match self.kind {
            Kind::Deadlock if self.left == 0 => lock_both(),
            Kind::Leak if self.left == 0 => self.take_memory(),
            _ => {}
        }
    }

    /// Dies here.
    #[inline(never)]
    fn take_memory(&mut self) {
        loop {
            self.kept.push(vec![1; 1 << 20]);
        }
    }
}

/// Ends here, in one of the two: each thread has what the other one waits for.
#[inline(never)]
fn lock_both() {
    let locks = Arc::new((Mutex::new(()), Mutex::new(())));
    let (told, taken) = mpsc::channel();
    let others = Arc::clone(&locks);
    let other = move || {
        let _second = others.1.lock();
        // The one who waits for this goes on only then.
        let _ = told.send(());
        let _first = others.0.lock();
    };
    let _first = locks.0.lock();
    // Without the thread there is no deadlock, which the one who tries sees.
    let _ = thread::Builder::new()
        .name("other-order".into())
        .spawn(other);
    let _ = taken.recv();
    let _second = locks.1.lock();
}
