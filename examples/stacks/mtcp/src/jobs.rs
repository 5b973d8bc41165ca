//! What the application asks of the stack thread: single-producer rings, one for each kind of call.
//!
//! In: streams that something is to be done with; out: the same, in order of their kind, when the stack thread comes
//! round. A stream waits at most once in the send and in the ack queue. It refuses to wake anybody.

use bypassprof_probe::{self as probe, Flow, points};
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use stack_tcp::ConnId;

/// Numbers of the queues in `handoff` events.
pub mod queue {
    pub const SEND: u32 = 1;
    pub const ACK: u32 = 2;
    pub const CLOSE: u32 = 3;
    pub const RESET: u32 = 4;
    pub const DESTROY: u32 = 5;
    /// Events for the application.
    pub const EVENTS: u32 = 6;
    /// Accepted streams.
    pub const ACCEPT: u32 = 7;
}

/// A stream and when it was queued.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub conn: ConnId,
    /// Close for writing alone.
    pub half: bool,
    /// Counter when it was queued; 0 if nobody listened.
    stamp: u64,
}

impl Job {
    /// A job of now.
    #[inline]
    pub fn new(conn: ConnId) -> Job {
        Job {
            conn,
            half: false,
            stamp: stamp(),
        }
    }
}

/// The counter while someone listens, else 0.
#[inline]
pub fn stamp() -> u64 {
    if probe::enabled() {
        probe::now().raw()
    } else {
        0
    }
}

/// Ticks since a [`stamp`]; 0 if there was none.
#[inline]
pub fn age(stamp: u64) -> u32 {
    if stamp == 0 {
        return 0;
    }
    let ticks = probe::now().raw().saturating_sub(stamp);
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// The application's ends.
pub struct Ask {
    pub send: HeapProd<Job>,
    pub ack: HeapProd<Job>,
    pub close: HeapProd<Job>,
    pub reset: HeapProd<Job>,
    pub destroy: HeapProd<Job>,
}

/// The stack thread's ends.
pub struct Take {
    pub send: HeapCons<Job>,
    pub ack: HeapCons<Job>,
    pub close: HeapCons<Job>,
    pub reset: HeapCons<Job>,
    pub destroy: HeapCons<Job>,
}

/// Queues of `entries` each.
pub fn make(entries: usize) -> (Ask, Take) {
    let queue = || HeapRb::new(entries.max(1)).split();
    let (send_in, send) = queue();
    let (ack_in, ack) = queue();
    let (close_in, close) = queue();
    let (reset_in, reset) = queue();
    let (destroy_in, destroy) = queue();
    let ask = Ask {
        send: send_in,
        ack: ack_in,
        close: close_in,
        reset: reset_in,
        destroy: destroy_in,
    };
    let take = Take {
        send,
        ack,
        close,
        reset,
        destroy,
    };
    (ask, take)
}

/// Queues a job, waiting for the stack thread while the ring is full, as long as it is there.
pub fn push(ring: &mut HeapProd<Job>, flow: Flow, mut job: Job, gone: impl Fn() -> bool) {
    let mut told = false;
    while let Err(refused) = ring.try_push(job) {
        if gone() {
            return;
        }
        if !told {
            told = true;
            let capacity = ring.capacity().get() as u32;
            probe::emit_with(points::FULL, flow, capacity, [1, 0, 0]);
        }
        job = refused;
        std::thread::yield_now();
    }
}

/// The next job of a queue, with its `handoff` event.
#[inline]
pub fn pop(
    ring: &mut HeapCons<Job>,
    number: u32,
    flow: impl FnOnce(ConnId) -> Flow,
) -> Option<Job> {
    let job = ring.try_pop()?;
    if job.stamp != 0 {
        let more = [ring.occupied_len() as u32, age(job.stamp), 0];
        probe::emit_with(points::HANDOFF, flow(job.conn), number, more);
    }
    Some(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Jobs arrive once each and in order, also when the ring is far smaller than their number.
    #[test]
    fn jobs_arrive_once_and_in_order() {
        let (mut ask, mut take) = make(4);
        let jobs = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for raw in 0..jobs {
                    let job = Job::new(ConnId::from_raw(raw));
                    push(&mut ask.send, Flow::NONE, job, || false);
                }
            });
            let mut expected = 0;
            while expected < jobs {
                match pop(&mut take.send, queue::SEND, |_| Flow::NONE) {
                    Some(job) => {
                        assert_eq!(job.conn, ConnId::from_raw(expected));
                        expected += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        assert!(take.send.is_empty());
    }

    /// Nobody waits for a stack thread that is gone.
    #[test]
    fn a_gone_stack_is_not_waited_for() {
        let (mut ask, _take) = make(1);
        let gone = AtomicBool::new(false);
        let job = Job::new(ConnId::from_raw(0));
        push(&mut ask.close, Flow::NONE, job, || {
            gone.load(Ordering::Relaxed)
        });
        gone.store(true, Ordering::Relaxed);
        push(&mut ask.close, Flow::NONE, job, || {
            gone.load(Ordering::Relaxed)
        });
    }
}
