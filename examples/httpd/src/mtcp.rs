//! The HTTP job on `stack-mtcp`: on each core a stack thread and an application thread.
//!
//! In: a device's words, an address, mTCP's own options; out: connections served until a signal ends it. As in the
//! servers of the study each core has its listener, and replies are written in pieces of 8 KiB.

mod job;

use crate::cpus;
use crate::signals::{self, Totals};
use bypassprof_probe as probe;
use job::Job;
use signal_hook::iterator::Signals;
use stack_mtcp::{MtcpConfig, MtcpContext, Stack, Watch};
use stack_netio::{AnyDevice, DeviceError, DeviceSpec, OpenError};
use stack_tcp::TcpError;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

const PREFIX: u8 = 24;
/// What a send buffer may grow to, whatever the body.
const SEND_BUFFER: std::ops::RangeInclusive<usize> = 8 * 1024..=16 * 1024 * 1024;

/// Why the server did not begin, or ended.
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

/// mTCP's own options.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of mtcp")]
pub struct MtcpOptions {
    /// Most bytes of one write.
    #[arg(long, value_name = "BYTES", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    pub mtcp_piece: u32,
    /// Send buffer of a stream; by default it holds a whole reply, from 8 KiB to 16 MiB.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..))]
    pub mtcp_sndbuf: Option<u32>,
    /// Receive buffer of a stream.
    #[arg(long, value_name = "BYTES", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1024..=1 << 30))]
    pub mtcp_rcvbuf: u32,
    /// Most streams of a core; more are refused.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mtcp_max_streams: u32,
    /// Time after which a stream that does nothing is reset; 0: never.
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub mtcp_idle_timeout_s: u32,
    /// Longest sleep of an idle stack thread, in microseconds, from which its application cannot wake it.
    #[arg(long, value_name = "US", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mtcp_sleep_us: u32,
    /// Never sleep: poll the device as mTCP's DPDK module does.
    #[arg(long)]
    pub mtcp_spin: bool,
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
    /// The rest.
    pub options: MtcpOptions,
}

/// One core: two threads that do not run yet.
struct Core {
    stack: Stack<AnyDevice>,
    context: MtcpContext,
    job: Job,
}

/// Stacks that listen and whose threads do not run yet.
pub struct Server {
    cores: Vec<Core>,
}

impl Server {
    /// Opens the device and listens.
    pub fn bind(plan: &Plan) -> Result<Server, Error> {
        let devices = stack_netio::open_queues(&plan.device, *plan.listen.ip(), plan.threads)?;
        let options = &plan.options;
        let mut cores = Vec::new();
        for (core, device) in devices.into_iter().enumerate() {
            let job = Job::new(plan.body, options.mtcp_piece as usize);
            let mut config = MtcpConfig::new(*plan.listen.ip(), PREFIX);
            let whole = job.longest_reply();
            let whole = whole.clamp(*SEND_BUFFER.start(), *SEND_BUFFER.end());
            config.policy.send_buffer = options.mtcp_sndbuf.map_or(whole, |n| n as usize);
            config.policy.receive_buffer = options.mtcp_rcvbuf as usize;
            config.max_streams = options.mtcp_max_streams as usize;
            config.idle_timeout = match options.mtcp_idle_timeout_s {
                0 => None,
                seconds => Some(Duration::from_secs(seconds.into())),
            };
            config.sleep = Duration::from_micros(options.mtcp_sleep_us.into());
            config.spin = options.mtcp_spin;
            // The standard library's hasher is keyed from the system's entropy.
            config.seed = RandomState::new().build_hasher().finish();
            let (mut stack, context) = stack_mtcp::create(config, device, core as u8);
            stack.listen(plan.listen.port())?;
            cores.push(Core {
                stack,
                context,
                job,
            });
        }
        Ok(Server { cores })
    }

    /// Serves until a signal ends it.
    pub fn run(self, mut signals: Signals) -> Result<(), Error> {
        let stop = AtomicBool::new(false);
        let seen: Vec<_> = self.cores.iter().map(Core::seen).collect();
        let failure = Mutex::new(None);
        thread::scope(|scope| {
            let mut started = Ok(());
            for (core, threads) in self.cores.into_iter().enumerate() {
                let (end, failure) = (signals.handle(), &failure);
                let failed = move |error: DeviceError| {
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert(error);
                    // As if a signal had come.
                    end.close();
                };
                started = started.and_then(|()| threads.start(core, scope, &stop, failed));
            }
            if started.is_ok() {
                signals::wait_for_end(&mut signals, || totals(&seen));
            }
            // A flag that carries no data: the loops see it a round and a sleep later at worst.
            stop.store(true, Ordering::Relaxed);
            started.map_err(Error::Thread)
        })?;
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(Error::Device(error)),
            None => Ok(()),
        }
    }
}

impl Core {
    fn seen(&self) -> (Watch, Arc<AtomicU64>) {
        (self.stack.watch(), self.job.requests())
    }

    /// Starts both threads on one CPU.
    fn start<'scope>(
        self,
        core: usize,
        scope: &'scope Scope<'scope, '_>,
        stop: &'scope AtomicBool,
        failed: impl FnOnce(DeviceError) + Send + 'scope,
    ) -> std::io::Result<()> {
        let Core {
            mut stack,
            mut context,
            mut job,
        } = self;
        let begin = move |name: &str| {
            probe::name_thread(name);
            // Where the kernel does not allow it the pair still works, if not on one core.
            if let Err(e) = cpus::pin(core) {
                eprintln!("httpd: {name} is not kept on one CPU: {e}");
            }
        };
        let name = format!("mtcp-stack-{core}");
        let stack_thread = thread::Builder::new().name(name.clone());
        stack_thread.spawn_scoped(scope, move || {
            begin(&name);
            if let Err(error) = stack.run_main_loop(stop) {
                failed(error);
            }
        })?;
        let name = format!("mtcp-app-{core}");
        let application = thread::Builder::new().name(name.clone());
        application.spawn_scoped(scope, move || {
            begin(&name);
            job.run(&mut context);
        })?;
        Ok(())
    }
}

/// All cores' totals. The threads sleep, so that their CPU time is what they worked.
fn totals(seen: &[(Watch, Arc<AtomicU64>)]) -> Totals {
    let mut sum = Totals::default();
    for (watch, requests) in seen {
        let stack = watch.totals();
        sum.requests += requests.load(Ordering::Relaxed);
        sum.rounds += stack.rounds;
        sum.empty_rounds += stack.empty_rounds;
    }
    sum
}
