//! The device with what the stack and its probes need around it: running frame numbers, the age of what waits, bursts.
//!
//! In: frames asked for by the engine; out: bursts to the device. It refuses to know when to drain; the main loop does.

use bypassprof_probe::{self as probe, Burst, Flow, PollLoop, points};
use stack_netio::{Device, Segment, TxOffload};
use stack_tcp::{FrameSink, TxFrame, TxHints};

/// What made a burst leave: the codes of `tx_burst`'s trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A full batch.
    Full = 1,
    /// The drain timer.
    Timer = 2,
    /// The end of a round.
    Round = 3,
}

/// One queue of a device.
pub struct Port<D> {
    /// The device.
    pub device: D,
    /// The loop's rounds, for the probes.
    pub rounds: PollLoop,
    /// Number of the queue in events.
    pub queue: u8,
    batch: usize,
    received: u32,
    sent: u32,
    /// A frame was refused since the device last took all that waited.
    pub refused: bool,
    /// Counter when the oldest waiting frame was queued; 0 if nobody listens.
    oldest: u64,
}

impl<D: Device> Port<D> {
    /// A device whose frames leave in batches of `batch`.
    pub fn new(device: D, batch: usize) -> Port<D> {
        Port {
            device,
            rounds: PollLoop::new(),
            queue: 0,
            batch,
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

    /// A number that no frame of this queue has had lately or will have soon: for a frame that another queue received, so
    /// that nobody takes one of this queue's bursts for its own.
    pub fn no_frame(&self) -> u32 {
        self.received.wrapping_sub(1 << 31)
    }

    /// Frames that wait.
    pub fn queued(&self) -> usize {
        self.device.tx_queued()
    }

    /// Hands over what waits; how many frames the device took.
    #[inline(never)]
    pub fn tx_burst(&mut self, trigger: Trigger) -> usize {
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
        self.rounds.tx_burst_aged(
            self.queue,
            asked as u32,
            accepted as u32,
            first,
            age,
            trigger as u32,
        );
        if accepted == asked {
            self.oldest = 0;
            self.refused = false;
        } else {
            // The device's queue is full: what is left goes with a later burst.
            probe::emit_with(points::FULL, Flow::NONE, asked as u32, [1, 0, 0]);
        }
        accepted
    }
}

impl<D: Device> FrameSink for Port<D> {
    fn frame(&mut self, len: usize, hints: TxHints) -> Option<TxFrame<'_>> {
        let queued = self.device.tx_queued();
        if queued >= self.batch {
            self.tx_burst(Trigger::Full);
        }
        if self.oldest == 0 && probe::enabled() {
            self.oldest = probe::now().raw();
        }
        let waiting = self.device.tx_queued();
        let offload = TxOffload {
            checksum: hints.checksum,
            segment: hints.cut.map(|cut| Segment {
                header: cut.header,
                payload: cut.payload,
            }),
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

    fn largest_cut(&self) -> usize {
        self.device.offloads().segmentation.unwrap_or(0)
    }
}
