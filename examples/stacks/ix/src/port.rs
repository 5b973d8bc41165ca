//! The queue with what the stack and its probes need around it: running frame numbers, the age of what waits, bursts.
//!
//! In: frames asked for by the engine; out: bursts to the device, when 64 wait or the round says so. It refuses to know
//! when a round ends.

use bypassprof_probe::{self as probe, Burst, Flow, PollLoop, points};
use stack_netio::{Device, TxOffload};
use stack_tcp::{FrameSink, TxFrame, TxHints};

/// What made a burst leave: the codes of `tx_burst`'s trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The transmit buffer is full.
    Full = 1,
    /// Every round flushes.
    Round = 3,
}

/// One queue of a device.
pub struct Port<D> {
    pub device: D,
    /// The loop's rounds, for the probes.
    pub rounds: PollLoop,
    queue: u8,
    tx_buffer: usize,
    received: u32,
    sent: u32,
    /// A frame was refused since the device last took all that waited.
    pub refused: bool,
    /// Counter when the oldest waiting frame was queued; 0 if nobody listens.
    oldest: u64,
}

impl<D: Device> Port<D> {
    /// Queue number `queue`, whose frames leave at the latest when `tx_buffer` of them wait.
    pub fn new(device: D, queue: u8, tx_buffer: usize) -> Port<D> {
        Port {
            device,
            rounds: PollLoop::new(),
            queue,
            tx_buffer,
            received: 0,
            sent: 0,
            refused: false,
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

    /// Frames that wait.
    pub fn queued(&self) -> usize {
        self.device.tx_queued()
    }

    /// Hands over what waits; how many frames the device took.
    #[inline(never)]
    pub fn eth_process_send(&mut self, trigger: Trigger) -> usize {
        let asked = self.device.tx_queued();
        if asked == 0 {
            return 0;
        }
        let first = self.sent.wrapping_sub(asked as u32);
        let age = match self.oldest {
            0 => 0,
            queued => probe::now().raw().saturating_sub(queued),
        };
        let accepted = self.device.tx_burst();
        let age = age.min(u64::from(u32::MAX)) as u32;
        let (n, took) = (asked as u32, accepted as u32);
        self.rounds
            .tx_burst_aged(self.queue, n, took, first, age, trigger as u32);
        if accepted == asked {
            self.oldest = 0;
            self.refused = false;
        } else {
            // The device's queue is full: what is left goes with the next round.
            probe::emit_with(points::FULL, Flow::NONE, n, [1, 0, 0]);
        }
        accepted
    }
}

impl<D: Device> FrameSink for Port<D> {
    fn frame(&mut self, len: usize, hints: TxHints) -> Option<TxFrame<'_>> {
        if self.device.tx_queued() >= self.tx_buffer {
            self.eth_process_send(Trigger::Full);
        }
        if self.oldest == 0 && probe::enabled() {
            self.oldest = probe::now().raw();
        }
        let waiting = self.device.tx_queued();
        // No frame is to be cut: IX has no segmentation offload, and this sink does not offer it.
        let offload = TxOffload {
            checksum: hints.checksum,
            segment: None,
        };
        let Some(bytes) = self.device.tx_frame_with(len, offload) else {
            self.refused = true;
            probe::emit_with(points::FULL, Flow::NONE, waiting as u32, [3, 0, 0]);
            return None;
        };
        let number = self.sent;
        self.sent = number.wrapping_add(1);
        probe::count_tx_bytes(len as u64);
        Some(TxFrame { bytes, number })
    }
}
