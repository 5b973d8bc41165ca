//! mTCP's sizes and waits.
//!
//! In: the caller's choices; out: plain values.

use stack_tcp::Policy;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What one core's stack is made with.
#[derive(Clone, Debug)]
pub struct MtcpConfig {
    /// Our address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix_len: u8,
    /// TCP's behaviour. A stream's two buffers have the policy's sizes: a send buffer that cannot hold a whole reply makes
    /// the application wait for the peer.
    pub policy: Policy,
    /// Most streams of a core, and entries of each job queue (`max_concurrency`).
    pub max_streams: usize,
    /// Events that may wait for the application (`epoll_create`'s size in the servers of the study).
    pub events: usize,
    /// Accepted streams that the application has not taken yet, and half-open ones.
    pub backlog: usize,
    /// Most frames received in a round.
    pub rx_burst: usize,
    /// Frames that may wait in the transmit ring.
    pub tx_ring: usize,
    /// Rounds without a frame in which the stack only looks whether there is one, before it sleeps.
    pub idle_polls: u32,
    /// How long it sleeps at most. Nothing but a frame wakes it earlier.
    pub sleep: Duration,
    /// Long segments are left to a device that cuts them (TSO). mTCP over netmap has no such thing.
    pub segmentation_offload: bool,
    /// Never sleep, and make no system call to look: mTCP's DPDK module.
    pub spin: bool,
    /// How often timers are looked at.
    pub tick: Duration,
    /// How long a stream may do nothing before it is ended; none: for ever.
    pub idle_timeout: Option<Duration>,
    /// Secret of the engine's hashes and sequence numbers.
    pub seed: u64,
}

impl MtcpConfig {
    /// The defaults of mTCP and of the study's server.
    pub fn new(ip: Ipv4Addr, prefix_len: u8) -> MtcpConfig {
        MtcpConfig {
            ip,
            prefix_len,
            policy: Policy::mtcp(),
            max_streams: 10_000,
            events: 30_000,
            backlog: 4096,
            rx_burst: 64,
            tx_ring: 1024,
            idle_polls: 10,
            sleep: Duration::from_millis(1),
            segmentation_offload: false,
            spin: false,
            tick: Duration::from_millis(1),
            idle_timeout: Some(Duration::from_secs(30)),
            seed: 0,
        }
    }
}
