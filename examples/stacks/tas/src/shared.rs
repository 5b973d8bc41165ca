//! What the threads of a service have in common: the flow table, addresses, doorbells, and what crosses between them.
//!
//! In: nothing; out: queues and flags. It refuses to know how packets are handled.

use crate::entry::FlowId;
use crate::shm::{Layout, Region};
use crate::table::Table;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// Names of the points that only this stack has; the fields are in `docs/stacks/tas.md`.
pub mod own_points {
    /// A flow's turn to send.
    pub const QMAN_FIRE: &str = "tas_qman_fire";
    /// A round of congestion control.
    pub const CC_ROUND: &str = "tas_cc_round";
    /// An application published what it has read and written.
    pub const BUMP: &str = "tas_bump";
}

/// Queues that `handoff` events name in their first argument, with a core or context in the low byte.
pub mod queues {
    /// Fast path to application.
    pub const ARX: u32 = 0x100;
    /// Application to fast path.
    pub const ATX: u32 = 0x200;
    /// Fast path to fast path, for flows of another core.
    pub const FORWARD: u32 = 0x300;
    /// Fast path to slow path.
    pub const TO_SLOW: u32 = 0x400;
    /// Slow path to fast path.
    pub const TO_FAST: u32 = 0x500;
}

/// Why a packet left the fast path: the codes of `slow_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detour {
    /// SYN.
    Syn = 1,
    /// Control bits besides ACK, PSH, FIN.
    Flags = 2,
    /// No timestamps.
    Options = 3,
    /// No such flow, or one that is parked; not TCP.
    State = 4,
}

/// A doorbell: a flag for the ringer, a descriptor for the sleeper.
#[derive(Debug)]
pub struct Bell {
    sleeps: AtomicBool,
    /// Becomes readable when it is rung.
    pub fd: OwnedFd,
}

impl Bell {
    /// A bell that nobody sleeps by.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell {
            sleeps: AtomicBool::new(false),
            fd: new_doorbell()?,
        })
    }

    /// Wakes the sleeper, if there is one. What it is woken for is in its queue already.
    pub fn ring(&self) {
        // Fence: pairs with the one in `going_to_sleep`: either the sleeper sees the queue, or we see the flag.
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed) {
            self.sleeps.store(false, Ordering::Relaxed);
            push_doorbell(&self.fd);
        }
    }

    /// From here on it is rung; look into the queues once more.
    pub fn going_to_sleep(&self) {
        self.sleeps.store(true, Ordering::Relaxed);
        // Fence: see `ring`.
        fence(Ordering::SeqCst);
    }

    /// From here on it is not rung.
    pub fn awake(&self) {
        self.sleeps.store(false, Ordering::Relaxed);
        silence_doorbell(&self.fd);
    }
}

