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
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// A burst function as DPDK declares both kinds.
pub type Burst = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, u16) -> u16;

/// Ports that can be wrapped: as many as DPDK is usually built for.
pub const PORTS: usize = 32;

/// A port's own functions, on one cache line.
#[repr(C, align(64))]
struct Port {
    rx: AtomicPtr<c_void>,
    tx: AtomicPtr<c_void>,
    /// By direction. They change when the port is wrapped: what threads remember of its queues is void then.
    marks: [AtomicU64; 2],
    name: [AtomicU64; 4],
}

/// What a mark grows by; the bits below are the port's and the direction's.
const NEXT_MARK: u64 = 1 << 16;

impl Port {
    const fn new(number: usize) -> Port {
        let mark = NEXT_MARK | (number as u64) << 1;
        Port {
            rx: AtomicPtr::new(core::ptr::null_mut()),
            tx: AtomicPtr::new(core::ptr::null_mut()),
            marks: [
                AtomicU64::new(mark | Direction::Receive as u64),
                AtomicU64::new(mark | Direction::Transmit as u64),
            ],
            name: [const { AtomicU64::new(0) }; 4],
        }
    }
}

static ALL: [Port; PORTS] = {
    let mut all = [const { Port::new(0) }; PORTS];
    let mut number = 0;
    while number < PORTS {
        all[number] = Port::new(number);
        number += 1;
    }
    all
};

/// A number that no other port or direction has, nor this one before it was wrapped anew; never 0.
#[inline(always)]
pub fn mark(port: usize, direction: Direction) -> u64 {
    ALL[port].marks[direction as usize].load(Ordering::Relaxed)
}

/// Whose mark it is.
pub fn of_mark(mark: u64) -> (usize, Direction) {
    let direction = if mark & 1 == Direction::Receive as u64 {
        Direction::Receive
    } else {
        Direction::Transmit
    };
    ((mark & (NEXT_MARK - 1)) as usize >> 1, direction)
}

/// A port's own function, which ours calls.
#[inline(always)]
pub fn driver(port: usize, direction: Direction) -> Burst {
    let function = match direction {
        Direction::Receive => &ALL[port].rx,
        Direction::Transmit => &ALL[port].tx,
    };
    // SAFETY: `wrap` stored the driver's function before ours came into the table, and both kinds are declared like this.
    unsafe { core::mem::transmute::<*mut c_void, Burst>(function.load(Ordering::Relaxed)) }
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
    let key = Key::of_table(P, queue, Direction::Receive);
    // SAFETY: the caller's arguments go on as they are.
    unsafe {
        let Some(place) = lane::at_home(key, P, Direction::Receive) else {
            return slow::receive(key, packets, most);
        };
        let received = driver(P, Direction::Receive)(queue, packets, most);
        place.received(received);
        received
    }
}

/// What stands in the table for port `P`'s transmit function.
unsafe extern "C" fn transmit<const P: usize>(
    queue: *mut c_void,
    packets: *mut *mut c_void,
    asked: u16,
) -> u16 {
    let key = Key::of_table(P, queue, Direction::Transmit);
    // SAFETY: as above.
    unsafe {
        let Some(place) = lane::at_home(key, P, Direction::Transmit) else {
            return slow::transmit(key, packets, asked);
        };
        let accepted = driver(P, Direction::Transmit)(queue, packets, asked);
        place.sent(accepted, asked);
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
        for mark in &port.marks {
            mark.fetch_add(NEXT_MARK, Ordering::Relaxed);
        }
    }
}

/// Puts our functions in front of those of every started port that has them not. Returns the ports that have them, and
/// those for which there is no room, one bit each.
pub fn wrap(table: &Table) -> (u64, u64) {
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
    (wrapped, refused)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};

    /// There is one set of ports in a process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    unsafe extern "C" fn drivers(_: *mut c_void, _: *mut *mut c_void, most: u16) -> u16 {
        most
    }

    unsafe extern "C" fn takes_half(data: *mut c_void, frames: *mut *mut c_void, most: u16) -> u16 {
        // SAFETY: the test hands over a word and a frame.
        unsafe { *data.cast::<u64>() = frames as u64 };
        most / 2
    }

    /// Queue, frames and number go on to the driver as they are, and its answer comes back.
    #[test]
    fn nothing_is_changed_on_the_way() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, words) = crate::dpdk::tests::table_of(2, takes_half as *mut c_void);
        wrap(&table);
        let mut frame = core::ptr::null_mut();
        let frames = &raw mut frame;
        for (direction, word) in [
            (Direction::Receive, table.rx_burst(1)),
            (Direction::Transmit, table.tx_burst(1)),
        ] {
            assert_eq!(word.load(Ordering::Relaxed), ours(1, direction));
            // SAFETY: our functions are of this type; the driver is the one above.
            unsafe {
                let function = core::mem::transmute::<*mut c_void, Burst>(ours(1, direction));
                for most in [0, 1, 7, 64, 65, 40_000] {
                    let mut seen = 0u64;
                    assert_eq!(function((&raw mut seen).cast(), frames, most), most / 2);
                    assert_eq!(seen, frames as u64);
                }
            }
        }
        unwrap(&table);
        drop(words);
    }

    /// Ports that there is room for get our functions, those beyond keep theirs and are told; all get theirs back.
    #[test]
    fn ports_beyond_the_room() {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let driver = drivers as *mut c_void;
        let (table, words) = crate::dpdk::tests::table_of(40, driver);
        let (wrapped, refused) = wrap(&table);
        assert_eq!((wrapped, refused), (0xffff_ffff, 0xff << 32));
        let now = |port: usize| {
            [table.rx_burst(port), table.tx_burst(port)].map(|w| w.load(Ordering::Relaxed))
        };
        assert_eq!(
            now(31),
            [ours(31, Direction::Receive), ours(31, Direction::Transmit)]
        );
        assert_eq!(now(32), [driver; 2]);
        assert_ne!(mark(3, Direction::Receive), mark(3, Direction::Transmit));
        assert_eq!(
            of_mark(mark(31, Direction::Transmit)),
            (31, Direction::Transmit)
        );
        // Wrapped once, its mark stays; wrapped again after it was taken out, what was remembered is void.
        let before = mark(0, Direction::Receive);
        wrap(&table);
        assert_eq!(mark(0, Direction::Receive), before);
        unwrap(&table);
        assert!((0..40).all(|port| now(port) == [driver; 2]));
        wrap(&table);
        assert_ne!(mark(0, Direction::Receive), before);
        drop(words);
    }
}
