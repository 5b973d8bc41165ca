//! TAS's sizes and intervals.
//!
//! In: the caller's choices; out: plain values.

use std::net::Ipv4Addr;
use std::time::Duration;

/// How the slow path sets rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateControl {
    /// DCTCP's reductions on a rate: TAS's default.
    Dctcp,
    /// The same rate for all flows, in bytes per second; 0 is none: only the peer's window limits.
    Constant(u64),
}

/// What a service is made with.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix_len: u8,
    /// How rates are set.
    pub rate: RateControl,
    /// Empty polling before a thread sleeps (TAS: `fp_poll_interval`).
    pub spin: Duration,
    /// Fast-path threads never sleep (TAS: `--fp-no-ints`).
    pub no_ints: bool,
    /// The slow path spins as long as there are connections, as TAS's does; else it sleeps between its rounds.
    pub slow_path_spins: bool,
    /// Ends when the last application has gone, once there was one.
    pub ends_with_applications: bool,
    /// Shortest time without an acknowledgement after which data is sent again. TAS has no floor: four control
    /// intervals of two round trips each, which on a machine whose threads share CPUs is less than a turn of its
    /// scheduler, and less than Linux may take to acknowledge (40 ms).
    pub min_rto: Duration,
    /// Retransmissions in a row before a peer is given up.
    pub retries: u32,
    /// How long a closed connection's addresses are remembered.
    pub time_wait: Duration,
    /// How long a peer may take to close after the application has.
    pub fin_wait: Duration,
    /// Connections that may be half open at once; beyond it the oldest goes.
    pub half_open: usize,
    /// Long segments are left to a device that cuts them (TSO). TAS does not: one segment leaves at a time.
    pub segmentation_offload: bool,
    /// Secret of hashes and sequence numbers.
    pub seed: u64,
}

/// Frames of one receive.
pub const RX_BATCH: usize = 16;
/// Frames that wait before they are handed to the device.
pub const TX_BATCH: usize = 32;
/// Segments that the queue manager lets go in a round.
pub const QMAN_BATCH: usize = 16;
/// Entries of the slow path's queue taken in a round.
pub const KERNEL_BATCH: usize = 8;
/// Frames of the forwarding ring taken in a round.
pub const FORWARD_BATCH: usize = 64;
/// Frames that a forwarding ring holds.
pub const FORWARD_RING: usize = 32_768;
/// Entries of the queues between slow path and fast path.
pub const KERNEL_RING: usize = 16_384;
/// Application contexts, all of which are probed in every round.
pub const CONTEXTS: usize = 16;
/// ATX entries taken of one context in a round.
pub const ATX_BATCH: usize = 16;
/// Times that the slow path looks into an empty queue in a round.
pub const SLOW_CHECKS: usize = 512;
/// Connections that congestion control visits in a round.
pub const CC_BATCH: usize = 128;
/// Largest payload of a segment: what 1500 bytes leave beside headers and timestamps.
pub const MSS: u32 = 1448;

impl ServiceConfig {
    /// TAS's defaults.
    pub fn new(ip: Ipv4Addr, prefix_len: u8) -> ServiceConfig {
        ServiceConfig {
            ip,
            prefix_len,
            rate: RateControl::Dctcp,
            spin: Duration::from_millis(10),
            no_ints: false,
            slow_path_spins: true,
            ends_with_applications: false,
            min_rto: Duration::from_millis(200),
            retries: 12,
            time_wait: Duration::from_secs(10),
            fin_wait: Duration::from_secs(60),
            half_open: 4096,
            segmentation_offload: false,
            seed: 0,
        }
    }
}
