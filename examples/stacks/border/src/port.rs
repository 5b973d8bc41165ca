//! A queue as our own stacks hold it ([`stack_port::Port`]), and an event for each TCP segment in and out.
//!
//! In: frames of one queue; out: the same frames, and events while somebody listens. It refuses to know the stack.

use crate::segment::{Segment, flags};
use crate::watch::{Kind, Watch};
use bypassprof_probe::{self as probe, Burst, Flow, points};
use stack_netio::{Device, DeviceError};
use stack_port::{Trigger, WhenFull};
use stack_tcp::{FrameSink, Time, TxHints};

/// One queue of a device, on the thread that polls it.
pub struct Port<D> {
    /// The queue with its bursts and rounds.
    pub queue: stack_port::Port<D>,
    watch: Watch,
    batch: usize,
    burst: Burst,
    first: u32,
    last_kind: Option<Kind>,
}

impl<D: Device> Port<D> {
    /// A device whose frames leave in batches of up to `batch`.
    pub fn new(device: D, batch: usize) -> Port<D> {
        Port {
            queue: stack_port::Port::new(device, 0, batch, WhenFull::Later),
            watch: Watch::default(),
            batch,
            burst: Burst::now(),
            first: 0,
            last_kind: None,
        }
    }

    /// The Ethernet address that the stack should use.
    pub fn mac(&self) -> [u8; 6] {
        self.queue.device.mac()
    }

    /// Largest IPv4 packet the link carries.
    pub fn mtu(&self) -> u16 {
        self.queue.device.mtu()
    }

    /// Whether the device is still there, asked once in a while: the loop calls it every round with its time in ns.
    #[inline]
    pub fn check(&mut self, now: u64) -> Result<(), DeviceError> {
        self.queue.check(Time::from_nanos(now))
    }

    /// Looks for frames and holds at most `max` of them; how many.
    #[inline]
    pub fn rx_burst(&mut self, max: usize) -> usize {
        let received = self.queue.rx_burst(max);
        if received.frames > 0 {
            (self.first, self.burst) = (received.first, received.burst);
        }
        received.frames
    }

    /// Copies a held frame into `copy` and tells of it; the TCP segment in it, and whether its checksums need no look.
    #[inline]
    pub fn take(&mut self, index: usize, copy: &mut Vec<u8>) -> (Option<Segment>, bool) {
        let frame = self.queue.device.rx_frame(index);
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
        self.queue.device.rx_release();
    }

    /// The stamp of the last burst that had frames.
    pub fn burst(&self) -> Burst {
        self.burst
    }

    /// Ticks since the last burst with frames was received, for `deliver`; 0 when nobody listened.
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

    /// Whether the device has room for one more frame, after handing a full batch over.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        if self.queue.queued() >= self.batch {
            self.queue.tx_burst(Trigger::Full);
        }
        // What a burst left behind: the device's queue is full.
        let room = self.queue.queued() < self.batch;
        if !room {
            self.queue.refuse();
        }
        room
    }

    /// Queues a frame of `len` bytes that `fill` writes, and tells of it; `None` when there is no room for it.
    #[inline]
    pub fn send<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let frame = self.queue.frame(len, TxHints::default())?;
        let result = fill(frame.bytes);
        let (segment, number) = (Segment::of(frame.bytes), frame.number);
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
    #[inline]
    pub fn tx_burst(&mut self, trigger: Trigger) -> usize {
        self.queue.tx_burst(trigger)
    }
}

fn ticks(ticks: u64) -> u32 {
    ticks.min(u64::from(u32::MAX)) as u32
}
