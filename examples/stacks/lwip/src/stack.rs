//! The loop: timers, a burst of frames through lwIP, the application's turns, what was made to send.
//!
//! In: a device, an application; out: rounds, each to completion. lwIP is one set of global variables: the process has
//! one stack, which stays on the thread that made it. It refuses to sleep: an idle loop polls.
#![allow(unsafe_code)]

use crate::ffi::{self, ShimConn};
use crate::{LwipConfig, LwipError};
use bypassprof_probe::{self as probe, Flow, Stage, points};
use stack_border::fit::{self, Fit};
use stack_border::{App, Connection, Port, Segment, Tally, Trigger, checksum, flags};
use stack_netio::{Device, DeviceError};
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

// The shim's probes need the library behind the C header.
#[cfg(feature = "probes")]
extern crate bypassprof_capi;

/// Most frames received in a round.
const RX_BURST: usize = 32;
/// Frames that are handed over at once.
const TX_BURST: usize = 64;
/// How often the handshakes under way are counted: lwIP's own list has to be walked for it.
const COUNT_INTERVAL_NS: u64 = 100_000_000;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// A device, lwIP and their loop.
pub struct Stack<D> {
    config: LwipConfig,
    /// From a box: lwIP's output callback comes back to it through this pointer, from inside of other calls, so that no
    /// reference to it may be held across a call of the shim.
    port: NonNull<Port<D>>,
    frame: Vec<u8>,
    free: Vec<u32>,
    indices: u32,
    next_timer: u64,
    next_count: u64,
    half_open: u32,
    clock: quanta::Clock,
    start: u64,
    tally: Arc<Tally>,
}

