//! What becomes of a received frame: taken by its flow, a detour by the slow path, another core's, or dropped.
//!
//! In: frames; out: acknowledgements, news for applications, frames for others. It refuses to know handshakes.

use super::{FastPath, age};
use crate::config::{FORWARD_BATCH, RX_BATCH};
use crate::entry::Arx;
use crate::flow::{Flow, Key, Taken};
use crate::frame::{Incoming, Reject, fast_flows_packet_parse};
use crate::shared::{Counts, Detour, Forwarded, Shared, ToSlow, queues};
use bypassprof_probe::{self as probe, Burst, Flow as Label, points};
use ringbuf::traits::{Consumer, Observer, Producer};
use stack_netio::Device;
use stack_tcp::wire::tcp::{Segment, flags};
use std::sync::MutexGuard;

/// What is to become of a frame.
pub(super) enum Verdict<'a> {
    Ours(Handled<'a>),
    Slow(Detour, Vec<u8>),
    Forward(u8, Label, Vec<u8>),
    Drop(Reject),
}

/// A frame that its flow has taken.
pub(super) struct Handled<'a> {
    index: u32,
    flow: MutexGuard<'a, Flow>,
    taken: Taken,
    what: u32,
    window: u32,
}

impl<D: Device> FastPath<D> {
    #[inline(never)]
    pub(super) fn poll_rx(&mut self, now: u64) {
        let received = self.port.network_poll(RX_BATCH);
        let frames = received.frames;
        if frames == 0 {
            return;
        }
        let shared = self.shared.clone();
        for index in 0..frames {
            let frame = self.port.queue.device.rx_frame(index);
            probe::count_rx_bytes(frame.bytes.len() as u64);
            let verdict = fast_flows_packet_fss(
                &shared,
                self.index,
                frame.bytes,
                frame.checksum_ok,
                false,
                now,
            );
            let number = received.first.wrapping_add(index as u32);
            self.settle(verdict, number, received.burst, now);
        }
        self.port.queue.device.rx_release();
        self.did(frames);
    }

    pub(super) fn settle(&mut self, verdict: Verdict<'_>, number: u32, burst: Burst, now: u64) {
        match verdict {
            Verdict::Ours(handled) => self.fast_flows_packet(handled, number, burst, now),
            Verdict::Slow(reason, frame) => self.fast_kernel_packet(frame, reason),
            Verdict::Forward(core, label, frame) => self.forward(core, label, frame),
            Verdict::Drop(reject) => {
                burst.emit(points::DROP, Label::NONE, reject as u32);
            }
        }
    }

    /// What a segment of an established flow leads to: an acknowledgement at once, news for the application, more to
    /// send.
    #[inline(never)]
    pub(super) fn fast_flows_packet(
        &mut self,
        handled: Handled<'_>,
        number: u32,
        burst: Burst,
        now: u64,
    ) {
        let Handled {
            index,
            mut flow,
            taken,
            what,
            window,
        } = handled;
        Counts::add(&self.shared.counts[usize::from(self.index)].segments_in);
        let more = [what, taken.tx_bump, window];
        burst.emit_with(points::TCP_IN, flow.label, number, more);
        if flow.app_closed {
            // Nobody reads it.
            flow.rx_avail += taken.rx_bump;
        }
        if taken.ack {
            self.port.flow_tx_ack(&mut flow, now);
        }
        if taken.send {
            self.qman.qman_set(index, flow.tx_rate, now);
        }
        let news = taken.rx_bump > 0 || taken.tx_bump > 0 || taken.fin;
        if news && !flow.app_closed {
            let arx = Arx {
                opaque: flow.opaque,
                rx_bump: taken.rx_bump,
                tx_bump: taken.tx_bump,
                fin: taken.fin,
                received: burst.stamp().raw(),
                written: 0,
            };
            self.arx_cache.push((flow.context, arx, flow.label));
        }
        if taken.finished && flow.app_closed {
            let id = flow.id(index);
            drop(flow);
            self.tell_slow(ToSlow::Finished(id));
        }
    }

    #[inline(never)]
    pub(super) fn fast_kernel_packet(&mut self, frame: Vec<u8>, reason: Detour) {
        Counts::add(&self.shared.counts[usize::from(self.index)].detours);
        let stamp = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        let label = label_of(&frame, self.shared.ip);
        probe::emit(points::SLOW_PATH, label, reason as u32);
        let message = ToSlow::Packet {
            frame,
            reason,
            stamp,
        };
        self.told_slow = true;
        if self.links.to_slow.try_push(message).is_err() {
            let capacity = self.links.to_slow.capacity().get() as u32;
            probe::emit_with(points::FULL, label, capacity, [0, 0, 0]);
        }
    }

