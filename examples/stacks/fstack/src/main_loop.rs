//! The loop that does everything, in F-Stack's order.
//!
//! In: a device, an application; out: rounds, each to completion. It refuses to sleep: an idle loop polls.

use crate::config::FstackConfig;
use crate::dispatch::Owner;
use crate::kqueue::Kqueue;
use crate::rings::{self, Controller, Ends, Injector, Rings};
use crate::sockets::Sockets;
use bypassprof_probe::{self as probe, Flow, Stage, points};
use ringbuf::traits::Consumer;
use stack_netio::{Device, DeviceError, RxFrame};
use stack_port::{Port, Trigger, WhenFull};
use stack_tcp::{Config, Engine, FrameMeta, FrameSink, ListenerId, TcpError, Time, TxHints};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Gives the cores at one device their numbers and dispatch rings, one for each direction of each pair.
pub fn connect<D: Device>(stacks: &mut [Stack<D>]) {
    let cores = stacks.len();
    for core in 0..cores {
        stacks[core].core = core;
        stacks[core].port.queue = core as u8;
        stacks[core].peers = (0..cores)
            .map(|peer| (peer != core).then(|| stacks[peer].injector(core as u8)))
            .collect();
    }
}

/// Hands a received frame to the cores that have to see it; whether this one has to.
#[inline]
fn protocol_filter(
    config: &FstackConfig,
    core: usize,
    peers: &mut [Option<Injector>],
    frame: RxFrame<'_>,
) -> bool {
    match config.dispatch.owner(frame.bytes, core, peers.len()) {
        Owner::Here => true,
        Owner::Core(owner) => {
            if let Some(Some(peer)) = peers.get_mut(owner) {
                peer.dispatch(frame.bytes, frame.checksum_ok);
            }
            false
        }
        Owner::All => {
            for peer in peers.iter_mut().flatten() {
                peer.dispatch(frame.bytes, frame.checksum_ok);
            }
            true
        }
    }
}

/// The application, called from inside the loop.
pub trait App {
    /// Handles what has happened. Nothing is received until it returns.
    fn turn<D: Device>(&mut self, sockets: &mut Sockets<'_, D>);
}

/// What the loop did since it began, kept whether or not probes listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rounds.
    pub rounds: u64,
    /// Rounds that found nothing to do.
    pub empty_rounds: u64,
    /// Time in rounds that did something.
    pub working: Duration,
}

/// A device, an engine and their loop.
pub struct Stack<D> {
    config: FstackConfig,
    engine: Engine,
    port: Port<D>,
    clock: quanta::Clock,
    start: u64,
    rings: Rings,
    ends: Ends,
    /// Number of this core, and the dispatch rings to all cores; `None` is this one.
    core: usize,
    peers: Vec<Option<Injector>>,
    kqueue: Kqueue,
    frame: Vec<u8>,
    next_tick: Time,
    last_drain: Time,
    last_turn: Time,
    totals: Totals,
}

impl<D: Device> Stack<D> {
    /// A stack at rest.
    pub fn new(config: FstackConfig, device: D) -> Stack<D> {
        let mut engine = Config::new(device.mac(), config.ip, config.prefix_len);
        engine.mtu = device.mtu();
        engine.policy = config.policy.clone();
        // F-Stack leaves sums to the card; what sums nothing gets frames that are summed.
        engine.policy.offload_checksums = device.offloads().checksum;
        engine.seed = config.seed;
        let (rings, ends) = rings::make(config.dispatch_ring);
        let clock = quanta::Clock::new();
        Stack {
            engine: Engine::new(engine),
            port: Port::new(device, 0, config.tx_burst, WhenFull::Later)
                .cutting(config.segmentation_offload),
            start: clock.raw(),
            clock,
            rings,
            ends,
            core: 0,
            peers: Vec::new(),
            kqueue: Kqueue::default(),
            frame: Vec::new(),
            next_tick: Time::ZERO + config.tick,
            last_drain: Time::ZERO,
            last_turn: Time::ZERO,
            totals: Totals::default(),
            config,
        }
    }