impl<D: Device> Stack<D> {
    /// A stack that listens. One can be made in the life of a process.
    pub fn new(config: LwipConfig, device: D) -> Result<Stack<D>, LwipError> {
        // A flag that is taken once and guards nothing but itself.
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err(LwipError::Taken);
        }
        let port = Box::new(Port::new(device, TX_BURST));
        let (mac, mtu) = (port.mac(), port.mtu());
        let port = NonNull::from(Box::leak(port));
        let mask = u32::MAX.checked_shl(32 - u32::from(config.prefix_len));
        let plan = ffi::Plan {
            mac,
            mtu,
            ip: config.listen.ip().octets(),
            mask: mask.unwrap_or(0).to_be_bytes(),
            port: config.listen.port(),
            seed: config.seed,
            device: port.as_ptr().cast(),
            output: output::<D>,
        };
        // SAFETY: nobody else uses lwIP in this process (`TAKEN`); the port is leaked and so outlives every callback.
        let error = unsafe { ffi::shim_start(&plan) };
        if error != 0 {
            return Err(LwipError::Start(error));
        }
        let clock = quanta::Clock::new();
        Ok(Stack {
            config,
            port,
            frame: Vec::new(),
            free: Vec::new(),
            indices: 0,
            next_timer: 0,
            next_count: 0,
            half_open: 0,
            start: clock.raw(),
            clock,
            tally: Arc::default(),
        })
    }

    /// What the loop did, to look at from another thread.
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    fn port(&mut self) -> &mut Port<D> {
        // SAFETY: the port is leaked; the pointer is used here and in `output`, on one thread (a `NonNull` is not sent
        // to others), and never while a reference from here is alive: none is held across a call of the shim.
        unsafe { self.port.as_mut() }
    }

    /// Runs rounds until `stop` is set, then hands over what still waits; or until the device has gone.
    #[inline(never)]
    pub fn main_loop(&mut self, app: &mut impl App, stop: &AtomicBool) -> Result<(), DeviceError> {
        let mut now = self.now();
        // A flag that carries no data; it is seen a round later at worst.
        while !stop.load(Ordering::Relaxed) {
            let worked = self.round(app, now);
            let next = self.now();
            self.tally.round(worked, next - now);
            now = next;
            self.port().check(now)?;
        }
        self.port().tx_burst(Trigger::Round);
        Ok(())
    }

    /// In ns since the stack was made.
    fn now(&self) -> u64 {
        self.clock.delta_as_nanos(self.start, self.clock.raw())
    }

    #[inline]
    fn round(&mut self, app: &mut impl App, now: u64) -> bool {
        self.port().queue.rounds.begin();
        let mut worked = self.run_timers(now);
        self.port().queue.rounds.stage(Stage::Timers);
        worked |= self.receive();
        self.port().queue.rounds.stage(Stage::Nic);
        let turns = self.take_turns(app);
        if turns > 0 {
            self.port().queue.rounds.worked(turns);
        }
        self.port().queue.rounds.stage(Stage::App);
        worked |= self.port().tx_burst(Trigger::Round) > 0;
        self.port().queue.rounds.stage(Stage::Nic);
        self.port().queue.rounds.end();
        worked || turns > 0
    }

    /// lwIP reads the clock whenever its timers are looked at, so that is done when the next one is due.
    #[inline]
    fn run_timers(&mut self, now: u64) -> bool {
        if now >= self.next_count {
            self.next_count = now + COUNT_INTERVAL_NS;
            // SAFETY: this thread has the stack.
            self.half_open = unsafe { ffi::shim_half_open() };
        }
        if now < self.next_timer {
            return false;
        }
        self.check_timeouts(now);
        true
    }

    #[inline(never)]
    fn check_timeouts(&mut self, now: u64) {
        let late = now - self.next_timer;
        // SAFETY: this thread has the stack; no reference to the port is alive.
        let sleep = unsafe { ffi::shim_timers() };
        // Without timers lwIP says 2^32 - 1; at least one runs from the start.
        self.next_timer = now + u64::from(sleep.clamp(1, 1000)) * 1_000_000;
        self.port().queue.rounds.worked(1);
        let late = late.min(u64::from(u32::MAX)) as u32;
        probe::emit_with(points::TIMER, Flow::NONE, 6, [late, 0, 0]);
    }

    #[inline(never)]
    fn receive(&mut self) -> bool {
        let frames = self.port().rx_burst(RX_BURST);
        let mut frame = std::mem::take(&mut self.frame);
        for index in 0..frames {
            let (_, checksum_ok) = self.port().take(index, &mut frame);
            match fit::look(&frame, *self.config.listen.ip()) {
                Ok(Fit::Segment(segment)) => {
                    if checksum_ok {
                        // lwIP verifies all there is; a frame that never left this machine may have none yet.
                        checksum::make_right(&mut frame);
                    } else if !checksum::is_right(&frame) {
                        probe::emit(points::DROP, segment.flow(), 4 << 24);
                        continue;
                    }
                    self.make_room(&segment);
                }
                Ok(Fit::Arp | Fit::Echo) => {}
                Err(layer) => {
                    probe::emit(points::DROP, Flow::NONE, layer.kept());
                    continue;
                }
            }
            let stamp = self.port().burst().stamp().raw();
            // SAFETY: this thread has the stack; the frame is borrowed for the call and copied by it; no reference to
            // the port is alive.
            unsafe { ffi::shim_input(frame.as_ptr(), frame.len(), stamp) };
        }
        self.frame = frame;
        if frames > 0 {
            self.port().rx_release();
        }
        frames > 0
    }

    /// Where this segment begins a connection: lets an old one of the same ends go, and the oldest handshake give way if it
    /// is one too many.
    fn make_room(&mut self, segment: &Segment) {
        if segment.flags & (flags::SYN | flags::ACK | flags::RST) != flags::SYN {
            return;
        }
        let (peer, port) = (segment.from.ip().to_bits(), segment.from.port());
        // SAFETY: this thread has the stack; no reference to the port is alive.
        unsafe { ffi::shim_reuse(peer, port, segment.seq) };
        self.half_open += 1;
        let most = self.config.half_open;
        if self.half_open > most {
            // SAFETY: this thread has the stack; no reference to the port is alive.
            self.half_open = 1 + unsafe { ffi::shim_give_way(most) };
            probe::emit_with(points::FULL, segment.flow(), most, [4, 0, 0]);
        }
    }

    /// The turns of the connections that have news now; those that get news by it wait for the next round.
    #[inline(never)]
    fn take_turns(&mut self, app: &mut impl App) -> u32 {
        let mut turns = 0;
        // A turn can bring its own connection back (a send that is acknowledged at once cannot, but a poll can): a
        // bound keeps the round finite.
        while turns < 65_536 {
            // SAFETY: this thread has the stack.
            let Some(conn) = NonNull::new(unsafe { ffi::shim_next_ready() }) else {
                break;
            };
            turns += 1;
            let mut conn = Conn {
                conn,
                is_new: false,
                done: false,
            };
            if conn.index() == u32::MAX as usize {
                conn.is_new = true;
                let index = self.free.pop().unwrap_or_else(|| {
                    self.indices += 1;
                    self.indices - 1
                });
                // SAFETY: the connection is alive until it is released, which happens below and nowhere else.
                unsafe { ffi::shim_set_index(conn.conn.as_ptr(), index) };
                // Counted again soon; until then this is the best guess.
                self.half_open = self.half_open.saturating_sub(1);
            }
            app.turn(&mut conn);
            if conn.done || conn.is_over() {
                self.free.push(conn.index() as u32);
                // SAFETY: as above; it is not on the list of those with news (it was taken off, and what a turn does
                // puts nobody on it), and is not used after this.
                unsafe { ffi::shim_release(conn.conn.as_ptr()) };
            }
        }
        turns
    }
}

