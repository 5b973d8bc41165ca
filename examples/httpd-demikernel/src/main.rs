//! The HTTP job on Demikernel: what `httpd --stack demikernel` runs.
//!
//! In: where to listen, how long replies are; out: `ready demikernel http://IP:PORT` on stdout once it serves, then
//! replies until SIGINT or SIGTERM, exit status 0; one line of totals for each SIGUSR1. The job, the signals and the
//! place are `httpd`'s own files.

#[path = "../../httpd/src/client.rs"]
mod client;
#[path = "../../httpd/src/demikernel/options.rs"]
mod demikernel;
mod options;
#[path = "../../httpd/src/place.rs"]
mod place;
#[path = "../../httpd/src/signals.rs"]
mod signals;
#[path = "../../httpd/src/single.rs"]
mod single;

use clap::Parser;
use client::Job;
use options::Options;
use place::Place;
use stack_demikernel::{DemikernelConfig, DemikernelError, Stack, Wait};
use stack_netio::OpenError;
use std::io::Write;
use std::process::ExitCode;

/// Why the server did not begin.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Use(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Demikernel(#[from] DemikernelError),
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Loop(#[from] single::LoopError),
}

fn main() -> ExitCode {
    match serve(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("httpd-demikernel: {failure}");
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
    let place = Place::of_one_thread("demikernel", options).map_err(Failure::Use)?;
    let device = stack_netio::open(&place.device, *place.listen.ip())?;
    let own = &options.demikernel;
    let config = DemikernelConfig {
        listen: place.listen,
        connections: own.demikernel_connections as usize,
        piece: own.demikernel_piece as usize,
        pushes: own.demikernel_pushes as usize,
        wait: match own.demikernel_wait.as_str() {
            "next" => Wait::Next,
            _ => Wait::Any,
        },
    };
    let mut stack = Stack::new(config, device)?;
    let mut job = Job::new(options.body);
    let mut out = std::io::stdout().lock();
    // Nobody has to listen: a closed stdout is no reason not to serve.
    let _ = writeln!(out, "ready demikernel http://{}", place.listen);
    let _ = out.flush();
    drop(out);
    let (tally, requests) = (stack.tally(), job.requests());
    let main_loop = |stop: &_| stack.main_loop(&mut job, stop);
    let ended = single::run("demikernel-0", &tally, &requests, signals, main_loop);
    Ok(ended?)
}
