//! The loop of an application on Demikernel: wait for any token, handle what is complete, begin the next operations.
//!
//! In: a device, an application; out: rounds, each one wait of no length. All packet work happens inside of the wait, by
//! the stack's own coroutines. It refuses to sleep: an idle loop polls.
#![allow(unsafe_code)]

use crate::conn::{Conn, Entry, Popped, Pushing};
use crate::layer1::{Border, Layer1};
use crate::peers::{Fate, Peers};
use crate::tokens::{Op, Tokens, Whose};
use bypassprof_probe::{self as probe, Flow, Point, PollLoop, Stage, points};
use demikernel::demikernel::config::Config;
use demikernel::demikernel::libos::network::NetworkLibOSWrapper;
use demikernel::demikernel::libos::network::libos::SharedNetworkLibOS;
use demikernel::inetstack::SharedInetStack;
use demikernel::runtime::SharedDemiRuntime;
use demikernel::runtime::fail::Fail;
use demikernel::runtime::types::{demi_opcode_t, demi_qresult_t};
use demikernel::{LibOS, QDesc, QToken, SocketOption};
use stack_border::{App, Port, Tally};
use stack_netio::{Device, DeviceError};
use std::cell::RefCell;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use yaml_rust::YamlLoader;

/// How often connections are looked at whether or not anything is complete on them.
const TICK_NS: u64 = 100_000_000;
/// Data that waits and nothing sent for so long is a stall: the stack's shortest retransmission timeout.
const STALL: Duration = Duration::from_millis(100);
/// The stack's most. It counts established connections too; the border's limits are lower.
const BACKLOG: usize = 4096;
/// How long a connection is kept after both have ended.
const TIME_WAIT: Duration = Duration::from_millis(50);
/// A peer that does not end after us is hung up on.
const PATIENCE_NS: u64 = 10_000_000_000;

/// How completions are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// `wait_any` over all tokens, as the servers of the study do.
    Any,
    /// `wait_next_n`: whatever completes, without a list.
    Next,
}

/// What a stack is made with.
#[derive(Clone, Debug)]
pub struct DemikernelConfig {
    /// Our address and the port that is listened on.
    pub listen: SocketAddrV4,
    /// Most connections, handshakes with them; the next one is reset.
    pub connections: usize,
    /// Bytes of one push: at most a segment (1460), since the stack sends a push whole.
    pub piece: usize,
    /// Pushes under way on one connection.
    pub pushes: usize,
    /// How completions are waited for.
    pub wait: Wait,
}

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemikernelError {
    /// Demikernel refused.
    #[error("demikernel cannot {what}: {cause}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What it said.
        cause: String,
    },
}

fn refused(what: &'static str) -> impl FnOnce(Fail) -> DemikernelError {
    move |fail| DemikernelError::Refused {
        what,
        cause: fail.cause,
    }
}

/// A device, Demikernel and the loop of its application.
pub struct Stack<D> {
    config: DemikernelConfig,
    os: LibOS,
    border: Rc<RefCell<Border<D>>>,
    listener: QDesc,
    tokens: Tokens,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    lives: u64,
    /// Connections that close once the peer has everything.
    ending: Vec<Whose>,
    complete: Vec<(Op, demi_qresult_t)>,
    waited: Point,
    next_tick: u64,
    clock: quanta::Clock,
    start: u64,
    tally: Arc<Tally>,
}

