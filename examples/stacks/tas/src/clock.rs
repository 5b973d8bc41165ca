//! Time for the service's threads: ns since the service began, from the CPU's counter.
//!
//! In: nothing; out: numbers that only grow.

/// A clock that all threads share by copies.
#[derive(Clone, Debug)]
pub struct Clock {
    clock: quanta::Clock,
    start: u64,
}

impl Clock {
    /// A clock that begins now, at one: zero is no time.
    pub fn new() -> Clock {
        let clock = quanta::Clock::new();
        Clock {
            start: clock.raw(),
            clock,
        }
    }

    /// Now, in ns.
    #[inline]
    pub fn now(&self) -> u64 {
        1 + self.clock.delta_as_nanos(self.start, self.clock.raw())
    }
}

/// TCP's clock for a time in ns: milliseconds. TAS's has microseconds, after 35 minutes of which a silent connection's
/// next segment looks old.
pub fn timestamp(now: u64) -> u32 {
    (now / 1_000_000) as u32
}