/// lwIP sends a frame.
///
/// # Safety
/// `device` is the port of the process's stack, called on its thread; `frame` points to `length` bytes.
unsafe extern "C" fn output<D: Device>(
    device: *mut c_void,
    frame: *const u8,
    length: usize,
) -> c_int {
    // SAFETY: lwIP calls this from inside of the shim's functions, during which no other reference to the port is alive.
    let port = unsafe { &mut *device.cast::<Port<D>>() };
    // SAFETY: the frame is lwIP's, whole, for the length of this call.
    let frame = unsafe { std::slice::from_raw_parts(frame, length) };
    if !port.has_room() {
        return 0;
    }
    let sent = port.send(length, |room| room.copy_from_slice(frame));
    c_int::from(sent.is_some())
}

/// A connection in the application's turn.
struct Conn {
    conn: NonNull<ShimConn>,
    is_new: bool,
    done: bool,
}

impl Conn {
    fn is_over(&self) -> bool {
        // SAFETY: the connection is alive during its turn.
        unsafe { ffi::shim_is_over(self.conn.as_ptr()) != 0 }
    }
}

// In all of these the connection is alive, because its turn is, and no reference to the port is.
impl Connection for Conn {
    fn index(&self) -> usize {
        // SAFETY: see above.
        unsafe { ffi::shim_index(self.conn.as_ptr()) as usize }
    }

    fn is_new(&self) -> bool {
        self.is_new
    }

    fn flow(&self) -> Flow {
        // SAFETY: see above.
        Flow::from_raw(unsafe { ffi::shim_flow(self.conn.as_ptr()) })
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        // SAFETY: see above; the buffer is borrowed for the call.
        unsafe { ffi::shim_receive(self.conn.as_ptr(), buffer.as_mut_ptr(), buffer.len()) }
    }

    fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        // SAFETY: see above; the bytes are copied by the call.
        let send = || unsafe { ffi::shim_send(self.conn.as_ptr(), bytes.as_ptr(), bytes.len()) };
        (!self.is_over()).then(send)
    }

    fn end(&mut self) {
        // SAFETY: see above.
        unsafe { ffi::shim_end(self.conn.as_ptr()) }
    }

    fn has_ended(&self) -> bool {
        // SAFETY: see above.
        unsafe { ffi::shim_has_ended(self.conn.as_ptr()) != 0 }
    }

    fn finish(&mut self) {
        self.done = true;
    }
}
