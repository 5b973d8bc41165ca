//! One minimal HTTP server on many TCP stacks: `httpd --stack NAME`.
//!
//! In: which stack, where to listen, how long replies are; out: `ready NAME http://IP:PORT` on stdout once it serves,
//! then replies until SIGINT or SIGTERM, exit status 0. What the server answers is `httpjob`'s business, each stack's
//! main loop is in a file of its own.

mod linux;
mod options;
mod stop;

use clap::Parser;
use options::{Options, Stack};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::ExitCode;

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
    match options.stack {
        Stack::Linux => {
            if let Some(dev) = &options.dev {
                return Err(Failure::Use(format!(
                    "the linux stack serves on the kernel's own devices; leave out --dev {dev}"
                )));
            }
            let listen = options.listen.unwrap_or_else(linux_address);
            let stop = stop::pipe().map_err(Failure::Signals)?;
            let server = linux::Server::bind(listen, options.threads, options.body)?;
            ready("linux", server.address());
            Ok(server.run(&stop)?)
        }
        Stack::Fstack => Err(Failure::Use(
            "stack fstack is not in this version; choose linux".into(),
        )),
    }
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
