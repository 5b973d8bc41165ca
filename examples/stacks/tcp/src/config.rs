//! What a stack chooses: addresses, sizes and the policies in which published stacks differ.
//!
//! In: the caller's choices; out: plain values that the engine reads. It refuses to hold state of connections.

use std::net::Ipv4Addr;
use std::time::Duration;

/// An engine's place in the network, its sizes and its policy.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our Ethernet address.
    pub mac: [u8; 6],
    /// Our IPv4 address.
    pub ip: Ipv4Addr,
    /// Length of the local network's prefix.
    pub prefix_len: u8,
    /// Where other networks are reached.
    pub gateway: Option<Ipv4Addr>,
    /// Largest IPv4 packet on the link.
    pub mtu: u16,
    /// How TCP behaves.
    pub policy: Policy,
    /// Most connections at once, half-open and TIME-WAIT ones included.
    pub max_connections: usize,
    /// Most bytes of payload buffered for all connections together.
    pub buffer_memory: usize,
    /// Secret for hashes, initial sequence numbers and SYN cookies: random in production, fixed in tests.
    pub seed: u64,
}

impl Config {
    /// A config with everyday sizes (1500-byte MTU, 100,000 connections, 1 GiB of buffers, taken as needed).
    pub fn new(mac: [u8; 6], ip: Ipv4Addr, prefix_len: u8) -> Config {
        Config {
            mac,
            ip,
            prefix_len,
            gateway: None,
            mtu: 1500,
            policy: Policy::default(),
            max_connections: 100_000,
            buffer_memory: 1 << 30,
            seed: 0,
        }
    }
}

/// When data is acknowledged by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    /// Every segment with data, at once.
    Immediate,
    /// Every `every`-th segment at once, else after `timeout`, unless data going the other way carries it.
    Delayed {
        /// How long one segment may wait.
        timeout: Duration,
        /// Segments until one is acknowledged at once; 2 as RFC 9293 asks.
        every: u8,
    },
}

/// When segments are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputMode {
    /// Inside the call that makes them possible.
    Immediate,
    /// Connections are put on the ack and data lists, which the stack drains (`flush_acks`, `flush_data`).
    Deferred,
}

/// Which congestion control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Congestion {
    /// Window limited by the peer alone.
    None,
    /// RFC 5681 and 6582.
    NewReno,
    /// RFC 9438.
    Cubic,
    /// A fixed or outside-controlled rate (see `Engine::set_rate`); 0 means unlimited.
    Rate {
        /// Rate at the start of a connection.
        bytes_per_second: u64,
    },
    /// TAS's: a rate of the engine's own finding, from marks and losses of two round trips (see `RateControl`). Its
    /// defaults are 1,250,000 for both.
    DctcpRate {
        /// Bytes per second at the start of a connection; also the least.
        initial: u64,
        /// Bytes per second that are added every two round trips once slow start is over.
        step: u64,
    },
}

/// What is sent again after three duplicate acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// RFC 6675 where SACK is on, RFC 6582 where not.
    Standard,
    /// Everything from the first unacknowledged byte on.
    GoBackN,
}

/// The retransmission timer (RFC 6298).
#[derive(Clone, Copy, Debug)]
pub struct RtoPolicy {
    /// Before the first measurement.
    pub initial: Duration,
    /// Floor.
    pub min: Duration,
    /// Ceiling, after doubling too.
    pub max: Duration,
    /// Timeouts are rounded up to a multiple of this.
    pub granularity: Duration,
}

/// Probing of idle connections.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is dropped.
    pub probes: u8,
}

/// How TCP behaves.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Acknowledgements.
    pub ack: AckPolicy,
    /// When segments are made.
    pub output: OutputMode,
    /// Hold back small segments while data is in flight (RFC 9293 3.7.4).
    pub nagle: bool,
    /// Congestion control.
    pub congestion: Congestion,
    /// Loss recovery.
    pub recovery: Recovery,
    /// Initial congestion window in segments.
    pub initial_window: u32,
    /// Initial slow start threshold in segments; none: unlimited.
    pub initial_ssthresh: Option<u32>,
    /// Most segments that one acknowledgement adds in slow start (RFC 3465's L); IX adds 10 per acknowledgement whatever
    /// it covers, which is `slow_start_fixed`.
    pub slow_start_limit: u32,
    /// Whether slow start adds `slow_start_limit` segments for every acknowledgement, however little it covers.
    pub slow_start_fixed: bool,
    /// Retransmission timer.
    pub rto: RtoPolicy,
    /// Retransmissions of one segment before the connection is given up.
    pub retries: u8,
    /// Retransmissions of a SYN or SYN-ACK before it is given up.
    pub syn_retries: u8,
    /// Bytes a connection may have unacknowledged and unsent.
    pub send_buffer: usize,
    /// Bytes a connection may have received and unread.
    pub receive_buffer: usize,
    /// Largest segment offered to peers, below what the MTU allows.
    pub mss_limit: Option<u16>,
    /// Offer window scaling.
    pub window_scaling: bool,
    /// Offer timestamps.
    pub timestamps: bool,
    /// Offer selective acknowledgements.
    pub sack: bool,
    /// Offer to tell and to heed congestion marks (RFC 3168; as RFC 8257 has it with `Congestion::DctcpRate`).
    pub ecn: bool,
    /// Answer SYNs beyond the backlog with cookies instead of dropping them.
    pub syn_cookies: bool,
    /// Verify received checksums in software where the device did not.
    pub verify_checksums: bool,
    /// Leave transmit checksums of TCP to the device. Frames that the device cuts (see `TxHints::cut`) always leave them.
    pub offload_checksums: bool,
    /// How long TIME-WAIT lasts, and how long FIN-WAIT-2 lasts after the application has gone.
    pub time_wait: Duration,
    /// Probing of idle connections.
    pub keepalive: Option<KeepAlive>,
    /// Tell `Writable` for every acknowledgement of data, whether or not a write was refused: for applications that own what
    /// they send until it is acknowledged (IX's `sent`).
    pub tell_sent: bool,
    /// Called for every segment with data, between the event that tells of it and the answer: where faults are planted to try
    /// post mortems with. `None` in earnest.
    pub planted: Option<fn()>,
    /// Make the events `deliver`, `send_call` and its `full` in here. Off for stacks whose application is behind queues of
    /// its own and that make them there.
    pub api_probes: bool,
}

