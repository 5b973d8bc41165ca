//! One loop on the calling thread, until a signal ends it: the way of stacks that live in one thread.
//!
//! In: a loop, what it counts; out: its end, and totals for whoever asks meanwhile.

use crate::signals::{self, Totals};
use bypassprof_probe as probe;
use signal_hook::iterator::Signals;
use stack_border::Tally;
use stack_netio::DeviceError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Why a loop did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The device has gone under way.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernel refused a thread.
    #[error("cannot start a thread: {0}; choose fewer --threads")]
    Thread(io::Error),
}

/// Runs `main_loop` as the thread `name` until a signal sets its flag or the device has gone.
pub fn run(
    name: &str,
    tally: &Tally,
    requests: &Arc<AtomicU64>,
    mut signals: Signals,
    main_loop: impl FnOnce(&AtomicBool) -> Result<(), DeviceError>,
) -> Result<(), LoopError> {
    let stop = AtomicBool::new(false);
    let handle = signals.handle();
    let totals = || Totals {
        requests: requests.load(Ordering::Relaxed),
        working_ns: Some(tally.working_ns()),
        rounds: tally.rounds(),
        empty_rounds: tally.empty_rounds(),
    };
    let wait = || {
        signals::wait_for_end(&mut signals, totals);
        // A flag that carries no data: the loop sees it a round later at worst.
        stop.store(true, Ordering::Relaxed);
    };
    probe::name_thread(name);
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("httpd-signals".into());
        thread
            .spawn_scoped(scope, wait)
            .map_err(LoopError::Thread)?;
        let ended = main_loop(&stop);
        // A device that has gone ends the whole server.
        handle.close();
        Ok(ended?)
    })
}