/// A descriptor that is readable once it was pushed.
pub fn new_doorbell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes it readable. A counter that is full is readable already.
pub fn push_doorbell(fd: impl AsFd) {
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

/// Makes it unreadable. One that is so already refuses.
pub fn silence_doorbell(fd: impl AsFd) {
    let _ = rustix::io::read(fd, &mut [0u8; 8]);
}

/// Rings the bell of a sleeper on the other side of a region: its flag is there, its descriptor here. What it is woken
/// for is in its queue already.
#[inline]
pub fn ring_across(region: &Region, flag: usize, fd: impl AsFd) {
    // Fence: pairs with the one in `sleep_across`: either the sleeper sees the queue, or we see the flag.
    fence(Ordering::SeqCst);
    let flag = region.word(flag);
    if flag.load(Ordering::Relaxed) != 0 {
        flag.store(0, Ordering::Relaxed);
        push_doorbell(fd);
    }
}

/// Sets a flag in a region before its queues are looked at for the last time.
pub fn sleep_across(region: &Region, flag: usize, asleep: bool) {
    region
        .word(flag)
        .store(u64::from(asleep), Ordering::Relaxed);
    if asleep {
        // Fence: see `ring_across`.
        fence(Ordering::SeqCst);
    }
}

/// A context as the service's threads know it.
#[derive(Debug)]
pub struct ContextPart {
    /// Its memory.
    pub region: Arc<Region>,
    /// What is where in it.
    pub layout: Layout,
    /// The application's doorbell.
    pub app_bell: OwnedFd,
    /// The slow path's doorbell.
    pub slow_bell: OwnedFd,
    /// Each core's doorbell.
    pub fast_bells: Vec<OwnedFd>,
}

impl ContextPart {
    /// Wakes the application.
    pub fn notify(&self) {
        ring_across(&self.region, self.layout.app_sleeps(), &self.app_bell);
    }
}

/// From a fast-path core to the slow path.
#[derive(Debug)]
pub enum ToSlow {
    /// A packet that is not the common case.
    Packet {
        /// All of it; its sums are verified.
        frame: Vec<u8>,
        /// Why.
        reason: Detour,
        /// Counter when it was put here.
        stamp: u64,
    },
    /// Both sides have closed a flow that its application is through with.
    Finished(FlowId),
    /// A context's memory has nonsense in it.
    BadContext(u8),
    /// A flow's application has sent nonsense.
    BadFlow(FlowId),
    /// The core does not look at a context any more.
    Detached(u8),
}

/// From the slow path to a fast-path core.
#[derive(Debug)]
pub enum ToFast {
    /// A frame to send.
    Frame(Vec<u8>),
    /// A packet that came by the slow path and is to be handled as if it had not.
    Process {
        /// All of it.
        frame: Vec<u8>,
        /// Counter when it was put here.
        stamp: u64,
    },
    /// Everything that is not acknowledged has to be sent again.
    Retransmit(FlowId),
    /// The peer has to be asked for its window.
    Probe(FlowId),
    /// A context to be looked at.
    Attach(u8, Arc<ContextPart>),
    /// A context not to be looked at any more.
    Detach(u8),
}

/// A frame of another core's flow.
#[derive(Debug)]
pub struct Forwarded {
    /// All of it.
    pub frame: Vec<u8>,
    /// Counter when it was put here.
    pub stamp: u64,
}

/// Counts of one fast-path core, for whoever asks.
#[derive(Debug, Default)]
pub struct Counts {
    /// Segments received.
    pub segments_in: AtomicU64,
    /// Segments sent, of any kind.
    pub segments_out: AtomicU64,
    /// Segments sent that only acknowledge.
    pub pure_acks: AtomicU64,
    /// Segments sent again.
    pub retransmits: AtomicU64,
    /// Packets that took the slow path.
    pub detours: AtomicU64,
    /// Packets that were handed to another core.
    pub forwarded: AtomicU64,
}

impl Counts {
    /// Adds one. Each count has one writer.
    #[inline]
    pub fn add(count: &AtomicU64) {
        // Relaxed: a number for people; no other data hangs on it.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// What all threads of a service see.
pub struct Shared {
    /// All flows.
    pub table: Table,
    /// Our address.
    pub ip: u32,
    /// Our Ethernet address.
    pub mac: [u8; 6],
    /// Largest IPv4 packet on the link.
    pub mtu: u16,
    /// Wakes each core.
    pub fast_bells: Vec<Bell>,
    /// Wakes the slow path.
    pub slow_bell: Bell,
    /// Each core's counts.
    pub counts: Vec<Counts>,
    /// The slow path is to reset what there is and end the service.
    pub end: AtomicBool,
    /// The fast path is to end: nothing more comes from the slow path.
    pub stop: AtomicBool,
}

impl Shared {
    /// Whether the slow path is to end. Relaxed: a flag that carries no data.
    pub fn ending(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Whether the fast path is to end. Acquire: pairs with the slow path's Release: its last frames are in the queue.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}