impl Default for Policy {
    /// What a Linux host does, as far as the engine has it.
    fn default() -> Policy {
        Policy {
            ack: AckPolicy::Delayed {
                timeout: Duration::from_millis(40),
                every: 2,
            },
            output: OutputMode::Immediate,
            nagle: false,
            congestion: Congestion::Cubic,
            recovery: Recovery::Standard,
            initial_window: 10,
            initial_ssthresh: None,
            slow_start_limit: 10,
            slow_start_fixed: false,
            rto: RtoPolicy {
                initial: Duration::from_secs(1),
                min: Duration::from_millis(200),
                max: Duration::from_secs(60),
                granularity: Duration::from_millis(1),
            },
            retries: 15,
            syn_retries: 6,
            send_buffer: 256 * 1024,
            receive_buffer: 128 * 1024,
            mss_limit: None,
            window_scaling: true,
            timestamps: true,
            sack: true,
            ecn: false,
            syn_cookies: true,
            verify_checksums: true,
            offload_checksums: false,
            time_wait: Duration::from_secs(60),
            keepalive: None,
            tell_sent: false,
            planted: None,
            api_probes: true,
        }
    }
}

impl Policy {
    /// F-Stack: FreeBSD's CUBIC with a 10 ms tick, every request acknowledged by itself as its profiles show.
    pub fn fstack() -> Policy {
        Policy {
            ack: AckPolicy::Immediate,
            rto: RtoPolicy {
                initial: Duration::from_secs(1),
                min: Duration::from_millis(30),
                max: Duration::from_secs(64),
                granularity: Duration::from_millis(10),
            },
            ..Policy::default()
        }
    }

    /// mTCP: output from ack and data lists, window from 2 to 10 segments and then linear, no floor for the timer, go back
    /// to the first unacknowledged byte. Its buffers default to 8 KiB; they must hold a whole reply.
    pub fn mtcp() -> Policy {
        Policy {
            ack: AckPolicy::Immediate,
            output: OutputMode::Deferred,
            congestion: Congestion::NewReno,
            recovery: Recovery::GoBackN,
            initial_window: 2,
            initial_ssthresh: Some(10),
            slow_start_limit: 1,
            rto: RtoPolicy {
                initial: Duration::from_millis(500),
                min: Duration::from_millis(1),
                max: Duration::from_secs(60),
                granularity: Duration::from_millis(1),
            },
            send_buffer: 8 * 1024,
            receive_buffer: 8 * 1024,
            sack: false,
            ..Policy::default()
        }
    }

    /// IX: lwIP's constants with the changes of its authors: 10 segments and 10 more per acknowledgement, a timer in units
    /// of 500 ms, acknowledgements after 1 ms or two segments, 64 KiB to send.
    pub fn ix() -> Policy {
        Policy {
            ack: AckPolicy::Delayed {
                timeout: Duration::from_millis(1),
                every: 2,
            },
            congestion: Congestion::NewReno,
            slow_start_limit: 10,
            slow_start_fixed: true,
            rto: RtoPolicy {
                initial: Duration::from_millis(1500),
                min: Duration::from_millis(500),
                max: Duration::from_secs(60),
                granularity: Duration::from_millis(500),
            },
            send_buffer: 64 * 1024,
            receive_buffer: 32 * 1024,
            sack: false,
            verify_checksums: false,
            offload_checksums: true,
            tell_sent: true,
            api_probes: false,
            ..Policy::default()
        }
    }

    /// TAS: immediate acknowledgements, rates set by a slow path, go back to the first unacknowledged byte, 8 KiB buffers.
    pub fn tas() -> Policy {
        Policy {
            ack: AckPolicy::Immediate,
            output: OutputMode::Deferred,
            congestion: Congestion::Rate {
                bytes_per_second: 0,
            },
            recovery: Recovery::GoBackN,
            send_buffer: 8 * 1024,
            receive_buffer: 8 * 1024,
            sack: false,
            verify_checksums: false,
            offload_checksums: true,
            ..Policy::default()
        }
    }
}
