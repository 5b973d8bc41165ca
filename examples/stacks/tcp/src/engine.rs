//! One core's engine: frames to connections, calls of the stack to connections, time to timers.

use crate::config::Config;
use crate::conn::{Conn, Recovering, State, Waiting};
use crate::core::Core;
use crate::event::{Closing, ConnId, ConnInfo, Counters, Event, EventKind, ListenerId, TcpError};
use crate::input::After;
use crate::seq::Seq;
use crate::sink::{FrameMeta, FrameSink, TxFrame, TxHints};
use crate::table::{Key, Table};
use crate::time::Time;
use crate::wire::ipv4::{Icmp, Packet};
use crate::wire::tcp::{Header, Options, Segment, flags};
use crate::wire::{
    BROADCAST, ETHERNET, Reject, TYPE_ARP, TYPE_IPV4, arp, checksum, ethernet, ipv4, tcp,
    write_ethernet,
};
use bypassprof_probe::{self as probe, Flow, points};
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

/// One core's TCP/IPv4 engine: frames and time in, frames, events and deadlines out.
#[derive(Debug)]
pub struct Engine {
    core: Core,
    table: Table,
    listeners: HashMap<u16, Listener>,
    /// Addresses of neighbours.
    neighbours: HashMap<u32, [u8; 6]>,
    /// Connections in TIME-WAIT, longest first; some may be gone already.
    quiet: VecDeque<ConnId>,
    next_port: u16,
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    backlog: usize,
    half_open: usize,
}

/// Neighbours that are remembered.
const MOST_NEIGHBOURS: usize = 4096;
/// First port of those that `connect` takes (RFC 6335 6).
const FIRST_PORT: u16 = 49_152;

impl Engine {
    /// An engine without listeners and connections.
    pub fn new(config: Config) -> Engine {
        Engine {
            table: Table::new(config.max_connections, config.seed),
            listeners: HashMap::new(),
            neighbours: HashMap::new(),
            quiet: VecDeque::new(),
            next_port: FIRST_PORT,
            core: Core::new(config),
        }
    }