impl<D: Device + 'static> Stack<D> {
    /// A stack that listens.
    pub fn new(config: DemikernelConfig, device: D) -> Result<Stack<D>, DemikernelError> {
        let mut port = Port::new(device, usize::MAX);
        // An empty round is one whole wait: its start says little about when a packet was looked for.
        port.queue.rounds = PollLoop::unstamped();
        let yaml = settings(&config, port.mac(), port.mtu());
        let peers = Peers::new(config.connections, config.piece);
        let border = Rc::new(RefCell::new(Border::new(port, config.listen, peers)));
        let runtime = SharedDemiRuntime::default();
        let layer1 = Layer1(border.clone());
        let inetstack = SharedInetStack::new(&yaml, runtime.clone(), layer1);
        let inetstack = inetstack.map_err(refused("make its stack"))?;
        let network = SharedNetworkLibOS::new(*config.listen.ip(), runtime, inetstack);
        // The name stands for raw sockets, the type for any physical layer.
        let mut os = LibOS::NetworkLibOS(NetworkLibOSWrapper::Catpowder(network));
        let listener = os.socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let listener = listener.map_err(refused("make a socket"))?;
        os.bind(listener, SocketAddr::V4(config.listen))
            .map_err(refused("bind"))?;
        // What the stack makes of TIME-WAIT: long enough for a last segment to find its connection.
        let linger = SocketOption::Linger(Some(TIME_WAIT));
        os.set_socket_option(listener, linger)
            .map_err(refused("set an option"))?;
        os.listen(listener, BACKLOG).map_err(refused("listen"))?;
        let mut tokens = Tokens::new(config.wait == Wait::Next);
        let accept = os.accept(listener).map_err(refused("accept"))?;
        tokens.add(accept, Op::Accept);
        let clock = quanta::Clock::new();
        Ok(Stack {
            config,
            os,
            border,
            listener,
            tokens,
            entries: Vec::new(),
            free: Vec::new(),
            lives: 0,
            ending: Vec::new(),
            complete: Vec::new(),
            waited: probe::register("wait_any"),
            next_tick: TICK_NS,
            start: clock.raw(),
            clock,
            tally: Arc::default(),
        })
    }

    /// What the loop did, to look at from another thread.
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Runs rounds until `stop` is set, or the device has gone.
    #[inline(never)]
    pub fn main_loop(&mut self, app: &mut impl App, stop: &AtomicBool) -> Result<(), DeviceError> {
        let mut now = self.now();
        // A flag that carries no data; it is seen a round later at worst.
        while !stop.load(Ordering::Relaxed) {
            let working_since = self.round(app, now);
            let next = self.now();
            let took = next - working_since.unwrap_or(next);
            self.tally.round(working_since.is_some(), took);
            now = next;
            self.border.borrow_mut().port.check(now)?;
        }
        Ok(())
    }

    /// In ns since the stack was made.
    fn now(&self) -> u64 {
        self.clock.delta_as_nanos(self.start, self.clock.raw())
    }

    /// One wait and what follows from it; since when it had something to do, if it had.
    #[inline]
    fn round(&mut self, app: &mut impl App, now: u64) -> Option<u64> {
        self.border.borrow_mut().port.queue.rounds.begin();
        if now >= self.next_tick {
            self.next_tick = now + TICK_NS;
            self.tick(now);
        }
        self.border
            .borrow_mut()
            .port
            .queue
            .rounds
            .stage(Stage::Timers);
        let waited_for = self.tokens.all().len() as u32;
        self.wait();
        self.border.borrow_mut().port.queue.rounds.stage(Stage::Nic);
        let complete = self.complete.len() as u32;
        if complete > 0 {
            self.border.borrow_mut().port.queue.rounds.worked(complete);
            probe::emit_with(self.waited, Flow::NONE, waited_for, [complete, 0, 0]);
            let mut complete = std::mem::take(&mut self.complete);
            for (op, result) in complete.drain(..) {
                self.handle(op, &result, app, now);
            }
            self.complete = complete;
        }
        let news = self.border.borrow_mut().peers.take_news();
        for whose in news {
            self.learn(whose, app, now);
        }
        if !self.ending.is_empty() {
            self.close_ended(now);
        }
        let mut border = self.border.borrow_mut();
        border.port.queue.rounds.stage(Stage::App);
        border.port.queue.rounds.end();
        // A wait polls until something is complete: what it did before the first frame was waiting.
        let found = border.take_found();
        let found = found.map(|raw| self.clock.delta_as_nanos(self.start, raw));
        found.or((complete > 0).then_some(now))
    }

    #[inline(never)]
    fn wait(&mut self) {
        match self.config.wait {
            Wait::Any => {
                // Its only other answer is that the time, none, is over.
                if let Ok((place, result)) =
                    self.os.wait_any(self.tokens.all(), Some(Duration::ZERO))
                {
                    let op = self.tokens.take_at(place);
                    self.complete.push((op, result));
                }
            }
            Wait::Next => {
                let (tokens, complete) = (&mut self.tokens, &mut self.complete);
                let keep = |result: demi_qresult_t| {
                    if let Some(op) = tokens.take(QToken::from(result.qr_qt)) {
                        complete.push((op, result));
                    }
                    // Leaving after one result would starve those behind it.
                    true
                };
                let _ = self.os.wait_next_n(keep, Some(Duration::ZERO));
            }
        }
    }

    fn handle(&mut self, op: Op, result: &demi_qresult_t, app: &mut impl App, now: u64) {
        let failed = result.qr_opcode == demi_opcode_t::DEMI_OPC_FAILED;
        let whose = match op {
            Op::Accept => {
                if !failed {
                    // SAFETY: an accept that succeeded carries this part of the union.
                    let accepted = unsafe { result.qr_value.ares };
                    self.accept(QDesc::from(accepted.qd), app, now);
                }
                // A handshake that failed ends an accept like one that succeeded.
                if let Ok(token) = self.os.accept(self.listener) {
                    self.tokens.add(token, Op::Accept);
                }
                return;
            }
            Op::Pop(whose) | Op::Push(whose, _) | Op::Close(whose) => whose,
        };
        // A pop's buffer is ours from here on, whatever became of its connection.
        let popped = (matches!(op, Op::Pop(_)) && !failed).then(|| {
            // SAFETY: a pop that succeeded carries this part of the union.
            Popped::new(unsafe { result.qr_value.sga })
        });
        let index = whose.index;
        let entry = match self.entries.get_mut(index) {
            Some(Some(entry)) if entry.whose == whose => entry,
            // Of a connection that is no more.
            _ => {
                if let Some(popped) = popped {
                    popped.free(&mut self.os);
                }
                return;
            }
        };
        match op {
            Op::Accept => {}
            Op::Pop(_) => {
                entry.popping = false;
                match popped {
                    Some(popped) if !popped.bytes().is_empty() => {
                        let more = [1, self.border.borrow().port.age(), 0];
                        let bytes = popped.bytes().len() as u32;
                        probe::emit_with(points::DELIVER, entry.flow, bytes, more);
                        entry.unread.push_back((popped, 0));
                        entry.popped = entry.popped.wrapping_add(bytes);
                        entry.ended |= entry.length == Some(entry.popped);
                    }
                    // An end comes by the border; this one is pretended, for the close.
                    Some(popped) => popped.free(&mut self.os),
                    // A pop waits for two minutes; it begins anew below.
                    None if result.qr_ret == i64::from(libc::ETIMEDOUT) => {}
                    None => (entry.ended, entry.broken) = (true, true),
                }
            }
            Op::Push(_, bytes) => {
                entry.pushes -= 1;
                entry.pushed -= bytes;
                entry.broken |= failed;
            }
            Op::Close(_) => return self.release(index),
        }
        self.turn(index, app, now);
    }

    fn accept(&mut self, qd: QDesc, app: &mut impl App, now: u64) {
        let Ok(peer) = self.os.getpeername(qd) else {
            // It ended before it was accepted; closing it needs nobody.
            let _ = self.os.async_close(qd);
            return;
        };
        let listen = self.config.listen;
        let number = |end: SocketAddrV4| (u32::from(*end.ip()), end.port());
        let ((ours, port), (theirs, their_port)) = (number(listen), number(peer));
        let flow = Flow::ipv4(ours, port, theirs, their_port);
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.lives += 1;
        let life = self.lives;
        let whose = Whose { index, life };
        let fate = self.border.borrow_mut().peers.add(peer, whose);
        let mut entry = Entry::new(whose, qd, peer, flow);
        meet(&mut entry, fate);
        self.entries[index] = Some(entry);
        self.turn(index, app, now);
    }

    /// What the border says of a connection.
    fn learn(&mut self, whose: Whose, app: &mut impl App, now: u64) {
        if let Some(Some(entry)) = self.entries.get_mut(whose.index)
            && entry.whose == whose
            && let Some(fate) = self.border.borrow().peers.fate(entry.peer)
        {
            meet(entry, fate);
        } else {
            return;
        }
        self.turn(whose.index, app, now);
    }

    /// The application's turn on a connection, then the operations that follow from it.
    #[inline(never)]
    fn turn(&mut self, index: usize, app: &mut impl App, now: u64) {
        let Some(Some(entry)) = self.entries.get_mut(index) else {
            return;
        };
        if !entry.done {
            let pushing = Pushing {
                piece: self.border.borrow().peers.piece(entry.peer),
                most: self.config.pushes,
            };
            let mut conn = Conn {
                entry,
                os: &mut self.os,
                tokens: &mut self.tokens,
                pushing,
            };
            app.turn(&mut conn);
            entry.is_new = false;
            entry.done |= entry.broken;
        }
        if entry.done {
            entry.left_unread |= !entry.unread.is_empty() && !entry.ending;
            while let Some((popped, _)) = entry.unread.pop_front() {
                popped.free(&mut self.os);
            }
            if entry.closing {
                return;
            }
            if entry.pushes == 0 || entry.broken {
                return self.close(index, now);
            }
            if !entry.ending {
                entry.ending = true;
                self.ending.push(entry.whose);
            }
        }
        // Whoever is done reads on, and throws away, until the peer has all: an end of ours would not reach one that sends.
        let wants = entry.done || (!entry.ended && entry.unread.is_empty());
        if wants && !entry.popping && entry.length != Some(entry.popped) {
            match self.os.pop(entry.qd, None) {
                Ok(token) => {
                    entry.popping = true;
                    self.tokens.add(token, Op::Pop(entry.whose));
                }
                Err(_) => {
                    (entry.broken, entry.done) = (true, true);
                    self.close(index, now);
                }
            }
        }
    }

    /// Closes connections whose peers have acknowledged all. Where several pushes are under way at once the stack
    /// mixes their acknowledgements up, and the last may never be complete: the border's count is what counts.
    #[inline(never)]
    fn close_ended(&mut self, now: u64) {
        let mut ending = std::mem::take(&mut self.ending);
        ending.retain(|whose| {
            let entry = match self.entries.get(whose.index) {
                Some(Some(entry)) if entry.whose == *whose && !entry.closing => entry,
                _ => return false,
            };
            let has_all = self.border.borrow().peers.has_all(entry.peer, entry.total);
            let over = has_all || entry.pushes == 0 || entry.broken;
            if over {
                self.close(whose.index, now);
            }
            !over
        });
        self.ending = ending;
    }

    fn close(&mut self, index: usize, now: u64) {
        let Some(Some(entry)) = self.entries.get_mut(index) else {
            return;
        };
        entry.closing = true;
        let mut border = self.border.borrow_mut();
        let fate = border.peers.fate(entry.peer);
        // The stack's close begins with its next round.
        let gone = fate.is_none_or(|fate| fate.gone);
        entry.patience = now + if gone { TICK_NS } else { PATIENCE_NS };
        border
            .peers
            .close(entry.peer, entry.popped, entry.left_unread);
        drop(border);
        match self.os.async_close(entry.qd) {
            Ok(token) => self.tokens.add(token, Op::Close(entry.whose)),
            // There is nothing left to be waited for.
            Err(_) => self.release(index),
        }
    }

    /// A connection is no more. Its other operations have failed or will, and are nobody's then.
    fn release(&mut self, index: usize) {
        if let Some(entry) = self.entries[index].take() {
            self.border.borrow_mut().peers.remove(entry.peer);
            for (popped, _) in entry.unread {
                popped.free(&mut self.os);
            }
            self.free.push(index);
        }
    }

    /// Gives peers up that do not end, and tells of stalls.
    #[inline(never)]
    fn tick(&mut self, now: u64) {
        let counter = probe::now().raw();
        let long = self.clock_ticks(STALL);
        let mut border = self.border.borrow_mut();
        border.tick();
        for entry in self.entries.iter_mut().flatten() {
            if entry.closing && now >= entry.patience {
                entry.patience = now + PATIENCE_NS;
                border.hang_up(entry.peer);
            }
            if entry.pushed == 0 || !probe::enabled() {
                continue;
            }
            if let Some((in_flight, last_sent)) = border.port.outstanding(entry.flow) {
                let since = counter.saturating_sub(last_sent);
                if since >= long && entry.stall_told != last_sent {
                    entry.stall_told = last_sent;
                    let unsent = entry.pushed.saturating_sub(in_flight as usize) as u32;
                    let since = since.min(u64::from(u32::MAX)) as u32;
                    probe::emit_with(points::STALL, entry.flow, since, [in_flight, unsent, 0]);
                }
            }
        }
    }

    /// So much time in ticks of the counter that stamps are taken from.
    fn clock_ticks(&self, time: Duration) -> u64 {
        // One second's worth of ticks in ns tells the counter's rate; the quanta clock reads the same counter.
        let ticks = 1u64 << 32;
        let ns = self.clock.delta_as_nanos(0, ticks).max(1);
        (u128::from(ticks) * time.as_nanos() / u128::from(ns)) as u64
    }
}

