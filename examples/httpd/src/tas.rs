//! The HTTP job on `stack-tas`: this process is the application, its child the service.
//!
//! In: a device's words, an address, how the service is to be found; out: connections served until a signal ends it, or
//! the service dies. The service is this program again (`--tas-serve`), which gets its listening socket as standard
//! input; it ends with its last application. Each thread has a context and a listener of its own.

mod job;
mod service;

use crate::options::Options;
use crate::place::Place;
use crate::server::{self, Task};
use crate::signals::Totals;
use crate::single::LoopError;
use clap::Args;
use job::Worker;
use signal_hook::iterator::Signals;
use stack_netio::{DeviceSpec, OpenError};
use stack_tas::{
    Address, AttachError, Context, ContextConfig, Gone, Listening, RateControl, ServiceError,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections that may wait for each thread.
const BACKLOG: u32 = 4096;
/// TAS's default for a flow's rings, and what the transmit ring may grow to by itself to hold a whole reply.
const RING: usize = 8192;
const LARGEST_RING: usize = 2 << 20;
/// Most connections of a thread, and bytes of all their rings.
const CONNECTIONS: u64 = 65_536;
const RING_BYTES: u64 = 64 << 30;
/// Polling before a sleep: TAS's, and where CPUs are fewer than threads.
const SPIN: Duration = Duration::from_millis(10);
const SHARED_SPIN: Duration = Duration::from_micros(50);
/// How long the service may take to end with its last application.
const PATIENCE: Duration = Duration::from_secs(2);

/// The row's own options.
#[derive(Args, Debug)]
pub struct TasOptions {
    /// tas: fast-path threads of the service, each with a queue of the device.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub fp_cores: u16,
    /// tas: fast-path threads never sleep.
    #[arg(long)]
    pub fp_no_ints: bool,
    /// tas: Unix socket of the service, for other applications to attach to; by default it serves this one only.
    #[arg(long, value_name = "PATH")]
    pub tas_socket: Option<PathBuf>,
    /// tas: start no service, attach to the one at --tas-socket.
    #[arg(long, requires = "tas_socket")]
    pub tas_attach: bool,
    /// tas: how the slow path sets flows' rates: dctcp, or bytes per second for all, 0: no limit but the peer's window.
    #[arg(long, value_name = "dctcp|BYTES", default_value = "dctcp", value_parser = rate)]
    pub tas_rate: RateControl,
    /// tas: bytes of a flow's transmit ring, a power of two from 2048 to 64 MiB; by default 8192, or enough for a whole
    /// reply of up to 2 MiB.
    #[arg(long, value_name = "BYTES", value_parser = ring)]
    pub tas_buffer: Option<u32>,
    /// tas: empty polling before a thread sleeps, in microseconds; by default 10000 as in TAS, where the slow path then
    /// spins as long as there are connections, or 50 where there are fewer CPUs than threads.
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub tas_spin_us: Option<u64>,
    /// This process is the service.
    #[arg(long, hide = true)]
    pub tas_serve: bool,
}

fn rate(text: &str) -> Result<RateControl, String> {
    match (text, text.parse()) {
        ("dctcp", _) => Ok(RateControl::Dctcp),
        (_, Ok(rate)) => Ok(RateControl::Constant(rate)),
        _ => Err("dctcp or a number of bytes per second is needed".into()),
    }
}

fn ring(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(n) if n.is_power_of_two() && (2048..=64 << 20).contains(&n) => Ok(n),
        _ => Err("a power of two from 2048 to 67108864 is needed".into()),
    }
}

/// Why the server did not begin or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there or refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no way to the service.
    #[error("cannot attach to the TAS service{at}: {source}")]
    Attach {
        /// Where.
        at: String,
        /// Why.
        source: AttachError,
    },
    /// Another address.
    #[error("the TAS service has the address {has}, not that of --listen {wanted}")]
    Address {
        /// The service's.
        has: Ipv4Addr,
        /// Ours.
        wanted: SocketAddrV4,
    },
    /// The service is gone.
    #[error("{gone}{how}")]
    Gone {
        /// In which way.
        gone: Gone,
        /// What is known of its process.
        how: String,
    },
    /// The service's socket.
    #[error("cannot listen for applications at {at}: {source}")]
    Socket {
        /// Where.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a thread.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// The service did not go on.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The kernel refused a process.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What is to be served, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    device: DeviceSpec,
    listen: SocketAddrV4,
    body: usize,
    threads: u16,
    fp_cores: u16,
    no_ints: bool,
    socket: Option<PathBuf>,
    attach: bool,
    rate: RateControl,
    buffer: Option<u32>,
    spin: Duration,
    slow_path_spins: bool,
    tso: bool,
    serve: bool,
}

impl Plan {
    /// A plan, or which option does not fit.
    pub fn new(options: &Options) -> Result<Plan, String> {
        let place = Place::of(options)?;
        if options.threads > 16 {
            return Err(format!(
                "--threads {}: the tas stack has 16 contexts, one for each thread",
                options.threads
            ));
        }
        let own = &options.tas;
        if let (true, Some(dev)) = (own.tas_attach, &options.dev) {
            return Err(format!(
                "--tas-attach uses the device of the service; leave out --dev {dev}"
            ));
        }
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let enough = cpus > usize::from(own.fp_cores + options.threads);
        let by_cpus = if enough { SPIN } else { SHARED_SPIN };
        let spin = own.tas_spin_us.map_or(by_cpus, Duration::from_micros);
        Ok(Plan {
            device: place.device,
            listen: place.listen,
            body: options.body,
            threads: options.threads,
            fp_cores: own.fp_cores,
            no_ints: own.fp_no_ints,
            socket: own.tas_socket.clone(),
            attach: own.tas_attach,
            rate: own.tas_rate,
            buffer: own.tas_buffer,
            spin,
            slow_path_spins: spin >= SPIN,
            tso: options.tso,
            serve: own.tas_serve,
        })
    }

