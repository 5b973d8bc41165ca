//! Events on their way to the application: collected during a round, handed over at once, waited for.
//!
//! In: what happened to streams; out: batches, in order. The hand-over takes a mutex once a round and signals only if the
//! application waits: on one core each signal is two switches of context.

use crate::jobs::{queue, stamp};
use bypassprof_probe::{self as probe, Flow, Point, points};
use stack_tcp::ConnId;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Something happened to a stream; to the listener if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub conn: Option<ConnId>,
    /// Bits of [`crate::stream::what`].
    pub what: u32,
}

/// What waits for the application (`usr_queue`) under `epoll_lock`.
#[derive(Debug, Default)]
struct User {
    entries: VecDeque<Entry>,
    /// The application waits.
    waiting: bool,
    /// The stack thread has ended.
    ended: bool,
    /// Counter at the hand-over that ended the wait; 0 if nobody listened.
    signalled: u64,
}

/// The queue between the two threads.
#[derive(Debug)]
pub struct Epoll {
    user: Mutex<User>,
    cond: Condvar,
    size: usize,
    /// Our own point: the stack thread signals, with the number of events that wait.
    signal: Point,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There are entries, or the time is over.
    Taken,
    /// The stack thread has ended, and nothing waits any more.
    Ended,
}

/// Causes in `wake` events.
pub mod cause {
    pub const PACKET: u32 = 1;
    pub const TIMEOUT: u32 = 2;
    pub const PEER: u32 = 3;
}

/// Name of the point at which the stack thread signals.
pub const SIGNAL: &str = "cond_signal";

impl Epoll {
    /// Room for `size` events.
    pub fn new(size: usize) -> Epoll {
        Epoll {
            user: Mutex::default(),
            cond: Condvar::new(),
            size: size.max(1),
            signal: probe::register(SIGNAL),
        }
    }

    fn user(&self) -> MutexGuard<'_, User> {
        // Whoever panicked left whole entries behind.
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what a round has collected, as far as there is room, and wakes the application if it waits; how many.
    #[inline(never)]
    pub fn flush_epoll_events(&self, news: &mut VecDeque<Entry>) -> usize {
        let mut user = self.user();
        let room = self.size.saturating_sub(user.entries.len());
        let moved = news.len().min(room);
        user.entries.extend(news.drain(..moved));
        if !news.is_empty() {
            probe::emit_with(points::FULL, Flow::NONE, self.size as u32, [2, 0, 0]);
        }
        if user.waiting && !user.entries.is_empty() {
            user.waiting = false;
            user.signalled = stamp();
            probe::emit(self.signal, Flow::NONE, user.entries.len() as u32);
            self.cond.notify_one();
        }
        moved
    }

    /// The stack thread ends: nobody waits for it any more.
    pub fn end(&self) {
        self.user().ended = true;
        self.cond.notify_all();
    }

    /// Whether the stack thread has ended.
    pub fn has_ended(&self) -> bool {
        self.user().ended
    }

    /// Takes at most `max` entries, and waits for the first unless `ready`, up to `timeout` (none: for ever).
    #[inline(never)]
    pub fn wait(
        &self,
        ready: bool,
        timeout: Option<Duration>,
        max: usize,
        out: &mut Vec<Entry>,
    ) -> Waited {
        let mut user = self.user();
        if user.entries.is_empty() && !user.ended && !ready && timeout != Some(Duration::ZERO) {
            user = self.sleep(user, timeout);
        }
        let taken = user.entries.len().min(max);
        out.extend(user.entries.drain(..taken));
        let (depth, signalled) = (user.entries.len(), std::mem::take(&mut user.signalled));
        let ended = user.ended && taken == 0 && !ready;
        drop(user);
        if signalled != 0 {
            let more = [depth as u32, crate::jobs::age(signalled), 0];
            probe::emit_with(points::HANDOFF, Flow::NONE, queue::EVENTS, more);
        }
        if ended { Waited::Ended } else { Waited::Taken }
    }

    fn sleep<'a>(
        &'a self,
        mut user: MutexGuard<'a, User>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, User> {
        let longest = timeout.map_or(0, |t| t.as_micros().min(u128::from(u32::MAX)) as u32);
        probe::emit(points::SLEEP, Flow::NONE, longest);
        user.waiting = true;
        user.signalled = 0;
        let waits = |user: &mut User| user.entries.is_empty() && !user.ended;
        user = match timeout {
            None => {
                let woken = self.cond.wait_while(user, waits);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
            Some(timeout) => {
                let woken = self.cond.wait_timeout_while(user, timeout, waits);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        user.waiting = false;
        let why = if user.entries.is_empty() && !user.ended {
            cause::TIMEOUT
        } else {
            cause::PEER
        };
        probe::emit(points::WAKE, Flow::NONE, why);
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(raw: u64) -> Entry {
        Entry {
            conn: Some(ConnId::from_raw(raw)),
            what: 1,
        }
    }

    /// Events arrive once each and in order, however small the queue, and the end comes after the last of them.
    #[test]
    fn events_arrive_once_and_in_order() {
        let epoll = Epoll::new(3);
        let all = 5000;
        let got = std::thread::scope(|scope| {
            let application = scope.spawn(|| {
                let (mut got, mut batch) = (Vec::new(), Vec::new());
                while epoll.wait(false, None, 2, &mut batch) == Waited::Taken {
                    assert!(batch.len() <= 2);
                    got.append(&mut batch);
                }
                got
            });
            let mut news = VecDeque::new();
            for raw in 0..all {
                news.push_back(entry(raw));
                epoll.flush_epoll_events(&mut news);
            }
            while !news.is_empty() {
                epoll.flush_epoll_events(&mut news);
                std::thread::yield_now();
            }
            epoll.end();
            application.join().unwrap()
        });
        assert!(got.into_iter().eq((0..all).map(entry)));
    }

    /// Nobody waits who has something to do, and a wait without events ends with its time.
    #[test]
    fn waits_end() {
        let epoll = Epoll::new(10);
        let mut batch = Vec::new();
        assert_eq!(epoll.wait(true, None, 5, &mut batch), Waited::Taken);
        let short = Some(Duration::from_millis(2));
        assert_eq!(epoll.wait(false, short, 5, &mut batch), Waited::Taken);
        assert!(batch.is_empty());
    }
}
