//! Frames on their way between TCP and the device, on whichever thread's ring that is told.
//!
//! In: segments that leave TCP, and bursts that the device took; out: the same to the flows that the segments are of.
//! It refuses to know what a request is.

use super::Stamped;
use super::flows::Flows;
use super::ring::{RingState, Sent, push};
use crate::trace::record::Pid;
use std::collections::HashMap;

/// Frames of a ring that wait for their burst.
const MOST_FRAMES: usize = 1 << 16;

impl Flows {
    /// The ring of the device that a ring's thread receives from and sends to through another thread: it has none of
    /// its own, and there is one in its process.
    pub(super) fn device_of(&self, ring: u32) -> Option<&RingState> {
        let device = self.rings.get(ring as usize)?.device;
        self.rings.get(device as usize).filter(|_| device != ring)
    }

    /// Another ring has told of bursts: which ring's bursts carry whose frames is looked up again.
    pub(super) fn find_devices(&mut self) {
        let mut of_process: HashMap<Pid, Option<u32>> = HashMap::new();
        for (place, ring) in (0u32..).zip(&self.rings).filter(|(_, r)| r.has_device) {
            let device = of_process.entry(ring.pid).or_insert(Some(place));
            // With several it is not known which.
            *device = device.filter(|&first| first == place);
        }
        for (place, ring) in (0u32..).zip(&mut self.rings) {
            let other = of_process.get(&ring.pid).copied().flatten();
            ring.device = other.filter(|_| !ring.has_device).unwrap_or(place);
        }
    }

    pub(super) fn segment_out(&mut self, e: &Stamped, counts: bool) {
        let (kind, len) = (e.args[1] >> 24, e.args[1] & 0xff_ffff);
        let ring = self.rings.get(e.ring as usize);
        let device = ring.map_or(e.ring, |r| r.device);
        let mut requests = None;
        let counts = u64::from(counts && self.filter.has_flow(e.flow));
        match kind {
            0 if len > 0 => {
                let drains = self.rings.get(device as usize).is_some_and(|r| r.drains);
                requests = self.flow(e.flow).data_out(e.tsc, len, e.ring, drains);
            }
            1 => {
                self.sums.counts.acks += counts;
                self.flow(e.flow).ack_out();
            }
            2 => self.sums.counts.retransmissions += counts,
            _ => {}
        }
        if let Some(ring) = self.rings.get_mut(device as usize) {
            let sent = Sent {
                frame: e.args[0],
                flow: e.flow,
                tsc: e.tsc,
                requests,
            };
            push(&mut ring.sent, sent, MOST_FRAMES);
        }
    }

    /// `accepted` frames from `first` on were given to the device; when the burst began the oldest was `age` ticks old.
    pub(super) fn burst_taken(
        &mut self,
        ring: u32,
        (first, accepted): (u32, u32),
        age: u32,
        tsc: u64,
    ) {
        let Some(ring) = self.rings.get_mut(ring as usize) else {
            return;
        };
        let mut began = None;
        while let Some(sent) = ring.sent.front() {
            let distance = sent.frame.wrapping_sub(first);
            // Frames before the burst can no longer be in one.
            let before = distance > u32::MAX / 2;
            if !before && distance >= accepted {
                break;
            }
            if distance == 0 && age > 0 {
                began = Some((sent.tsc + u64::from(age)).min(tsc));
            }
            let (flow, requests) = (sent.flow, sent.requests);
            ring.sent.pop_front();
            if let (false, Some(requests)) = (before, requests)
                && let Some(state) = self.flows.get(flow)
            {
                state.taken(requests, began, tsc);
            }
        }
    }
}
