//! The HTTP job on `stack-mtcp`: on each core a stack thread and an application thread.
//!
//! In: a device's words, an address, mTCP's own options; out: connections served until a signal ends it. As in the
//! servers of the study each core has its listener, and replies are written in pieces of 8 KiB.

mod job;

use crate::server::{self, Error, PREFIX, Task};
use crate::signals::Totals;
use job::Job;
use signal_hook::iterator::Signals;
use stack_mtcp::{MtcpConfig, MtcpContext, Stack, Watch};
use stack_netio::{AnyDevice, DeviceSpec};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a send buffer may grow to, whatever the body.
const SEND_BUFFER: std::ops::RangeInclusive<usize> = 8 * 1024..=16 * 1024 * 1024;

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
    pub threads: u16,
    /// Whether a device that can cuts long segments.
    pub tso: bool,
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
        let queues = server::queues("mtcp", plan.threads)?;
        let devices = stack_netio::open_queues(&plan.device, *plan.listen.ip(), queues)?;
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
            config.segmentation_offload = plan.tso;
            config.seed = server::secret();
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
    pub fn run(self, signals: Signals) -> Result<(), Error> {
        let seen: Vec<_> = self.cores.iter().map(Core::seen).collect();
        let pairs = self.cores.into_iter().enumerate();
        let tasks = pairs.flat_map(|(core, pair)| pair.tasks(core)).collect();
        server::run(tasks, signals, || totals(&seen))
    }
}

impl Core {
    fn seen(&self) -> (Watch, Arc<AtomicU64>) {
        (self.stack.watch(), self.job.requests())
    }

    /// Both threads, on one CPU.
    fn tasks(self, core: usize) -> [Task<Error>; 2] {
        let Core {
            mut stack,
            mut context,
            mut job,
        } = self;
        let stack = Task::new(format!("mtcp-stack-{core}"), move |stop| {
            let ended = stack.run_main_loop(stop);
            ended.map_err(|gone| Error::Loop(gone.into()))
        });
        let application = Task::new(format!("mtcp-app-{core}"), move |_| {
            job.run(&mut context);
            Ok(())
        });
        [stack, application].map(|task| task.on_cpu(core))
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
