//! The loop that does everything, in F-Stack's order.
//!
//! In: a device, an application; out: rounds, each to completion. It refuses to sleep: an idle loop polls.

use crate::config::FstackConfig;
use crate::kqueue::Kqueue;
use crate::port::{Port, Trigger};
use crate::rings::{self, Controller, Ends, Injector, Rings};
use crate::sockets::Sockets;
use bypassprof_probe::{self as probe, Flow, Stage, points};
use ringbuf::traits::{Consumer, Observer};
use stack_netio::Device;
use stack_tcp::{Config, Engine, FrameMeta, FrameSink, ListenerId, TcpError, Time, TxHints};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
        // These devices sum nothing.
        engine.policy.offload_checksums = false;
        engine.seed = config.seed;
        let (rings, ends) = rings::make(config.dispatch_ring);
        let clock = quanta::Clock::new();
        Stack {
            engine: Engine::new(engine),
            port: Port::new(device, config.tx_burst),
            start: clock.raw(),
            clock,
            rings,
            ends,
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

    /// The dispatch ring's other end; there is one.
    pub fn injector(&mut self) -> Option<Injector> {
        self.ends.dispatch.take()
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

    /// Runs rounds until `stop` is set, then hands over what still waits.
    #[inline(never)]
    pub fn main_loop(&mut self, app: &mut impl App, stop: &AtomicBool) {
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
        }
        self.port.tx_burst(Trigger::Round);
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
        if probe::enabled() {
            let ticks = self.clock.raw().saturating_sub(self.start) as f64;
            let per_nano = ticks / now.as_nanos().max(1) as f64;
            let late = (late.as_nanos() as f64 * per_nano) as u32;
            probe::emit_with(points::TIMER, Flow::NONE, 6, [late, 0, 0]);
        }
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
            && let Some(bytes) = self.rings.side.try_pop()
        {
            taken += 1;
            if let Some(frame) = self.port.frame(bytes.len(), TxHints::default()) {
                frame.bytes.copy_from_slice(&bytes);
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

    /// Frames that another thread received for this one.
    #[inline(never)]
    fn process_dispatch_ring(&mut self, now: Time) -> bool {
        let mut taken = 0;
        while taken < self.config.rx_burst
            && let Some(frame) = self.rings.dispatch.try_pop()
        {
            taken += 1;
            let burst = probe::Burst::now();
            let depth = self.rings.dispatch.occupied_len();
            burst.emit_with(points::HANDOFF, Flow::NONE, 0, [depth as u32, 0, 0]);
            let meta = FrameMeta {
                checksum_ok: false,
                frame_no: 0,
                burst,
            };
            self.engine.input(now, &frame, meta, &mut self.port);
        }
        if taken > 0 {
            self.port.rounds.worked(taken as u32);
        }
        taken > 0
    }

    #[inline(never)]
    fn receive(&mut self, now: Time) -> bool {
        let (frames, first, burst) = self.port.rx_burst(self.config.rx_burst);
        for index in 0..frames {
            let frame = self.port.device.rx_frame(index);
            let meta = FrameMeta {
                checksum_ok: frame.checksum_ok,
                frame_no: first.wrapping_add(index as u32),
                burst,
            };
            self.frame.clear();
            self.frame.extend_from_slice(frame.bytes);
            probe::count_rx_bytes(self.frame.len() as u64);
            self.engine.input(now, &self.frame, meta, &mut self.port);
        }
        if frames > 0 {
            self.port.device.rx_release();
        }
        frames > 0
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
