//! A thread's context: its queues, its connections, its loop.
//!
//! In: entries of the service; out: events, calls. The end of the service ends all connections with an error, which
//! [`Gone`] is. It refuses to know what connections are for.

use super::conn::{Conn, ConnId, Event, NotOpen};
use super::socket::Address;
use crate::attach::{self, Answer, Hello, Refusal, Welcome};
use crate::clock::Clock;
use crate::entry::{Arx, KernelIn, KernelOut, Opaque};
use crate::fast::age;
use crate::shared::{own_points, queues, ring_across, silence_doorbell, sleep_across};
use crate::shm::{Consumer, Corrupt, Layout, Producer, Region, Sizes};
use crate::slow::has_ended;
use bypassprof_probe::{self as probe, Flow as Label, Point, PollLoop, Stage, points};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Entries taken of one core in a poll.
const EVENTS: usize = 16;
/// How often the service's socket is looked at while polling, in ns.
const SOCKET: u64 = 1_000_000;

/// What `deliver` says that it delivered.
const DATA: u32 = 0;
const CONNECTION: u32 = 2;

/// What a context is made with.
#[derive(Clone, Copy, Debug)]
pub struct ContextConfig {
    /// Bytes of a connection's receive ring: a power of two from 2 KiB to 64 KiB; TAS: 8 KiB.
    pub rx: u32,
    /// Bytes of a connection's transmit ring: a power of two from 2 KiB to 64 MiB; TAS: 8 KiB.
    pub tx: u32,
    /// Most connections.
    pub connections: u32,
    /// Empty polling before a wait sleeps.
    pub spin: Duration,
}

impl Default for ContextConfig {
    /// TAS's defaults.
    fn default() -> ContextConfig {
        ContextConfig {
            rx: 8192,
            tx: 8192,
            connections: 16_384,
            spin: Duration::from_millis(10),
        }
    }
}

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no service, or it ended while we asked.
    #[error("the TAS service does not answer: {0}")]
    Service(#[from] io::Error),
    /// Sizes out of bounds.
    #[error(
        "the TAS service gives no such context: rings are powers of two, 2 KiB to 64 KiB for receiving and to 64 MiB for \
         sending, and all together take up to 64 GiB"
    )]
    Sizes,
    /// All are in use.
    #[error(
        "the TAS service has 16 contexts and all are in use; end another application or use fewer --threads"
    )]
    Full,
    /// Another user's.
    #[error("the TAS service belongs to another user; run as that user")]
    User,
    /// No memory.
    #[error("the TAS service has no memory or descriptors for another context")]
    Memory,
}

/// The service has ended, or does not keep to its own rules: all connections are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gone {
    /// Its socket is closed.
    #[error("the TAS service is gone; all connections have ended")]
    Dead,
    /// What it wrote into shared memory cannot be.
    #[error("the TAS service wrote nonsense into shared memory; all connections have ended")]
    Nonsense,
    /// The port is another application's.
    #[error(
        "port {0} is listened on by another application of the TAS service; choose another --listen"
    )]
    PortInUse(u16),
}

/// A number from the service that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

impl From<Nonsense> for Gone {
    fn from(_: Nonsense) -> Gone {
        Gone::Nonsense
    }
}

impl From<Corrupt> for Gone {
    fn from(_: Corrupt) -> Gone {
        Gone::Nonsense
    }
}

/// A place in the table of connections.
#[derive(Debug, Default)]
struct Place {
    generation: u16,
    is: Is,
}

#[derive(Debug, Default)]
enum Is {
    #[default]
    Free,
    /// A name that was given to `accept` on a port, and news of its connection that came by another queue before the
    /// word that there is one.
    Accepting(u16, Arx),
    Open(Box<Conn>),
}

struct Core {
    arx: Consumer<4>,
    atx: Producer<2>,
    bell: OwnedFd,
    told: bool,
}

