//! One minimal HTTP server on many TCP stacks: `httpd --stack NAME`.
//!
//! In: which stack, where to listen, how long replies are; out: `ready NAME http://IP:PORT` on stdout once it serves,
//! then replies until SIGINT or SIGTERM, exit status 0; one line of totals for each SIGUSR1. What the server answers is `httpjob`'s business, each stack's
//! main loop is in a file of its own.

mod cpus;
mod fstack;
mod ix;
mod linux;
mod mtcp;
mod options;
mod signals;
mod tas;

use clap::Parser;
use options::{Options, Stack};
use stack_netio::{DeviceSpec, Spread};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

/// The servers' address on the networks that this project's harness makes.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 123, 0, 2);
const PORT: u16 = 8080;

/// Why a server did not begin or did not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Use(String),
    #[error(transparent)]
    Linux(#[from] linux::Error),
    #[error(transparent)]
    Fstack(#[from] fstack::Error),
    #[error(transparent)]
    Mtcp(#[from] mtcp::Error),
    #[error(transparent)]
    Ix(#[from] ix::Error),
    #[error(transparent)]
    Tas(#[from] tas::Error),
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
}

fn main() -> ExitCode {
    let options = Options::parse();
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("httpd: {failure}");
            ExitCode::from(if matches!(failure, Failure::Use(_)) {
                2
            } else {
                1
            })
        }
    }
}

fn serve(options: &Options) -> Result<(), Failure> {
    let signals = signals::hold().map_err(Failure::Signals)?;
    match options.stack {
        Stack::Linux => {
            if let Some(dev) = &options.dev {
                return Err(Failure::Use(format!(
                    "the linux stack serves on the kernel's own devices; leave out --dev {dev}"
                )));
            }
            let listen = options.listen.unwrap_or_else(linux_address);
            let server = linux::Server::bind(listen, options.threads, options.body)?;
            ready("linux", server.address());
            Ok(server.run(signals)?)
        }
        Stack::Fstack => {
            let plan = fstack::Plan {
                device: options.dev.clone().unwrap_or_else(own_tap),
                listen: own_address(options)?,
                body: options.body,
                threads: usize::from(options.threads),
                tx_delay: Duration::from_micros(options.tx_drain_us),
                side_poll: options.side_poll,
            };
            let server = fstack::Server::bind(&plan)?;
            ready("fstack", plan.listen);
            Ok(server.run(signals)?)
        }
        Stack::Mtcp => {
            let device = options.dev.clone().unwrap_or_else(own_tap);
            if device.spread != Spread::Hash {
                return Err(Failure::Use(format!(
                    "--dev {device}: mtcp shares nothing between cores and needs all frames of a flow on one queue; \
                     leave out spread={}",
                    device.spread
                )));
            }
            let plan = mtcp::Plan {
                device,
                listen: own_address(options)?,
                body: options.body,
                threads: usize::from(options.threads),
                options: options.mtcp.clone(),
            };
            let server = mtcp::Server::bind(&plan)?;
            ready("mtcp", plan.listen);
            Ok(server.run(signals)?)
        }
        Stack::Ix => {
            let device = options.dev.clone().unwrap_or_else(own_tap);
            if device.spread != Spread::Hash {
                return Err(Failure::Use(format!(
                    "--dev {device}: ix shares nothing between cores and needs all frames of a flow on one queue; \
                     leave out spread={}",
                    device.spread
                )));
            }
            let plan = ix::Plan {
                device,
                listen: own_address(options)?,
                threads: options.threads,
                body: options.body,
                own: options.ix,
            };
            let server = ix::Server::bind(&plan)?;
            ready("ix", plan.listen);
            Ok(server.run(signals)?)
        }
        Stack::Tas => {
            let plan = tas::Plan::new(options, own_address(options)?).map_err(Failure::Use)?;
            Ok(tas::serve(&plan, signals)?)
        }
    }
}

/// Where a stack of ours listens.
fn own_address(options: &Options) -> Result<SocketAddrV4, Failure> {
    let default = SocketAddrV4::new(ADDRESS, PORT);
    let listen = options.listen.unwrap_or(default);
    if listen.ip().is_unspecified() || listen.port() == 0 {
        return Err(Failure::Use(format!(
            "--listen {listen}: a stack of its own needs an address and a port of its own, as {default}"
        )));
    }
    Ok(listen)
}

/// What a stack of ours serves on when nothing is said.
fn own_tap() -> DeviceSpec {
    DeviceSpec::tap("bpf0")
}

/// The harness's address where this machine has it, else loopback.
fn linux_address() -> SocketAddrV4 {
    let ours = UdpSocket::bind((ADDRESS, 0)).is_ok();
    SocketAddrV4::new(if ours { ADDRESS } else { Ipv4Addr::LOCALHOST }, PORT)
}

/// Tells whoever started us that connections are taken from now on.
fn ready(stack: &str, address: SocketAddrV4) {
    let mut out = std::io::stdout().lock();
    // Nobody has to listen: a closed stdout is no reason not to serve.
    let _ = writeln!(out, "ready {stack} http://{address}");
    let _ = out.flush();
}
