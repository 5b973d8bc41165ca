//! Callbacks of DPDK's own, where its table of burst functions may not be touched.
//!
//! In: ports as they are configured and started; out: one callback per queue, hung there while a recorder wants it. A
//! receive callback is called after the driver, so that its stamp is that of the burst's end; a transmit callback is
//! called before, so that what the device accepts is not known. All of this is under the one look at a time of `watch`.

use crate::lane::{self, Direction};
use crate::ports::PORTS;
use crate::queue::Key;
use crate::{counts, dpdk, ports, slow};
use core::ffi::{CStr, c_int, c_void};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Queues of a port and direction that get callbacks.
const QUEUES: usize = 64;

/// A port's numbers of queues, and what hangs on them.
struct Port {
    receive: AtomicU32,
    transmit: AtomicU32,
    started: AtomicU32,
    hung: [[AtomicPtr<c_void>; QUEUES]; 2],
}

static ALL: [Port; PORTS] = [const {
    Port {
        receive: AtomicU32::new(0),
        transmit: AtomicU32::new(0),
        started: AtomicU32::new(0),
        hung: [const { [const { AtomicPtr::new(core::ptr::null_mut()) }; QUEUES] }; 2],
    }
}; PORTS];

/// A port was given its numbers of queues. DPDK forgets callbacks of queues that go.
pub fn configured(port: u16, receive: u16, transmit: u16) {
    if let Some(port) = ALL.get(usize::from(port)) {
        port.started.store(0, Ordering::Relaxed);
        take_off_port(port, usize::from(receive), usize::from(transmit));
        port.receive.store(u32::from(receive), Ordering::Relaxed);
        port.transmit.store(u32::from(transmit), Ordering::Relaxed);
    }
}

/// A port was started.
pub fn started(port: u16) {
    if let Some(port) = ALL.get(usize::from(port)) {
        port.started.store(1, Ordering::Relaxed);
    }
}

/// Hangs a callback on every queue of the ports that have been started. Returns the ports that have any, one bit each.
pub fn hang() -> u64 {
    let mut seen = 0u64;
    for (number, port) in ALL.iter().enumerate() {
        if port.started.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let [receive, transmit] = [&port.receive, &port.transmit]
            .map(|n| (n.load(Ordering::Relaxed) as usize).min(QUEUES));
        let bare = |queues: &[AtomicPtr<c_void>]| {
            queues.iter().any(|q| q.load(Ordering::Relaxed).is_null())
        };
        if bare(&port.hung[0][..receive]) || bare(&port.hung[1][..transmit]) {
            ports::anew(number);
        }
        for (queues, name, ours) in [
            (
                &port.hung[0][..receive],
                c"rte_eth_add_rx_callback",
                received as *const c_void,
            ),
            (
                &port.hung[1][..transmit],
                c"rte_eth_add_tx_callback",
                sent as *const c_void,
            ),
        ] {
            for (queue, place) in queues.iter().enumerate() {
                if place.load(Ordering::Relaxed).is_null() {
                    place.store(add(name, number, queue, ours), Ordering::Relaxed);
                }
                seen |= u64::from(!place.load(Ordering::Relaxed).is_null()) << number;
            }
        }
    }
    counts::tell_ports(seen, 0);
    seen
}

/// Takes all callbacks off.
pub fn take_off() {
    ALL.iter().for_each(|port| take_off_port(port, 0, 0));
    counts::tell_ports(0, 0);
}

/// Takes off those of queues from these numbers on.
fn take_off_port(port: &'static Port, receive: usize, transmit: usize) {
    let Some(number) = ALL.iter().position(|p| core::ptr::eq(p, port)) else {
        return;
    };
    for (queues, from, name) in [
        (&port.hung[0], receive, c"rte_eth_remove_rx_callback"),
        (&port.hung[1], transmit, c"rte_eth_remove_tx_callback"),
    ] {
        for (queue, place) in queues.iter().enumerate().skip(from) {
            let hung = place.swap(core::ptr::null_mut(), Ordering::Relaxed);
            if !hung.is_null() {
                remove(name, number, queue, hung);
            }
        }
    }
}

fn add(name: &CStr, port: usize, queue: usize, ours: *const c_void) -> *mut c_void {
    type Add = extern "C" fn(u16, u16, *const c_void, *mut c_void) -> *mut c_void;
    let Some(function) = dpdk::function(name) else {
        return core::ptr::null_mut();
    };
    // SAFETY: DPDK declares both so in every version; ours are of the types that they take.
    let function: Add = unsafe { core::mem::transmute(function) };
    function(port as u16, queue as u16, ours, core::ptr::null_mut())
}

/// DPDK does not free what is taken off, since a thread may be in the middle of it; neither does this.
fn remove(name: &CStr, port: usize, queue: usize, hung: *mut c_void) {
    type Remove = extern "C" fn(u16, u16, *mut c_void) -> c_int;
    if let Some(function) = dpdk::function(name) {
        // SAFETY: DPDK declares both so in every version.
        let function: Remove = unsafe { core::mem::transmute(function) };
        function(port as u16, queue as u16, hung);
    }
}

/// A receive call came back, with nothing too.
unsafe extern "C" fn received(
    port: u16,
    queue: u16,
    frames: *mut *mut c_void,
    count: u16,
    most: u16,
    _: *mut c_void,
) -> u16 {
    let port = usize::from(port);
    let key = Key::of_callback(port, queue, Direction::Receive);
    match lane::at_home(key, port, Direction::Receive).or_else(|| lane::elsewhere(key)) {
        Some(place) => place.received(count),
        // SAFETY: DPDK hands over so many frames.
        None => unsafe {
            slow::received_by(key, bypassprof_probe::now(), frames, count, most);
        },
    }
    count
}

/// A transmit call is about to be made.
unsafe extern "C" fn sent(
    port: u16,
    queue: u16,
    frames: *mut *mut c_void,
    count: u16,
    _: *mut c_void,
) -> u16 {
    let port = usize::from(port);
    let key = Key::of_callback(port, queue, Direction::Transmit);
    match lane::at_home(key, port, Direction::Transmit).or_else(|| lane::elsewhere(key)) {
        Some(place) => place.sent(count, count),
        None => {
            let stamp = bypassprof_probe::now();
            // SAFETY: DPDK hands over so many frames.
            let looked = unsafe { slow::looked_before(frames, count) };
            slow::sent_by(key, stamp, looked.as_ref(), count, count);
        }
    }
    count
}
