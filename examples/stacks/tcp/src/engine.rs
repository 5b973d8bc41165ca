//! One core's engine.

use crate::config::Config;
use crate::event::{ConnId, ConnInfo, Counters, Event, ListenerId, TcpError};
use crate::sink::{FrameMeta, FrameSink};
use crate::time::Time;
use bypassprof_probe::Flow;
use std::net::Ipv4Addr;

/// One core's TCP/IPv4 engine: frames and time in, frames, events and deadlines out.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    counters: Counters,
}

impl Engine {
    /// An engine without listeners and connections.
    pub fn new(config: Config) -> Engine {
        Engine {
            config,
            counters: Counters::default(),
        }
    }
    /// Takes connections on `port`, at most `backlog` half-open ones before SYN cookies (or drops) begin.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<ListenerId, TcpError> {
        let _ = backlog;
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
        let _ = (now, out);
        Err(TcpError::NoPort(ip, port))
    }
    /// Takes one Ethernet frame.
    pub fn input(&mut self, now: Time, frame: &[u8], meta: FrameMeta, out: &mut impl FrameSink) {
        let _ = (now, frame, meta, out);
        self.counters.frames_in += 1;
    }
    /// Runs the timers that are due; how many ran. Also tries again what a full sink refused.
    pub fn poll_timers(&mut self, now: Time, out: &mut impl FrameSink) -> u32 {
        let _ = (now, out);
        0
    }
    /// When `poll_timers` has something to do next; never later than the first timer, perhaps a little earlier.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }
    /// The next event, oldest first.
    pub fn pop_event(&mut self) -> Option<Event> {
        None
    }
    /// Received bytes without a copy, in at most as many pieces as asked for; `consume` takes them.
    pub fn peek(&self, conn: ConnId) -> Option<&[u8]> {
        let _ = conn;
        None
    }
    /// Takes `n` bytes that were peeked at; a window that opens by it is told to the peer.
    pub fn consume(&mut self, conn: ConnId, n: usize, now: Time, out: &mut impl FrameSink) {
        let _ = (conn, n, now, out);
    }
    /// Copies received bytes out; 0 when there are none. A window that opens by it is told to the peer.
    pub fn read(
        &mut self,
        conn: ConnId,
        buf: &mut [u8],
        now: Time,
        out: &mut impl FrameSink,
    ) -> usize {
        let _ = (conn, buf, now, out);
        0
    }
    /// Copies bytes into the send buffer and says how many; `output` sends them. Less than offered means a `Writable` event
    /// will follow.
    pub fn write(&mut self, conn: ConnId, data: &[u8]) -> Result<usize, TcpError> {
        let _ = data;
        let _ = conn;
        Err(TcpError::NoConnection)
    }
    /// Sends what windows and policy allow, acknowledgement included: after `write` (in deferred mode this puts nothing on
    /// lists, it sends).
    pub fn output(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        let _ = (conn, now, out);
    }
    /// Deferred mode: sends the acknowledgements on the ack list, at most `limit` connections; how many were served.
    pub fn flush_acks(&mut self, now: Time, limit: usize, out: &mut impl FrameSink) -> usize {
        let _ = (now, limit, out);
        0
    }
    /// Deferred mode: serves the data list, at most `limit` connections; how many were served.
    pub fn flush_data(&mut self, now: Time, limit: usize, out: &mut impl FrameSink) -> usize {
        let _ = (now, limit, out);
        0
    }
    /// The next connection on the data list, taken off it: for stacks with a queue manager of their own.
    pub fn pop_data(&mut self) -> Option<ConnId> {
        None
    }
    /// Puts a connection on the data list (deferred mode: `write` does it by itself).
    pub fn push_data(&mut self, conn: ConnId) {
        let _ = conn;
    }
    /// Rate of a connection under `Congestion::Rate`; 0 is unlimited.
    pub fn set_rate(&mut self, conn: ConnId, bytes_per_second: u64) {
        let _ = (conn, bytes_per_second);
    }
    /// Sends FIN after what was written; reading goes on.
    pub fn shutdown(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        let _ = (conn, now, out);
    }
    /// Gives the connection back: FIN after what was written, or RST when there is unread data. No events follow and the
    /// name must not be used any more.
    pub fn close(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        let _ = (conn, now, out);
    }
    /// Gives the connection back with a RST.
    pub fn abort(&mut self, conn: ConnId, now: Time, out: &mut impl FrameSink) {
        let _ = (conn, now, out);
    }
    /// The connection's label in events; [`Flow::NONE`] if it is gone.
    pub fn flow(&self, conn: ConnId) -> Flow {
        let _ = conn;
        Flow::NONE
    }
    /// What is known about the connection; `None` if it is gone.
    pub fn info(&self, conn: ConnId) -> Option<ConnInfo> {
        let _ = conn;
        None
    }
    /// Connections that exist, half-open and TIME-WAIT ones included.
    pub fn connections(&self) -> usize {
        0
    }
    /// Totals since the engine began.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
    /// What the engine was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
