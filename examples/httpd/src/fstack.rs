//! The HTTP job as the application of `stack-fstack`: a callback in the stack's main loop, of which each core has one.
//!
//! In: a device's words, an address; out: connections served until a signal ends it. As in the servers of the study the
//! callback takes a batch of events and answers each connection in turn; nothing is received until it returns.

mod job;

use crate::planted::{Planted, PlantedOptions};
use crate::server::{self, BACKLOG, Error, PREFIX, Task};
use crate::signals::Totals;
use httpjob::Replies;
use job::Job;
use signal_hook::iterator::Signals;
use stack_fstack::{Controller, Dispatch, FstackConfig, Stack};
use stack_netio::{AnyDevice, DeviceSpec, Spread};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a send buffer may grow to, whatever the body.
const SEND_BUFFER: std::ops::RangeInclusive<usize> = 256 * 1024..=16 * 1024 * 1024;

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
    /// How long a frame may wait for others.
    pub tx_delay: Duration,
    /// Whether a device that can cuts long segments.
    pub tso: bool,
    /// Whether the side ring is polled.
    pub side_poll: bool,
    /// What makes it slower on purpose.
    pub planted: PlantedOptions,
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
        let queues = server::queues("fstack", plan.threads)?;
        let devices = stack_netio::open_queues(&plan.device, *plan.listen.ip(), queues)?;
        let mut config = FstackConfig::new(*plan.listen.ip(), PREFIX);
        let longest = Replies::new(plan.body).longest();
        config.policy.send_buffer = longest.clamp(*SEND_BUFFER.start(), *SEND_BUFFER.end());
        config.tx_delay = plan.tx_delay;
        config.side_poll = plan.side_poll;
        config.policy.ack = plan.planted.acks.policy();
        config.policy.planted = plan.planted.fault_in_tcp();
        if let Some(batch) = plan.planted.plant_batch {
            config.rx_burst = usize::from(batch);
        }
        config.segmentation_offload = plan.tso;
        config.dispatch = match plan.device.spread {
            Spread::Hash => Dispatch::Device,
            // Frames of one flow come to any queue.
            Spread::Turn | Spread::Cpu => Dispatch::Flow,
        };
        let mut stacks = Vec::new();
        for device in devices {
            config.seed = server::secret();
            let mut stack = Stack::new(config.clone(), device);
            stack.listen(plan.listen.port(), BACKLOG)?;
            stacks.push(stack);
        }
        stack_fstack::connect(&mut stacks);
        let job = |stack| Core {
            stack,
            job: Job::new(plan.body, Planted::new(&plan.planted)),
        };
        Ok(Server {
            cores: stacks.into_iter().map(job).collect(),
        })
    }

    /// Serves on a thread for each core until a signal ends it.
    pub fn run(mut self, signals: Signals) -> Result<(), Error> {
        let mut seen: Vec<_> = self.cores.iter_mut().map(Core::seen).collect();
        let several = self.cores.len() > 1;
        let task = |(number, mut core): (usize, Core)| {
            let task = Task::new(format!("fstack-{number}"), move |stop| {
                let ended = core.stack.main_loop(&mut core.job, stop);
                ended.map_err(|gone| Error::Loop(gone.into()))
            });
            // Several loops that never sleep must not be put on one CPU; a single one is left to the scheduler.
            if several { task.on_cpu(number) } else { task }
        };
        let tasks = self.cores.into_iter().enumerate().map(task).collect();
        server::run(tasks, signals, || totals(&mut seen))
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
