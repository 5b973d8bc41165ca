//! What the two threads of a core share besides the rings.
//!
//! In: sizes; out: streams' places, the event queue, marks and totals. Each word has one writer.

use crate::epoll::Epoll;
use crate::stream::Stream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a stack thread did since it began, kept whether or not probes listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rounds.
    pub rounds: u64,
    /// Rounds that found nothing to do.
    pub empty_rounds: u64,
    /// Times that it slept.
    pub sleeps: u64,
    /// Times that its time to sleep was over before a frame came.
    pub timeouts: u64,
    /// Segments sent that carry nothing but an acknowledgement.
    pub pure_acks: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Connections accepted.
    pub accepted: u64,
}

/// The shared part of a core.
#[derive(Debug)]
pub struct Shared {
    pub streams: Box<[Stream]>,
    pub epoll: Epoll,
    /// The listener's event is on its way.
    pub accept_raised: AtomicBool,
    /// The stack thread sleeps.
    pub asleep: AtomicBool,
    /// Bytes of a stream's receive and send buffer.
    pub room: (usize, usize),
    totals: [AtomicU64; 7],
}

impl Shared {
    /// Places for `streams` streams.
    pub fn new(streams: usize, events: usize, room: (usize, usize)) -> Shared {
        Shared {
            streams: (0..streams).map(|_| Stream::default()).collect(),
            epoll: Epoll::new(events),
            accept_raised: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            room,
            totals: Default::default(),
        }
    }

    /// The stack thread tells what it did so far. Totals are for people to look at: no other data hangs on them.
    pub fn tell(&self, totals: &Totals) {
        let values = [
            totals.rounds,
            totals.empty_rounds,
            totals.sleeps,
            totals.timeouts,
            totals.pure_acks,
            totals.segments_out,
            totals.accepted,
        ];
        for (word, value) in self.totals.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What it told last.
    pub fn totals(&self) -> Totals {
        let [
            rounds,
            empty_rounds,
            sleeps,
            timeouts,
            pure_acks,
            segments_out,
            accepted,
        ] = std::array::from_fn(|at| self.totals[at].load(Ordering::Relaxed));
        Totals {
            rounds,
            empty_rounds,
            sleeps,
            timeouts,
            pure_acks,
            segments_out,
            accepted,
        }
    }
}
