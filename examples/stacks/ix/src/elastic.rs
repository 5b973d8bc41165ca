//! The elastic thread's loop, in IX's order.
//!
//! In: a queue, an application; out: rounds, each to completion. It refuses to sleep, to hold packets back and to share
//! anything with other cores: a batch is what arrived while the last one was worked on, up to its bound.

use crate::calls::{Call, Calls};
use crate::conditions::{Condition, Conditions};
use crate::config::IxConfig;
use crate::handles::Handles;
use crate::meter::Meter;
use crate::net::{Net, Piece};
use crate::pcbs::Pcbs;
use crate::side::{Scheduler, TokenState};
use bypassprof_probe::{self as probe, Flow, Stage, Tsc, points};
use stack_netio::{Device, DeviceError};
use stack_port::{Port, Trigger, WhenFull};
use stack_tcp::{Closing, Config, ConnId, Engine, Event, EventKind, ListenerId, TcpError, Time};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Room for pieces that a connection keeps for its next call.
const MOST_PIECES_KEPT: usize = 16;

/// The application, whose handler is called from inside the loop.
pub trait App {
    /// Handles one event condition. What it wants of the network is put down as calls and runs in the next round.
    fn handle(&mut self, condition: Condition, net: &mut Net<'_>);

    /// The memory that a piece names. Only asked for pieces that were sent, before `closed`; a connection for which it is
    /// shorter than the piece said is reset.
    fn memory(&self, conn: ConnId, piece: Piece) -> &[u8];

    /// The call to close the connection has run: nothing of its memory is needed any more.
    fn closed(&mut self, conn: ConnId);
}

/// A queue, an engine and their loop.
pub struct Stack<D> {
    batch: usize,
    engine: Engine,
    port: Port<D>,
    clock: quanta::Clock,
    start: u64,
    pcbs: Pcbs,
    handles: Handles,
    conditions: Conditions,
    calls: Calls,
    scheduler: Scheduler,
    /// The stamp of this round's burst, for what it causes.
    burst: Option<Tsc>,
    frame: Vec<u8>,
    meter: Arc<Meter>,
}

impl<D: Device> Stack<D> {
    /// A stack at rest; all cores of a program share `tokens` and nothing else.
    pub fn new(config: IxConfig, device: D, tokens: TokenState) -> Stack<D> {
        let mut engine = Config::new(device.mac(), config.ip, config.prefix_len);
        engine.mtu = device.mtu();
        engine.policy = config.policy;
        // IX leaves both to its NIC. A device here may sum what is sent; where it does not say that what was received is
        // right, TCP looks.
        engine.policy.offload_checksums = device.offloads().checksum;
        engine.policy.verify_checksums = true;
        engine.max_connections = config.pcbs;
        engine.buffer_memory = config.buffer_memory;
        engine.seed = config.seed;
        let clock = quanta::Clock::new();
        Stack {
            batch: config.batch,
            engine: Engine::new(engine),
            burst: None,
            frame: Vec::new(),
            port: Port::new(device, config.core, config.tx_buffer, WhenFull::Later)
                .cutting(config.segmentation_offload),
            start: clock.raw(),
            clock,
            pcbs: Pcbs::default(),
            handles: Handles::new(config.handle_scan),
            conditions: Conditions::new(config.conditions),
            calls: Calls::new(config.calls),
            scheduler: Scheduler::new(tokens, usize::from(config.core)),
            meter: Arc::default(),
        }
    }

    /// Takes connections on a port.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, TcpError> {
        self.engine.listen(port, backlog)
    }

    /// The core's totals, to look at from any thread.
    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
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
    pub fn ixev_wait(&mut self, app: &mut impl App, stop: &AtomicBool) -> Result<(), DeviceError> {
        let mut now = self.timer_now();
        // A flag that carries no data; it is seen a round later at worst.
        while !stop.load(Ordering::Relaxed) {
            let worked = self.round(app, now);
            let next = self.timer_now();
            self.meter.round(worked.then(|| next.since(now)));
            now = next;
            self.port.check(now)?;
        }
        self.eth_process_send();
        Ok(())
    }

    fn timer_now(&self) -> Time {
        Time::from_nanos(self.clock.delta_as_nanos(self.start, self.clock.raw()))
    }

    /// One round at a moment of the caller's clock, which never goes back; whether it did something. For callers with a
    /// loop of their own: [`Stack::ixev_wait`] uses the CPU's clock.
    #[inline]
    pub fn round(&mut self, app: &mut impl App, now: Time) -> bool {
        self.port.rounds.begin();
        let worked = self.sys_bpoll(app, now);
        let told = self.ix_handle_events(app);
        self.port.rounds.stage(Stage::App);
        self.port.rounds.end();
        worked || told
    }

