//! One minimal HTTP server on many TCP stacks: `httpd --stack NAME`.
//!
//! In: which stack, where to listen, how long replies are; out: `ready NAME http://IP:PORT` on stdout once it serves,
//! then replies until SIGINT or SIGTERM, exit status 0; one line of totals for each SIGUSR1. What the server answers is `httpjob`'s business, each stack's
//! main loop is in a file of its own.

mod client;
mod cpus;
mod demikernel;
mod fstack;
mod ix;
mod linux;
mod lwip;
mod mtcp;
mod options;
mod place;
mod planted;
mod server;
mod signals;
mod single;
mod smoltcp;
mod tas;

use clap::Parser;
use options::{Options, Stack};
use place::{DEFAULT, Place};
use stack_netio::Spread;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

/// Why a server did not begin or did not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Use(String),
    #[error(transparent)]
    Linux(#[from] linux::Error),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error(transparent)]
    Tas(#[from] tas::Error),
    #[error(transparent)]
    Demikernel(#[from] demikernel::Error),
    #[error(transparent)]
    Lwip(#[from] lwip::Error),
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
    if let Some(why) = options.planted.refusal(options.stack) {
        return Err(Failure::Use(why.into()));
    }
    let signals = signals::hold().map_err(Failure::Signals)?;
    match options.stack {
        Stack::Linux => {
            if let Some(dev) = &options.dev {
                return Err(Failure::Use(format!(
                    "the linux stack serves on the kernel's own devices; leave out --dev {dev}"
                )));
            }
            let listen = options.listen.unwrap_or_else(linux_address);
            let server =
                linux::Server::bind(listen, options.threads, options.body, options.planted)?;
            ready("linux", server.address());
            Ok(server.run(signals)?)
        }
        Stack::Fstack => {
            let place = Place::of(options).map_err(Failure::Use)?;
            let plan = fstack::Plan {
                device: place.device,
                listen: place.listen,
                body: options.body,
                threads: options.threads,
                tx_delay: Duration::from_micros(options.tx_drain_us),
                side_poll: options.side_poll,
                planted: options.planted,
                tso: options.tso,
            };
            let server = fstack::Server::bind(&plan)?;
            ready("fstack", plan.listen);
            Ok(server.run(signals)?)
        }
        Stack::Mtcp => {
            let place = place_of_whole_flows("mtcp", options)?;
            let plan = mtcp::Plan {
                device: place.device,
                listen: place.listen,
                body: options.body,
                threads: options.threads,
                options: options.mtcp.clone(),
                tso: options.tso,
            };
            let server = mtcp::Server::bind(&plan)?;
            ready("mtcp", plan.listen);
            Ok(server.run(signals)?)
        }
        Stack::Ix => {
            let place = place_of_whole_flows("ix", options)?;
            let plan = ix::Plan {
                device: place.device,
                listen: place.listen,
                threads: options.threads,
                body: options.body,
                own: options.ix,
                tso: options.tso,
            };
            let server = ix::Server::bind(&plan)?;
            ready("ix", plan.listen);
            Ok(server.run(signals)?)
        }
        Stack::Tas => {
            let plan = tas::Plan::new(options).map_err(Failure::Use)?;
            Ok(tas::serve(&plan, signals)?)
        }
        Stack::Demikernel => {
            let place = Place::of_one_thread("demikernel", options).map_err(Failure::Use)?;
            Err(demikernel::exec(&place, options.body, &options.demikernel).into())
        }
        Stack::Lwip => {
            let place = Place::of_one_thread("lwip", options).map_err(Failure::Use)?;
            let server = lwip::Server::bind(&place, options.body, &options.lwip)?;
            ready("lwip", place.listen);
            Ok(server.run(signals)?)
        }
        Stack::Smoltcp => {
            let place = Place::of_one_thread("smoltcp", options).map_err(Failure::Use)?;
            let server = smoltcp::Server::bind(&place, options.body, &options.smoltcp)?;
            ready("smoltcp", place.listen);
            Ok(server.run(signals)?)
        }
    }
}

/// The place for a stack that shares nothing between cores: all frames of a flow must come to one queue.
fn place_of_whole_flows(stack: &str, options: &Options) -> Result<Place, Failure> {
    let place = Place::of(options).map_err(Failure::Use)?;
    match place.device.spread {
        Spread::Hash => Ok(place),
        other => Err(Failure::Use(format!(
            "--dev {}: {stack} shares nothing between cores and needs all frames of a flow on one queue; leave out \
             spread={other}",
            place.device
        ))),
    }
}

/// The harness's address where this machine has it, else loopback.
fn linux_address() -> SocketAddrV4 {
    let ours = UdpSocket::bind((*DEFAULT.ip(), 0)).is_ok();
    let ip = if ours {
        *DEFAULT.ip()
    } else {
        Ipv4Addr::LOCALHOST
    };
    SocketAddrV4::new(ip, DEFAULT.port())
}

/// Tells whoever started us that connections are taken from now on.
fn ready(stack: &str, address: SocketAddrV4) {
    let mut out = std::io::stdout().lock();
    // Nobody has to listen: a closed stdout is no reason not to serve.
    let _ = writeln!(out, "ready {stack} http://{address}");
    let _ = out.flush();
}
