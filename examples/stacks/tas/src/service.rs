//! The service: fast-path threads, a slow-path thread, and their end.
//!
//! In: devices (one queue a core), a Unix socket that listens; out: a service that runs until it is told to end.

use crate::clock::Clock;
use crate::config::{FORWARD_RING, KERNEL_RING, ServiceConfig};
use crate::fast::{FastPath, Links};
use crate::shared::{Bell, Counts, Shared, push_doorbell};
use crate::shm::Sizes;
use crate::slow::{CoreLinks, SlowPath};
use crate::table::Table;
use bypassprof_probe as probe;
use ringbuf::HeapRb;
use ringbuf::traits::Split;
use stack_netio::{Device, DeviceError};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A service that does not run yet.
pub struct Service<D> {
    shared: Arc<Shared>,
    fast: Vec<FastPath<D>>,
    slow: SlowPath,
}

/// Ends a service from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// The service resets its flows and ends.
    pub fn stop(&self) {
        self.0.end.store(true, Ordering::Relaxed);
        push_doorbell(&self.0.slow_bell.fd);
    }

    /// What the fast path has counted, all cores together: segments received and sent, pure acknowledgements,
    /// retransmissions, detours, forwarded packets.
    pub fn counts(&self) -> [u64; 6] {
        let mut sums = [0; 6];
        for counts in &self.0.counts {
            let all = [
                &counts.segments_in,
                &counts.segments_out,
                &counts.pure_acks,
                &counts.retransmits,
                &counts.detours,
                &counts.forwarded,
            ];
            for (sum, count) in sums.iter_mut().zip(all) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        sums
    }
}

/// Why a service did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The kernel refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// The device has gone under way.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl<D: Device + Send> Service<D> {
    /// A service on these queues of one device, one core each.
    pub fn new(
        config: ServiceConfig,
        devices: Vec<D>,
        listener: OwnedFd,
    ) -> io::Result<Service<D>> {
        let cores = devices.len();
        let sound = Sizes {
            cores: cores as u32,
            rx: 8192,
            tx: 8192,
            slots: 1,
        };
        let Some(first) = devices.first().filter(|_| sound.are_sound()) else {
            return Err(io::Error::other("one to 16 queues are needed"));
        };
        let bells = (0..cores).map(|_| Bell::new());
        let shared = Arc::new(Shared {
            table: Table::new(config.seed),
            ip: config.ip.to_bits(),
            mac: first.mac(),
            mtu: first.mtu(),
            fast_bells: bells.collect::<io::Result<_>>()?,
            slow_bell: Bell::new()?,
            counts: (0..cores).map(|_| Counts::default()).collect(),
            end: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let (config, clock) = (Arc::new(config), Clock::new());
        let (links, core_links) = links(cores);
        let fast = devices.into_iter().zip(links).enumerate();
        let fast = fast.map(|(index, (device, links))| {
            let (shared, config) = (shared.clone(), config.clone());
            FastPath::new(index as u8, device, shared, config, clock.clone(), links)
        });
        Ok(Service {
            fast: fast.collect(),
            slow: SlowPath::new(shared.clone(), config, clock, core_links, listener),
            shared,
        })
    }

    /// What ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Runs all threads, the slow path on the calling one, until the end, which the device's is too.
    pub fn run(mut self) -> Result<(), ServiceError> {
        let stopper = self.stopper();
        thread::scope(|scope| {
            // However this scope is left, the fast path ends.
            let _end = EndAll(&self.shared);
            let mut cores = Vec::new();
            for (index, mut fast) in self.fast.drain(..).enumerate() {
                let stopper = stopper.clone();
                let name = format!("tas-fp-{index}");
                let run = move || {
                    // A core that fails ends the service.
                    let _end = StopAtEnd(stopper);
                    probe::name_thread(&format!("tas-fp-{index}"));
                    fast.dataplane_loop()
                };
                let thread = thread::Builder::new().name(name);
                cores.push(thread.spawn_scoped(scope, run)?);
            }
            probe::name_thread("tas-sp");
            self.slow.slowpath_main();
            for core in cores {
                match core.join() {
                    Ok(ended) => ended?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(())
        })
    }
}

struct StopAtEnd(Stopper);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct EndAll<'a>(&'a Shared);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        // Release: see `Shared::stopping`.
        self.0.stop.store(true, Ordering::Release);
        self.0.fast_bells.iter().for_each(Bell::ring);
    }
}

/// The queues between all threads: of each core, and the slow path's ends.
fn links(cores: usize) -> (Vec<Links>, Vec<CoreLinks>) {
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..cores {
        let (to_slow, from_fast) = HeapRb::new(KERNEL_RING).split();
        let (to_fast, from_slow) = HeapRb::new(KERNEL_RING).split();
        fast.push(Links {
            to_slow,
            from_slow,
            forward_to: Vec::new(),
            forward_from: Vec::new(),
        });
        slow.push(CoreLinks { to_fast, from_fast });
    }
    for from in 0..cores {
        for to in 0..cores {
            if from == to {
                fast[from].forward_to.push(None);
                continue;
            }
            let (writer, reader) = HeapRb::new(FORWARD_RING).split();
            fast[from].forward_to.push(Some(writer));
            fast[to].forward_from.push(reader);
        }
    }
    (fast, slow)
}
