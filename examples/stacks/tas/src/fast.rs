//! The fast path: one thread a queue, for everything about established flows that happens all the time.
//!
//! In: frames, bumps of applications, what the slow path asks for; out: frames, news for applications, detours to the
//! slow path. The order of a round and its sizes are TAS's: 16 frames, ARX, transmit, 64 forwarded frames, 16 segments
//! of the queue manager, all 16 contexts looked at three times, 8 entries of the slow path, transmit. It refuses to
//! know handshakes, retransmission timeouts and teardown.

mod context;
mod frames;
mod orders;
mod port;
mod qman;
mod sleep;

use crate::clock::Clock;
use crate::config::{CONTEXTS, ServiceConfig};
use crate::entry::Arx;
use crate::shared::{Forwarded, Shared, ToFast, ToSlow, own_points};
use bypassprof_probe::{self as probe, Flow as Label, Point, Stage};
use context::Context;
pub(crate) use context::age;
pub use frames::{label, label_of};
use port::Port;
use qman::Qman;
use ringbuf::traits::{Consumer, Producer};
use ringbuf::{HeapCons, HeapProd};
use stack_netio::{Device, DeviceError};
use stack_tcp::Time;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rounds between two writings of the counts that applications see.
const COUNTED: u64 = 1024;

/// A fast-path core's queues to and from the others.
pub struct Links {
    /// To the slow path.
    pub to_slow: HeapProd<ToSlow>,
    /// From the slow path.
    pub from_slow: HeapCons<ToFast>,
    /// To each core; none to itself.
    pub forward_to: Vec<Option<HeapProd<Forwarded>>>,
    /// From the other cores.
    pub forward_from: Vec<HeapCons<Forwarded>>,
}

/// One fast-path core.
pub struct FastPath<D> {
    index: u8,
    shared: Arc<Shared>,
    config: Arc<ServiceConfig>,
    clock: Clock,
    port: Port<D>,
    links: Links,
    qman: Qman,
    contexts: [Option<Context>; CONTEXTS],
    /// News of this batch, by context.
    arx_cache: Vec<(u8, Arx, Label)>,
    /// What the slow path has to get and its queue had no room for.
    owed: VecDeque<ToSlow>,
    told_slow: bool,
    fire: Point,
    worked: bool,
    rounds: u64,
    empty: u64,
    working: u64,
}

impl<D: Device> FastPath<D> {
    /// Core number `index` with its queue of the device.
    pub fn new(
        index: u8,
        device: D,
        shared: Arc<Shared>,
        config: Arc<ServiceConfig>,
        clock: Clock,
        links: Links,
    ) -> FastPath<D> {
        FastPath {
            index,
            port: Port::new(index, device, shared.clone(), config.segmentation_offload),
            shared,
            config,
            clock,
            links,
            qman: Qman::default(),
            contexts: [const { None }; CONTEXTS],
            arx_cache: Vec::new(),
            owed: VecDeque::new(),
            told_slow: false,
            fire: probe::register(own_points::QMAN_FIRE),
            worked: false,
            rounds: 0,
            empty: 0,
            working: 0,
        }
    }

    /// Runs rounds until the service ends, or the device has gone.
    #[inline(never)]
    pub fn dataplane_loop(&mut self) -> Result<(), DeviceError> {
        let spin = self.config.spin.as_nanos() as u64;
        let mut now = self.clock.now();
        let mut last_work = now;
        while !self.shared.stopping() {
            let worked = self.round(now);
            let next = self.clock.now();
            self.rounds += 1;
            if worked {
                self.working += next - now;
                last_work = next;
            } else {
                self.empty += 1;
            }
            if self.rounds.is_multiple_of(COUNTED) {
                self.show_counts();
            }
            now = next;
            if !worked && !self.config.no_ints && now - last_work >= spin && self.sleep(now) {
                now = self.clock.now();
                last_work = now;
            }
            self.port.queue.check(Time::from_nanos(now))?;
        }
        // What the slow path said at the end: resets.
        while let Some(message) = self.links.from_slow.try_pop() {
            if let ToFast::Frame(frame) = message {
                self.port.send_frame(&frame);
            }
        }
        self.port.tx_flush();
        Ok(())
    }

    fn round(&mut self, now: u64) -> bool {
        self.worked = false;
        self.port.queue.rounds.begin();
        self.poll_rx(now);
        self.port.queue.rounds.stage(Stage::Nic);
        self.arx_cache_flush();
        self.port.queue.rounds.stage(Stage::Rings);
        self.flush();
        self.port.queue.rounds.stage(Stage::Nic);
        self.poll_forwarded(now);
        self.port.queue.rounds.stage(Stage::Rings);
        self.poll_qman(now);
        self.port.queue.rounds.stage(Stage::Timers);
        self.poll_queues(now);
        self.poll_kernel(now);
        self.arx_cache_flush();
        self.port.queue.rounds.stage(Stage::Rings);
        self.flush();
        self.port.queue.rounds.stage(Stage::Nic);
        self.ring_slow_path();
        self.port.queue.rounds.end();
        self.worked
    }

    fn did(&mut self, n: usize) {
        if n > 0 {
            self.worked = true;
            self.port.queue.rounds.worked(n as u32);
        }
    }

    fn flush(&mut self) {
        let sent = self.port.tx_flush();
        self.did(sent);
    }

    /// For what must not be lost.
    fn tell_slow(&mut self, message: ToSlow) {
        self.told_slow = true;
        self.owed.push_back(message);
    }

    fn ring_slow_path(&mut self) {
        while let Some(message) = self.owed.pop_front() {
            if let Err(message) = self.links.to_slow.try_push(message) {
                self.owed.push_front(message);
                break;
            }
        }
        if std::mem::take(&mut self.told_slow) {
            self.shared.slow_bell.ring();
        }
    }

    #[inline(never)]
    fn arx_cache_flush(&mut self) {
        let mut bad = None;
        for (at, arx, label) in self.arx_cache.drain(..) {
            if let Some(Some(context)) = self.contexts.get_mut(usize::from(at))
                && context.tell(arx, label).is_err()
            {
                bad = Some(at);
            }
        }
        for context in self.contexts.iter_mut().flatten() {
            context.notify_appctx();
        }
        if let Some(at) = bad {
            self.give_up(at);
        }
    }

    /// A context whose memory has nonsense in it is not looked at any more; the slow path resets its flows.
    fn give_up(&mut self, at: u8) {
        self.contexts[usize::from(at)] = None;
        self.tell_slow(ToSlow::BadContext(at));
    }

    fn show_counts(&self) {
        let counts = [self.rounds, self.empty, self.working];
        for context in self.contexts.iter().flatten() {
            let at = context.part.layout.counts(usize::from(self.index));
            for (word, count) in counts.into_iter().enumerate() {
                let word = context.part.region.word(at + 8 * word);
                word.store(count, Ordering::Relaxed);
            }
        }
    }
}
