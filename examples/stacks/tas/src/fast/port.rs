//! A fast-path core's queue of the device, with what its probes need around it, and the segments that leave by it.
//!
//! In: flows under their lock, frames from the slow path; out: frames in batches. It refuses to know when to send.

use crate::clock::timestamp;
use crate::config::TX_BATCH;
use crate::flow::{Flow, Limit, Outgoing};
use crate::frame::Outline;
use crate::shared::{Counts, Shared};
use bypassprof_probe::{self as probe, Burst, Flow as Label, PollLoop, points};
use stack_netio::Device;
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::{Options, flags};
use std::sync::Arc;

/// What made a burst leave: the codes of `tx_burst`'s trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Full = 1,
    Round = 3,
}

/// What a segment is: the codes of `tcp_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data = 0,
    Ack = 1,
    Again = 2,
    Probe = 3,
}

/// One queue of a device.
pub struct Port<D> {
    /// The device.
    pub device: D,
    /// The loop's rounds, for the probes.
    pub rounds: PollLoop,
    shared: Arc<Shared>,
    index: u8,
    received: u32,
    sent: u32,
    id: u16,
    /// Counter when the oldest waiting frame was queued; 0 if nobody listens.
    oldest: u64,
}

impl<D: Device> Port<D> {
    /// Queue number `index`.
    pub fn new(index: u8, device: D, shared: Arc<Shared>) -> Port<D> {
        Port {
            device,
            rounds: PollLoop::new(),
            shared,
            index,
            received: 0,
            sent: 0,
            id: 0,
            oldest: 0,
        }
    }

    fn counts(&self) -> &Counts {
        &self.shared.counts[usize::from(self.index)]
    }

    /// Receives at most `max` frames: how many, the first one's running number, the stamp of their burst.
    #[inline(never)]
    pub fn network_poll(&mut self, max: usize) -> (usize, u32, Burst) {
        let frames = self.device.rx_burst(max);
        let first = self.received;
        self.received = first.wrapping_add(frames as u32);
        let burst = self
            .rounds
            .rx_burst(self.index, frames as u32, max as u32, first);
        (frames, first, burst)
    }

    /// Hands over what waits; how many frames the device took.
    #[inline(never)]
    pub fn tx_flush(&mut self) -> usize {
        self.flush(Trigger::Round)
    }

    fn flush(&mut self, trigger: Trigger) -> usize {
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
        let (asked, accepted) = (asked as u32, accepted as u32);
        self.rounds
            .tx_burst_aged(self.index, asked, accepted, first, age, trigger as u32);
        if accepted == asked {
            self.oldest = 0;
        } else {
            probe::emit_with(points::FULL, Label::NONE, asked, [1, 0, 0]);
        }
        accepted as usize
    }

    /// Room for a frame, and its running number; `None` while the device takes none.
    fn frame(&mut self, len: usize) -> Option<(&mut [u8], u32)> {
        if self.device.tx_queued() >= TX_BATCH {
            self.flush(Trigger::Full);
        }
        if self.oldest == 0 && probe::enabled() {
            self.oldest = probe::now().raw();
        }
        let waiting = self.device.tx_queued() as u32;
        match self.device.tx_frame(len) {
            Some(bytes) => {
                let number = self.sent;
                self.sent = number.wrapping_add(1);
                probe::count_tx_bytes(len as u64);
                Some((bytes, number))
            }
            None => {
                probe::emit_with(points::FULL, Label::NONE, waiting, [3, 0, 0]);
                None
            }
        }
    }

    /// Sends a frame that the slow path made; `false` while the device takes none.
    pub fn send_frame(&mut self, frame: &[u8]) -> bool {
        match self.frame(frame.len()) {
            Some((bytes, _)) => {
                bytes.copy_from_slice(frame);
                Counts::add(&self.counts().segments_out);
                true
            }
            None => false,
        }
    }

    /// Sends what [`Flow::sendable`] gave; `false` while the device takes none.
    #[inline(never)]
    pub fn flow_tx_segment(
        &mut self,
        flow: &mut Flow,
        outgoing: &Outgoing,
        limit: Limit,
        now: u64,
    ) -> bool {
        let bits = flags::ACK
            | if outgoing.len > 0 { flags::PSH } else { 0 }
            | if outgoing.fin { flags::FIN } else { 0 };
        let payload = outgoing.len as usize;
        let kind = if outgoing.again {
            Kind::Again
        } else {
            Kind::Data
        };
        if !self.segment(flow, outgoing.seq, bits, payload, now, |flow, room| {
            flow.flow_tx_read(outgoing, room);
        }) {
            return false;
        }
        flow.sent(outgoing, now);
        if outgoing.again {
            Counts::add(&self.counts().retransmits);
        }
        self.told(flow, kind, outgoing.len, limit);
        true
    }

    /// Acknowledges at once, as TAS does for every packet with data.
    #[inline(never)]
    pub fn flow_tx_ack(&mut self, flow: &mut Flow, now: u64) {
        let next = flow.next();
        // A device that is full loses the acknowledgement: the peer sends again.
        if self.segment(flow, next, flags::ACK, 0, now, |_, _| {}) {
            Counts::add(&self.counts().pure_acks);
            self.told(flow, Kind::Ack, 0, Limit::App);
        }
    }

    /// Asks the peer for its window, by a byte that it has.
    pub fn flow_tx_probe(&mut self, flow: &mut Flow, now: u64) {
        let before = Seq(flow.next().0.wrapping_sub(1));
        if self.segment(flow, before, flags::ACK, 0, now, |_, _| {}) {
            self.told(flow, Kind::Probe, 0, Limit::Peer);
        }
    }

    fn segment(
        &mut self,
        flow: &mut Flow,
        seq: Seq,
        bits: u8,
        payload: usize,
        now: u64,
        fill: impl FnOnce(&Flow, &mut [u8]),
    ) -> bool {
        let outline = Outline {
            key: flow.key,
            mac: flow.mac,
            seq,
            ack: flow.rx_next_seq,
            flags: bits,
            window: flow.window(),
            options: Options {
                timestamps: Some((timestamp(now), flow.tx_next_ts)),
                ..Options::default()
            },
            payload,
        };
        let (ends, id) = ((self.shared.mac, self.shared.ip), self.id);
        let Some((bytes, _)) = self.frame(outline.len()) else {
            return false;
        };
        fill(flow, &mut bytes[outline.headers()..]);
        outline.write(bytes, ends, id);
        self.id = id.wrapping_add(1);
        Counts::add(&self.counts().segments_out);
        true
    }

    fn told(&self, flow: &Flow, kind: Kind, len: u32, limit: Limit) {
        let number = self.sent.wrapping_sub(1);
        let what = ((kind as u32) << 24) | len;
        let (flight, peer) = (flow.tx_sent, flow.rx_remote_avail);
        let more = [what, flight, 0, peer, limit as u32, 0];
        probe::emit_with6(points::TCP_OUT, flow.label, number, more);
    }
}
