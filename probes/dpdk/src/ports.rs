//! The burst functions that stand in the table in place of the drivers', and how they get there and away again.
//!
//! In: the table; out: ours in it, the drivers' kept. One word is exchanged at a time: a thread in the middle of a burst
//! calls either, with the same arguments.

use crate::dpdk::Table;
use crate::lane::{self, Direction};
use crate::queue::Key;
use crate::{counts, dpdk, slow};
use bypassprof_wire::layout::name_words;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// A burst function as DPDK declares both kinds.
pub type Burst = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, u16) -> u16;

/// Ports that can be wrapped: as many as DPDK is usually built for.
pub const PORTS: usize = 32;

/// A port's own functions, on one cache line.
#[repr(C, align(64))]
struct Port {
    rx: AtomicPtr<c_void>,
    tx: AtomicPtr<c_void>,
    /// Grows when the port is wrapped: what threads remember of its queues is void then.
    generation: AtomicU32,
    name: [AtomicU64; 4],
}

static ALL: [Port; PORTS] = [const {
    Port {
        rx: AtomicPtr::new(core::ptr::null_mut()),
        tx: AtomicPtr::new(core::ptr::null_mut()),
        generation: AtomicU32::new(0),
        name: [const { AtomicU64::new(0) }; 4],
    }
}; PORTS];

/// How often a port was wrapped.
#[inline(always)]
pub fn generation(port: usize) -> u32 {
    ALL[port].generation.load(Ordering::Relaxed)
}

/// A port's name.
pub fn name(port: usize) -> [u64; 4] {
    [0, 1, 2, 3].map(|at: usize| ALL[port].name[at].load(Ordering::Relaxed))
}

/// What stands in the table for port `P`'s receive function.
unsafe extern "C" fn receive<const P: usize>(
    queue: *mut c_void,
    packets: *mut *mut c_void,
    most: u16,
) -> u16 {
    // SAFETY: `wrap` stored the driver's function before ours came into the table.
    let driver: Burst = unsafe { core::mem::transmute(ALL[P].rx.load(Ordering::Relaxed)) };
    // SAFETY: the caller's arguments go on as they are.
    unsafe {
        let Some(lane) = lane::quick() else {
            return slow::receive(driver, P, queue, packets, most);
        };
        let received = driver(queue, packets, most);
        lane.received(Key::of_table(P, queue, Direction::Receive), received);
        received
    }
}

/// What stands in the table for port `P`'s transmit function.
unsafe extern "C" fn transmit<const P: usize>(
    queue: *mut c_void,
    packets: *mut *mut c_void,
    asked: u16,
) -> u16 {
    // SAFETY: as above.
    let driver: Burst = unsafe { core::mem::transmute(ALL[P].tx.load(Ordering::Relaxed)) };
    // SAFETY: as above.
    unsafe {
        let Some(lane) = lane::quick() else {
            return slow::transmit(driver, P, queue, packets, asked);
        };
        let accepted = driver(queue, packets, asked);
        let key = Key::of_table(P, queue, Direction::Transmit);
        lane.sent(key, accepted, asked);
        accepted
    }
}

macro_rules! of_each_port {
    ($function:ident: $($port:literal)*) => { [$($function::<$port> as Burst),*] };
}

static RECEIVE: [Burst; PORTS] = of_each_port!(receive: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
static TRANSMIT: [Burst; PORTS] = of_each_port!(transmit: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);

fn ours(port: usize, direction: Direction) -> *mut c_void {
    match direction {
        Direction::Receive => RECEIVE[port] as *mut c_void,
        Direction::Transmit => TRANSMIT[port] as *mut c_void,
    }
}

/// A port is counted from now on: what threads remember of it is void.
pub fn anew(number: usize) {
    if let Some(port) = ALL.get(number) {
        let name = dpdk::port_name(number as u16);
        let words = port.name.iter().zip(name_words(&name));
        words.for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        port.generation.fetch_add(1, Ordering::Relaxed);
    }
}

/// Puts our functions in front of those of every started port that has them not.
pub fn wrap(table: &Table) {
    let (mut wrapped, mut refused) = (0u64, 0u64);
    for number in 0..table.ports().min(64) {
        let (rx, tx) = (table.rx_burst(number), table.tx_burst(number));
        let there = rx.load(Ordering::Acquire);
        let Some(port) = ALL.get(number) else {
            refused |= u64::from(table.is_drivers(there)) << number;
            continue;
        };
        let our_rx = ours(number, Direction::Receive);
        if there != our_rx && table.is_drivers(there) {
            anew(number);
        }
        exchange(table, rx, &port.rx, our_rx);
        exchange(table, tx, &port.tx, ours(number, Direction::Transmit));
        wrapped |= u64::from(rx.load(Ordering::Relaxed) == our_rx) << number;
    }
    counts::tell_ports(wrapped, refused);
}

fn exchange(table: &Table, word: &AtomicPtr<c_void>, kept: &AtomicPtr<c_void>, ours: *mut c_void) {
    let there = word.load(Ordering::Acquire);
    if there == ours || !table.is_drivers(there) {
        return;
    }
    kept.store(there, Ordering::Relaxed);
    // Release: a thread that finds ours in the table finds the driver's kept. If DPDK wrote in between, it stays.
    let _ = word.compare_exchange(there, ours, Ordering::AcqRel, Ordering::Relaxed);
}

/// Puts the drivers' functions back.
pub fn unwrap(table: &Table) {
    for (number, port) in ALL.iter().enumerate().take(table.ports()) {
        for (word, kept, direction) in [
            (table.rx_burst(number), &port.rx, Direction::Receive),
            (table.tx_burst(number), &port.tx, Direction::Transmit),
        ] {
            let (ours, drivers) = (ours(number, direction), kept.load(Ordering::Relaxed));
            let _ = word.compare_exchange(ours, drivers, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
    counts::tell_ports(0, 0);
}
