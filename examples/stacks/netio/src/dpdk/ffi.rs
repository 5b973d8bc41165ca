//! The functions of `shim.c`, and ports and frames that cannot be used wrongly around them.
//!
//! In: a virtual device's name and arguments; out: a [`Port`] and its [`Queue`]s. Unsafe code is fenced in here. What
//! makes it sound: each queue is used by one owner through `&mut`; an mbuf is either held or queued by exactly one queue,
//! and given back by it; a port outlives its queues.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// `struct rte_mbuf`, never looked into.
#[repr(C)]
struct Mbuf {
    _opaque: [u8; 0],
}

/// `struct rte_mempool`, never looked into.
#[repr(C)]
struct Pool {
    _opaque: [u8; 0],
}

/// `struct netio_port`.
#[repr(C)]
#[derive(Debug)]
struct RawPort {
    port: u16,
    mtu: u16,
    if_index: u32,
    mac: [u8; 6],
    pool: *mut Pool,
}

/// `struct netio_frame`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Frame {
    mbuf: *mut Mbuf,
    data: *mut u8,
    len: u32,
    checksum_ok: u32,
}

unsafe extern "C" {
    fn netio_dpdk_start() -> c_int;
    fn netio_dpdk_open(
        name: *const c_char,
        arguments: *const c_char,
        queues: u16,
        depth: u16,
        out: *mut RawPort,
    ) -> c_int;
    fn netio_dpdk_close(name: *const c_char, port: *const RawPort);
    fn netio_dpdk_receive(
        port: u16,
        queue: u16,
        frames: *mut Frame,
        max: u16,
        broken: *mut u64,
    ) -> u16;
    fn netio_dpdk_room(pool: *mut Pool, len: u16, data: *mut *mut u8) -> *mut Mbuf;
    fn netio_dpdk_send(port: u16, queue: u16, mbufs: *mut *mut Mbuf, count: u16) -> u16;
    fn netio_dpdk_free(mbuf: *mut Mbuf);
    fn netio_dpdk_dropped(port: u16) -> u64;
}

/// Descriptors of a ring, and frames that may wait to be sent.
const DEPTH: u16 = 1024;
/// Frames of one call to receive.
const BURST: usize = 64;

/// The right to add or remove devices: DPDK keeps their arguments in a list without a lock, and opening a device on one
/// thread while another opens or closes one crashes in `rte_devargs_next`.
fn devices() -> MutexGuard<'static, ()> {
    static DEVICES: Mutex<()> = Mutex::new(());
    // It guards no data of ours that a panic could have left half changed.
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that has been started.
#[derive(Debug)]
pub struct Port {
    name: CString,
    raw: RawPort,
}

// SAFETY: the port's numbers do not change, its pool may be used by any thread, and DPDK's queues have one owner each.
unsafe impl Send for Port {}
// SAFETY: as above; what changes the port takes it whole.
unsafe impl Sync for Port {}

impl Port {
    /// Makes a virtual device and starts it with so many queues.
    pub fn open(name: &CStr, arguments: &CStr, queues: u16) -> io::Result<(Arc<Port>, Vec<Queue>)> {
        static START: OnceLock<c_int> = OnceLock::new();
        // SAFETY: DPDK is started once in a process; the call takes nothing.
        check(*START.get_or_init(|| unsafe { netio_dpdk_start() }))?;
        let mut raw = RawPort {
            port: 0,
            mtu: 0,
            if_index: 0,
            mac: [0; 6],
            pool: std::ptr::null_mut(),
        };
        let adding = devices();
        // SAFETY: both texts end and live as long as the call, which fills in the structure; no other adds or removes.
        let opened = unsafe {
            netio_dpdk_open(
                name.as_ptr(),
                arguments.as_ptr(),
                queues,
                DEPTH,
                &raw mut raw,
            )
        };
        drop(adding);
        check(opened)?;
        let port = Arc::new(Port {
            name: name.to_owned(),
            raw,
        });
        let queues = (0..queues)
            .map(|number| Queue::new(&port, number))
            .collect();
        Ok((port, queues))
    }

