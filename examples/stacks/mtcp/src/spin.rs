//! The lock of a stream's buffer: tried again and again until it is free.
//!
//! In: a value; out: it, and an event that tells how long it was waited for. There are two parties on one core, so that
//! whoever waits here waits for a sibling that was sent off the CPU while it held the lock: mTCP's `pthread_spin_lock`
//! has the same price, which the studies show. It refuses to sleep.

use bypassprof_probe::{self as probe, Flow, points};
use std::hint::spin_loop;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// A value of two threads.
#[derive(Debug, Default)]
pub struct SpinLock<T>(Mutex<T>);

impl<T> SpinLock<T> {
    /// The value, to the caller alone.
    #[inline]
    pub fn lock(&self, flow: Flow) -> MutexGuard<'_, T> {
        match self.attempt() {
            Some(guard) => guard,
            None => self.spin(flow),
        }
    }

    #[inline]
    fn attempt(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            // A thread that panicked takes its whole core down; what it left is still bytes.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[cold]
    #[inline(never)]
    fn spin(&self, flow: Flow) -> MutexGuard<'_, T> {
        let since = probe::now();
        loop {
            spin_loop();
            if let Some(guard) = self.attempt() {
                let ticks = probe::now().since(since).ticks();
                let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
                probe::emit(points::LOCK_WAIT, flow, ticks);
                return guard;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads that change the value in turn, as often as they can, lose no change.
    #[test]
    fn only_one_has_it() {
        let lock = SpinLock::<(u64, u64)>::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        let mut pair = lock.lock(Flow::NONE);
                        pair.0 += 1;
                        pair.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(Flow::NONE), (100_000, 100_000));
    }
}
