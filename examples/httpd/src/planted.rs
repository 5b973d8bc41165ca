//! Slowdowns and faults on purpose: what `bypassprof compare`, `explain` and `postmortem` are tried with.
//!
//! In: options; out: what is done for each request besides. Nothing of it is on unless asked for.

mod fault;

pub use fault::{Fault, FaultOptions};

use crate::options::Stack;
use bypassprof_probe::{self as probe, Flow, points};
use clap::{Args, ValueEnum};
use stack_tcp::AckPolicy;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

/// The options, for stacks whose job asks for them.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Planted slowdowns")]
pub struct PlantedOptions {
    /// fstack, linux: copy each reply so many times more before it is written.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub plant_copies: u32,
    /// fstack, linux: take a lock for each request that another thread holds for so long at a time, in microseconds.
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub plant_lock_us: Option<u64>,
    /// fstack: frames received at once; linux: events taken by one wait; by default 32 and 2048.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2048))]
    pub plant_batch: Option<u16>,
    #[command(flatten)]
    pub fault: FaultOptions,
    /// fstack: when requests are acknowledged by themselves.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Acks::Each)]
    pub acks: Acks,
}

/// When data that came in is acknowledged without data going out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// At once, as F-Stack's profiles show.
    Each,
    /// Only if no reply carries it within 40 ms, or at every second segment.
    Delayed,
}

impl PlantedOptions {
    /// Why a stack cannot have what is asked for, and what can be had.
    pub fn refusal(&self, stack: Stack) -> Option<&'static str> {
        let nothing = self.plant_copies == 0 && self.plant_lock_us.is_none();
        let no_fault = self.fault.plant_fault.is_none();
        let is_empty = nothing && no_fault && self.plant_batch.is_none() && self.acks == Acks::Each;
        match stack {
            Stack::Fstack => None,
            Stack::Linux if self.fault.is_in_tcp() => Some(
                "--plant-fault segfault is inside our TCP, and the linux stack's TCP is the kernel's; take --stack fstack, or \
                 --plant-fault deadlock or leak",
            ),
            Stack::Linux if self.acks != Acks::Each => Some(
                "when segments are acknowledged is the kernel's choice in the linux stack; leave out --acks, or take \
                 --stack fstack",
            ),
            Stack::Linux => None,
            _ if is_empty => None,
            _ => Some(
                "slowdowns are planted into --stack fstack and linux; leave out --plant-* and --acks",
            ),
        }
    }

    /// What the TCP engine is to call for every segment with data.
    pub fn fault_in_tcp(&self) -> Option<fn()> {
        self.fault.in_tcp()
    }
}

impl Acks {
    /// As the engine calls it.
    pub fn policy(self) -> AckPolicy {
        match self {
            Acks::Each => AckPolicy::Immediate,
            Acks::Delayed => AckPolicy::Delayed {
                timeout: Duration::from_millis(40),
                every: 2,
            },
        }
    }
}

/// What is planted into one thread's job.
#[derive(Debug, Default)]
pub struct Planted {
    copies: u32,
    copied: Vec<u8>,
    lock: Option<Arc<Mutex<()>>>,
    fault: Option<Fault>,
}

impl Planted {
    /// As the options say.
    pub fn new(options: &PlantedOptions) -> Planted {
        Planted {
            copies: options.plant_copies,
            copied: Vec::new(),
            lock: options
                .plant_lock_us
                .map(|us| held_elsewhere(Duration::from_micros(us))),
            fault: options.fault.in_requests(),
        }
    }

    /// For a reply that is about to be written.
    #[inline]
    pub fn before_reply(&mut self, flow: Flow, reply: &[u8]) {
        for _ in 0..self.copies {
            self.copy_again(reply);
        }
        if let Some(lock) = &self.lock {
            wait_for_lock(lock, flow);
        }
        if let Some(fault) = &mut self.fault {
            fault.request();
        }
    }

    #[inline(never)]
    fn copy_again(&mut self, reply: &[u8]) {
        self.copied.clear();
        self.copied.extend_from_slice(reply);
        std::hint::black_box(&self.copied);
    }
}

/// A lock that a thread of its own holds for so long at a time, and hardly lets go, until nobody else knows it.
fn held_elsewhere(time: Duration) -> Arc<Mutex<()>> {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::downgrade(&lock);
    let hold = move || {
        while let Some(lock) = Weak::upgrade(&held) {
            let guard = lock.lock();
            thread::sleep(time);
            drop(guard);
            thread::sleep(time / 4);
        }
    };
    // Without the thread nothing is planted, which the recording shows.
    let _ = thread::Builder::new()
        .name("lock-holder".into())
        .spawn(hold);
    lock
}

/// Takes the lock as spin locks are taken.
#[inline(never)]
fn wait_for_lock(lock: &Mutex<()>, flow: Flow) {
    let start = probe::now().raw();
    while lock.try_lock().is_err() {
        for _ in 0..64 {
            std::hint::spin_loop();
        }
    }
    let waited = probe::now().raw().saturating_sub(start);
    probe::emit(
        points::LOCK_WAIT,
        flow,
        waited.min(u64::from(u32::MAX)) as u32,
    );
}
