//! A fast-path core's queue of the device, with what its probes need around it, and the segments that leave by it.
//!
//! In: flows under their lock, frames from the slow path; out: frames in batches. It refuses to know when to send.

use crate::config::TX_BATCH;
use crate::flow::{Flow, Limit, Outgoing};
use crate::frame::{Outline, SUMMED};
use crate::shared::{Counts, Shared};
use bypassprof_probe::{self as probe, points};
use stack_netio::Device;
use stack_port::{Received, Trigger, WhenFull};
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::flags;
use stack_tcp::wire::{ETHERNET, ipv4, tcp};
use stack_tcp::{Cut, FrameSink, TxFrame, TxHints};
use std::sync::Arc;

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
    /// The queue itself.
    pub queue: stack_port::Port<D>,
    shared: Arc<Shared>,
    id: u16,
    /// The device sums what is sent.
    sums: bool,
}

/// Most bytes in front of a payload: TCP's options are 40 at most.
const LONGEST_HEADERS: usize = ETHERNET + ipv4::HEADER + tcp::HEADER + 40;

/// What a paced flow may send at once where the device cuts, as a part of what it may send in a second: 1 ms' worth, as
/// Linux sizes its bursts.
const PACED_PARTS: u64 = 1000;

impl<D: Device> Port<D> {
    /// Queue number `index`; `cutting`: a device that can cuts long segments.
    pub fn new(index: u8, device: D, shared: Arc<Shared>, cutting: bool) -> Port<D> {
        let sums = device.offloads().checksum;
        let queue = stack_port::Port::new(device, index, TX_BATCH, WhenFull::Later);
        Port {
            queue: queue.cutting(cutting),
            shared,
            id: 0,
            sums,
        }
    }

    /// Most bytes that a flow sends at once: a segment, or as many whole ones as the device cuts.
    pub fn most(&self, flow: &Flow) -> u32 {
        let frame = self
            .queue
            .largest_cut()
            .min(ETHERNET + usize::from(u16::MAX));
        let room = frame.saturating_sub(LONGEST_HEADERS) as u32;
        let most = match flow.tx_rate {
            0 => room,
            rate => room.min((rate / PACED_PARTS).min(u64::from(u32::MAX)) as u32),
        };
        (most - most % flow.mss).max(flow.mss)
    }

    fn counts(&self) -> &Counts {
        &self.shared.counts[usize::from(self.queue.queue)]
    }

    /// Receives at most `max` frames.
    #[inline(never)]
    pub fn network_poll(&mut self, max: usize) -> Received {
        self.queue.rx_burst(max)
    }

    /// Hands over what waits; how many frames the device took.
    #[inline(never)]
    pub fn tx_flush(&mut self) -> usize {
        self.queue.tx_burst(Trigger::Round)
    }

    /// Sends a frame that the slow path made; `false` while the device takes none.
    pub fn send_frame(&mut self, frame: &[u8]) -> bool {
        match self.queue.frame(frame.len(), TxHints::default()) {
            Some(room) => {
                room.bytes.copy_from_slice(frame);
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
        let fill = |flow: &Flow, room: &mut [u8]| flow.flow_tx_read(outgoing, room);
        let Some(number) = self.segment(flow, outgoing.seq, bits, payload, now, fill) else {
            return false;
        };
        flow.sent(outgoing, now);
        if outgoing.again {
            Counts::add(&self.counts().retransmits);
        }
        told(flow, number, kind, outgoing.len, limit);
        true
    }

    /// Acknowledges at once, as TAS does for every packet with data.
    #[inline(never)]
    pub fn flow_tx_ack(&mut self, flow: &mut Flow, now: u64) {
        let next = flow.next();
        // A device that is full loses the acknowledgement: the peer sends again.
        if let Some(number) = self.segment(flow, next, flags::ACK, 0, now, |_, _| {}) {
            Counts::add(&self.counts().pure_acks);
            told(flow, number, Kind::Ack, 0, Limit::App);
        }
    }

    /// Asks the peer for its window, by a byte that it has.
    pub fn flow_tx_probe(&mut self, flow: &mut Flow, now: u64) {
        let before = Seq(flow.next().0.wrapping_sub(1));
        if let Some(number) = self.segment(flow, before, flags::ACK, 0, now, |_, _| {}) {
            told(flow, number, Kind::Probe, 0, Limit::Peer);
        }
    }

    /// Queues one segment; its frame's running number, `None` while the device takes none.
    fn segment(
        &mut self,
        flow: &mut Flow,
        seq: Seq,
        bits: u8,
        payload: usize,
        now: u64,
        fill: impl FnOnce(&Flow, &mut [u8]),
    ) -> Option<u32> {
        let outline = Outline {
            key: flow.key,
            mac: flow.mac,
            seq,
            ack: flow.rx_next_seq,
            flags: bits,
            window: flow.window(),
            options: flow.options(now),
            payload,
        };
        let (ends, id) = ((self.shared.mac, self.shared.ip), self.id);
        let (mss, headers) = (flow.mss as usize, outline.headers());
        let cut = (payload > mss).then_some(Cut {
            header: headers as u16,
            payload: mss as u16,
        });
        let offload = self.sums || cut.is_some();
        let hints = TxHints {
            checksum: offload.then_some(SUMMED),
            cut,
        };
        let TxFrame { bytes, number } = self.queue.frame(outline.len(), hints)?;
        fill(flow, &mut bytes[headers..]);
        outline.write(bytes, ends, id, offload);
        self.id = id.wrapping_add(payload.div_ceil(mss).max(1) as u16);
        Counts::add(&self.counts().segments_out);
        Some(number)
    }
}

fn told(flow: &Flow, number: u32, kind: Kind, len: u32, limit: Limit) {
    let what = ((kind as u32) << 24) | len;
    let (flight, peer) = (flow.tx_sent, flow.rx_remote_avail);
    let more = [what, flight, 0, peer, limit as u32, 0];
    probe::emit_with6(points::TCP_OUT, flow.label, number, more);
}
