//! The service's process: devices, threads, and its end.
//!
//! In: the plan of the application that started it, a socket that listens as standard input; out: exit status 0 once
//! its last application has gone. A Ctrl-C at the terminal reaches both processes: it is the application's to end.

use super::{Error, Plan};
use crate::server::{PREFIX, secret};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use stack_tas::{Listening, Service, ServiceConfig};
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Starts this program again as the service, with the same options.
pub fn spawn(listening: &mut Listening) -> io::Result<Child> {
    let socket = listening.socket.take();
    Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--tas-serve")
        .stdin(socket.map_or(Stdio::null(), Stdio::from))
        .stdout(Stdio::null())
        .spawn()
}

/// Runs the service.
pub fn run(plan: &Plan, mut signals: Signals) -> Result<(), Error> {
    let failed = |source| Error::Start {
        what: "the TAS service",
        source,
    };
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let ip = *plan.listen.ip();
    let devices = stack_netio::open_queues(&plan.device, ip, usize::from(plan.fp_cores))?;
    let mut config = ServiceConfig::new(ip, PREFIX);
    config.rate = plan.rate;
    config.spin = plan.spin;
    config.no_ints = plan.no_ints;
    config.segmentation_offload = plan.tso;
    config.slow_path_spins = plan.slow_path_spins;
    config.ends_with_applications = true;
    config.seed = secret();
    let service = Service::new(config, devices, listener).map_err(failed)?;
    let (stopper, end) = (service.stopper(), signals.handle());
    let wait = move || {
        if signals.forever().any(|signal| signal == SIGTERM) {
            stopper.stop();
        }
    };
    let waiter = thread::Builder::new().name("httpd-signals".into());
    waiter.spawn(wait).map_err(failed)?;
    let outcome = service.run();
    end.close();
    Ok(outcome?)
}
