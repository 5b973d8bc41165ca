//! One ring while it is drained: its events told to its thread, its counts taken from readings.
//!
//! In: slots, readings of totals; out: what was counted in the interval, and in all. It refuses to know states of time.

use super::super::pollstate::{PollState, PollStates};
use super::super::profile::Work;
use super::thread::LiveThread;
use crate::trace::record::{Pid, Ring, RingTotals, Tid};
use crate::units::{Nanos, Tsc};
use bypassprof_wire::{Decoder, Slot};

/// Intervals without a reading after which a ring whose thread is gone says no more.
const SILENT: u32 = 3;

pub struct LiveRing {
    pub owner: (Pid, Tid),
    decoder: Decoder,
    states: PollStates,
    next_slot: u64,
    /// The reading that counts begin with.
    first: Option<RingTotals>,
    /// The one that the interval begins with.
    from: Option<RingTotals>,
    last: Option<RingTotals>,
    silent: u32,
}

impl LiveRing {
    /// `fresh`: it was empty when it was found, a moment before `now`.
    pub fn new(ring: &Ring, fresh: bool, now: Nanos) -> LiveRing {
        let empty = RingTotals {
            ring: ring.ring,
            time: now,
            ..RingTotals::default()
        };
        let first = fresh.then_some(empty);
        LiveRing {
            owner: (ring.pid, ring.tid),
            decoder: Decoder::new((ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc))),
            states: PollStates::new(PollState::Unknown, false),
            next_slot: ring.first_slot,
            first,
            from: first,
            last: first,
            silent: 0,
        }
    }

    pub fn totals(&mut self, totals: RingTotals) {
        self.silent = 0;
        self.first.get_or_insert(totals);
        self.from.get_or_insert(totals);
        self.last = Some(totals);
    }

    /// Tells its thread of the newest event too, which waited for slots that might belong to it: a thread that polls for
    /// nothing writes no other behind it.
    pub fn flush(&mut self, thread: &mut LiveThread) {
        let states = &mut self.states;
        self.decoder.flush(&mut |event| {
            thread.seen.event(&event);
            states.event(&event, &mut |t| thread.timeline.transition(t));
        });
    }

    /// Tells its thread what happened; returns the number of events that are whole.
    pub fn slots(&mut self, first: u64, slots: &[Slot], thread: &mut LiveThread) -> u64 {
        if first > self.next_slot {
            self.decoder.gap();
            self.states.gap(&mut |t| thread.timeline.transition(t));
        }
        self.next_slot = first.saturating_add(slots.len() as u64);
        let (decoder, states) = (&mut self.decoder, &mut self.states);
        let mut events = 0;
        for &slot in slots {
            decoder.push(slot, &mut |event| {
                events += 1;
                thread.seen.event(&event);
                states.event(&event, &mut |t| thread.timeline.transition(t));
            });
        }
        events
    }

    /// What was counted from the interval's first reading to its last, and the time between them; begins the next.
    pub fn interval(&mut self) -> Option<(Work, Nanos, u64)> {
        self.silent = self.silent.saturating_add(1);
        let (from, to) = (self.from?, self.last?);
        self.from = self.last;
        let dropped = to.dropped_slots.saturating_sub(from.dropped_slots);
        Some((between(&from, &to), to.time.since(from.time), dropped))
    }

    /// All that it counted.
    pub fn all(&self) -> Work {
        match (self.first, self.last) {
            (Some(first), Some(last)) => between(&first, &last),
            _ => Work::default(),
        }
    }

    /// Slots that did not fit.
    pub fn dropped(&self) -> u64 {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.dropped_slots.saturating_sub(first.dropped_slots),
            _ => 0,
        }
    }

    pub fn is_silent(&self) -> bool {
        self.silent > SILENT
    }
}

fn between(a: &RingTotals, b: &RingTotals) -> Work {
    Work {
        rx_bursts: b.rx_bursts.saturating_sub(a.rx_bursts),
        rx_packets: b.rx_packets.saturating_sub(a.rx_packets),
        rx_bytes: b.rx_bytes.saturating_sub(a.rx_bytes),
        tx_bursts: b.tx_bursts.saturating_sub(a.tx_bursts),
        tx_packets: b.tx_packets.saturating_sub(a.tx_packets),
        tx_bytes: b.tx_bytes.saturating_sub(a.tx_bytes),
        requests: b.requests.saturating_sub(a.requests),
        rounds: b.rounds.saturating_sub(a.rounds),
        empty_rounds: b.empty_rounds.saturating_sub(a.empty_rounds),
    }
}
