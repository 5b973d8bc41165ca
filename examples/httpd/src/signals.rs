//! Signals: SIGINT and SIGTERM end the server, SIGUSR1 asks for its totals.
//!
//! In: signals; out: one line on stdout for each question, and the return that means the end.

use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io::{self, Write};

/// What a server did since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Time in rounds that did something, for a server that polls.
    pub working_ns: Option<u64>,
    /// Rounds of its polling loop.
    pub rounds: u64,
    /// Those that found nothing to do.
    pub empty_rounds: u64,
}

/// From here on the signals wait for [`wait_for_end`] instead of ending the process.
pub fn hold() -> io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGUSR1])
}

/// Returns when the server is to end, or `signals` was closed; answers SIGUSR1 until then.
pub fn wait_for_end(signals: &mut Signals, mut totals: impl FnMut() -> Totals) {
    for signal in signals.forever() {
        if signal != SIGUSR1 {
            return;
        }
        tell(totals());
    }
}

fn tell(totals: Totals) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
    let mut out = io::stdout().lock();
    // Nobody has to listen: a closed stdout is no reason not to serve.
    let _ = writeln!(
        out,
        "totals {{\"requests\":{},\"working_ns\":{},\"cpu_ns\":{cpu_ns},\"rounds\":{},\"empty_rounds\":{}}}",
        totals.requests,
        totals.working_ns.unwrap_or(cpu_ns),
        totals.rounds,
        totals.empty_rounds,
    );
    let _ = out.flush();
}