/// One thread's way to the service.
pub struct Context {
    socket: OwnedFd,
    region: Arc<Region>,
    layout: Layout,
    ip: Ipv4Addr,
    bell: OwnedFd,
    slow_bell: OwnedFd,
    kin: Producer<8>,
    kout: Consumer<8>,
    cores: Vec<Core>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// Connections with something to publish.
    dirty: VecDeque<Opaque>,
    /// Connections with news.
    ready: VecDeque<Opaque>,
    /// Ports that the service takes connections on.
    listening: Vec<u16>,
    /// Calls that found no room.
    calls: VecDeque<KernelIn>,
    clock: Clock,
    spin: u64,
    next_socket: u64,
    rounds: PollLoop,
    in_round: bool,
    bump: Point,
    totals: Totals,
    round_began: u64,
}

/// What a context's loop did, and the fast path's with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Polls.
    pub rounds: u64,
    /// Polls that found nothing.
    pub empty_rounds: u64,
    /// Time in polls that found something, the application's handling of it included, in ns.
    pub working_ns: u64,
}

impl Context {
    /// Asks a service for a context.
    pub fn attach(address: &Address, config: ContextConfig) -> Result<Context, AttachError> {
        let socket = address.connect()?;
        let wish = Sizes {
            cores: 1,
            rx: config.rx,
            tx: config.tx,
            slots: config.connections,
        };
        attach::say_hello(socket.as_fd(), Hello { wish })?;
        let welcome = match attach::take_answer(socket.as_fd())? {
            Answer::Welcome(welcome) => welcome,
            Answer::Refused(Refusal::Sizes) => return Err(AttachError::Sizes),
            Answer::Refused(Refusal::Full) => return Err(AttachError::Full),
            Answer::Refused(Refusal::User) => return Err(AttachError::User),
            Answer::Refused(Refusal::Memory) => return Err(AttachError::Memory),
        };
        Context::from_parts(socket, welcome, config.spin)
    }

    fn from_parts(
        socket: OwnedFd,
        welcome: Welcome,
        spin: Duration,
    ) -> Result<Context, AttachError> {
        let layout = Layout::new(welcome.sizes).ok_or(AttachError::Sizes)?;
        let mut descriptors = welcome.descriptors.into_iter();
        let mut next = || descriptors.next().ok_or(io::ErrorKind::InvalidData);
        let memory = next().map_err(io::Error::from)?;
        let region = Arc::new(Region::open(&memory, layout.bytes())?);
        let bell = next().map_err(io::Error::from)?;
        let slow_bell = next().map_err(io::Error::from)?;
        let mut cores = Vec::new();
        for core in 0..welcome.sizes.cores as usize {
            cores.push(Core {
                arx: Consumer::new(region.clone(), layout.arx(core)),
                atx: Producer::new(region.clone(), layout.atx(core)),
                bell: next().map_err(io::Error::from)?,
                told: false,
            });
        }
        Ok(Context {
            socket,
            layout,
            ip: welcome.ip,
            bell,
            slow_bell,
            kin: Producer::new(region.clone(), layout.kernel_in()),
            kout: Consumer::new(region.clone(), layout.kernel_out()),
            region,
            cores,
            places: Vec::new(),
            free: Vec::new(),
            dirty: VecDeque::new(),
            ready: VecDeque::new(),
            listening: Vec::new(),
            calls: VecDeque::new(),
            clock: Clock::new(),
            spin: spin.as_nanos() as u64,
            next_socket: 0,
            rounds: PollLoop::new(),
            in_round: false,
            bump: probe::register(own_points::BUMP),
            totals: Totals::default(),
            round_began: 0,
        })
    }

    /// The service's address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Takes connections on a port, of which at most `backlog` may wait to be accepted, and waits until the service
    /// does so.
    pub fn listen(&mut self, port: u16, backlog: u32) -> Result<(), Gone> {
        self.calls.push_back(KernelIn::Listen { port, backlog });
        while !self.listening.contains(&port) {
            self.flextcp_context_poll()?;
            if has_ended(&self.socket) {
                return Err(Gone::Dead);
            }
            self.sleep(SOCKET)?;
        }
        Ok(())
    }