    /// The kernel's half of a round: calls, timers, packets in, packets out, and the conditions that came of it.
    #[inline(never)]
    fn sys_bpoll(&mut self, app: &mut impl App, now: Time) -> bool {
        self.burst = None;
        let mut worked = self.bsys_dispatch(app, now);
        self.port.rounds.stage(Stage::Rings);
        if self.scheduler.is_on() {
            self.scheduler.nvme_sched();
            self.port.rounds.stage(Stage::Side);
        }
        worked |= self.timer_run(now);
        self.port.rounds.stage(Stage::Timers);
        worked |= self.eth_process_poll(now);
        worked |= self.eth_process_send() > 0;
        self.port.rounds.stage(Stage::Nic);
        self.usys_collect();
        worked
    }

    /// Each connection has one timer, whichever of TCP's deadlines is next.
    #[inline(never)]
    fn timer_run(&mut self, now: Time) -> bool {
        // What the device refused waits until there is room again; the flush of the last round mostly made some.
        let waits_for_room = self.port.refused && self.port.queued() > 0;
        let due = self.engine.next_deadline();
        if waits_for_room || due.is_none_or(|due| due > now) {
            return false;
        }
        self.port.refused = false;
        let ran = self.engine.poll_timers(now, &mut self.port);
        if ran > 0 {
            self.port.rounds.worked(ran);
        }
        ran > 0
    }

    /// Receives a batch and takes each packet through TCP.
    #[inline(never)]
    fn eth_process_poll(&mut self, now: Time) -> bool {
        let received = self.port.rx_burst(self.batch);
        let frames = received.frames;
        if frames == 0 {
            return false;
        }
        self.burst = Some(received.burst.stamp());
        for index in 0..frames {
            let frame = self.port.device.rx_frame(index);
            let meta = received.meta(index, frame);
            self.frame.clear();
            self.frame.extend_from_slice(frame.bytes);
            probe::count_rx_bytes(self.frame.len() as u64);
            self.engine.input(now, &self.frame, meta, &mut self.port);
        }
        self.port.device.rx_release();
        self.meter.batch(frames, frames == self.batch);
        true
    }

    /// Every round flushes; a transmit buffer that is full before does so by itself.
    #[inline(never)]
    fn eth_process_send(&mut self) -> usize {
        self.port.tx_burst(Trigger::Round)
    }

    /// Runs the calls that the last round's handlers put down, in their order.
    #[inline(never)]
    fn bsys_dispatch(&mut self, app: &mut impl App, now: Time) -> bool {
        if self.calls.array.is_empty() {
            return false;
        }
        let mut calls = std::mem::take(&mut self.calls.array);
        self.port.rounds.worked(calls.len() as u32);
        for call in calls.drain(..) {
            match call {
                Call::Accept(conn) => self.bsys_tcp_accept(conn),
                Call::Sendv(conn) => self.bsys_tcp_sendv(conn, app, now),
                Call::RecvDone(conn) => self.bsys_tcp_recv_done(conn, now),
                Call::Shutdown(conn) => self.engine.shutdown(conn, now, &mut self.port),
                Call::Close(conn) => self.bsys_tcp_close(conn, app, now),
            }
        }
        // Its memory is used again.
        self.calls.array = calls;
        true
    }

    #[inline(never)]
    fn bsys_tcp_accept(&mut self, conn: ConnId) {
        let Some(pcb) = self.pcbs.get_mut(conn) else {
            return;
        };
        pcb.accepted = true;
        let (ended, dead) = (pcb.ended, pcb.dead);
        self.handles.take(conn);
        // What came while it knocked.
        self.tell_recv(conn);
        let flow = self.engine.flow(conn);
        if ended {
            self.conditions.usys_tcp_ended(conn, flow, None);
        }
        if let Some(why) = dead {
            self.conditions.usys_tcp_dead(conn, why, flow, None);
        }
    }

    /// Hands the pieces to TCP, whose buffer of 64 KiB has room for all that `send` has taken, and sends what windows
    /// allow.
    #[inline(never)]
    fn bsys_tcp_sendv(&mut self, conn: ConnId, app: &impl App, now: Time) {
        let Some(pcb) = self.pcbs.get_mut(conn) else {
            return;
        };
        let mut whole = true;
        for piece in pcb.pieces.drain(..) {
            let bytes = app.memory(conn, piece);
            let bytes = &bytes[..bytes.len().min(piece.len)];
            let Ok(taken) = self.engine.write(conn, bytes) else {
                // TCP has told of the connection's end, or the application had sent FIN.
                continue;
            };
            pcb.in_tcp += taken;
            whole &= taken == piece.len;
        }
        pcb.pieces.shrink_to(MOST_PIECES_KEPT);
        let ending = pcb.ending;
        if !whole {
            self.abort(conn, now);
        } else if !ending {
            // The call to send FIN comes later in this array and sends these bytes, too.
            self.engine.output(conn, now, &mut self.port);
        }
    }

