//! The fast path: one thread a queue, for everything about established flows that happens all the time.
//!
//! In: frames, bumps of applications, what the slow path asks for; out: frames, news for applications, detours to the
//! slow path. The order of a round and its sizes are TAS's: 16 frames, ARX, transmit, 64 forwarded frames, 16 segments
//! of the queue manager, all 16 contexts looked at three times, 8 entries of the slow path, transmit. It refuses to
//! know handshakes, retransmission timeouts and teardown.

mod context;
mod port;
mod qman;

use crate::clock::Clock;
use crate::config::{
    ATX_BATCH, CONTEXTS, FORWARD_BATCH, KERNEL_BATCH, QMAN_BATCH, RX_BATCH, ServiceConfig,
};
use crate::entry::{Arx, Atx, FlowId};
use crate::flow::{Flow, Key, Taken};
use crate::frame::{Incoming, Reject, fast_flows_packet_parse};
use crate::shared::{
    Counts, Detour, Forwarded, Shared, ToFast, ToSlow, own_points, queues, sleep_across,
};
use crate::shm::Corrupt;
use bypassprof_probe::{self as probe, Burst, Flow as Label, Point, Stage, points};
use context::Context;
pub(crate) use context::age;
use port::Port;
use qman::Qman;
use ringbuf::traits::{Consumer, Observer, Producer};
use ringbuf::{HeapCons, HeapProd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use stack_netio::Device;
use stack_tcp::wire::tcp::{Segment, flags};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

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

/// What is to become of a frame.
enum Verdict<'a> {
    Ours(Handled<'a>),
    Slow(Detour, Vec<u8>),
    Forward(u8, Label, Vec<u8>),
    Drop(Reject),
}

/// A frame that its flow has taken.
struct Handled<'a> {
    index: u32,
    flow: MutexGuard<'a, Flow>,
    taken: Taken,
    what: u32,
    window: u32,
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
            port: Port::new(index, device, shared.clone()),
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

    /// Runs rounds until the service ends.
    #[inline(never)]
    pub fn dataplane_loop(&mut self) {
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
        }
        // What the slow path said at the end: resets.
        while let Some(message) = self.links.from_slow.try_pop() {
            if let ToFast::Frame(frame) = message {
                self.port.send_frame(&frame);
            }
        }
        self.port.tx_flush();
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

    #[inline(never)]
    fn poll_rx(&mut self, now: u64) {
        let received = self.port.network_poll(RX_BATCH);
        let frames = received.frames;
        if frames == 0 {
            return;
        }
        let shared = self.shared.clone();
        for index in 0..frames {
            let frame = self.port.queue.device.rx_frame(index);
            probe::count_rx_bytes(frame.bytes.len() as u64);
            let verdict = fast_flows_packet_fss(
                &shared,
                self.index,
                frame.bytes,
                frame.checksum_ok,
                false,
                now,
            );
            let number = received.first.wrapping_add(index as u32);
            self.settle(verdict, number, received.burst, now);
        }
        self.port.queue.device.rx_release();
        self.did(frames);
    }

    fn settle(&mut self, verdict: Verdict<'_>, number: u32, burst: Burst, now: u64) {
        match verdict {
            Verdict::Ours(handled) => self.fast_flows_packet(handled, number, burst, now),
            Verdict::Slow(reason, frame) => self.fast_kernel_packet(frame, reason),
            Verdict::Forward(core, label, frame) => self.forward(core, label, frame),
            Verdict::Drop(reject) => {
                burst.emit(points::DROP, Label::NONE, reject as u32);
            }
        }
    }

    /// What a segment of an established flow leads to: an acknowledgement at once, news for the application, more to
    /// send.
    #[inline(never)]
    fn fast_flows_packet(&mut self, handled: Handled<'_>, number: u32, burst: Burst, now: u64) {
        let Handled {
            index,
            mut flow,
            taken,
            what,
            window,
        } = handled;
        Counts::add(&self.shared.counts[usize::from(self.index)].segments_in);
        let more = [what, taken.tx_bump, window];
        burst.emit_with(points::TCP_IN, flow.label, number, more);
        if flow.app_closed {
            // Nobody reads it.
            flow.rx_avail += taken.rx_bump;
        }
        if taken.ack {
            self.port.flow_tx_ack(&mut flow, now);
        }
        if taken.send {
            self.qman.qman_set(index, flow.tx_rate, now);
        }
        let news = taken.rx_bump > 0 || taken.tx_bump > 0 || taken.fin;
        if news && !flow.app_closed {
            let arx = Arx {
                opaque: flow.opaque,
                rx_bump: taken.rx_bump,
                tx_bump: taken.tx_bump,
                fin: taken.fin,
                received: burst.stamp().raw(),
                written: 0,
            };
            self.arx_cache.push((flow.context, arx, flow.label));
        }
        if taken.finished && flow.app_closed {
            let id = flow.id(index);
            drop(flow);
            self.tell_slow(ToSlow::Finished(id));
        }
    }

    #[inline(never)]
    fn fast_kernel_packet(&mut self, frame: Vec<u8>, reason: Detour) {
        Counts::add(&self.shared.counts[usize::from(self.index)].detours);
        let stamp = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        let label = label_of(&frame, self.shared.ip);
        probe::emit(points::SLOW_PATH, label, reason as u32);
        let message = ToSlow::Packet {
            frame,
            reason,
            stamp,
        };
        self.told_slow = true;
        if self.links.to_slow.try_push(message).is_err() {
            let capacity = self.links.to_slow.capacity().get() as u32;
            probe::emit_with(points::FULL, label, capacity, [0, 0, 0]);
        }
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

    fn forward(&mut self, core: u8, label: Label, frame: Vec<u8>) {
        Counts::add(&self.shared.counts[usize::from(self.index)].forwarded);
        let stamp = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        let ring = self.links.forward_to.get_mut(usize::from(core));
        if let Some(Some(ring)) = ring
            && ring.try_push(Forwarded { frame, stamp }).is_err()
        {
            let capacity = ring.capacity().get() as u32;
            probe::emit_with(points::FULL, label, capacity, [0, 0, 0]);
        }
        if let Some(bell) = self.shared.fast_bells.get(usize::from(core)) {
            bell.ring();
        }
    }

    #[inline(never)]
    fn poll_forwarded(&mut self, now: u64) {
        let shared = self.shared.clone();
        let mut taken = 0;
        for from in 0..self.links.forward_from.len() {
            while taken < FORWARD_BATCH
                && let Some(Forwarded { frame, stamp }) = self.links.forward_from[from].try_pop()
            {
                taken += 1;
                let burst = Burst::now();
                let depth = self.links.forward_from[from].occupied_len() as u32;
                let age = age(probe::now().raw(), stamp);
                let queue = queues::FORWARD | u32::from(self.index);
                let label = label_of(&frame, shared.ip);
                burst.emit_with(points::HANDOFF, label, queue, [depth, age, 0]);
                let verdict = fast_flows_packet_fss(&shared, self.index, &frame, true, false, now);
                self.settle(verdict, 0, burst, now);
            }
        }
        self.did(taken);
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

    #[inline(never)]
    fn poll_qman(&mut self, now: u64) {
        let shared = self.shared.clone();
        let mut fired = 0;
        while fired < QMAN_BATCH
            && let Some(turn) = self.qman.qman_poll(now)
        {
            fired += 1;
            let Some(mut flow) = shared.table.lock(turn.flow) else {
                continue;
            };
            if !flow.open || flow.core != self.index {
                continue;
            }
            let late = turn.late.min(u64::from(u32::MAX)) as u32;
            let rate = (turn.rate / 1000).min(u64::from(u32::MAX)) as u32;
            probe::emit_with(self.fire, flow.label, late, [rate, flow.tx_avail, 0]);
            if !self.fast_flows_qman(&mut flow, turn.flow, now) {
                break;
            }
        }
        self.did(fired);
    }

    /// Sends one segment of a flow; `false` while the device takes none.
    #[inline(never)]
    fn fast_flows_qman(&mut self, flow: &mut Flow, index: u32, now: u64) -> bool {
        let (Some(outgoing), limit) = flow.sendable(flow.tx_rate > 0) else {
            return true;
        };
        let sent = self.port.flow_tx_segment(flow, &outgoing, limit, now);
        if sent {
            self.qman.charge(index, outgoing.len);
        }
        if !sent || flow.sendable(false).0.is_some() {
            self.qman.qman_set_again(index, flow.tx_rate, now);
        }
        sent
    }

    /// All contexts, three times, whether or not there is an application in them.
    #[inline(never)]
    fn poll_queues(&mut self, now: u64) {
        self.fast_appctx_poll_pf();
        let waiting = self.fast_appctx_poll_fetch();
        for at in 0..CONTEXTS {
            if waiting & (1 << at) != 0 {
                self.fast_appctx_poll_bump(at, now);
            }
        }
        self.fast_actx_rxq_probe();
    }

    #[inline(never)]
    fn fast_appctx_poll_pf(&self) {
        for context in self.contexts.iter().flatten() {
            std::hint::black_box(context.prefetch());
        }
    }

    #[inline(never)]
    fn fast_appctx_poll_fetch(&mut self) -> u32 {
        let (mut waiting, mut bad) = (0, 0);
        for (at, context) in self.contexts.iter_mut().enumerate() {
            match context.as_mut().map(Context::fetch) {
                Some(Ok(true)) => waiting |= 1 << at,
                Some(Err(Corrupt)) => bad |= 1 << at,
                _ => {}
            }
        }
        self.give_up_all(bad);
        waiting
    }

    #[inline(never)]
    fn fast_actx_rxq_probe(&mut self) {
        let mut bad = 0;
        for (at, context) in self.contexts.iter_mut().enumerate() {
            if let Some(context) = context
                && (context.probe_room().is_err()
                    || (context.is_behind() && context.catch_up().is_err()))
            {
                bad |= 1 << at;
            }
        }
        self.give_up_all(bad);
    }

    fn give_up_all(&mut self, bad: u32) {
        for at in 0..CONTEXTS as u8 {
            if bad & (1 << at) != 0 {
                self.give_up(at);
            }
        }
    }

    #[inline(never)]
    fn fast_appctx_poll_bump(&mut self, at: usize, now: u64) {
        let mut taken = 0;
        while taken < ATX_BATCH
            && let Some(context) = &mut self.contexts[at]
        {
            match context.next_bump() {
                Ok(Some((Some(atx), stamp))) => self.fast_flows_bump(at, atx, stamp, now),
                // An entry that means nothing is passed over, as an application's mistake that harms itself alone.
                Ok(Some((None, _))) => {}
                Ok(None) => break,
                Err(Corrupt) => self.give_up(at as u8),
            }
            taken += 1;
        }
        self.did(taken);
    }

    #[inline(never)]
    fn fast_flows_bump(&mut self, at: usize, atx: Atx, stamp: u64, now: u64) {
        let shared = self.shared.clone();
        let Some(mut flow) = self.named(&shared, atx.flow) else {
            return;
        };
        if usize::from(flow.context) != at {
            return;
        }
        if let Some(context) = &self.contexts[at] {
            context.bump_taken(flow.label, stamp);
        }
        match flow.bump(&atx) {
            Ok(tell) => {
                if tell {
                    self.port.flow_tx_ack(&mut flow, now);
                }
                if flow.sendable(false).0.is_some() {
                    self.qman.qman_set(atx.flow.index, flow.tx_rate, now);
                }
            }
            Err(_) => {
                drop(flow);
                self.tell_slow(ToSlow::BadFlow(atx.flow));
            }
        }
    }

    /// The open flow of this name, if it is this core's.
    fn named<'a>(&self, shared: &'a Shared, id: FlowId) -> Option<MutexGuard<'a, Flow>> {
        let flow = shared.table.lock(id.index)?;
        let ours = flow.open && flow.generation == id.generation && flow.core == self.index;
        ours.then_some(flow)
    }

    #[inline(never)]
    fn poll_kernel(&mut self, now: u64) {
        let mut taken = 0;
        while taken < KERNEL_BATCH
            && let Some(message) = self.links.from_slow.try_pop()
        {
            taken += 1;
            self.fast_kernel_poll(message, now);
        }
        self.did(taken);
    }

    #[inline(never)]
    fn fast_kernel_poll(&mut self, message: ToFast, now: u64) {
        let shared = self.shared.clone();
        match message {
            // A frame that the device does not take is lost, as on a link.
            ToFast::Frame(frame) => {
                self.port.send_frame(&frame);
            }
            ToFast::Process { frame, stamp } => {
                let burst = Burst::now();
                let depth = self.links.from_slow.occupied_len() as u32;
                let queue = queues::TO_FAST | u32::from(self.index);
                let age = age(probe::now().raw(), stamp);
                let label = label_of(&frame, shared.ip);
                burst.emit_with(points::HANDOFF, label, queue, [depth, age, 0]);
                let verdict = fast_flows_packet_fss(&shared, self.index, &frame, true, true, now);
                // The slow path has just seen its flow: without one it is a latecomer.
                if !matches!(verdict, Verdict::Slow(..)) {
                    self.settle(verdict, 0, burst, now);
                }
            }
            ToFast::Retransmit(id) => {
                if let Some(mut flow) = self.named(&shared, id) {
                    flow.rewind();
                    self.qman.qman_set(id.index, flow.tx_rate, now);
                }
            }
            ToFast::Probe(id) => {
                if let Some(mut flow) = self.named(&shared, id) {
                    self.port.flow_tx_probe(&mut flow, now);
                }
            }
            ToFast::Attach(at, part) => {
                let context = Context::new(at, usize::from(self.index), part);
                self.contexts[usize::from(at)] = Some(context);
            }
            ToFast::Detach(at) => {
                self.contexts[usize::from(at)] = None;
                self.tell_slow(ToSlow::Detached(at));
            }
        }
    }

    /// Sleeps until something happens; whether it did sleep.
    fn sleep(&mut self, now: u64) -> bool {
        let timeout = match self.qman.next_due() {
            Some(due) if due <= now => return false,
            Some(due) => Some(due - now),
            None if self.has_to_look() => Some(1_000_000),
            None => None,
        };
        self.show_counts();
        let shared = self.shared.clone();
        let bell = &shared.fast_bells[usize::from(self.index)];
        bell.going_to_sleep();
        self.set_sleeping(true);
        // Whoever did not see the flags has filled a queue before.
        let worked = self.round(self.clock.now());
        if !worked && !shared.stopping() {
            self.wait(timeout);
        }
        self.set_sleeping(false);
        bell.awake();
        !worked
    }

    /// Something may come without a bell: room in the device or in an application's queue, or frames of a device that
    /// cannot be waited for.
    fn has_to_look(&self) -> bool {
        self.port.queue.device.tx_queued() > 0
            || self.port.queue.device.poll_fd().is_none()
            || self.contexts.iter().flatten().any(Context::is_behind)
    }

    fn set_sleeping(&self, asleep: bool) {
        let core = usize::from(self.index);
        for context in self.contexts.iter().flatten() {
            let part = &context.part;
            sleep_across(&part.region, part.layout.fast_sleeps(core), asleep);
        }
    }

    fn wait(&mut self, timeout: Option<u64>) {
        let micros = timeout.map_or(0, |ns| (ns / 1000).clamp(1, u64::from(u32::MAX)) as u32);
        probe::emit(points::SLEEP, Label::NONE, micros);
        let core = usize::from(self.index);
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let bells = self.contexts.iter().flatten();
        let bells = bells.filter_map(|c| c.part.fast_bells.get(core));
        let mut fds = vec![readable(self.shared.fast_bells[core].fd.as_fd())];
        fds.extend(bells.map(|bell| readable(bell.as_fd())));
        fds.extend(self.port.queue.device.poll_fd().map(readable));
        let device = self.port.queue.device.poll_fd().map(|_| fds.len() - 1);
        let limit = timeout.map(|ns| Timespec {
            tv_sec: (ns / 1_000_000_000).cast_signed(),
            tv_nsec: (ns % 1_000_000_000).cast_signed(),
        });
        // A signal ends the sleep, and the loop goes on.
        let _ = poll(&mut fds, limit.as_ref());
        let rung = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let cause = match fds.iter().rposition(rung) {
            None => 2,
            at if at == device => 1,
            _ => 3,
        };
        probe::emit(points::WAKE, Label::NONE, cause);
        for context in self.contexts.iter().flatten() {
            if let Some(bell) = context.part.fast_bells.get(core) {
                crate::shared::silence_doorbell(bell);
            }
        }
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

/// Looks a frame's flow up and lets it take the segment, if this is the common case.
#[inline(never)]
fn fast_flows_packet_fss<'a>(
    shared: &'a Shared,
    core: u8,
    frame: &[u8],
    checksum_ok: bool,
    from_slow: bool,
    now: u64,
) -> Verdict<'a> {
    let ends = (shared.mac, shared.ip);
    let (key, segment) = match fast_flows_packet_parse(frame, ends, checksum_ok) {
        Ok(Incoming::Tcp { key, segment, .. }) => (key, segment),
        Ok(Incoming::Other) => return Verdict::Slow(Detour::State, frame.to_vec()),
        Err(reject) => return Verdict::Drop(reject),
    };
    if !from_slow && let Some(reason) = uncommon(&segment) {
        return Verdict::Slow(reason, frame.to_vec());
    }
    let Some((index, mut flow)) = shared.table.find(key) else {
        return Verdict::Slow(Detour::State, frame.to_vec());
    };
    if flow.core != core {
        return Verdict::Forward(flow.core, flow.label, frame.to_vec());
    }
    if flow.parked && !from_slow {
        return Verdict::Slow(Detour::State, frame.to_vec());
    }
    let taken = flow.receive(&segment, now);
    if segment.has(flags::ECE) {
        flow.cnt_rx_ecn_bytes += u64::from(taken.tx_bump);
    }
    let what = (u32::from(segment.flags) << 24) | segment.payload.len() as u32;
    Verdict::Ours(Handled {
        window: flow.rx_remote_avail,
        index,
        flow,
        taken,
        what,
    })
}

