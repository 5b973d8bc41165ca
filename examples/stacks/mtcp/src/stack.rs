//! The stack thread: rounds in mTCP's order, and its sleep.
//!
//! In: a device and its partner's calls; out: frames and events. It refuses to run the application.

use crate::config::MtcpConfig;
use crate::context::{Accepted, MtcpContext};
use crate::epoll::{Entry, cause};
use crate::jobs::{self, Take};
use crate::shared::{Shared, Totals};
use bypassprof_probe::{self as probe, Flow, Stage, points};
use ringbuf::traits::Split;
use ringbuf::{HeapProd, HeapRb};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stack_netio::{Device, DeviceError};
use stack_port::{Port, Trigger, WhenFull};
use stack_tcp::{Config, ConnId, Engine, ListenerId, TcpError, Time};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the stack thread alone knows of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub conn: ConnId,
    /// FIN is due once the send buffer is empty.
    pub half: bool,
    /// The application has let go; the engine is told once the send buffer is empty.
    pub closing: bool,
    /// The peer sends no more.
    pub fin: bool,
    /// When it last did something.
    pub active: Time,
}

/// One core's stack.
pub struct Stack<D> {
    pub(crate) config: MtcpConfig,
    pub(crate) engine: Engine,
    pub(crate) port: Port<D>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) take: Take,
    pub(crate) accepts: HeapProd<Accepted>,
    /// Events of this round (`mtcp_queue`).
    pub(crate) news: VecDeque<Entry>,
    /// By the connection's index.
    pub(crate) own: Vec<Option<Own>>,
    /// When to see whether a stream still does something, earliest first.
    pub(crate) idle_checks: BinaryHeap<Reverse<(Time, ConnId)>>,
    clock: quanta::Clock,
    start: u64,
    frame: Vec<u8>,
    next_tick: Time,
    /// Rounds without a frame in a row.
    quiet: u32,
    totals: Totals,
}

/// Looks at a core's totals from another thread.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// What the stack thread did so far.
    pub fn totals(&self) -> Totals {
        self.0.totals()
    }
}

/// One core's two halves over one queue of a device (`mtcp_create_context`); `core` is the queue's number in events.
pub fn create<D: Device>(config: MtcpConfig, device: D, core: u8) -> (Stack<D>, MtcpContext) {
    let mut engine = Config::new(device.mac(), config.ip, config.prefix_len);
    engine.mtu = device.mtu();
    engine.policy = config.policy.clone();
    // netmap hands checksums to nobody: they are made and verified here.
    engine.policy.offload_checksums = false;
    engine.max_connections = config.max_streams;
    engine.seed = config.seed;
    let room = (config.policy.receive_buffer, config.policy.send_buffer);
    let shared = Arc::new(Shared::new(config.max_streams, config.events, room));
    let (ask, take) = jobs::make(config.max_streams);
    let (accepts, accepted) = HeapRb::new(config.backlog.max(1)).split();
    let clock = quanta::Clock::new();
    let stack = Stack {
        engine: Engine::new(engine),
        port: Port::new(device, core, config.tx_ring, WhenFull::Again)
            .cutting(config.segmentation_offload),
        shared: shared.clone(),
        take,
        accepts,
        news: VecDeque::new(),
        own: Vec::new(),
        idle_checks: BinaryHeap::new(),
        start: clock.raw(),
        clock,
        frame: Vec::new(),
        next_tick: Time::ZERO + config.tick,
        quiet: 0,
        totals: Totals::default(),
        config,
    };
    (stack, MtcpContext::new(shared, ask, accepted))
}

impl<D: Device> Stack<D> {
    /// Takes connections on a port.
    pub fn listen(&mut self, port: u16) -> Result<ListenerId, TcpError> {
        self.engine.listen(port, self.config.backlog)
    }

    /// Where the totals can be looked at.
    pub fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// The TCP engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The device, to look at.
    pub fn device(&self) -> &D {
        &self.port.device
    }

    /// Runs rounds until `stop` is set or the device carries no more frames; the application's waits end with it.
    #[inline(never)]
    pub fn run_main_loop(&mut self, stop: &AtomicBool) -> Result<(), DeviceError> {
        let mut device = Ok(());
        // A flag that carries no data; it is seen a round and a sleep later at worst.
        while device.is_ok() && !stop.load(Ordering::Relaxed) {
            let now = Time::from_nanos(self.clock.delta_as_nanos(self.start, self.clock.raw()));
            self.round(now);
            self.select();
            device = self.port.check(now);
        }
        self.port.tx_burst(Trigger::Round);
        self.shared.epoll.end();
        device
    }

