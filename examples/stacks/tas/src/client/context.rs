//! A thread's context: its queues, its connections, its loop.
//!
//! In: entries of the service; out: events, calls. The end of the service ends all connections with an error, which
//! [`Gone`] is. It refuses to know what connections are for.

mod calls;
mod poll;

use super::conn::Conn;
use super::socket::Address;
use crate::attach::{self, Answer, Hello, Refusal, Welcome};
use crate::clock::Clock;
use crate::entry::{Arx, KernelIn, Opaque};
use crate::shared::own_points;
use crate::shm::{Consumer, Corrupt, Layout, Producer, Region, Sizes};
use crate::slow::has_ended;
use bypassprof_probe::{self as probe, Point, PollLoop};
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
