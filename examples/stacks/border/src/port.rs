//! A device with its probes: bursts with running frame numbers and ages, an event for each TCP segment in and out.
//!
//! In: frames of one queue; out: the same frames, and events while somebody listens. It refuses to know the stack.

use crate::segment::{Segment, flags};
use crate::watch::{Kind, Watch};
use bypassprof_probe::{self as probe, Burst, Flow, PollLoop, points};
use stack_netio::{Device, DeviceError};

/// How often a loop asks whether its device is still there, in ns.
pub const CHECK_EVERY_NS: u64 = 250_000_000;

/// What made a burst leave: the codes of `tx_burst`'s trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Each frame at once.
    AtOnce = 0,
    /// A full batch.
    Full = 1,
    /// The end of a round.
    Round = 3,
}

/// One queue of a device, on the thread that polls it.
pub struct Port<D> {
    device: D,
    /// The loop's rounds, for the probes.
    pub rounds: PollLoop,
    watch: Watch,
    batch: usize,
    burst: Burst,
    first: u32,
    received: u32,
    sent: u32,
    refused: bool,
    /// Counter when the oldest waiting frame was queued; 0 if nobody listens.
    oldest: u64,
    last_kind: Option<Kind>,
}

impl<D: Device> Port<D> {
    /// A device whose frames leave in batches of up to `batch`.
    pub fn new(device: D, batch: usize) -> Port<D> {
        Port {
            device,
            rounds: PollLoop::new(),
            watch: Watch::default(),
            batch,
            burst: Burst::now(),
            first: 0,
            received: 0,
            sent: 0,
            refused: false,
            oldest: 0,
            last_kind: None,
        }
    }

    /// The Ethernet address that the stack should use.
    pub fn mac(&self) -> [u8; 6] {
        self.device.mac()
    }

    /// Largest IPv4 packet the link carries.
    pub fn mtu(&self) -> u16 {
        self.device.mtu()
    }

    /// Frames that the device received and could not keep.
    pub fn rx_dropped(&mut self) -> u64 {
        self.device.rx_dropped()
    }

    /// Whether the device is still there: to be asked once in [`CHECK_EVERY_NS`].
    pub fn check(&mut self) -> Result<(), DeviceError> {
        self.device.check()
    }

    /// Looks for frames and holds at most `max` of them; how many.
    #[inline(never)]
    pub fn rx_burst(&mut self, max: usize) -> usize {
        let frames = self.device.rx_burst(max);
        self.first = self.received;
        self.received = self.first.wrapping_add(frames as u32);
        self.burst = self
            .rounds
            .rx_burst(0, frames as u32, max as u32, self.first);
        frames
    }

    /// Copies a held frame into `copy` and tells of it; the TCP segment in it, and whether its checksums need no look.
    #[inline]
    pub fn take(&mut self, index: usize, copy: &mut Vec<u8>) -> (Option<Segment>, bool) {
        let frame = self.device.rx_frame(index);
        copy.clear();
        copy.extend_from_slice(frame.bytes);
        let checksum_ok = frame.checksum_ok;
        let segment = Segment::of(copy);
        probe::count_rx_bytes(copy.len() as u64);
        if let Some(segment) = &segment {
            self.tell_in(self.first.wrapping_add(index as u32), segment);
        }
        (segment, checksum_ok)
    }

    /// Gives all frames held back to the device.
    pub fn rx_release(&mut self) {
        self.device.rx_release();
    }

    /// The stamp of the burst that was received last.
    pub fn burst(&self) -> Burst {
        self.burst
    }

    /// Ticks since the last burst was received, for `deliver`; 0 when nobody listened.
    #[inline]
    pub fn age(&self) -> u32 {
        match self.burst.stamp().raw() {
            0 => 0,
            stamp => ticks(probe::now().raw().saturating_sub(stamp)),
        }
    }

    fn tell_in(&mut self, number: u32, segment: &Segment) {
        // Handshakes are followed always: the window's scale is told only once.
        if probe::enabled() || segment.has(flags::SYN) {
            let flow = segment.flow();
            let (acked, window) = self.watch.arrived(flow, segment);
            let shape = (u32::from(segment.flags) << 24) | segment.len;
            self.burst
                .emit_with(points::TCP_IN, flow, number, [shape, acked, window]);
        }
    }

    /// Frames queued and not handed over yet.
    pub fn queued(&self) -> usize {
        self.device.tx_queued()
    }

    /// Whether a frame was refused since the device last took all that waited.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// Whether the device has room for one more frame, after handing a full batch over.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        if self.device.tx_queued() >= self.batch {
            self.tx_burst(Trigger::Full);
        }
        // What a burst left behind: the device's queue is full.
        let room = self.device.tx_queued() < self.batch;
        if !room {
            self.refuse();
        }
        room
    }

    fn refuse(&mut self) {
        self.refused = true;
        let waiting = self.device.tx_queued() as u32;
        probe::emit_with(points::FULL, Flow::NONE, waiting, [3, 0, 0]);
    }

    /// Queues a frame of `len` bytes that `fill` writes, and tells of it; `None` when there is no room for it.
    #[inline]
    pub fn send<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        if self.oldest == 0 && probe::enabled() {
            self.oldest = probe::now().raw();
        }
        let Some(frame) = self.device.tx_frame(len) else {
            self.refuse();
            return None;
        };
        let result = fill(frame);
        let segment = Segment::of(frame);
        let number = self.sent;
        self.sent = number.wrapping_add(1);
        probe::count_tx_bytes(len as u64);
        if let Some(segment) = &segment {
            self.tell_out(number, segment);
        }
        Some(result)
    }

    fn tell_out(&mut self, number: u32, segment: &Segment) {
        if probe::enabled() || segment.has(flags::SYN) {
            let flow = segment.flow();
            let now = probe::now().raw();
            let sent = self.watch.left(flow, segment, now);
            self.last_kind = Some(sent.kind);
            let shape = ((sent.kind as u32) << 24) | segment.len;
            // The congestion window is the stack's own business.
            let more = [shape, sent.in_flight, 0, sent.window, sent.limit, 0];
            probe::emit_with6(points::TCP_OUT, flow, number, more);
        }
    }

    /// The kind of the last segment told of since this was asked last.
    pub fn take_last_kind(&mut self) -> Option<Kind> {
        self.last_kind.take()
    }

    /// Bytes that a connection has in flight and the counter when its last segment left, while somebody listens.
    pub fn outstanding(&mut self, flow: Flow) -> Option<(u32, u64)> {
        self.watch.outstanding(flow)
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
            queued => ticks(probe::now().raw().saturating_sub(queued)),
        };
        let accepted = self.device.tx_burst();
        self.rounds
            .tx_burst_aged(0, asked as u32, accepted as u32, first, age, trigger as u32);
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

fn ticks(ticks: u64) -> u32 {
    ticks.min(u64::from(u32::MAX)) as u32
}