    /// The port's Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.raw.mac
    }

    /// Its MTU.
    pub fn mtu(&self) -> u16 {
        self.raw.mtu
    }

    /// The number of the kernel's interface behind it; 0 if there is none.
    pub fn interface(&self) -> u32 {
        self.raw.if_index
    }

    /// Frames that the port had no room for, on all queues.
    pub fn dropped(&self) -> u64 {
        // SAFETY: the port is open.
        unsafe { netio_dpdk_dropped(self.raw.port) }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _removing = devices();
        // SAFETY: this is the last owner, so no queue is left that could use the port or hold mbufs of its pool; nobody
        // else adds or removes.
        unsafe { netio_dpdk_close(self.name.as_ptr(), &raw const self.raw) }
    }
}

/// One queue in each direction.
#[derive(Debug)]
pub struct Queue {
    port: Arc<Port>,
    number: u16,
    held: Vec<Frame>,
    queued: VecDeque<NonNull<Mbuf>>,
    broken: u64,
}

// SAFETY: mbufs belong to whoever holds them, on any thread; the queue is used through `&mut`, by one thread at a time.
unsafe impl Send for Queue {}

impl Queue {
    fn new(port: &Arc<Port>, number: u16) -> Queue {
        Queue {
            port: port.clone(),
            number,
            held: Vec::with_capacity(BURST),
            queued: VecDeque::with_capacity(DEPTH.into()),
            broken: 0,
        }
    }

    /// Holds up to `max` frames, at most 64; how many there are.
    pub fn receive(&mut self, max: usize) -> usize {
        self.release();
        let (port, number) = (self.port.raw.port, self.number);
        let (frames, room) = (self.held.as_mut_ptr(), BURST.min(max) as u16);
        // SAFETY: the vector has room for `BURST` frames, and the call fills at most `room`.
        let found = unsafe { netio_dpdk_receive(port, number, frames, room, &raw mut self.broken) };
        // SAFETY: so many frames have been filled in.
        unsafe { self.held.set_len(found.into()) };
        self.held.len()
    }

    /// The held frame `index`, and whether its checksums were verified.
    pub fn frame(&self, index: usize) -> (&[u8], bool) {
        let frame = &self.held[index];
        // SAFETY: the frame is in one piece of an mbuf that is held, and nobody else touches, until `release`, which
        // cannot run while this borrow lives.
        let bytes = unsafe { std::slice::from_raw_parts(frame.data, frame.len as usize) };
        (bytes, frame.checksum_ok != 0)
    }

    /// Gives the held frames back.
    pub fn release(&mut self) {
        for frame in self.held.drain(..) {
            // SAFETY: it was held, and is given back once.
            unsafe { netio_dpdk_free(frame.mbuf) };
        }
    }

    /// Queues a frame of `len` bytes and lends its memory.
    pub fn room(&mut self, len: u16) -> Option<&mut [u8]> {
        if self.queued.len() == usize::from(DEPTH) {
            return None;
        }
        let mut data = std::ptr::null_mut();
        // SAFETY: the pool lives as long as the port; the call writes one address.
        let mbuf = unsafe { netio_dpdk_room(self.port.raw.pool, len, &raw mut data) };
        self.queued.push_back(NonNull::new(mbuf)?);
        // SAFETY: the mbuf has `len` bytes there, is ours alone, and the borrow is exclusive. Mbufs hold old frames or
        // the zeros they began with.
        Some(unsafe { std::slice::from_raw_parts_mut(data, len.into()) })
    }

    /// Frames queued.
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Hands queued frames over; how many the port took.
    pub fn send(&mut self) -> usize {
        let (port, number) = (self.port.raw.port, self.number);
        let waiting = self.queued.make_contiguous();
        let (mbufs, count) = (waiting.as_mut_ptr().cast(), waiting.len() as u16);
        // SAFETY: so many mbufs are queued here, each ours; a `NonNull` has the layout of a pointer.
        let taken = unsafe { netio_dpdk_send(port, number, mbufs, count) };
        // The port owns them now.
        self.queued.drain(..usize::from(taken));
        taken.into()
    }

    /// Frames that could not be put into one piece.
    pub fn broken(&self) -> u64 {
        self.broken
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.release();
        for mbuf in self.queued.drain(..) {
            // SAFETY: it was queued here, and is given back once.
            unsafe { netio_dpdk_free(mbuf.as_ptr()) };
        }
    }
}

fn check(done: c_int) -> io::Result<()> {
    match done {
        0.. => Ok(()),
        _ => Err(io::Error::from_raw_os_error(-done)),
    }
}
