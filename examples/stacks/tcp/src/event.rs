//! What the engine tells its stack: names of connections, events, counters, refusals.
//!
//! In: nothing; out: plain values. It refuses to know how connections work.

use bypassprof_probe::Flow;
use std::net::Ipv4Addr;

/// A connection's name; never reused for another connection while either side may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// A small number, unique among the connections that exist now, below `max_connections`: an index for tables.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The name as one number, for queues between threads and processes.
    pub fn to_raw(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// The name back from [`ConnId::to_raw`]; any number is accepted, a stale one names no connection.
    pub fn from_raw(raw: u64) -> ConnId {
        ConnId {
            index: raw as u32,
            generation: (raw >> 32) as u32,
        }
    }
}

/// A listening port's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u16);

impl ListenerId {
    /// The port.
    pub fn port(self) -> u16 {
        self.0
    }
}

/// Something happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// To which.
    pub conn: ConnId,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A listener has a new connection; from here on it belongs to the application, which must end it with `close` or
    /// `abort`.
    Accepted(ListenerId),
    /// A connection asked for with `connect` is there.
    Connected,
    /// There is data to read.
    Readable,
    /// There is room to write again after a `write` that took less than offered.
    Writable,
    /// The peer sends no more; what came before can still be read.
    PeerClosed,
    /// The connection is over; reading what was received is still possible, `close` releases it.
    Closed(Closing),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Both sides closed.
    Done,
    /// The peer reset it.
    Reset,
    /// The peer did not answer.
    TimedOut,
    /// The network said that the peer cannot be reached.
    Unreachable,
}

/// What the stack may want to know about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// Its label in events.
    pub flow: Flow,
    /// The peer's address and port.
    pub peer: (Ipv4Addr, u16),
    /// Our port.
    pub local_port: u16,
    /// Bytes that can be read now.
    pub readable: usize,
    /// Bytes that can be written now.
    pub writable: usize,
    /// Bytes written and not sent yet.
    pub unsent: usize,
    /// Bytes sent and not acknowledged.
    pub inflight: usize,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// The peer's window in bytes.
    pub peer_window: u32,
    /// Payload bytes in a full segment.
    pub mss: u32,
    /// Smoothed round-trip time in ns; 0 before the first measurement.
    pub srtt: u64,
    /// Segments sent again.
    pub retransmits: u32,
}

/// What an engine refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcpError {
    /// The port has a listener.
    #[error("port {0} is already listened on; close that listener or take another port")]
    PortInUse(u16),
    /// The table is full.
    #[error("all {0} connections are in use; raise max_connections")]
    TableFull(usize),
    /// No port left towards this peer.
    #[error("no local port is free for {0}:{1}; close connections to it first")]
    NoPort(Ipv4Addr, u16),
    /// The name is stale.
    #[error("this connection does not exist any more")]
    NoConnection,
    /// The connection takes no more data.
    #[error("this connection is closed for writing")]
    NotWritable,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Totals since the engine began.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            /// Names and values, for tables.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Frames received.
    frames_in,
    /// Frames sent.
    frames_out,
    /// TCP segments received that belong to a connection or made one.
    segments_in,
    /// TCP segments sent.
    segments_out,
    /// Payload bytes given to applications' buffers, each once.
    bytes_in,
    /// Payload bytes sent for the first time.
    bytes_out,
    /// Segments sent that only acknowledge.
    pure_acks,
    /// Segments sent again.
    retransmits,
    /// Retransmission timeouts.
    timeouts,
    /// Times that three duplicates or SACK began a recovery.
    fast_recoveries,
    /// Zero-window probes sent.
    window_probes,
    /// Keep-alive probes sent.
    keepalive_probes,
    /// Challenge acknowledgements sent (RFC 5961).
    challenge_acks,
    /// Resets sent.
    resets_out,
    /// Resets accepted.
    resets_in,
    /// Connections accepted.
    accepted,
    /// Connections opened by us.
    connected,
    /// Segments that came out of order and were kept.
    out_of_order,
    /// SYNs beyond the backlog that were answered with a cookie.
    cookies_sent,
    /// Connections that a cookie came back for.
    cookies_accepted,
    /// Paths found to be narrower than the link (RFC 1191).
    paths_narrowed,
    /// Congestion marks that the network put on segments for us.
    marks_in,
    /// TIME-WAIT connections replaced by a new SYN.
    time_wait_reused,
    /// TIME-WAIT connections ended early because the table was full.
    time_wait_evicted,
    /// Frames that are not for us or of a protocol we do not speak.
    drop_not_ours,
    /// Frames whose headers contradict themselves or their length.
    drop_malformed,
    /// Frames with a wrong checksum.
    drop_checksum,
    /// IPv4 fragments.
    drop_fragment,
    /// Segments outside the window or with an old timestamp.
    drop_window,
    /// Segments for no connection and no listener.
    drop_no_port,
    /// SYNs dropped because the table was full, or the backlog and cookies are off.
    drop_backlog,
    /// ICMP errors about segments that we do not have on their way.
    drop_icmp,
    /// Received data dropped because there was no buffer memory or room.
    drop_memory,
    /// Frames not sent because the sink was full.
    sink_full,
    /// Frames not sent because the peer's Ethernet address is not known yet.
    unresolved,
    /// Answers that nobody is owed (to strangers, to segments outside the window) not sent because there were too many.
    limited,
}