/// Why a segment is none for the fast path.
fn uncommon(segment: &Segment<'_>) -> Option<Detour> {
    // Echoes of congestion marks are the common case too: RFC 3168.
    const COMMON: u8 = flags::ACK | flags::PSH | flags::FIN | flags::ECE | flags::CWR;
    if segment.has(flags::SYN) {
        Some(Detour::Syn)
    } else if segment.flags & !COMMON != 0 || !segment.has(flags::ACK) {
        Some(Detour::Flags)
    } else if segment.options.timestamps.is_none() {
        Some(Detour::Options)
    } else {
        None
    }
}

/// The label of a frame's connection, for events of frames that nobody has looked at further.
pub fn label_of(frame: &[u8], ip: u32) -> Label {
    if !probe::enabled() {
        return Label::NONE;
    }
    match fast_flows_packet_parse(frame, (frame_mac(frame), ip), true) {
        Ok(Incoming::Tcp { key, .. }) => label(key, ip),
        _ => Label::NONE,
    }
}

fn frame_mac(frame: &[u8]) -> [u8; 6] {
    frame.first_chunk().copied().unwrap_or_default()
}

/// A connection's label.
pub fn label(key: Key, ip: u32) -> Label {
    Label::ipv4(ip, key.port, key.peer, key.peer_port)
}
