//! The HTTP job as the application of `stack-fstack`: a callback in the stack's main loop.
//!
//! In: a device's words, an address; out: connections served until a signal ends it. As in the servers of the study the
//! callback takes a batch of events and answers each connection in turn; nothing is received until it returns.

mod job;

use crate::signals::{self, Totals};
use bypassprof_probe as probe;
use job::Job;
use signal_hook::iterator::Signals;
use stack_fstack::{Controller, FstackConfig, Stack};
use stack_netio::{AnyDevice, DeviceSpec, OpenError};
use stack_tcp::TcpError;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Half-open connections that may wait.
const BACKLOG: usize = 4096;
const PREFIX: u8 = 24;
/// What a send buffer may grow to, whatever the body.
const SEND_BUFFER: std::ops::RangeInclusive<usize> = 256 * 1024..=16 * 1024 * 1024;

/// Why the server did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there or refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stack does not listen.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// The kernel refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What is to be served, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The device.
    pub device: DeviceSpec,
    /// The stack's address and port.
    pub listen: SocketAddrV4,
    /// Length of the replies' body.
    pub body: usize,
    /// How long a frame may wait for others.
    pub tx_delay: Duration,
    /// Whether the side ring is polled.
    pub side_poll: bool,
}

/// A stack that listens and whose loop does not run yet.
pub struct Server {
    stack: Stack<AnyDevice>,
    controller: Option<Controller>,
    job: Job,
}

impl Server {
    /// Opens the device and listens.
    pub fn bind(plan: &Plan) -> Result<Server, Error> {
        let device = stack_netio::open(&plan.device, *plan.listen.ip())?;
        let job = Job::new(plan.body);
        let mut config = FstackConfig::new(*plan.listen.ip(), PREFIX);
        config.policy.send_buffer = job
            .longest_reply()
            .clamp(*SEND_BUFFER.start(), *SEND_BUFFER.end());
        config.tx_delay = plan.tx_delay;
        config.side_poll = plan.side_poll;
        // The standard library's hasher is keyed from the system's entropy.
        config.seed = RandomState::new().build_hasher().finish();
        let mut stack = Stack::new(config, device);
        stack.listen(plan.listen.port(), BACKLOG)?;
        Ok(Server {
            controller: stack.controller(),
            stack,
            job,
        })
    }

    /// Serves on the calling thread until a signal ends it.
    pub fn run(mut self, mut signals: Signals) -> Result<(), Error> {
        let stop = AtomicBool::new(false);
        let requests = self.job.requests();
        let mut controller = self.controller.take();
        let totals = || {
            let ask = controller.as_mut().and_then(Controller::ask_totals);
            let answer = ask.and_then(|a| a.recv_timeout(Duration::from_secs(1)).ok());
            let loops = answer.unwrap_or_default();
            Totals {
                requests: requests.load(Ordering::Relaxed),
                working_ns: Some(loops.working.as_nanos() as u64),
                rounds: loops.rounds,
                empty_rounds: loops.empty_rounds,
            }
        };
        let wait = || {
            signals::wait_for_end(&mut signals, totals);
            // A flag that carries no data: the loop sees it a round later at worst.
            stop.store(true, Ordering::Relaxed);
        };
        probe::name_thread("fstack-0");
        thread::scope(|scope| {
            let name = thread::Builder::new().name("httpd-signals".into());
            name.spawn_scoped(scope, wait).map_err(Error::Thread)?;
            self.stack.main_loop(&mut self.job, &stop);
            Ok(())
        })
    }
}
