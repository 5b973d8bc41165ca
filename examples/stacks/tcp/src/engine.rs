//! One core's engine: what a stack calls. Frames go in through [`crate::demux`], time through [`crate::expiry`].

use crate::config::Config;
use crate::conn::{Conn, State};
use crate::core::Core;
use crate::event::{Closing, ConnId, ConnInfo, Counters, Event, EventKind, ListenerId, TcpError};

use crate::sink::FrameSink;
use crate::table::{Key, Table};
use crate::time::Time;
use bypassprof_probe::{self as probe, Flow, points};
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

/// One core's TCP/IPv4 engine: frames and time in, frames, events and deadlines out.
#[derive(Debug)]
pub struct Engine {
    pub(crate) core: Core,
    pub(crate) table: Table,
    pub(crate) listeners: HashMap<u16, Listener>,
    /// Connections in TIME-WAIT, longest first; some may be gone already, but not the first.
    quiet: VecDeque<ConnId>,
    next_port: u16,
}

/// A port that takes connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub backlog: usize,
    pub half_open: usize,
    /// Cookies that were sent may come back until then.
    pub cookies_until: Time,
}

/// First port of those that `connect` takes (RFC 6335 6).
const FIRST_PORT: u16 = 49_152;

impl Engine {
    /// An engine without listeners and connections.
    pub fn new(config: Config) -> Engine {
        Engine {
            table: Table::new(config.max_connections, config.seed),
            listeners: HashMap::new(),
            quiet: VecDeque::new(),
            next_port: FIRST_PORT,
            core: Core::new(config),
        }
    }

