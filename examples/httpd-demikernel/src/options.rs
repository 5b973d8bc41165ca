//! The command line: what `httpd --stack demikernel` hands on.

use crate::demikernel::DemikernelOptions;
use clap::Parser;
use stack_netio::DeviceSpec;
use std::net::SocketAddrV4;

/// The HTTP server of `httpd --stack demikernel`: every request gets the same body. Ends on SIGINT and SIGTERM.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Length of the replies' body, letters `a`.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = body)]
    pub body: usize,
    /// Always 1: the stack has one thread.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: u16,
    /// Where to listen; by default 10.123.0.2:8080.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddrV4>,
    /// What is received from and sent to: tap:NAME, packet:IF, xdp:IF or dpdk:VDEV, with options behind commas
    /// (docs/reference/devices.md); by default a TAP of its own.
    #[arg(long, value_name = "KIND:NAME[,OPTION=VALUE]...")]
    pub dev: Option<DeviceSpec>,
    #[command(flatten)]
    pub demikernel: DemikernelOptions,
}

/// Longest body: what a response buffer may hold.
const MAX_BODY: usize = 1 << 30;

fn body(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= MAX_BODY => Ok(n),
        _ => Err(format!("a number of bytes up to {MAX_BODY} is needed")),
    }
}