/// A connection takes what the border says of it.
fn meet(entry: &mut Entry, fate: Fate) {
    entry.length = fate.length;
    entry.ended |= fate.gone || entry.length == Some(entry.popped);
    entry.broken |= fate.gone;
}

/// Demikernel's configuration, which it takes as YAML.
pub(crate) fn settings(config: &DemikernelConfig, mac: [u8; 6], mtu: u16) -> Config {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    let mss = mtu.saturating_sub(40);
    // An ARP table must be there, or nobody's address is ever known; what is known stays, since each peer tells it anew.
    let text = format!(
        "demikernel: {{ local_ipv4_addr: {ip}, local_link_addr: '{mac}' }}\n\
         tcp_socket_options: {{ keepalive: {{ enabled: false }}, linger: {{ enabled: false }}, nodelay: true }}\n\
         inetstack_config: {{ mtu: {mtu}, mss: {mss}, enable_jumbo_frames: false, udp_checksum_offload: false, \
         tcp_checksum_offload: true, arp_table: {{}}, arp_cache_ttl: 1000000, arp_request_timeout: 1, arp_request_retries: 5 }}\n",
        ip = config.listen.ip(),
    );
    let mut documents = YamlLoader::load_from_str(&text).unwrap_or_default();
    // A document that does not parse would be refused as one without settings.
    Config(documents.pop().unwrap_or(yaml_rust::Yaml::Null))
}
