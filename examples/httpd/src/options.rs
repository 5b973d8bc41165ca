//! The command line.

use crate::ix;
use crate::mtcp::MtcpOptions;
use crate::planted::PlantedOptions;
use clap::Parser;
use stack_netio::DeviceSpec;
use std::net::SocketAddrV4;

/// One minimal HTTP server on many TCP stacks: every request gets the same body. Ends on SIGINT and SIGTERM.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Whose TCP carries it.
    #[arg(long, value_enum, value_name = "NAME", default_value = "linux")]
    pub stack: Stack,
    /// Length of the replies' body, letters `a`.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = body)]
    pub body: usize,
    /// Threads that serve, each with a listening socket or queue of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Where to listen; by default 10.123.0.2:8080, or 127.0.0.1:8080 where the linux stack finds no such address.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddrV4>,
    /// What a stack of ours receives from and sends to: tap:NAME, packet:IF, xdp:IF or dpdk:VDEV, with options behind commas
    /// (docs/reference/devices.md); by default a TAP of its own.
    #[arg(long, value_name = "KIND:NAME[,OPTION=VALUE]...")]
    pub dev: Option<DeviceSpec>,
    /// mtcp, fstack, ix, tas: leave the cutting of long segments to a device that does it (`--dev ...,offload=tx`); none of the
    /// published stacks does by default.
    #[arg(long)]
    pub tso: bool,
    /// fstack: longest wait of a frame for others to be sent with, in microseconds; 0: none beyond the round.
    #[arg(long, alias = "tx-delay-us", value_name = "US", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub tx_drain_us: u64,
    /// fstack: poll a ring that nobody uses in every round, as F-Stack polls its kernel interface.
    #[arg(long)]
    pub side_poll: bool,
    #[command(flatten)]
    pub mtcp: MtcpOptions,
    #[command(flatten)]
    pub ix: ix::IxOptions,
    #[command(flatten)]
    pub tas: crate::tas::TasOptions,
    #[command(flatten)]
    pub demikernel: crate::demikernel::DemikernelOptions,
    #[command(flatten)]
    pub lwip: crate::lwip::LwipOptions,
    #[command(flatten)]
    pub smoltcp: crate::smoltcp::SmoltcpOptions,
    #[command(flatten)]
    pub planted: PlantedOptions,
}

/// The stacks that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stack {
    /// The kernel's, by epoll.
    Linux,
    /// Run to completion with the application in the main loop.
    Fstack,
    /// A stack thread and an application thread on each core.
    Mtcp,
    /// Run to completion in adaptive batches, one elastic thread a queue.
    Ix,
    /// A service with a fast path and a slow path, the application in a process of its own.
    Tas,
    /// The real Demikernel, in a program of its own.
    Demikernel,
    /// The real lwIP.
    Lwip,
    /// The real smoltcp.
    Smoltcp,
}

/// Longest body: what a thread's response buffer may hold.
const MAX_BODY: usize = 1 << 30;

fn body(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= MAX_BODY => Ok(n),
        _ => Err(format!("a number of bytes up to {MAX_BODY} is needed")),
    }
}
