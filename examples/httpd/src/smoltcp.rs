//! The HTTP job on smoltcp: a turn for each connection with news, in the stack's loop.
//!
//! In: a place, the row's own options; out: connections served until a signal ends it.

use crate::client::Job;
use crate::place::Place;
use crate::server::{self, Error, PREFIX};
use crate::single;
use signal_hook::iterator::Signals;
use stack_netio::AnyDevice;
use stack_smoltcp::{SmoltcpConfig, Stack};

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
            seed: server::secret(),
        };
        Ok(Server {
            stack: Stack::new(config, device),
            job: Job::new(body),
        })
    }

    /// Serves on the calling thread until a signal ends it.
    pub fn run(self, signals: Signals) -> Result<(), Error> {
        let Server { mut stack, mut job } = self;
        let (tally, requests) = (stack.tally(), job.requests());
        let main_loop = |stop: &_| stack.main_loop(&mut job, stop);
        Ok(single::run(
            "smoltcp-0",
            &tally,
            &requests,
            signals,
            main_loop,
        )?)
    }
}
