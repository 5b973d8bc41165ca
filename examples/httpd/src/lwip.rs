//! The HTTP job on lwIP: a turn for each connection with news, in the stack's loop.
//!
//! In: a place, the row's own options; out: connections served until a signal ends it.

use crate::client::Job;
use crate::place::Place;
use crate::server::{self, PREFIX};
use crate::single::{self, LoopError};
use signal_hook::iterator::Signals;
use stack_lwip::{LwipConfig, LwipError, Stack};
use stack_netio::{AnyDevice, OpenError};

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
    /// Its loop.
    #[error(transparent)]
    Loop(#[from] LoopError),
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
            seed: server::secret() as u32,
        };
        Ok(Server {
            stack: Stack::new(config, device)?,
            job: Job::new(body),
        })
    }

    /// Serves on the calling thread until a signal ends it.
    pub fn run(self, signals: Signals) -> Result<(), Error> {
        let Server { mut stack, mut job } = self;
        let (tally, requests) = (stack.tally(), job.requests());
        let main_loop = |stop: &_| stack.main_loop(&mut job, stop);
        Ok(single::run(
            "lwip-0", &tally, &requests, signals, main_loop,
        )?)
    }
}
