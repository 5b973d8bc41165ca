//! The HTTP job on smoltcp: a turn for each connection with news, in the stack's loop.
//!
//! In: a place, the row's own options; out: connections served until a signal ends it.

use crate::client::Job;
use crate::place::Place;
use crate::signals::{self, Totals};
use bypassprof_probe as probe;
use signal_hook::iterator::Signals;
use stack_netio::{AnyDevice, DeviceError, OpenError};
use stack_smoltcp::{SmoltcpConfig, Stack};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Length of the network's prefix.
const PREFIX: u8 = 24;

/// smoltcp offers no more without asking for a window scale that its buffer needs.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// What is particular to this row.
#[derive(Clone, Debug, clap::Args)]
pub struct SmoltcpOptions {
    /// smoltcp: most connections at once, those in TIME-WAIT with them; each that was ever needed keeps its buffers.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub smoltcp_sockets: u32,
    /// smoltcp: most handshakes under way at once; the oldest gives way to one more.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub smoltcp_half_open: u32,
    /// smoltcp: bytes of a connection's send buffer.
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024, value_parser = clap::value_parser!(u32).range(4096..=64 * 1024 * 1024))]
    pub smoltcp_send_buffer: u32,
}

/// Why the server did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there or refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
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
    pub fn bind(place: &Place, body: usize, options: &SmoltcpOptions) -> Result<Server, Error> {
        let device = stack_netio::open(&place.device, *place.listen.ip())?;
        let config = SmoltcpConfig {
            listen: place.listen,
            prefix_len: PREFIX,
            sockets: options.smoltcp_sockets as usize,
            half_open: options.smoltcp_half_open as usize,
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: options.smoltcp_send_buffer as usize,
            // The standard library's hasher is keyed from the system's entropy.
            seed: RandomState::new().build_hasher().finish(),
        };
        Ok(Server {
            stack: Stack::new(config, device),
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
        probe::name_thread("smoltcp-0");
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
