//! IX's sizes, and the switches for what it is known to lose by.
//!
//! In: the caller's choices; out: plain values.

use stack_tcp::Policy;
use std::net::Ipv4Addr;

/// What a round polls besides the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SidePoll {
    /// Nothing.
    #[default]
    Off,
    /// The storage scheduler that nobody uses, each core's word in a cache line of its own.
    Padded,
    /// The same with all cores' words side by side, as in the ReFlex variant: every core's round takes the line away from
    /// all others.
    Shared,
}

/// What a stack is made with.
#[derive(Clone, Debug)]
pub struct IxConfig {
    /// Our address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix_len: u8,
    /// Which of the cores' stacks this is, from 0: its queue's number in events, below 256.
    pub core: u8,
    /// TCP's behaviour.
    pub policy: Policy,
    /// Most packets of a round: the bound of the adaptive batch.
    pub batch: usize,
    /// Frames that are handed to the device before their round ends.
    pub tx_buffer: usize,
    /// Event conditions told in one round.
    pub conditions: usize,
    /// Batched calls of one round.
    pub calls: usize,
    /// Connections of this core.
    pub pcbs: usize,
    /// Payload bytes in all buffers of this core.
    pub buffer_memory: usize,
    /// Look for a connection's handle from the first one on whenever one is accepted or closed, as IX does.
    pub handle_scan: bool,
    /// Long segments are left to a device that cuts them (TSO). IX does not.
    pub segmentation_offload: bool,
    /// What is polled besides the network.
    pub side_poll: SidePoll,
    /// Secret of the engine's hashes and sequence numbers.
    pub seed: u64,
}

impl IxConfig {
    /// IX's own sizes.
    pub fn new(ip: Ipv4Addr, prefix_len: u8) -> IxConfig {
        IxConfig {
            ip,
            prefix_len,
            core: 0,
            policy: Policy::ix(),
            batch: 64,
            tx_buffer: 64,
            conditions: 8192,
            calls: 8192,
            pcbs: 256 * 1024,
            buffer_memory: 1 << 30,
            handle_scan: false,
            segmentation_offload: false,
            side_poll: SidePoll::Off,
            seed: 0,
        }
    }
}
