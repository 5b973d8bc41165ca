//! The HTTP job as the application of `stack-fstack`: a callback in the stack's main loop, of which each core has one.
//!
//! In: a device's words, an address; out: connections served until a signal ends it. As in the servers of the study the
//! callback takes a batch of events and answers each connection in turn; nothing is received until it returns.

mod job;

use crate::cpus;
use crate::signals::{self, Totals};
use bypassprof_probe as probe;
use httpjob::Replies;
use job::Job;
use signal_hook::iterator::Signals;
use stack_fstack::{Controller, Dispatch, FstackConfig, Stack};
use stack_netio::{AnyDevice, DeviceError, DeviceSpec, OpenError, Spread};
use stack_tcp::TcpError;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// The device has gone under way.
    #[error(transparent)]
    Device(#[from] DeviceError),
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
    /// Cores.
    pub threads: usize,
    /// How long a frame may wait for others.
    pub tx_delay: Duration,
    /// Whether the side ring is polled.
    pub side_poll: bool,
}

/// Stacks that listen and whose loops do not run yet, one for each core.
pub struct Server {
    cores: Vec<Core>,
}

struct Core {
    stack: Stack<AnyDevice>,
    job: Job,
}

impl Server {
    /// Opens the device and listens.
    pub fn bind(plan: &Plan) -> Result<Server, Error> {
        let devices = stack_netio::open_queues(&plan.device, *plan.listen.ip(), plan.threads)?;
        let mut config = FstackConfig::new(*plan.listen.ip(), PREFIX);
        let longest = Replies::new(plan.body).longest();
        config.policy.send_buffer = longest.clamp(*SEND_BUFFER.start(), *SEND_BUFFER.end());
        config.tx_delay = plan.tx_delay;
        config.side_poll = plan.side_poll;
        config.dispatch = match plan.device.spread {
            Spread::Hash => Dispatch::Device,
            // Frames of one flow come to any queue.
            Spread::Turn | Spread::Cpu => Dispatch::Flow,
        };
        let mut stacks = Vec::new();
        for device in devices {
            // The standard library's hasher is keyed from the system's entropy.
            config.seed = RandomState::new().build_hasher().finish();
            let mut stack = Stack::new(config.clone(), device);
            stack.listen(plan.listen.port(), BACKLOG)?;
            stacks.push(stack);
        }
        stack_fstack::connect(&mut stacks);
        let job = |stack| Core {
            stack,
            job: Job::new(plan.body),
        };
        Ok(Server {
            cores: stacks.into_iter().map(job).collect(),
        })
    }

    /// Serves on a thread for each core until a signal ends it.
    pub fn run(mut self, mut signals: Signals) -> Result<(), Error> {
        let stop = AtomicBool::new(false);
        let mut seen: Vec<_> = self.cores.iter_mut().map(Core::seen).collect();
        let several = self.cores.len() > 1;
        let failure = Mutex::new(None);
        thread::scope(|scope| {
            let mut started = Ok(());
            for (number, core) in self.cores.into_iter().enumerate() {
                let (name, stop, failure) = (format!("fstack-{number}"), &stop, &failure);
                let end = signals.handle();
                let run = move || {
                    if let Err(error) = core.run(number, several, stop) {
                        failure
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(error);
                        // As if a signal had come.
                        end.close();
                    }
                };
                let thread = thread::Builder::new().name(name);
                started = started.and_then(|()| thread.spawn_scoped(scope, run).map(drop));
            }
            if started.is_ok() {
                signals::wait_for_end(&mut signals, || totals(&mut seen));
            }
            // A flag that carries no data: the loops see it a round later at worst.
            stop.store(true, Ordering::Relaxed);
            started.map_err(Error::Thread)
        })?;
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(Error::Device(error)),
            None => Ok(()),
        }
    }
}

/// What is asked of a core while it runs.
struct Seen {
    controller: Option<Controller>,
    requests: Arc<AtomicU64>,
}

impl Core {
    fn seen(&mut self) -> Seen {
        Seen {
            controller: self.stack.controller(),
            requests: self.job.requests(),
        }
    }

    fn run(mut self, number: usize, several: bool, stop: &AtomicBool) -> Result<(), DeviceError> {
        let name = format!("fstack-{number}");
        probe::name_thread(&name);
        // Several loops that never sleep must not be put on one CPU; a single one is left to the scheduler.
        if several && let Err(e) = cpus::pin(number) {
            eprintln!("httpd: {name} is not kept on one CPU: {e}");
        }
        self.stack.main_loop(&mut self.job, stop)
    }
}

/// All cores' totals.
fn totals(cores: &mut [Seen]) -> Totals {
    let mut sum = Totals {
        working_ns: Some(0),
        ..Totals::default()
    };
    for core in cores {
        let ask = core.controller.as_mut().and_then(Controller::ask_totals);
        let answer = ask.and_then(|a| a.recv_timeout(Duration::from_secs(1)).ok());
        let loops = answer.unwrap_or_default();
        sum.requests += core.requests.load(Ordering::Relaxed);
        sum.working_ns = sum
            .working_ns
            .map(|ns| ns + loops.working.as_nanos() as u64);
        sum.rounds += loops.rounds;
        sum.empty_rounds += loops.empty_rounds;
    }
    sum
}
