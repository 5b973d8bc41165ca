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

use bypassprof_probe as probe;
use clap::Parser;
use client::Job;
use options::Options;
use place::Place;
use signal_hook::iterator::Signals;
use signals::Totals;
use stack_demikernel::{DemikernelConfig, DemikernelError, Stack, Wait};
use stack_netio::{DeviceError, OpenError};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Why the server did not begin.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Use(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Demikernel(#[from] DemikernelError),
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
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
    run(&mut stack, &mut job, signals)
}

fn run<D: stack_netio::Device + 'static>(
    stack: &mut Stack<D>,
    job: &mut Job,
    mut signals: Signals,
) -> Result<(), Failure> {
    let stop = AtomicBool::new(false);
    let (tally, requests) = (stack.tally(), job.requests());
    let handle = signals.handle();
    let totals = || Totals {
        requests: requests.load(Ordering::Relaxed),
        working_ns: Some(tally.working_ns()),
        rounds: tally.rounds(),
        empty_rounds: tally.empty_rounds(),
    };
    let wait = || {
        signals::wait_for_end(&mut signals, totals);
        // A flag that carries no data: the loop sees it a round later at worst.
        stop.store(true, Ordering::Relaxed);
    };
    probe::name_thread("demikernel-0");
    thread::scope(|scope| {
        let name = thread::Builder::new().name("httpd-signals".into());
        name.spawn_scoped(scope, wait).map_err(Failure::Thread)?;
        let ended = stack.main_loop(job, &stop);
        // A device that has gone ends the whole server.
        handle.close();
        Ok(ended?)
    })
}
