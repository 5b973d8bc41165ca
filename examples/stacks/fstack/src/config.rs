//! F-Stack's sizes and delays.
//!
//! In: the caller's choices; out: plain values.

use crate::dispatch::Dispatch;
use stack_tcp::Policy;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What a stack is made with.
#[derive(Clone, Debug)]
pub struct FstackConfig {
    /// Our address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix_len: u8,
    /// TCP's behaviour.
    pub policy: Policy,
    /// How long a frame may wait for others before it is handed to the device (`pkt_tx_delay`); zero: until the round ends.
    pub tx_delay: Duration,
    /// Most frames received in a round.
    pub rx_burst: usize,
    /// Frames that are handed over at once, however short they have waited.
    pub tx_burst: usize,
    /// Who decides which core a flow belongs to, when there are several.
    pub dispatch: Dispatch,
    /// Frames that each of the other threads may have handed over and not been taken yet.
    pub dispatch_ring: usize,
    /// How often TCP's timers are looked at (FreeBSD's `hz`).
    pub tick: Duration,
    /// Long segments are left to a device that cuts them (TSO). F-Stack's default is not to.
    pub segmentation_offload: bool,
    /// Look into the side ring in every round, whether or not another stack uses it (F-Stack's KNI).
    pub side_poll: bool,
    /// Secret of the engine's hashes and sequence numbers.
    pub seed: u64,
}

impl FstackConfig {
    /// The defaults of F-Stack's own configuration file.
    pub fn new(ip: Ipv4Addr, prefix_len: u8) -> FstackConfig {
        FstackConfig {
            ip,
            prefix_len,
            policy: Policy::fstack(),
            tx_delay: Duration::from_micros(100),
            rx_burst: 32,
            tx_burst: 32,
            dispatch: Dispatch::Device,
            dispatch_ring: 2048,
            tick: Duration::from_millis(10),
            segmentation_offload: false,
            side_poll: false,
            seed: 0,
        }
    }
}