    /// What this loop did.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What the fast path did so far, all cores together, as it says itself.
    pub fn fast_path_totals(&self) -> Totals {
        let mut sum = Totals::default();
        for core in 0..self.cores.len() {
            let at = self.layout.counts(core);
            let count = |n: usize| self.region.word(at + 8 * n).load(Ordering::Relaxed);
            sum.rounds = sum.rounds.saturating_add(count(0));
            sum.empty_rounds = sum.empty_rounds.saturating_add(count(1));
            sum.working_ns = sum.working_ns.saturating_add(count(2));
        }
        sum
    }

    /// Fills `events` with what is new; how many. Polls for at most `timeout`, and sleeps for the part of it that lies
    /// beyond the time of empty polling.
    #[inline(never)]
    pub fn tas_epoll_wait(
        &mut self,
        events: &mut [Event],
        timeout: Duration,
    ) -> Result<usize, Gone> {
        self.end_round();
        let start = self.clock.now();
        let timeout = timeout.as_nanos() as u64;
        let (mut now, mut last_work) = (start, start);
        loop {
            self.begin_round(now);
            let taken = self.flextcp_context_poll()?;
            if taken > 0 {
                self.rounds.worked(taken as u32);
            }
            self.rounds.stage(Stage::Rings);
            let found = self.take_events(events);
            if found > 0 {
                self.rounds.worked(found as u32);
                return Ok(found);
            }
            self.rounds.end();
            self.in_round = false;
            self.totals.rounds += 1;
            let began = std::mem::replace(&mut now, self.clock.now());
            if taken > 0 {
                // Acknowledgements, calls: work, and nothing for the application to see.
                self.totals.working_ns += now - began;
                last_work = now;
            } else {
                self.totals.empty_rounds += 1;
            }
            if now >= self.next_socket {
                self.next_socket = now + SOCKET;
                if has_ended(&self.socket) {
                    return Err(Gone::Dead);
                }
            }
            let spent = now - start;
            if spent >= timeout {
                return Ok(0);
            }
            if now - last_work >= self.spin {
                self.sleep(timeout - spent)?;
                now = self.clock.now();
            }
        }
    }

    fn begin_round(&mut self, now: u64) {
        self.rounds.begin();
        self.in_round = true;
        self.round_began = now;
    }

    /// The application has handled what the last poll found.
    fn end_round(&mut self) {
        if std::mem::take(&mut self.in_round) {
            self.rounds.stage(Stage::App);
            self.rounds.end();
            self.totals.rounds += 1;
            self.totals.working_ns += self.clock.now().saturating_sub(self.round_began);
        }
    }

    /// How many entries were taken and published.
    #[inline(never)]
    fn flextcp_context_poll(&mut self) -> Result<usize, Gone> {
        let mut taken = self.conns_bump()?;
        taken += self.kernel_poll()?;
        taken += self.fastpath_poll_vec()?;
        self.txq_probe()?;
        self.kernel_flush()?;
        for (at, core) in self.cores.iter_mut().enumerate() {
            if std::mem::take(&mut core.told) {
                ring_across(&self.region, self.layout.fast_sleeps(at), &core.bell);
            }
        }
        Ok(taken)
    }

