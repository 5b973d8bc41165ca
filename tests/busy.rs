//! What programs that tests record are made of: loops of known length, the clocks that they are measured with, and the
//! moment from which on a recorder listens.
//!
//! In: turns; out: CPU time spent in a function of a known name. It refuses to know what the time is spent for.

use bypassprof_probe as probe;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Loops that call nothing, so that samples in them are in the function of that name.
macro_rules! loops {
    ($($name:ident)*) => { $(
        #[inline(never)]
        fn $name(turns: u64) {
            let (mut x, mut i) = (turns | 1, 0);
            while i < turns {
                x ^= x << 7;
                x ^= x >> 9;
                i += 1;
            }
            std::hint::black_box(x);
        }
    )* };
}
pub(crate) use loops;
loops!(calibrate);

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of this thread: what preemption takes is not in it.
pub fn cpu_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

/// The same clock in all processes.
pub fn now() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// Turns of a loop in a microsecond of a CPU that does nothing else: the shortest of so many `tries`.
pub fn turns_per_us(tries: u32) -> u64 {
    const TURNS: u64 = 500_000;
    let one = || {
        let start = cpu_ns();
        calibrate(TURNS);
        cpu_ns() - start
    };
    let shortest = (0..tries).map(|_| one()).min().unwrap_or(1);
    (TURNS * 1000 / shortest.max(1)).max(1)
}

/// Waits, off CPU, until somebody records this program.
pub fn wait_for_recorder() {
    for wait in 0.. {
        if probe::enabled() {
            break;
        }
        assert!(wait < 20_000, "no recorder listens");
        std::thread::sleep(Duration::from_millis(1));
    }
}