    /// Sizes for a thread whose longest reply has so many bytes.
    fn context(&self, reply: usize) -> ContextConfig {
        let whole = reply.next_power_of_two().clamp(RING, LARGEST_RING) as u32;
        let tx = self.buffer.unwrap_or(whole);
        let rings = RING_BYTES / (RING as u64 + u64::from(tx));
        ContextConfig {
            rx: RING as u32,
            tx,
            connections: CONNECTIONS.min(rings) as u32,
            spin: self.spin,
        }
    }
}

/// Serves until a signal ends it, as the application or, started by one, as the service.
pub fn serve(plan: &Plan, signals: Signals) -> Result<(), Error> {
    if plan.serve {
        return service::run(plan, signals);
    }
    let mut service = if plan.attach {
        Found::Elsewhere(Address::Path(plan.socket.clone().unwrap_or_default()))
    } else {
        start(plan)?
    };
    let outcome = attach(plan, &service).and_then(|workers| {
        crate::ready("tas", plan.listen);
        run(workers, signals)
    });
    match outcome {
        Err(Error::Gone { gone, .. }) => Err(Error::Gone {
            gone,
            how: service.fate(),
        }),
        outcome => {
            service.wait();
            outcome
        }
    }
}

/// The service of an application.
enum Found {
    Elsewhere(Address),
    Child(Child, Listening),
}

impl Found {
    fn address(&self) -> &Address {
        match self {
            Found::Elsewhere(address) => address,
            Found::Child(_, listening) => &listening.address,
        }
    }

    /// What is known of how it ended.
    fn fate(&mut self) -> String {
        let status = self.wait();
        status.map_or(String::new(), |status| format!(" (its process: {status})"))
    }

    /// Waits for a child of ours, which goes on if other applications have attached to it.
    fn wait(&mut self) -> Option<std::process::ExitStatus> {
        let Found::Child(child, _) = self else {
            return None;
        };
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

/// Starts the service as a child, whose standard input is the socket it listens on.
fn start(plan: &Plan) -> Result<Found, Error> {
    let path = plan.socket.as_deref();
    let mut listening = stack_tas::listen(path).map_err(|source| Error::Socket {
        at: path.map_or("a free name".into(), |p| p.display().to_string()),
        source,
    })?;
    let child = service::spawn(&mut listening).map_err(|source| Error::Start {
        what: "the TAS service",
        source,
    })?;
    Ok(Found::Child(child, listening))
}

fn attach(plan: &Plan, service: &Found) -> Result<Vec<Worker>, Error> {
    let address = service.address();
    let mut workers = Vec::new();
    for _ in 0..plan.threads {
        let mut worker = Worker::new(plan.body);
        let config = plan.context(worker.longest_reply());
        let mut context = Context::attach(address, config).map_err(|source| Error::Attach {
            at: match address {
                Address::Path(path) => format!(" at {}", path.display()),
                Address::Abstract(_) => String::new(),
            },
            source,
        })?;
        if context.ip() != *plan.listen.ip() {
            return Err(Error::Address {
                has: context.ip(),
                wanted: plan.listen,
            });
        }
        context.listen(plan.listen.port(), BACKLOG).map_err(gone)?;
        worker.use_context(context);
        workers.push(worker);
    }
    Ok(workers)
}

fn gone(gone: Gone) -> Error {
    Error::Gone {
        gone,
        how: String::new(),
    }
}

/// What threads count, for the one that answers questions.
#[derive(Debug, Default)]
pub struct Counts {
    /// Polls of the application.
    pub rounds: AtomicU64,
    /// Those that found nothing.
    pub empty_rounds: AtomicU64,
    /// Time in the others, in ns.
    pub working_ns: AtomicU64,
    /// The same three of the service's fast path.
    pub fast_path: [AtomicU64; 3],
}

fn run(workers: Vec<Worker>, signals: Signals) -> Result<(), Error> {
    let (mut tasks, mut seen) = (Vec::new(), Vec::new());
    for (index, mut worker) in workers.into_iter().enumerate() {
        let counts = Arc::new(Counts::default());
        seen.push((worker.requests(), counts.clone()));
        tasks.push(Task::new(format!("tas-app-{index}"), move |stop| {
            worker.serve(&counts, stop).map_err(gone)
        }));
    }
    server::run(tasks, signals, || totals(&seen))
}

/// The application's and the fast path's together.
fn totals(seen: &[(Arc<AtomicU64>, Arc<Counts>)]) -> Totals {
    let sum = |count: fn(&Counts) -> &AtomicU64| {
        seen.iter()
            .map(|(_, counts)| count(counts).load(Ordering::Relaxed))
            .sum::<u64>()
    };
    // All threads are told the same of the fast path.
    let fast = |n: usize| {
        seen.first()
            .map_or(0, |(_, counts)| counts.fast_path[n].load(Ordering::Relaxed))
    };
    Totals {
        requests: seen.iter().map(|(n, _)| n.load(Ordering::Relaxed)).sum(),
        working_ns: Some(sum(|c| &c.working_ns).saturating_add(fast(2))),
        rounds: sum(|c| &c.rounds).saturating_add(fast(0)),
        empty_rounds: sum(|c| &c.empty_rounds).saturating_add(fast(1)),
    }
}
