//! What a flow may send, from where in its ring, and what is sent again.
//!
//! In: an application's bumps, windows; out: segments to be made. It refuses to know rates and devices.

use super::{BadBump, Flow, Limit, Outgoing};
use crate::entry::Atx;
use stack_tcp::seq::Seq;

impl Flow {
    pub(super) fn advance(&mut self, bytes: u32) {
        self.tx_avail -= bytes;
        self.tx_sent += bytes;
        self.tx_next_seq = self.tx_next_seq.plus(bytes);
        self.tx_next_pos = self.tx_next_pos.wrapping_add(bytes);
    }

    /// Back to the first byte that is not acknowledged: all of it will be sent again.
    pub fn rewind(&mut self) {
        self.go_back();
        self.cnt_tx_drops += 1;
    }

    pub(super) fn go_back(&mut self) {
        self.tx_next_seq = Seq(self.tx_next_seq.0.wrapping_sub(self.tx_sent));
        self.tx_next_pos = self.tx_next_pos.wrapping_sub(self.tx_sent);
        self.tx_avail += self.tx_sent;
        self.tx_sent = 0;
        if !self.tx_fin_acked {
            self.tx_fin_sent = false;
        }
        self.tx_recover = self.tx_max_seq;
        self.rx_dupack_cnt = 0;
        self.timed = None;
    }

    /// Copies an outgoing segment's payload out of the transmit ring.
    #[inline(never)]
    pub fn flow_tx_read(&self, outgoing: &Outgoing, out: &mut [u8]) {
        if let Some(region) = &self.region {
            self.tx.read(region, outgoing.pos, out);
        }
    }

    /// Takes an application's bump; whether the window that opened has to be told.
    pub fn bump(&mut self, atx: &Atx) -> Result<bool, BadBump> {
        let read = self.rx.bytes() - self.rx_avail;
        let room = self.tx.bytes() - self.tx_avail - self.tx_sent;
        if atx.rx_bump > read || atx.tx_bump > room || (self.tx_done && atx.tx_bump > 0) {
            return Err(BadBump);
        }
        self.rx_avail += atx.rx_bump;
        self.tx_avail += atx.tx_bump;
        self.tx_done |= atx.done;
        let step = self.mss.min(self.rx.bytes() / 2);
        Ok(!self.rx_fin && self.rx_told < step && self.rx_avail >= step)
    }

    /// What may be sent now, at most `most` bytes of it, and what keeps more from being sent. `paced`: a rate will delay
    /// what is left.
    pub fn sendable(&self, paced: bool, most: u32) -> (Option<Outgoing>, Limit) {
        let window = self.rx_remote_avail.saturating_sub(self.tx_sent);
        let mut len = self.tx_avail.min(window).min(most);
        if len > self.mss && len < self.tx_avail {
            // What a device cuts is cut into whole segments.
            len -= len % self.mss;
        }
        let limit = if self.tx_avail <= len {
            Limit::App
        } else if window <= len {
            Limit::Peer
        } else if paced {
            Limit::Pace
        } else {
            Limit::None
        };
        let whole = len == self.tx_avail;
        let fin = whole && self.tx_done && !self.tx_fin_sent && !self.tx_fin_acked;
        // A window that opens by crumbs is waited for while something is on its way: RFC 9293 3.8.6.2.1.
        let crumb = len < self.mss && !whole && self.tx_sent > 0;
        if crumb || (len == 0 && !fin) {
            return (None, limit);
        }
        let outgoing = Outgoing {
            seq: self.tx_next_seq,
            len,
            fin,
            again: self.tx_next_seq.before(self.tx_max_seq),
            pos: self.tx_next_pos,
        };
        (Some(outgoing), limit)
    }

    /// The segment has been sent, at a time in ns.
    pub fn sent(&mut self, outgoing: &Outgoing, now: u64) {
        self.advance(outgoing.len);
        self.tx_fin_sent |= outgoing.fin;
        if self.timed.is_none() && !outgoing.again {
            self.timed = Some((self.next(), now));
        }
        self.tx_max_seq = self.tx_max_seq.max(self.next());
    }
}
