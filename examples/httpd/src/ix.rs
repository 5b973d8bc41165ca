//! The HTTP job as the application of `stack-ix`: a handler of event conditions on each elastic thread.
//!
//! In: a device's words, an address, a number of threads; out: connections served until a signal ends it. Each thread
//! has a queue of the device, a TCP engine and an application of its own and shares nothing with the others.

mod job;

use crate::server::{self, BACKLOG, Error, PREFIX, Task};
use crate::signals::Totals;
use clap::{Args, ValueEnum};
use job::Job;
use signal_hook::iterator::Signals;
use stack_ix::{IxConfig, Meter, SidePoll, Stack, TokenState};
use stack_netio::{AnyDevice, DeviceSpec};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What only this stack has.
#[derive(Args, Clone, Copy, Debug)]
pub struct IxOptions {
    /// ix: where replies lie until they are acknowledged.
    #[arg(long, value_name = "OF", value_enum, default_value_t = ReplyBuffer::Connection)]
    pub ix_reply_buffer: ReplyBuffer,
    /// ix: bytes that a connection may have sent and not seen acknowledged.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1024..))]
    pub ix_send_window: u32,
    /// ix: a storage scheduler that nobody uses is polled in every round.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = SideChoice::Off)]
    pub ix_side_poll: SideChoice,
    /// ix: look through all connections whenever one is accepted or closed.
    #[arg(long)]
    pub ix_handle_scan: bool,
}

/// Whose the response buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplyBuffer {
    /// One for each thread and kind of reply.
    Thread,
    /// One for each connection, as long as a reply.
    Connection,
    /// One of at least 2 MiB for each connection, as in the study's server.
    #[value(name = "2mib")]
    Large,
}

/// Whether and how the side is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SideChoice {
    /// Not at all.
    Off,
    /// Each core's word in cache lines of its own.
    Padded,
    /// All cores' words side by side, as IX had them.
    Shared,
}

/// What is to be served, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The device.
    pub device: DeviceSpec,
    /// The stack's address and port.
    pub listen: SocketAddrV4,
    /// Elastic threads, each with a queue.
    pub threads: u16,
    /// Length of the replies' body.
    pub body: usize,
    /// Whether a device that can cuts long segments.
    pub tso: bool,
    /// What only this stack has.
    pub own: IxOptions,
}

/// One elastic thread's own things.
struct Core {
    stack: Stack<AnyDevice>,
    job: Job,
}

/// Stacks that listen and whose loops do not run yet.
pub struct Server {
    cores: Vec<Core>,
    meters: Vec<Arc<Meter>>,
    requests: Vec<Arc<AtomicU64>>,
}

impl Server {
    /// Opens the device's queues and listens on each.
    pub fn bind(plan: &Plan) -> Result<Server, Error> {
        let threads = server::queues("ix", plan.threads)?;
        let side_poll = match plan.own.ix_side_poll {
            SideChoice::Off => SidePoll::Off,
            SideChoice::Padded => SidePoll::Padded,
            SideChoice::Shared => SidePoll::Shared,
        };
        let tokens = TokenState::new(threads, side_poll);
        let devices = stack_netio::open_queues(&plan.device, *plan.listen.ip(), threads)?;
        let mut cores = Vec::with_capacity(threads);
        for (core, device) in (0..=u8::MAX).zip(devices) {
            let mut config = IxConfig::new(*plan.listen.ip(), PREFIX);
            config.core = core;
            config.handle_scan = plan.own.ix_handle_scan;
            config.side_poll = side_poll;
            config.segmentation_offload = plan.tso;
            config.policy.send_buffer = plan.own.ix_send_window as usize;
            config.seed = server::secret();
            let mut stack = Stack::new(config, device, tokens.clone());
            stack.listen(plan.listen.port(), BACKLOG)?;
            let job = Job::new(plan.body, plan.own.ix_reply_buffer);
            cores.push(Core { stack, job });
        }
        Ok(Server {
            meters: cores.iter().map(|core| core.stack.meter()).collect(),
            requests: cores.iter().map(|core| core.job.requests()).collect(),
            cores,
        })
    }

    /// Serves until a signal ends it.
    pub fn run(self, signals: Signals) -> Result<(), Error> {
        let totals = || {
            // Counts for a person to look at: no other data hangs on them.
            let answered = self.requests.iter().map(|n| n.load(Ordering::Relaxed));
            let loops: Vec<_> = self.meters.iter().map(|meter| meter.totals()).collect();
            Totals {
                requests: answered.sum(),
                working_ns: Some(loops.iter().map(|t| t.working.as_nanos() as u64).sum()),
                rounds: loops.iter().map(|t| t.rounds).sum(),
                empty_rounds: loops.iter().map(|t| t.empty_rounds).sum(),
            }
        };
        let several = self.cores.len() > 1;
        let task = |(number, mut core): (usize, Core)| {
            let task = Task::new(format!("ix-{number}"), move |stop| {
                let ended = core.stack.ixev_wait(&mut core.job, stop);
                ended.map_err(|gone| Error::Loop(gone.into()))
            });
            // Several loops that never sleep must not be put on one CPU; a single one is left to the scheduler.
            if several { task.on_cpu(number) } else { task }
        };
        let tasks = self.cores.into_iter().enumerate().map(task).collect();
        server::run(tasks, signals, totals)
    }
}