    /// Takes connections on `port`; SYNs beyond `backlog` half-open ones are answered with cookies, or dropped if the policy
    /// has none.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, TcpError> {
        if self.listeners.contains_key(&port) {
            return Err(TcpError::PortInUse(port));
        }
        let listener = Listener {
            backlog,
            half_open: 0,
            cookies_until: Time::ZERO,
        };
        self.listeners.insert(port, listener);
        Ok(ListenerId(port))
    }

    /// Opens a connection; `Connected` or `Closed` follows as an event.
    pub fn connect(
        &mut self,
        now: Time,
        ip: Ipv4Addr,
        port: u16,
        out: &mut impl FrameSink,
    ) -> Result<ConnId, TcpError> {
        if self.table.is_full() {
            return Err(TcpError::TableFull(self.core.config.max_connections));
        }
        let peer = u32::from(ip);
        let ports = usize::from(u16::MAX - FIRST_PORT) + 1;
        let free = (0..ports).find_map(|_| {
            let local = self.next_port;
            self.next_port = local.checked_add(1).unwrap_or(FIRST_PORT);
            let key = Key::new(peer, port, local);
            (self.table.find(key).is_none() && !self.listeners.contains_key(&local))
                .then_some(local)
        });
        let local = free.ok_or(TcpError::NoPort(ip, port))?;
        let mut conn = self.new_conn(State::SynSent, local, (peer, port), now);
        conn.held = true;
        let id = self.table.insert(Box::new(conn));
        self.with(id, |core, conn| {
            core.resolve(id, conn, now, out);
            core.handshake(id, conn, now, out);
        });
        Ok(id)
    }

    /// A connection that has sent and received nothing yet.
    pub(crate) fn new_conn(&self, state: State, local: u16, peer: (u32, u16), now: Time) -> Conn {
        let core = &self.core;
        let flow = Flow::ipv4(core.ip, local, peer.0, peer.1);
        let iss = core.initial_number(Key::new(peer.0, peer.1, local), now);
        let mss = u32::from(core.own_mss());
        Conn::new(&core.config.policy, state, local, peer, flow, iss, mss)
    }

    /// Works on a connection, then promises it its next deadline or forgets it.
    pub(crate) fn with<T>(
        &mut self,
        id: ConnId,
        work: impl FnOnce(&mut Core, &mut Conn) -> T,
    ) -> Option<T> {
        let conn = self.table.get_mut(id)?;
        let (was_half_open, was_quiet) = (conn.listener, conn.state == State::TimeWait);
        let done = work(&mut self.core, conn);
        if let Some(port) = was_half_open
            && (conn.listener.is_none() || conn.state == State::Closed)
            && let Some(listener) = self.listeners.get_mut(&port)
        {
            listener.half_open = listener.half_open.saturating_sub(1);
        }
        let begins_quiet = conn.state == State::TimeWait && !was_quiet;
        if conn.state == State::Closed && !conn.held {
            self.forget(id);
        } else if let Some(due) = conn.deadline() {
            let mut armed = conn.armed;
            self.core.timers.arm(id, due, &mut armed);
            conn.armed = armed;
        }
        if begins_quiet {
            self.begins_quiet(id);
        }
        Some(done)
    }

    /// Lines up a connection in TIME-WAIT; those before it that are not any more leave the line.
    fn begins_quiet(&mut self, id: ConnId) {
        while let Some(&first) = self.quiet.front()
            && !self.is_quiet(first)
        {
            self.quiet.pop_front();
        }
        self.quiet.push_back(id);
    }

    fn is_quiet(&self, id: ConnId) -> bool {
        let state = self.table.get(id).map(|conn| conn.state);
        state == Some(State::TimeWait)
    }

    /// Makes room: the connection that has been in TIME-WAIT longest, and that nobody holds, ends.
    pub(crate) fn evict(&mut self) {
        while let Some(id) = self.quiet.pop_front() {
            if self.is_quiet(id) && self.table.get(id).is_some_and(|conn| !conn.held) {
                self.core.counters.time_wait_evicted += 1;
                self.forget(id);
                return;
            }
        }
    }

    /// Takes a connection out of everything.
    pub(crate) fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.table.get(id) else {
            return;
        };
        let core = &mut self.core;
        core.buffered -= conn.send.len() + conn.recv.held();
        core.timers.cancel(id);
        if conn.awaits_neighbour {
            let hop = core.next_hop(conn.peer.0);
            core.neighbours.left(hop, id);
        }
        self.table.remove(id);
    }

    /// Runs the timers that are due; how many ran. Also tries again what a full sink refused.
    pub fn poll_timers(&mut self, now: Time, out: &mut impl FrameSink) -> u32 {
        let mut ran = 0;
        // Those who are refused again line up for the next time.
        for _ in 0..self.core.refused.len() {
            let Some(id) = self.core.refused.pop_front() else {
                break;
            };
            ran += 1;
            self.with(id, |core, conn| match conn.state {
                State::SynSent | State::SynReceived => core.handshake(id, conn, now, out),
                State::Closed => {}
                _ => {
                    conn.ack_now = true;
                    core.output(id, conn, now, out);
                }
            });
        }
        while let Some((id, promised)) = self.core.timers.due(now) {
            let Some(conn) = self.table.get_mut(id) else {
                continue;
            };
            if conn.armed != Some(promised) {
                continue;
            }
            conn.armed = None;
            ran += u32::from(conn.deadline().is_some_and(|due| due <= now));
            self.with(id, |core, conn| core.run_timers(id, conn, now, out));
        }
        ran
    }

    /// When `poll_timers` has something to do next: at most a microsecond later than the first timer, perhaps earlier.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.core.refused.is_empty() {
            self.core.timers.next()
        } else {
            Some(Time::ZERO)
        }
    }

    /// The next event, oldest first.
    pub fn pop_event(&mut self) -> Option<Event> {
        loop {
            let event = self.core.events.pop_front()?;
            // What the application let go meanwhile concerns it no more.
            if let Some(conn) = self.table.get_mut(event.conn)
                && conn.held
            {
                if event.kind == EventKind::Readable {
                    conn.told_readable = false;
                }
                return Some(event);
            }
        }
    }

    /// Received bytes that lie together, without a copy; `consume` takes them.
    pub fn peek(&self, conn: ConnId) -> Option<&[u8]> {
        Some(self.table.get(conn)?.recv.peek()).filter(|bytes| !bytes.is_empty())
    }

    /// Takes `n` bytes that were peeked at; a window that opens by it is told to the peer.
    pub fn consume(&mut self, conn: ConnId, n: usize, now: Time, out: &mut impl FrameSink) {
        self.take(conn, now, out, |recv| recv.consume(n));
    }

    /// Copies received bytes out; 0 when there are none. A window that opens by it is told to the peer.
    pub fn read(
        &mut self,
        conn: ConnId,
        buf: &mut [u8],
        now: Time,
        out: &mut impl FrameSink,
    ) -> usize {
        self.take(conn, now, out, |recv| recv.read(buf))
    }

    fn take(
        &mut self,
        id: ConnId,
        now: Time,
        out: &mut impl FrameSink,
        take: impl FnOnce(&mut crate::buffer::ReceiveBuffer) -> usize,
    ) -> usize {
        let taken = self.with(id, |core, conn| {
            let n = take(&mut conn.recv);
            core.buffered -= n;
            if core.window_opened(conn) {
                conn.ack_now = true;
                core.send_or_list(id, conn, now, out);
            }
            n
        });
        taken.unwrap_or(0)
    }

    /// Copies bytes into the send buffer and says how many; `output` sends them. Less than offered means a `Writable` event
    /// will follow.
    pub fn write(&mut self, conn: ConnId, data: &[u8]) -> Result<usize, TcpError> {
        let (accepted, free) = self.put(conn, data)?;
        if !self.core.config.policy.api_probes {
            return Ok(accepted);
        }
        let flow = self.flow(conn);
        let asked = data.len().min(u32::MAX as usize) as u32;
        let more = [accepted as u32, free.min(u32::MAX as usize) as u32, 0];
        probe::emit_with(points::SEND_CALL, flow, asked, more);
        if accepted < data.len() {
            let capacity = self.core.config.policy.send_buffer;
            let capacity = capacity.min(u32::MAX as usize) as u32;
            probe::emit_with(points::FULL, flow, capacity, [3, 0, 0]);
        }
        Ok(accepted)
    }

    /// The same for a stack whose application has written elsewhere before: this is not its call, and no event tells of it.
    pub fn append(&mut self, conn: ConnId, data: &[u8]) -> Result<usize, TcpError> {
        Ok(self.put(conn, data)?.0)
    }

    /// Copies bytes into the send buffer: how many, and how many there was room for.
    fn put(&mut self, conn: ConnId, data: &[u8]) -> Result<(usize, usize), TcpError> {
        let core = &mut self.core;
        let Some(c) = self.table.get_mut(conn).filter(|c| c.held) else {
            return Err(TcpError::NoConnection);
        };
        if !matches!(c.state, State::Established | State::CloseWait) || c.fin_wanted {
            return Err(TcpError::NotWritable);
        }
        let free = core.config.policy.send_buffer.saturating_sub(c.send.len());
        let memory = core.config.buffer_memory.saturating_sub(core.buffered);
        let accepted = data.len().min(free).min(memory);
        c.send.write(&data[..accepted]);
        core.buffered += accepted;
        c.wants_room = accepted < data.len();
        if core.config.policy.output == crate::config::OutputMode::Deferred
            && accepted > 0
            && !c.on_data_list
        {
            c.on_data_list = true;
            core.data.push_back(conn);
        }
        Ok((accepted, free))
    }

    /// Sends what windows and policy allow, acknowledgement included: after `write` (in deferred mode this puts nothing on
    /// lists, it sends).
    pub fn output(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        self.with(conn, |core, c| {
            if c.state.is_synchronized() {
                core.output(conn, c, now, out);
            }
        });
    }

    /// Deferred mode: sends the acknowledgements on the ack list, at most `limit` connections; how many were served.
    pub fn flush_acks(&mut self, now: Time, limit: usize, out: &mut impl FrameSink) -> usize {
        let mut served = 0;
        while served < limit
            && let Some(id) = self.core.acks.pop_front()
        {
            served += 1;
            self.with(id, |core, conn| {
                conn.on_ack_list = false;
                if conn.ack_now && conn.state != State::Closed {
                    core.acknowledge(id, conn, now, out);
                }
            });
        }
        served
    }

    /// Deferred mode: serves the data list, at most `limit` connections; how many were served.
    pub fn flush_data(&mut self, now: Time, limit: usize, out: &mut impl FrameSink) -> usize {
        let mut served = 0;
        while served < limit
            && let Some(id) = self.pop_data()
        {
            served += 1;
            self.output(id, now, out);
        }
        served
    }

    /// The next connection on the data list, taken off it: for stacks with a queue manager of their own.
    pub fn pop_data(&mut self) -> Option<ConnId> {
        let id = self.core.data.pop_front()?;
        if let Some(conn) = self.table.get_mut(id) {
            conn.on_data_list = false;
        }
        Some(id)
    }

    /// Puts a connection on the data list (deferred mode: `write` does it by itself).
    pub fn push_data(&mut self, conn: ConnId) {
        if let Some(c) = self.table.get_mut(conn)
            && !c.on_data_list
        {
            c.on_data_list = true;
            self.core.data.push_back(conn);
        }
    }

    /// Rate of a connection under `Congestion::Rate`, which also overrules that of `Congestion::DctcpRate`; 0 is unlimited.
    pub fn set_rate(&mut self, conn: ConnId, bytes_per_second: u64) {
        if let Some(c) = self.table.get_mut(conn) {
            c.rate = bytes_per_second;
        }
    }

    /// Sends FIN after what was written; reading goes on.
    pub fn shutdown(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        self.with(conn, |core, c| {
            if matches!(c.state, State::Established | State::CloseWait) {
                c.fin_wanted = true;
                core.send_or_list(conn, c, now, out);
            }
        });
    }

    /// Gives the connection back: FIN after what was written, or RST when there is unread data. No events follow and the
    /// name must not be used any more.
    pub fn close(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        self.with(conn, |core, c| {
            c.held = false;
            match c.state {
                State::SynSent | State::SynReceived => core.over(conn, c, Closing::Done),
                State::TimeWait => {}
                _ if c.recv.readable() > 0 && c.state.is_synchronized() => {
                    core.reset(conn, c, now, out);
                    core.over(conn, c, Closing::Done);
                }
                State::Established | State::CloseWait => {
                    c.fin_wanted = true;
                    core.send_or_list(conn, c, now, out);
                }
                State::FinWait2 => c.end_due = Some(now + core.config.policy.time_wait),
                _ => {}
            }
        });
    }

    /// Gives the connection back with a RST.
    pub fn abort(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        self.with(conn, |core, c| {
            c.held = false;
            if c.state != State::TimeWait && c.state != State::Closed {
                core.reset(conn, c, now, out);
                core.over(conn, c, Closing::Done);
            }
        });
    }

    /// The connection's label in events; [`Flow::NONE`] if it is gone.
    pub fn flow(&self, conn: ConnId) -> Flow {
        self.table.get(conn).map_or(Flow::NONE, |c| c.flow)
    }

    /// What is known about the connection; `None` if it is gone.
    pub fn info(&self, conn: ConnId) -> Option<ConnInfo> {
        let c = self.table.get(conn)?;
        let policy = &self.core.config.policy;
        Some(ConnInfo {
            flow: c.flow,
            peer: (Ipv4Addr::from(c.peer.0), c.peer.1),
            local_port: c.local_port,
            readable: c.recv.readable(),
            writable: policy.send_buffer.saturating_sub(c.send.len()),
            unsent: c.unsent() as usize,
            inflight: c.next.since(c.una) as usize,
            cwnd: c.window.bytes(),
            peer_window: c.peer_window,
            mss: c.mss,
            srtt: c.rtt.smoothed(),
            retransmits: c.retransmits,
        })
    }

    /// Connections that exist, half-open and TIME-WAIT ones included.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Totals since the engine began.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// What the engine was made with.
    pub fn config(&self) -> &Config {
        &self.core.config
    }
}
