//! The HTTP job on lwIP: a turn for each connection with news, in the stack's loop.
//!
//! In: a place, the row's own options; out: connections served until a signal ends it.

use crate::client::Job;
use crate::place::Place;
use crate::signals::{self, Totals};
use bypassprof_probe as probe;
use signal_hook::iterator::Signals;
use stack_lwip::{LwipConfig, LwipError, Stack};
use stack_netio::{AnyDevice, DeviceError, OpenError};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Length of the network's prefix.
const PREFIX: u8 = 24;

/// What is particular to this row.
#[derive(Clone, Debug, clap::Args)]
pub struct LwipOptions {
    /// lwip: most handshakes under way at once; the oldest gives way to one more. lwIP as built by Debian has no limit.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub lwip_half_open: u32,
}

/// Why the server did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there or refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no lwIP.
    #[error("--stack lwip: {0}")]
    Lwip(#[from] LwipError),
    /// The device went away.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernel refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A stack that listens and whose loop does not run yet.
pub struct Server {
    stack: Stack<AnyDevice>,
    job: Job,
}

impl Server {
    /// Opens the device and listens.
    pub fn bind(place: &Place, body: usize, options: &LwipOptions) -> Result<Server, Error> {
        let device = stack_netio::open(&place.device, *place.listen.ip())?;
        let config = LwipConfig {
            listen: place.listen,
            prefix_len: PREFIX,
            half_open: options.lwip_half_open,
            // The standard library's hasher is keyed from the system's entropy.
            seed: RandomState::new().build_hasher().finish() as u32,
        };
        Ok(Server {
            stack: Stack::new(config, device)?,
            job: Job::new(body),
        })
    }

    /// Serves on the calling thread until a signal ends it.
    pub fn run(mut self, mut signals: Signals) -> Result<(), Error> {
        let stop = AtomicBool::new(false);
        let (tally, requests) = (self.stack.tally(), self.job.requests());
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
        probe::name_thread("lwip-0");
        thread::scope(|scope| {
            let name = thread::Builder::new().name("httpd-signals".into());
            name.spawn_scoped(scope, wait).map_err(Error::Thread)?;
            let ended = self.stack.main_loop(&mut self.job, &stop);
            // A device that has gone ends the whole server.
            handle.close();
            Ok(ended?)
        })
    }
}