    /// One round at a moment of the caller's clock, which never goes back; whether it did something. For callers with a
    /// loop of their own: [`Stack::run_main_loop`] uses the CPU's clock, and sleeps between rounds.
    #[inline]
    pub fn round(&mut self, now: Time) -> bool {
        self.port.rounds.begin();
        let received = self.receive(now);
        self.port.rounds.stage(Stage::Nic);
        let ticked = self.check_timers(now);
        self.port.rounds.stage(Stage::Timers);
        let told = self.shared.epoll.flush_epoll_events(&mut self.news);
        let called = self.handle_application_calls(now);
        self.port.rounds.stage(Stage::Rings);
        let written = self.write_packets(now);
        let sent = self.port.tx_burst(Trigger::Round);
        self.port.rounds.stage(Stage::Nic);
        let work = told + called + written;
        if work > 0 {
            self.port.rounds.worked(work as u32);
        }
        self.port.rounds.end();
        self.quiet = if received > 0 { 0 } else { self.quiet + 1 };
        let worked = ticked || received + work + sent > 0;
        self.totals.rounds += 1;
        self.totals.empty_rounds += u64::from(!worked);
        self.tell_totals();
        worked
    }

    fn tell_totals(&mut self) {
        let counters = self.engine.counters();
        self.totals.pure_acks = counters.pure_acks;
        self.totals.segments_out = counters.segments_out;
        self.totals.accepted = counters.accepted;
        self.shared.tell(&self.totals);
    }

    #[inline(never)]
    fn receive(&mut self, now: Time) -> usize {
        let received = self.port.rx_burst(self.config.rx_burst);
        let frames = received.frames;
        if frames == 0 {
            return 0;
        }
        let refused = self.engine.counters().drop_backlog;
        for index in 0..frames {
            let frame = self.port.device.rx_frame(index);
            let meta = received.meta(index, frame);
            self.frame.clear();
            self.frame.extend_from_slice(frame.bytes);
            probe::count_rx_bytes(self.frame.len() as u64);
            self.engine.input(now, &self.frame, meta, &mut self.port);
        }
        self.port.device.rx_release();
        let full = self.engine.connections() >= self.config.max_streams;
        if full && self.engine.counters().drop_backlog > refused {
            let most = self.config.max_streams as u32;
            probe::emit_with(points::FULL, Flow::NONE, most, [3, 0, 0]);
        }
        self.take_news(now);
        frames
    }

    /// Retransmission, TIME-WAIT and idle timers, once a tick.
    #[inline]
    fn check_timers(&mut self, now: Time) -> bool {
        now >= self.next_tick && self.check_rtm_timeout(now)
    }

    #[inline(never)]
    fn check_rtm_timeout(&mut self, now: Time) -> bool {
        let late = now.since(self.next_tick);
        self.next_tick = now + self.config.tick;
        let ran = self.engine.poll_timers(now, &mut self.port);
        let ended = self.check_connection_timeout(now);
        if ran + ended == 0 {
            return false;
        }
        self.take_news(now);
        self.port.rounds.worked(ran + ended);
        let late = late.as_nanos().min(u128::from(u32::MAX)) as u32;
        probe::emit_with(points::TIMER, Flow::NONE, 6, [late, 0, 0]);
        true
    }

    /// The lists, in mTCP's order: what controls connections has been sent already, then what only acknowledges, then
    /// data. An application that has not answered by now finds its request acknowledged by itself.
    #[inline(never)]
    fn write_packets(&mut self, now: Time) -> usize {
        let most = self.config.max_streams;
        let acks = self.engine.flush_acks(now, most, &mut self.port);
        acks + self.engine.flush_data(now, most, &mut self.port)
    }

    /// Looks whether there are frames, and after [`MtcpConfig::idle_polls`] rounds without one waits for it.
    #[inline(never)]
    fn select(&mut self) {
        if self.config.spin {
            return;
        }
        if self.quiet <= self.config.idle_polls {
            wait(&self.port.device, Duration::ZERO);
            return;
        }
        let longest = self.config.sleep;
        let micros = longest.as_micros().min(u128::from(u32::MAX)) as u32;
        // Said to the application's `send_call` events alone.
        self.shared.asleep.store(true, Ordering::Relaxed);
        probe::emit(points::SLEEP, Flow::NONE, micros);
        let woken = wait(&self.port.device, longest);
        let why = if woken { cause::PACKET } else { cause::TIMEOUT };
        probe::emit(points::WAKE, Flow::NONE, why);
        self.shared.asleep.store(false, Ordering::Relaxed);
        self.totals.sleeps += 1;
        self.totals.timeouts += u64::from(!woken);
    }
}

/// Waits for a frame up to `longest`; whether there is one. A device that cannot tell is looked at again later.
fn wait<D: Device>(device: &D, longest: Duration) -> bool {
    let Some(fd) = device.poll_fd() else {
        if !longest.is_zero() {
            std::thread::sleep(longest);
        }
        return false;
    };
    let timeout = Timespec {
        tv_sec: longest.as_secs().cast_signed(),
        tv_nsec: longest.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let found = poll(&mut fds, Some(&timeout)).unwrap_or(0);
    let readable = fds[0].revents().contains(PollFlags::IN);
    if found > 0 && !readable && !longest.is_zero() {
        // A device in trouble, one that was switched off say, would end every wait at once.
        std::thread::sleep(longest);
    }
    readable
}

impl<D> Drop for Stack<D> {
    /// An application whose stack thread is gone, in whatever way, must not wait for it.
    fn drop(&mut self) {
        self.shared.epoll.end();
    }
}
