//! A server of several threads: started together, ended together, by a signal or by the first one that fails.
//!
//! In: threads that do not run yet; out: the first failure, once all have ended. It refuses to know what they do.

use crate::cpus;
use crate::signals::{self, Totals};
use crate::single::LoopError;
use bypassprof_probe as probe;
use signal_hook::iterator::Signals;
use signal_hook::iterator::backend::Handle;
use stack_netio::OpenError;
use stack_tcp::TcpError;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Length of the prefix of the networks that this project's harness makes.
pub const PREFIX: u8 = 24;

/// Half-open connections that may wait at each listener.
pub const BACKLOG: usize = 4096;

/// Why a server of our own stacks did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there or refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stack does not listen.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// Its loop.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// More threads than queues have numbers.
    #[error("--threads {threads}: the {stack} stack has at most 256, one for each queue")]
    Threads {
        /// Which stack.
        stack: &'static str,
        /// How many were asked for.
        threads: u16,
    },
}

/// The number of a stack's queues, one for each thread: their numbers have a byte in events.
pub fn queues(stack: &'static str, threads: u16) -> Result<usize, Error> {
    if threads > 256 {
        return Err(Error::Threads { stack, threads });
    }
    Ok(threads.into())
}

/// A secret for hashes and sequence numbers: the standard library's hasher is keyed from the system's entropy.
pub fn secret() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What a thread does until its flag is set or it fails.
type Run<E> = Box<dyn FnOnce(&AtomicBool) -> Result<(), E> + Send>;

/// One thread that does not run yet.
pub struct Task<E> {
    name: String,
    cpu: Option<usize>,
    run: Run<E>,
}

impl<E> Task<E> {
    /// A thread that runs until its flag is set or it fails.
    pub fn new(
        name: String,
        run: impl FnOnce(&AtomicBool) -> Result<(), E> + Send + 'static,
    ) -> Task<E> {
        Task {
            name,
            cpu: None,
            run: Box::new(run),
        }
    }

    /// Kept on the `n`-th CPU that the process may use; it runs all the same where the kernel does not allow that.
    pub fn on_cpu(mut self, n: usize) -> Task<E> {
        self.cpu = Some(n);
        self
    }

    fn run(self, stop: &AtomicBool) -> Result<(), E> {
        probe::name_thread(&self.name);
        if let Some(cpu) = self.cpu
            && let Err(e) = cpus::pin(cpu)
        {
            eprintln!("httpd: {} is not kept on one CPU: {e}", self.name);
        }
        (self.run)(stop)
    }
}

/// Runs all threads until a signal or the end of one ends them all; `totals` answers who asks meanwhile.
pub fn run<E: From<LoopError> + Send>(
    tasks: Vec<Task<E>>,
    mut signals: Signals,
    totals: impl FnMut() -> Totals,
) -> Result<(), E> {
    let stop = AtomicBool::new(false);
    let stopped = &stop;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut outcome = Ok(());
        for task in tasks {
            let ends = EndsWaiting(signals.handle());
            let thread = thread::Builder::new().name(task.name.clone());
            let run = move || {
                // A thread that ends, however it does, ends the whole server.
                let _ends = ends;
                task.run(stopped)
            };
            match thread.spawn_scoped(scope, run) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    outcome = Err(LoopError::Thread(error).into());
                    break;
                }
            }
        }
        if outcome.is_ok() {
            signals::wait_for_end(&mut signals, totals);
        }
        // A flag that carries no data: the loops see it a round later at worst.
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            match thread.join() {
                Ok(result) => outcome = outcome.and(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome
    })
}

/// Ends the waiting for signals when it is dropped.
struct EndsWaiting(Handle);

impl Drop for EndsWaiting {
    fn drop(&mut self) {
        self.0.close();
    }
}
