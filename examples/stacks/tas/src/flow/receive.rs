//! What a segment of a flow leads to: bytes in the receive ring, bytes that are acknowledged, what is due then.
//!
//! In: segments; out: what the fast path has to do. It refuses to know who reads the ring.

use super::{DUPLICATES, Flow, Taken};
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::{Segment, flags};

impl Flow {
    /// Takes a segment at a time in ns.
    #[inline]
    pub fn receive(&mut self, segment: &Segment<'_>, now: u64) -> Taken {
        let mut taken = Taken::default();
        self.cnt_rx_segments = self.cnt_rx_segments.wrapping_add(1);
        if let Some((clock, _)) = segment.options.timestamps.filter(|_| self.timestamps) {
            // PAWS: RFC 7323 5.
            if (clock.wrapping_sub(self.tx_next_ts) as i32) < 0 {
                return Taken {
                    ack: segment.len() > 0,
                    stale: true,
                    ..taken
                };
            }
            if !segment.seq.after(self.rx_next_seq) {
                self.tx_next_ts = clock;
            }
        }
        if segment.has(flags::ACK) && !self.take_ack(segment, now, &mut taken) {
            // RFC 5961 5: whoever does not know what we have sent is not believed in what it sends.
            return Taken {
                ack: true,
                stale: true,
                ..taken
            };
        }
        self.take_payload(segment, &mut taken);
        taken.finished = self.finished();
        taken
    }

    /// Whether the acknowledgement can be one of this connection's.
    pub(super) fn take_ack(&mut self, segment: &Segment<'_>, now: u64, taken: &mut Taken) -> bool {
        let acked = segment.ack.0.wrapping_sub(self.una().0);
        if acked > self.tx_max_seq.0.wrapping_sub(self.una().0) {
            // An old one, as far as anything can be old; else never sent.
            return acked.wrapping_neg() <= self.tx.bytes();
        }
        let window = u32::from(segment.window) << self.remote_scale;
        if acked == 0 {
            let plain = segment.payload.is_empty() && !segment.has(flags::FIN);
            if plain && window == self.rx_remote_avail && self.in_flight() {
                self.rx_dupack_cnt = self.rx_dupack_cnt.saturating_add(1);
                let new = !segment.ack.before(self.tx_recover);
                if self.rx_dupack_cnt == DUPLICATES && new {
                    self.rewind();
                    taken.rewound = true;
                    taken.send = true;
                }
            }
        } else {
            self.acknowledge(acked, taken);
            self.rx_dupack_cnt = 0;
            self.cnt_rx_acks += 1;
            self.cnt_rx_ack_bytes += u64::from(taken.tx_bump);
            if let Some((edge, sent)) = self.timed
                && !segment.ack.before(edge)
            {
                self.measured(now.saturating_sub(sent));
                self.timed = None;
            }
        }
        if self.rx_remote_avail == 0 && window > 0 && acked == 0 && self.in_flight() {
            // A window that shuts refuses what is on its way (RFC 9293 3.8.6): it has to come again, and was not lost.
            self.go_back();
            taken.rewound = true;
        }
        taken.send |= window > self.rx_remote_avail || acked > 0;
        self.rx_remote_avail = window;
        true
    }

    /// Whether a segment's place in the stream is one that this connection's peer could be at.
    pub fn is_near(&self, segment: &Segment<'_>) -> bool {
        let ahead = segment.seq.0.wrapping_sub(self.rx_next_seq.0);
        ahead <= self.rx_avail || ahead.wrapping_neg() <= self.rx.bytes()
    }

    /// Takes `acked` numbers off, of which some may have been rewound.
    pub(super) fn acknowledge(&mut self, acked: u32, taken: &mut Taken) {
        let sent = self.tx_sent + u32::from(self.tx_fin_sent);
        if acked > sent {
            let again = (acked - sent).min(self.tx_avail);
            self.advance(again);
            if acked > sent + again {
                self.tx_fin_sent = true;
            }
        }
        let data = acked.min(self.tx_sent);
        self.tx_sent -= data;
        if acked > data && self.tx_fin_sent {
            self.tx_fin_acked = true;
        }
        taken.tx_bump = data;
    }

    pub(super) fn measured(&mut self, rtt: u64) {
        let rtt = rtt.max(1);
        self.rtt_est = match self.rtt_est {
            0 => rtt,
            old => (old * 7 + rtt) / 8,
        };
    }

    pub(super) fn take_payload(&mut self, segment: &Segment<'_>, taken: &mut Taken) {
        let len = segment.payload.len() as u32;
        let fin = segment.has(flags::FIN);
        if len == 0 && !fin {
            // A probe of what we expect.
            taken.ack |= segment.seq != self.rx_next_seq;
            return;
        }
        taken.ack = true;
        if self.rx_fin {
            return;
        }
        if segment.seq.after(self.rx_next_seq) {
            self.keep_early(segment.seq, segment.payload);
            return;
        }
        let old = self.rx_next_seq.since(segment.seq);
        if old > len {
            return;
        }
        let fresh = &segment.payload[old as usize..];
        let room = fresh.len().min(self.rx_avail as usize);
        self.flow_rx_write(self.rx_next_pos, &fresh[..room]);
        self.received(room as u32);
        taken.rx_bump = room as u32;
        if fin && room == fresh.len() {
            self.rx_fin = true;
            self.rx_next_seq = self.rx_next_seq.plus(1);
            self.rx_ooo_len = 0;
            taken.fin = true;
            return;
        }
        taken.rx_bump += self.join_early();
    }

    pub(super) fn received(&mut self, bytes: u32) {
        self.rx_next_seq = self.rx_next_seq.plus(bytes);
        self.rx_next_pos = self.rx_next_pos.wrapping_add(bytes);
        self.rx_avail -= bytes;
    }

    /// Keeps data beyond a hole, if it begins or extends the one interval there is.
    pub(super) fn keep_early(&mut self, seq: Seq, payload: &[u8]) {
        let len = payload.len() as u32;
        let ahead = seq.since(self.rx_next_seq);
        if len == 0 || u64::from(ahead) + u64::from(len) > u64::from(self.rx_avail) {
            return;
        }
        let (start, end) = (seq, seq.plus(len));
        if self.rx_ooo_len == 0 {
            (self.rx_ooo_start, self.rx_ooo_len) = (start, len);
        } else {
            let old_end = self.rx_ooo_start.plus(self.rx_ooo_len);
            if start.after(old_end) || end.before(self.rx_ooo_start) {
                return;
            }
            let start = start.min(self.rx_ooo_start);
            self.rx_ooo_len = end.max(old_end).since(start);
            self.rx_ooo_start = start;
        }
        self.flow_rx_write(self.rx_next_pos.wrapping_add(ahead), payload);
    }

    /// Takes what was kept, once the hole before it is filled.
    pub(super) fn join_early(&mut self) -> u32 {
        if self.rx_ooo_len == 0 || self.rx_ooo_start.after(self.rx_next_seq) {
            return 0;
        }
        let end = self.rx_ooo_start.plus(self.rx_ooo_len);
        let more = end.since(self.rx_next_seq).min(self.rx_avail);
        self.received(more);
        self.rx_ooo_len = 0;
        more
    }

    #[inline(never)]
    pub(super) fn flow_rx_write(&self, pos: u32, bytes: &[u8]) {
        if let Some(region) = &self.region {
            self.rx.write(region, pos, bytes);
        }
    }
}
