//! One queue of a device with what the stack and its probes need around it.
//!
//! In: frames asked for by the engine, one at a time; out: bursts to the device, when the stack looks for frames or when
//! there is no room left. As in mTCP over netmap a full ring is flushed and tried again in a busy loop.

use crate::jobs::{age, stamp};
use bypassprof_probe::{self as probe, Burst, Flow, PollLoop, points};
use stack_netio::Device;
use stack_tcp::{FrameSink, TxFrame, TxHints};
use std::hint::spin_loop;

/// What made a burst leave: the codes of `tx_burst`'s trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// There was no room left.
    Full = 1,
    /// The stack looks for frames: what poll(2) does to netmap's rings.
    Round = 3,
}

/// How often a full device is tried before a frame is refused: one that is gone never takes anything.
const TRIES: u32 = 1000;

/// One queue of a device.
pub struct Port<D> {
    /// The device.
    pub device: D,
    /// The loop's rounds, for the probes.
    pub rounds: PollLoop,
    queue: u8,
    /// Frames that may wait.
    room: usize,
    received: u32,
    sent: u32,
    /// Counter when the oldest waiting frame was queued; 0 if nobody listens.
    oldest: u64,
}

impl<D: Device> Port<D> {
    /// A device's queue `queue`, with room for so many frames that wait.
    pub fn new(device: D, queue: u8, room: usize) -> Port<D> {
        Port {
            device,
            rounds: PollLoop::new(),
            queue,
            room: room.max(1),
            received: 0,
            sent: 0,
            oldest: 0,
        }
    }

    /// Receives at most `max` frames: how many, the first one's running number, the stamp of their burst.
    #[inline(never)]
    pub fn rx_burst(&mut self, max: usize) -> (usize, u32, Burst) {
        let frames = self.device.rx_burst(max);
        let first = self.received;
        self.received = first.wrapping_add(frames as u32);
        let burst = self
            .rounds
            .rx_burst(self.queue, frames as u32, max as u32, first);
        (frames, first, burst)
    }

    /// Hands over what waits; how many frames the device took.
    #[inline(never)]
    pub fn tx_burst(&mut self, trigger: Trigger) -> usize {
        let asked = self.device.tx_queued();
        if asked == 0 {
            return 0;
        }
        let first = self.sent.wrapping_sub(asked as u32);
        let waited = age(self.oldest);
        let accepted = self.device.tx_burst();
        self.rounds.tx_burst_aged(
            self.queue,
            asked as u32,
            accepted as u32,
            first,
            waited,
            trigger as u32,
        );
        if accepted == asked {
            self.oldest = 0;
        }
        accepted
    }

    /// Tries a full device until it takes something.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        let mut tries = 1;
        while self.tx_burst(Trigger::Full) == 0 && tries < TRIES {
            tries += 1;
            spin_loop();
        }
        let capacity = self.room as u32;
        probe::emit_with(points::FULL, Flow::NONE, capacity, [1, tries, 0]);
    }
}

impl<D: Device> FrameSink for Port<D> {
    fn frame(&mut self, len: usize, _hints: TxHints) -> Option<TxFrame<'_>> {
        if self.oldest == 0 {
            self.oldest = stamp();
        }
        if self.device.tx_queued() >= self.room {
            self.make_room();
        }
        let bytes = self.device.tx_frame(len)?;
        let number = self.sent;
        self.sent = number.wrapping_add(1);
        probe::count_tx_bytes(len as u64);
        Some(TxFrame { bytes, number })
    }
}