    /// Takes connections on `port`, at most `backlog` half-open ones before SYNs are dropped.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, TcpError> {
        if self.listeners.contains_key(&port) {
            return Err(TcpError::PortInUse(port));
        }
        let half_open = 0;
        self.listeners.insert(port, Listener { backlog, half_open });
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
        let hop = self.next_hop(peer);
        conn.mac = self.neighbours.get(&hop).copied();
        if conn.mac.is_none() {
            self.core.ask(hop, out);
        }
        let id = self.table.insert(Box::new(conn));
        self.with(id, |core, conn| core.handshake(id, conn, now, out));
        Ok(id)
    }

    fn new_conn(&self, state: State, local: u16, peer: (u32, u16), now: Time) -> Conn {
        let core = &self.core;
        let flow = Flow::ipv4(core.ip, local, peer.0, peer.1);
        // RFC 6528: a clock of 4 us and a keyed hash of the connection's ends.
        let key = crate::table::keyed(Key::new(peer.0, peer.1, local), core.config.seed);
        let iss = Seq((now.as_nanos() / 4000) as u32).plus(key as u32);
        let mss = u32::from(core.own_mss());
        Conn::new(&core.config.policy, state, local, peer, flow, iss, mss)
    }

    fn next_hop(&self, peer: u32) -> u32 {
        let config = &self.core.config;
        let shift = 32 - u32::from(config.prefix_len.min(32));
        let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
        if (peer ^ self.core.ip) & mask == 0 {
            return peer;
        }
        config.gateway.map_or(peer, u32::from)
    }

    /// Works on a connection, then promises it its next deadline or forgets it.
    fn with<T>(&mut self, id: ConnId, work: impl FnOnce(&mut Core, &mut Conn) -> T) -> Option<T> {
        let conn = self.table.get_mut(id)?;
        let (was_half_open, was_quiet) = (conn.listener, conn.state == State::TimeWait);
        let done = work(&mut self.core, conn);
        if let Some(port) = was_half_open
            && (conn.listener.is_none() || conn.state == State::Closed)
            && let Some(listener) = self.listeners.get_mut(&port)
        {
            listener.half_open = listener.half_open.saturating_sub(1);
        }
        if conn.state == State::TimeWait && !was_quiet {
            self.quiet.push_back(id);
        }
        if conn.state == State::Closed && !conn.held {
            self.forget(id);
        } else if let Some(due) = conn.deadline() {
            let mut armed = conn.armed;
            self.core.timers.arm(id, due, &mut armed);
            conn.armed = armed;
        }
        Some(done)
    }

    fn forget(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get(id) {
            self.core.buffered -= conn.send.len() + conn.recv.held();
        }
        self.table.remove(id);
    }

    /// Takes one Ethernet frame.
    pub fn input(&mut self, now: Time, frame: &[u8], meta: FrameMeta, out: &mut impl FrameSink) {
        self.core.counters.frames_in += 1;
        let Some((to, from, kind)) = ethernet(frame) else {
            return self.reject(Reject::Malformed);
        };
        if to != self.core.config.mac && to != BROADCAST {
            self.core.counters.drop_not_ours += 1;
            return;
        }
        let rest = &frame[ETHERNET..];
        match kind {
            TYPE_ARP => self.arp_input(rest, now, out),
            TYPE_IPV4 => match Packet::parse(rest, !meta.checksum_ok) {
                Ok(packet) if packet.destination == self.core.ip => match packet.protocol {
                    ipv4::TCP => self.segment(&packet, from, &meta, now, out),
                    ipv4::ICMP => self.icmp_input(&packet, from, now, out),
                    _ => self.core.counters.drop_not_ours += 1,
                },
                Ok(_) => self.core.counters.drop_not_ours += 1,
                Err(why) => self.reject(why),
            },
            _ => self.core.counters.drop_not_ours += 1,
        }
    }

    fn reject(&mut self, why: Reject) {
        let counters = &mut self.core.counters;
        let reason = match why {
            Reject::Malformed => {
                counters.drop_malformed += 1;
                1
            }
            Reject::Checksum => {
                counters.drop_checksum += 1;
                2
            }
            Reject::Fragment => {
                counters.drop_fragment += 1;
                3
            }
        };
        probe::emit(points::DROP, Flow::NONE, (3 << 24) | reason);
    }

    fn arp_input(&mut self, bytes: &[u8], now: Time, out: &mut impl FrameSink) {
        let Some(packet) = arp::Arp::parse(bytes) else {
            return self.reject(Reject::Malformed);
        };
        let (ip, mac) = packet.sender;
        let for_us = packet.target.0 == self.core.ip;
        // RFC 826: who is known is updated, who talks to us becomes known.
        if self.neighbours.contains_key(&ip) || (for_us && self.neighbours.len() < MOST_NEIGHBOURS)
        {
            self.neighbours.insert(ip, mac);
        }
        if for_us && packet.request {
            self.core.answer(packet.sender, out);
        }
        if for_us && !packet.request {
            let waiting = |e: &Engine, id: ConnId| {
                e.table
                    .get(id)
                    .is_some_and(|c| c.mac.is_none() && e.next_hop(c.peer.0) == ip)
            };
            let all: Vec<ConnId> = self.table.ids().filter(|&id| waiting(self, id)).collect();
            for id in all {
                self.with(id, |core, conn| {
                    conn.mac = Some(mac);
                    core.handshake(id, conn, now, out);
                });
            }
        }
    }

    fn icmp_input(
        &mut self,
        packet: &Packet<'_>,
        from: [u8; 6],
        now: Time,
        out: &mut impl FrameSink,
    ) {
        match Icmp::parse(packet.payload) {
            Ok(Icmp::Echo) => {
                if self.core.answers_stranger(now) {
                    self.echo(packet, from, out);
                }
            }
            Ok(Icmp::Unreachable(ours, peer, theirs)) => {
                // Hard only for a handshake; an established connection asks again by itself (RFC 5927).
                if let Some(id) = self.table.find(Key::new(peer, theirs, ours)) {
                    self.with(id, |core, conn| {
                        if conn.state == State::SynSent {
                            core.over(id, conn, Closing::Unreachable);
                        }
                    });
                }
            }
            Ok(Icmp::Other) => {}
            Err(why) => self.reject(why),
        }
    }

    fn echo(&mut self, packet: &Packet<'_>, to: [u8; 6], out: &mut impl FrameSink) {
        let core = &mut self.core;
        let total = ipv4::HEADER + packet.payload.len();
        let Some(TxFrame { bytes, .. }) = out.frame(ETHERNET + total, TxHints::default()) else {
            core.counters.sink_full += 1;
            return;
        };
        write_ethernet(bytes, to, core.config.mac, TYPE_IPV4);
        core.packet_id = core.packet_id.wrapping_add(1);
        let (ip, icmp) = bytes[ETHERNET..].split_at_mut(ipv4::HEADER);
        ipv4::write(
            ip,
            core.ip,
            packet.source,
            ipv4::ICMP,
            total,
            core.packet_id,
        );
        icmp.copy_from_slice(packet.payload);
        icmp[..4].fill(0);
        let check = checksum::finish(checksum::sum(icmp, 0));
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        core.counters.frames_out += 1;
    }

    fn segment(
        &mut self,
        packet: &Packet<'_>,
        from: [u8; 6],
        meta: &FrameMeta,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        let verify = self.core.config.policy.verify_checksums && !meta.checksum_ok;
        let ends = verify.then_some((packet.source, packet.destination));
        let segment = match Segment::parse(packet.payload, ends) {
            Ok(segment) => segment,
            Err(why) => return self.reject(why),
        };
        let key = Key::new(packet.source, segment.source_port, segment.destination_port);
        if let Some(id) = self.table.find(key) {
            self.core.counters.segments_in += 1;
            let after = self.with(id, |core, conn| {
                core.tcp_input(id, conn, &segment, meta, now, out)
            });
            match after {
                Some(After::Replace) => {}
                Some(After::Refuse) => {
                    if self.core.answers_stranger(now) {
                        self.refuse(packet, &segment, from, out);
                    }
                    return;
                }
                Some(After::Keep) | None => return,
            }
            // The application may still hold the old one; it has been told that it is over.
            self.forget(id);
        }
        self.stranger(packet, &segment, from, meta, now, out);
    }

    fn stranger(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        from: [u8; 6],
        meta: &FrameMeta,
        now: Time,
        out: &mut impl FrameSink,
    ) {
        if segment.has(flags::RST) {
            self.core.counters.drop_no_port += 1;
            return;
        }
        let port = segment.destination_port;
        let syn = segment.flags & (flags::SYN | flags::ACK) == flags::SYN;
        match self.listeners.get(&port).copied() {
            Some(listener) if syn => {
                if self.table.is_full() {
                    self.evict();
                }
                if self.table.is_full() || listener.half_open >= listener.backlog {
                    self.core.counters.drop_backlog += 1;
                    probe::emit(points::DROP, Flow::NONE, (4 << 24) | 4);
                    return;
                }
                let peer = (packet.source, segment.source_port);
                let mut conn = self.new_conn(State::SynReceived, port, peer, now);
                conn.mac = Some(from);
                conn.listener = Some(port);
                self.core.counters.segments_in += 1;
                self.core.learn_syn(&mut conn, segment);
                let kind = u32::from(segment.flags) << 24;
                let window = conn.peer_window;
                meta.burst
                    .emit_with(points::TCP_IN, conn.flow, meta.frame_no, [kind, 0, window]);
                if let Some(listener) = self.listeners.get_mut(&port) {
                    listener.half_open += 1;
                }
                let id = self.table.insert(Box::new(conn));
                self.with(id, |core, conn| core.handshake(id, conn, now, out));
            }
            _ => {
                self.core.counters.drop_no_port += 1;
                if self.core.answers_stranger(now) {
                    self.refuse(packet, segment, from, out);
                }
            }
        }
    }

    /// Makes room: the connection that has been in TIME-WAIT longest, and that nobody holds, ends.
    fn evict(&mut self) {
        while let Some(id) = self.quiet.pop_front() {
            let quiet = |c: &Conn| c.state == State::TimeWait && !c.held;
            if self.table.get(id).is_some_and(quiet) {
                self.core.counters.time_wait_evicted += 1;
                self.forget(id);
                return;
            }
        }
    }

    /// RST for a segment that belongs to nothing (RFC 9293 3.10.7.1).
    fn refuse(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        to: [u8; 6],
        out: &mut impl FrameSink,
    ) {
        let core = &mut self.core;
        let acked = segment.has(flags::ACK);
        let header = Header {
            source_port: segment.destination_port,
            destination_port: segment.source_port,
            seq: if acked { segment.ack } else { Seq(0) },
            ack: if acked {
                Seq(0)
            } else {
                segment.seq.plus(segment.len())
            },
            flags: if acked {
                flags::RST
            } else {
                flags::RST | flags::ACK
            },
            window: 0,
            options: Options::default(),
        };
        let total = ipv4::HEADER + tcp::HEADER;
        let offload = core.config.policy.offload_checksums;
        let hints = TxHints {
            checksum: offload.then_some(((ETHERNET + ipv4::HEADER) as u16, 16)),
        };
        let Some(TxFrame { bytes, .. }) = out.frame(ETHERNET + total, hints) else {
            core.counters.sink_full += 1;
            return;
        };
        write_ethernet(bytes, to, core.config.mac, TYPE_IPV4);
        core.packet_id = core.packet_id.wrapping_add(1);
        let (ip, rest) = bytes[ETHERNET..].split_at_mut(ipv4::HEADER);
        ipv4::write(ip, core.ip, packet.source, ipv4::TCP, total, core.packet_id);
        header.write(rest, core.ip, packet.source, offload);
        core.counters.frames_out += 1;
        core.counters.resets_out += 1;
    }

    /// Runs the timers that are due; how many ran. Also tries again what a full sink refused.
    pub fn poll_timers(&mut self, now: Time, out: &mut impl FrameSink) -> u32 {
        let mut ran = 0;
        for id in std::mem::take(&mut self.core.refused) {
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

    /// When `poll_timers` has something to do next; never later than the first timer, perhaps a little earlier.
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

    /// Rate of a connection under `Congestion::Rate`; 0 is unlimited.
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

/// Kinds of `timer` events.
const RETRANSMIT: u32 = 1;
const DELAYED_ACK: u32 = 2;
const PERSIST: u32 = 3;
const KEEPALIVE: u32 = 4;
const TIME_WAIT: u32 = 5;

impl Core {
    /// Runs what is due on one connection.
    #[inline(never)]
    fn run_timers(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let due = |at: Option<Time>| at.filter(|&at| at <= now);
        let ran = |conn: &Conn, kind: u32, at: Time| {
            let late = now.since(at).as_nanos().min(u128::from(u32::MAX)) as u32;
            probe::emit_with(points::TIMER, conn.flow, kind, [late, 0, 0]);
        };
        if let Some(at) = due(conn.end_due) {
            ran(conn, TIME_WAIT, at);
            conn.end_due = None;
            self.over(id, conn, Closing::Done);
            return;
        }
        if let Some(at) = due(conn.ack_due) {
            ran(conn, DELAYED_ACK, at);
            conn.ack_due = None;
            conn.ack_now = true;
            self.send_or_list(id, conn, now, out);
        }
        if due(conn.pace_due).is_some() {
            conn.pace_due = None;
            self.send_or_list(id, conn, now, out);
        }
        if let Some(at) = due(conn.rto_due) {
            let waiting = conn.waiting;
            ran(
                conn,
                if waiting == Waiting::Ack {
                    RETRANSMIT
                } else {
                    PERSIST
                },
                at,
            );
            self.timed_out(id, conn, now, out);
        }
        if let Some(at) = due(conn.keepalive_due) {
            ran(conn, KEEPALIVE, at);
            self.keepalive_due(id, conn, now, out);
        }
    }

    fn timed_out(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let policy = &self.config.policy;
        let handshake = !conn.state.is_synchronized();
        let most = if handshake {
            policy.syn_retries
        } else {
            policy.retries
        };
        if conn.unanswered >= most {
            self.reset(id, conn, now, out);
            self.over(id, conn, Closing::TimedOut);
            return;
        }
        let first = conn.unanswered == 0;
        conn.unanswered += 1;
        conn.rtt.back_off();
        self.counters.timeouts += u64::from(conn.waiting == Waiting::Ack);
        conn.rto_due = Some(now + self.timeout(conn));
        if handshake {
            if conn.mac.is_none() {
                let hop = conn.peer.0;
                self.ask(hop, out);
            }
            self.handshake(id, conn, now, out);
            return;
        }
        if conn.waiting == Waiting::Window {
            self.probe_window(id, conn, now, out);
            return;
        }
        conn.window.timed_out(conn.in_flight(), first);
        conn.board.clear();
        conn.duplicates = 0;
        conn.inflated = 0;
        conn.resend = false;
        conn.timed = None;
        conn.recovering = Recovering::GoBack { until: conn.max };
        conn.next = conn.una;
        if conn.unsent() > 0 && conn.peer_window == 0 {
            // The window closed over what was sent: asking is all that is left.
            self.probe_window(id, conn, now, out);
            return;
        }
        self.output(id, conn, now, out);
    }

    fn keepalive_due(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let Some(keepalive) = self.config.policy.keepalive else {
            conn.keepalive_due = None;
            return;
        };
        if !conn.all_acknowledged() {
            // The retransmission timer looks after it.
            conn.keepalive_due = Some(now + keepalive.idle);
            return;
        }
        if conn.unanswered >= keepalive.probes {
            self.reset(id, conn, now, out);
            self.over(id, conn, Closing::TimedOut);
            return;
        }
        conn.unanswered += 1;
        conn.keepalive_due = Some(now + keepalive.interval);
        self.probe_alive(id, conn, now, out);
    }
}