    /// The core's memory for payload is used up, and what was taken from the application cannot be given back to it.
    #[cold]
    fn abort(&mut self, conn: ConnId, now: Time) {
        let flow = self.engine.flow(conn);
        let memory = self.engine.config().buffer_memory;
        let memory = memory.min(u32::MAX as usize) as u32;
        probe::emit_with(points::FULL, flow, memory, [4, 0, 0]);
        self.engine.abort(conn, now, &mut self.port);
        self.conditions
            .usys_tcp_dead(conn, Closing::Reset, flow, None);
    }

    #[inline(never)]
    fn bsys_tcp_recv_done(&mut self, conn: ConnId, now: Time) {
        let Some(pcb) = self.pcbs.get_mut(conn) else {
            return;
        };
        let done = std::mem::take(&mut pcb.done);
        pcb.told = pcb.told.saturating_sub(done);
        let seen = self.engine.peek(conn).map_or(0, <[u8]>::len);
        self.engine.consume(conn, done, now, &mut self.port);
        if done >= seen {
            // The application has seen all that lay together; there may be more behind it.
            if let Some(rest) = self.engine.peek(conn).map(<[u8]>::len) {
                let flow = self.engine.flow(conn);
                self.conditions.usys_tcp_recv(conn, rest, flow, None);
            }
        }
    }

    #[inline(never)]
    fn bsys_tcp_close(&mut self, conn: ConnId, app: &mut impl App, now: Time) {
        if self.pcbs.get(conn).is_some() {
            self.pcbs.remove(conn);
            self.handles.free(conn);
            self.engine.close(conn, now, &mut self.port);
            app.closed(conn);
        }
    }

    /// Turns TCP's events into conditions, as many as the array holds.
    #[inline(never)]
    fn usys_collect(&mut self) {
        loop {
            if self.conditions.is_full() {
                let capacity = self.conditions.capacity() as u32;
                probe::emit_with(points::FULL, Flow::NONE, capacity, [3, 0, 0]);
                return;
            }
            let Some(event) = self.engine.pop_event() else {
                return;
            };
            self.usys(event);
        }
    }

    fn usys(&mut self, Event { conn, kind }: Event) {
        let flow = self.engine.flow(conn);
        if let EventKind::Accepted(_) | EventKind::Connected = kind {
            if let Some(replaced) = self.pcbs.insert(conn) {
                self.handles.free(replaced);
            }
            self.conditions.usys_tcp_knock(conn, flow, self.burst);
            return;
        }
        let Some(pcb) = self.pcbs.get_mut(conn) else {
            return;
        };
        match kind {
            EventKind::Readable if pcb.accepted => self.tell_recv(conn),
            EventKind::PeerClosed if pcb.accepted => {
                self.conditions.usys_tcp_ended(conn, flow, self.burst);
            }
            EventKind::PeerClosed => pcb.ended = true,
            EventKind::Closed(why) if pcb.accepted => {
                self.conditions.usys_tcp_dead(conn, why, flow, self.burst);
            }
            EventKind::Closed(why) => pcb.dead = Some(why),
            EventKind::Writable => {
                // TCP says that, not how much, was acknowledged: what it does not hold any more.
                let buffer = self.engine.config().policy.send_buffer;
                let room = self.engine.info(conn).map_or(buffer, |info| info.writable);
                let bytes = pcb.in_tcp.saturating_sub(buffer - room);
                if bytes > 0 {
                    pcb.in_tcp -= bytes;
                    pcb.unacked -= bytes;
                    self.conditions.usys_tcp_sent(conn, bytes, flow, self.burst);
                }
            }
            EventKind::Readable | EventKind::Accepted(_) | EventKind::Connected => {}
        }
    }

    /// Tells of bytes that were received and not told yet.
    fn tell_recv(&mut self, conn: ConnId) {
        let readable = self.engine.info(conn).map_or(0, |info| info.readable);
        let Some(pcb) = self.pcbs.get_mut(conn) else {
            return;
        };
        let new = readable.saturating_sub(pcb.told);
        if new > 0 {
            pcb.told = readable;
            let flow = self.engine.flow(conn);
            self.conditions.usys_tcp_recv(conn, new, flow, self.burst);
        }
    }

    /// The application's half of a round: its handler for each condition, as long as its calls fit.
    #[inline(never)]
    fn ix_handle_events(&mut self, app: &mut impl App) -> bool {
        let mut told = 0;
        while self.calls.has_room()
            && let Some(condition) = self.conditions.pop()
        {
            told += 1;
            let alive = |pcb: &crate::pcbs::Pcb| !pcb.closing;
            if !self.pcbs.get(condition.conn).is_some_and(alive) {
                continue;
            }
            let mut net = Net {
                window: self.engine.config().policy.send_buffer,
                engine: &self.engine,
                pcbs: &mut self.pcbs,
                calls: &mut self.calls,
            };
            app.handle(condition, &mut net);
        }
        if !self.calls.has_room() {
            let capacity = self.calls.capacity() as u32;
            probe::emit_with(points::FULL, Flow::NONE, capacity, [3, 0, 0]);
        }
        if told > 0 {
            self.port.rounds.worked(told);
        }
        told > 0
    }
}