    /// Publishes what was read and written since the last poll, and says farewell to what was closed.
    #[inline(never)]
    fn conns_bump(&mut self) -> Result<usize, Gone> {
        let mut published = 0;
        for _ in 0..self.dirty.len() {
            let Some(opaque) = self.dirty.pop_front() else {
                break;
            };
            let Some(conn) = open(&mut self.places, opaque) else {
                continue;
            };
            if let Some((atx, written)) = conn.unpublished() {
                let core = &mut self.cores[conn.core];
                let now = if probe::enabled() {
                    probe::now().raw()
                } else {
                    0
                };
                if !core.atx.push(atx.to_words(), now)? {
                    let capacity = core.atx.capacity() as u32;
                    probe::emit_with(points::FULL, conn.label, capacity, [2, 0, 0]);
                    self.dirty.push_back(opaque);
                    continue;
                }
                core.told = true;
                let more = [atx.rx_bump, atx.tx_bump, 0];
                probe::emit_with(self.bump, conn.label, age(now, written), more);
                conn.published();
                published += 1;
            }
            conn.dirty = false;
            if conn.closed {
                self.calls.push_back(KernelIn::Close { flow: conn.flow });
                self.release(opaque);
            }
        }
        Ok(published)
    }

    fn release(&mut self, opaque: Opaque) {
        let place = &mut self.places[opaque.index as usize];
        place.is = Is::Free;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(opaque.index);
    }

    /// Calls that wait go to the slow path, as far as there is room.
    fn kernel_flush(&mut self) -> Result<(), Gone> {
        let mut told = false;
        while let Some(call) = self.calls.front() {
            if !self.kin.push(call.to_words(), 0)? {
                break;
            }
            self.calls.pop_front();
            told = true;
        }
        if told {
            ring_across(&self.region, self.layout.slow_sleeps(), &self.slow_bell);
        }
        Ok(())
    }

    #[inline(never)]
    fn kernel_poll(&mut self) -> Result<usize, Gone> {
        for taken in 0..EVENTS {
            let Some((words, _)) = self.kout.pop()? else {
                return Ok(taken);
            };
            match KernelOut::from_words(words).ok_or(Nonsense)? {
                KernelOut::Listening { port, status: 1 } => return Err(Gone::PortInUse(port)),
                KernelOut::Listening { port, .. } => self.listening.push(port),
                KernelOut::NewConn { port } => self.name_one(port),
                KernelOut::Accepted {
                    opaque,
                    flow,
                    slot,
                    core,
                    peer,
                    peer_port,
                } => {
                    let core = usize::from(core);
                    let rings = self.layout.rings(slot).ok_or(Nonsense)?;
                    let place = place(&mut self.places, opaque).ok_or(Nonsense)?;
                    let Is::Accepting(port, early) = place.is else {
                        return Err(Gone::Nonsense);
                    };
                    if core >= self.cores.len() {
                        return Err(Gone::Nonsense);
                    }
                    let label = Label::ipv4(self.ip.to_bits(), port, peer, peer_port);
                    let mut conn = Box::new(Conn::new(flow, core, label, rings));
                    let accepted = Event {
                        accepted: true,
                        ..conn.update(&early)?
                    };
                    probe::emit_with(points::DELIVER, label, 0, [0, 0, CONNECTION]);
                    if early.rx_bump > 0 && probe::enabled() {
                        let more = [0, age(probe::now().raw(), early.received), DATA];
                        probe::emit_with(points::DELIVER, label, early.rx_bump, more);
                    }
                    place.is = Is::Open(conn);
                    self.tell(opaque, accepted);
                }
                KernelOut::Reset { opaque, .. } => self.reset(opaque),
            }
        }
        Ok(EVENTS)
    }