    /// Takes connections on a port.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, TcpError> {
        self.engine.listen(port, backlog)
    }

    /// The other end of a new dispatch ring, for the thread that has the number `from` in events.
    pub fn injector(&mut self, from: u8) -> Injector {
        self.rings.dispatch_from(from)
    }

    /// The side ring's other end; there is one, of use if [`FstackConfig::side_poll`] is on.
    pub fn side_injector(&mut self) -> Option<Injector> {
        self.ends.side.take()
    }

    /// The message ring's other end; there is one.
    pub fn controller(&mut self) -> Option<Controller> {
        self.ends.messages.take()
    }

    /// What the loop did so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The TCP engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The device, to look at.
    pub fn device(&self) -> &D {
        &self.port.device
    }

    /// Runs rounds until `stop` is set, then hands over what still waits; or until the device has gone.
    #[inline(never)]
    pub fn main_loop(&mut self, app: &mut impl App, stop: &AtomicBool) -> Result<(), DeviceError> {
        let mut now = self.now();
        // A flag that carries no data; it is seen a round later at worst.
        while !stop.load(Ordering::Relaxed) {
            let worked = self.round(app, now);
            let next = self.now();
            self.totals.rounds += 1;
            if worked {
                self.totals.working += next.since(now);
            } else {
                self.totals.empty_rounds += 1;
            }
            now = next;
            self.port.check(now)?;
        }
        self.port.tx_burst(Trigger::Round);
        Ok(())
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.delta_as_nanos(self.start, self.clock.raw()))
    }

    /// One round at a moment of the caller's clock, which never goes back; whether it did something. For callers with a
    /// loop of their own: [`Stack::main_loop`] uses the CPU's clock.
    #[inline]
    pub fn round(&mut self, app: &mut impl App, now: Time) -> bool {
        self.port.rounds.begin();
        let mut worked = self.run_clock(now);
        self.port.rounds.stage(Stage::Timers);
        worked |= self.drain_transmit(now);
        self.port.rounds.stage(Stage::Nic);
        if self.config.side_poll {
            worked |= self.process_side_ring();
            self.port.rounds.stage(Stage::Side);
        }
        let dispatched = self.process_dispatch_ring(now);
        self.port.rounds.stage(Stage::Rings);
        let received = self.receive(now);
        self.port.rounds.stage(Stage::Nic);
        self.process_msg_ring();
        self.port.rounds.stage(Stage::Rings);
        self.kqueue.take_news(&mut self.engine);
        let packets = dispatched || received;
        if packets || now.since(self.last_turn) >= self.config.tx_delay {
            worked |= self.callback(app, now);
        }
        self.port.rounds.stage(Stage::App);
        if self.config.tx_delay.is_zero() && self.port.queued() > 0 {
            worked |= self.port.tx_burst(Trigger::Round) > 0;
        }
        self.port.rounds.end();
        worked || packets
    }

    /// TCP's clock: looks at the timers once a tick, and at frames that were refused as soon as there is room again.
    #[inline]
    fn run_clock(&mut self, now: Time) -> bool {
        if now >= self.next_tick {
            self.tick(now);
            return true;
        }
        self.port.refused && self.port.queued() == 0 && self.send_refused(now)
    }

    #[inline(never)]
    fn tick(&mut self, now: Time) {
        let late = now.since(self.next_tick);
        self.next_tick = now + self.config.tick;
        let ran = self.engine.poll_timers(now, &mut self.port);
        self.port.rounds.worked(ran.max(1));
        let late = late.as_nanos().min(u128::from(u32::MAX)) as u32;
        probe::emit_with(points::TIMER, Flow::NONE, 6, [late, 0, 0]);
    }

    #[inline(never)]
    fn send_refused(&mut self, now: Time) -> bool {
        self.port.refused = false;
        let ran = self.engine.poll_timers(now, &mut self.port);
        if ran > 0 {
            self.port.rounds.worked(ran);
        }
        ran > 0
    }

    /// Frames that another stack sends through this device, as they are.
    #[inline(never)]
    fn process_side_ring(&mut self) -> bool {
        let mut taken = 0;
        while taken < self.config.rx_burst
            && let Some(handed) = self.rings.side.try_pop()
        {
            taken += 1;
            let bytes = &handed.frame;
            if let Some(frame) = self.port.frame(bytes.len(), TxHints::default()) {
                frame.bytes.copy_from_slice(bytes);
            }
        }
        if taken > 0 {
            self.port.rounds.worked(taken as u32);
        }
        taken > 0
    }

    /// Questions of other threads.
    #[inline(never)]
    fn process_msg_ring(&mut self) {
        while let Some(answer) = self.rings.messages.try_pop() {
            // Whoever asked may have stopped waiting.
            let _ = answer.try_send(self.totals);
        }
    }

    #[inline]
    fn drain_transmit(&mut self, now: Time) -> bool {
        if now.since(self.last_drain) < self.config.tx_delay {
            return false;
        }
        self.last_drain = now;
        self.port.tx_burst(Trigger::Timer) > 0
    }

    /// Frames that other threads received for this one.
    #[inline(never)]
    fn process_dispatch_ring(&mut self, now: Time) -> bool {
        let mut taken = 0;
        for ring in &mut self.rings.dispatch {
            while taken < self.config.rx_burst
                && let Some((handed, depth)) = ring.take()
            {
                taken += 1;
                let burst = probe::Burst::now();
                let more = [depth as u32, handed.age(), 0];
                burst.emit_with(points::HANDOFF, Flow::NONE, ring.from.into(), more);
                let meta = FrameMeta {
                    checksum_ok: handed.checksum_ok,
                    frame_no: self.port.no_frame(),
                    burst,
                };
                self.engine.input(now, &handed.frame, meta, &mut self.port);
            }
        }
        // Whoever came last this time comes first the next.
        if taken > 0 {
            self.rings.dispatch.rotate_left(1);
        }
        if taken > 0 {
            self.port.rounds.worked(taken as u32);
        }
        taken > 0
    }

    #[inline(never)]
    fn receive(&mut self, now: Time) -> bool {
        let received = self.port.rx_burst(self.config.rx_burst);
        for index in 0..received.frames {
            let frame = self.port.device.rx_frame(index);
            probe::count_rx_bytes(frame.bytes.len() as u64);
            if !protocol_filter(&self.config, self.core, &mut self.peers, frame) {
                continue;
            }
            let meta = received.meta(index, frame);
            // The frame is lent by the device that the engine is to answer through, which cannot do both at once.
            self.frame.clear();
            self.frame.extend_from_slice(frame.bytes);
            self.engine.input(now, &self.frame, meta, &mut self.port);
        }
        if received.frames > 0 {
            self.port.device.rx_release();
        }
        received.frames > 0
    }

    #[inline(never)]
    fn callback(&mut self, app: &mut impl App, now: Time) -> bool {
        self.last_turn = now;
        let mut sockets = Sockets {
            engine: &mut self.engine,
            port: &mut self.port,
            kqueue: &mut self.kqueue,
            now,
            taken: 0,
        };
        app.turn(&mut sockets);
        let taken = sockets.taken;
        if taken > 0 {
            self.port.rounds.worked(taken);
        }
        taken > 0
    }
}