    pub(super) fn forward(&mut self, core: u8, label: Label, frame: Vec<u8>) {
        Counts::add(&self.shared.counts[usize::from(self.index)].forwarded);
        let stamp = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        let ring = self.links.forward_to.get_mut(usize::from(core));
        if let Some(Some(ring)) = ring
            && ring.try_push(Forwarded { frame, stamp }).is_err()
        {
            let capacity = ring.capacity().get() as u32;
            probe::emit_with(points::FULL, label, capacity, [0, 0, 0]);
        }
        if let Some(bell) = self.shared.fast_bells.get(usize::from(core)) {
            bell.ring();
        }
    }

    #[inline(never)]
    pub(super) fn poll_forwarded(&mut self, now: u64) {
        let shared = self.shared.clone();
        let mut taken = 0;
        for from in 0..self.links.forward_from.len() {
            while taken < FORWARD_BATCH
                && let Some(Forwarded { frame, stamp }) = self.links.forward_from[from].try_pop()
            {
                taken += 1;
                let burst = Burst::now();
                let depth = self.links.forward_from[from].occupied_len() as u32;
                let age = age(probe::now().raw(), stamp);
                let queue = queues::FORWARD | u32::from(self.index);
                let label = label_of(&frame, shared.ip);
                burst.emit_with(points::HANDOFF, label, queue, [depth, age, 0]);
                let verdict = fast_flows_packet_fss(&shared, self.index, &frame, true, false, now);
                self.settle(verdict, 0, burst, now);
            }
        }
        self.did(taken);
    }
}

/// Looks a frame's flow up and lets it take the segment, if this is the common case.
#[inline(never)]
pub(super) fn fast_flows_packet_fss<'a>(
    shared: &'a Shared,
    core: u8,
    frame: &[u8],
    checksum_ok: bool,
    from_slow: bool,
    now: u64,
) -> Verdict<'a> {
    let ends = (shared.mac, shared.ip);
    let (key, segment) = match fast_flows_packet_parse(frame, ends, checksum_ok) {
        Ok(Incoming::Tcp { key, segment, .. }) => (key, segment),
        Ok(Incoming::Other) => return Verdict::Slow(Detour::State, frame.to_vec()),
        Err(reject) => return Verdict::Drop(reject),
    };
    if !from_slow && let Some(reason) = uncommon(&segment) {
        return Verdict::Slow(reason, frame.to_vec());
    }
    let Some((index, mut flow)) = shared.table.find(key) else {
        return Verdict::Slow(Detour::State, frame.to_vec());
    };
    if flow.core != core {
        return Verdict::Forward(flow.core, flow.label, frame.to_vec());
    }
    if flow.parked && !from_slow {
        return Verdict::Slow(Detour::State, frame.to_vec());
    }
    let taken = flow.receive(&segment, now);
    if segment.has(flags::ECE) {
        flow.cnt_rx_ecn_bytes += u64::from(taken.tx_bump);
    }
    let what = (u32::from(segment.flags) << 24) | segment.payload.len() as u32;
    Verdict::Ours(Handled {
        window: flow.rx_remote_avail,
        index,
        flow,
        taken,
        what,
    })
}

/// Why a segment is none for the fast path.
pub(super) fn uncommon(segment: &Segment<'_>) -> Option<Detour> {
    // Echoes of congestion marks are the common case too: RFC 3168.
    const COMMON: u8 = flags::ACK | flags::PSH | flags::FIN | flags::ECE | flags::CWR;
    if segment.has(flags::SYN) {
        Some(Detour::Syn)
    } else if segment.flags & !COMMON != 0 || !segment.has(flags::ACK) {
        Some(Detour::Flags)
    } else if segment.options.timestamps.is_none() {
        Some(Detour::Options)
    } else {
        None
    }
}

/// The label of a frame's connection, for events of frames that nobody has looked at further.
pub fn label_of(frame: &[u8], ip: u32) -> Label {
    if !probe::enabled() {
        return Label::NONE;
    }
    match fast_flows_packet_parse(frame, (frame_mac(frame), ip), true) {
        Ok(Incoming::Tcp { key, .. }) => label(key, ip),
        _ => Label::NONE,
    }
}

pub(super) fn frame_mac(frame: &[u8]) -> [u8; 6] {
    frame.first_chunk().copied().unwrap_or_default()
}

/// A connection's label.
pub fn label(key: Key, ip: u32) -> Label {
    Label::ipv4(ip, key.port, key.peer, key.peer_port)
}