    /// A connection waits: it gets a name.
    fn name_one(&mut self, port: u16) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.is = Is::Accepting(port, Arx::default());
        let opaque = Opaque {
            index,
            generation: place.generation,
        };
        self.calls.push_back(KernelIn::Accept { port, opaque });
    }

    fn reset(&mut self, opaque: Opaque) {
        match place(&mut self.places, opaque).map(|p| &mut p.is) {
            Some(Is::Accepting(..)) => self.release(opaque),
            Some(Is::Open(conn)) => {
                conn.failed = true;
                let failed = Event {
                    failed: true,
                    ended: true,
                    ..Event::default()
                };
                self.tell(opaque, failed);
            }
            _ => {}
        }
    }

    /// Adds news to a connection's others.
    fn tell(&mut self, opaque: Opaque, news: Event) {
        let Some(conn) = open(&mut self.places, opaque) else {
            return;
        };
        if conn.closed {
            return;
        }
        if conn.news.is_none() {
            self.ready.push_back(opaque);
        }
        let sum = conn.news.get_or_insert_default();
        *sum = Event {
            conn: ConnId(opaque),
            accepted: sum.accepted | news.accepted,
            readable: sum.readable | news.readable,
            writable: sum.writable | news.writable,
            ended: sum.ended | news.ended,
            failed: sum.failed | news.failed,
        };
    }

    #[inline(never)]
    fn fastpath_poll_vec(&mut self) -> Result<usize, Gone> {
        let mut taken = 0;
        for core in 0..self.cores.len() {
            for _ in 0..EVENTS {
                let Some((words, _)) = self.cores[core].arx.pop()? else {
                    break;
                };
                let arx = Arx::from_words(words).ok_or(Nonsense)?;
                self.event_arx_connupdate(core, &arx)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    #[inline(never)]
    fn event_arx_connupdate(&mut self, core: usize, arx: &Arx) -> Result<(), Gone> {
        let depth = self.cores[core].arx.depth() as u32;
        let conn = match place(&mut self.places, arx.opaque).map(|p| &mut p.is) {
            Some(Is::Open(conn)) => conn,
            Some(Is::Accepting(_, early)) => {
                early.rx_bump = early.rx_bump.saturating_add(arx.rx_bump);
                early.tx_bump = early.tx_bump.saturating_add(arx.tx_bump);
                early.fin |= arx.fin;
                early.received = arx.received;
                return Ok(());
            }
            // News of a connection that was closed meanwhile are nobody's.
            _ => return Ok(()),
        };
        let news = conn.update(arx)?;
        if probe::enabled() {
            let now = probe::now().raw();
            let waited = [depth, age(now, arx.written), 0];
            let queue = queues::ARX | core as u32;
            probe::emit_with(points::HANDOFF, conn.label, queue, waited);
            if news.readable || news.ended {
                let what = if news.readable { DATA } else { CONNECTION };
                let more = [depth, age(now, arx.received), what];
                probe::emit_with(points::DELIVER, conn.label, arx.rx_bump, more);
            }
        }
        if news != Event::default() {
            self.tell(arx.opaque, news);
        }
        Ok(())
    }

    /// Looks how far each core has read.
    #[inline(never)]
    fn txq_probe(&mut self) -> Result<(), Gone> {
        for core in &mut self.cores {
            core.atx.probe()?;
        }
        Ok(())
    }

    #[inline(never)]
    fn take_events(&mut self, events: &mut [Event]) -> usize {
        let mut found = 0;
        while found < events.len()
            && let Some(opaque) = self.ready.pop_front()
        {
            let news = open(&mut self.places, opaque).and_then(|c| c.news.take());
            if let Some(news) = news {
                events[found] = news;
                found += 1;
            }
        }
        found
    }

    fn sleep(&mut self, most: u64) -> Result<(), Gone> {
        let flag = self.layout.app_sleeps();
        sleep_across(&self.region, flag, true);
        // Whoever did not see the flag has filled a queue before; a call that waits for room is asked for again soon.
        let taken = self.flextcp_context_poll()?;
        let waiting = !self.calls.is_empty() || !self.dirty.is_empty();
        let most = if waiting { most.min(SOCKET) } else { most };
        // A poll that took something may have left the rest.
        if taken == 0 && self.ready.is_empty() {
            self.wait(most);
        }
        sleep_across(&self.region, flag, false);
        silence_doorbell(&self.bell);
        self.next_socket = 0;
        Ok(())
    }

    fn wait(&self, most: u64) {
        probe::emit(points::SLEEP, Label::NONE, (most / 1000).max(1) as u32);
        let mut fds = [
            PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
        ];
        let limit = Timespec {
            tv_sec: (most / 1_000_000_000).cast_signed(),
            tv_nsec: (most % 1_000_000_000).cast_signed(),
        };
        // A signal ends the sleep, and the loop goes on.
        let woken = poll(&mut fds, Some(&limit)).unwrap_or(0);
        probe::emit(points::WAKE, Label::NONE, if woken > 0 { 3 } else { 2 });
    }

    /// Copies received bytes out; 0 when there are none now.
    #[inline(never)]
    pub fn tas_read(&mut self, conn: ConnId, out: &mut [u8]) -> usize {
        let Some(it) = open(&mut self.places, conn.0) else {
            return 0;
        };
        let n = it.recv_simple(&self.region, out);
        if n > 0 {
            self.soil(conn);
        }
        n
    }

    /// Copies bytes into the transmit ring; the service sees them with the next poll. Fewer than offered: the ring is
    /// full, and a writable event follows.
    #[inline(never)]
    pub fn tas_write(&mut self, conn: ConnId, bytes: &[u8]) -> Result<usize, NotOpen> {
        let it = open(&mut self.places, conn.0).ok_or(NotOpen)?;
        let room = it.room();
        let now = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        let n = it.send_simple(&self.region, bytes, now)?;
        let asked = bytes.len().min(u32::MAX as usize) as u32;
        probe::emit_with(points::SEND_CALL, it.label, asked, [n as u32, room, 0]);
        if n > 0 {
            self.soil(conn);
        }
        Ok(n)
    }

    /// Sends FIN after what was written; reading goes on.
    pub fn tas_shutdown(&mut self, conn: ConnId) {
        if let Some(it) = open(&mut self.places, conn.0) {
            it.finish();
            self.soil(conn);
        }
    }

    /// Gives the connection back: FIN after what was written.
    pub fn tas_close(&mut self, conn: ConnId) {
        if let Some(it) = open(&mut self.places, conn.0) {
            it.finish();
            it.closed = true;
            it.news = None;
            self.soil(conn);
        }
    }

    /// The connection's label in events.
    pub fn flow(&self, conn: ConnId) -> Label {
        match self.places.get(conn.index()) {
            Some(Place {
                generation,
                is: Is::Open(it),
            }) if *generation == conn.0.generation => it.label,
            _ => Label::NONE,
        }
    }

    fn soil(&mut self, conn: ConnId) {
        if let Some(it) = open(&mut self.places, conn.0)
            && !std::mem::replace(&mut it.dirty, true)
        {
            self.dirty.push_back(conn.0);
        }
    }
}

/// The place of a name that is not stale.
fn place(places: &mut [Place], opaque: Opaque) -> Option<&mut Place> {
    let place = places.get_mut(opaque.index as usize)?;
    (place.generation == opaque.generation).then_some(place)
}

/// The connection of a name that is not stale.
fn open(places: &mut [Place], opaque: Opaque) -> Option<&mut Conn> {
    match &mut place(places, opaque)?.is {
        Is::Open(conn) => Some(conn),
        _ => None,
    }
}

/// What only a hostile side does.
#[cfg(test)]
impl Context {
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn call(&mut self, call: KernelIn) {
        self.calls.push_back(call);
    }

    pub(crate) fn publish(&mut self, atx: crate::entry::Atx) {
        for core in &mut self.cores {
            core.atx.push(atx.to_words(), 0).unwrap();
            core.told = true;
        }
    }

    pub(crate) fn forge_arx(&mut self, words: [u64; 4]) {
        let mut queue = Producer::new(self.region.clone(), self.layout.arx(0));
        assert_eq!(queue.push(words, 0), Ok(true));
    }

    pub(crate) fn forge_kernel_out(&mut self, words: [u64; 8]) {
        let mut queue = Producer::new(self.region.clone(), self.layout.kernel_out());
        assert_eq!(queue.push(words, 0), Ok(true));
    }
}
