//! What an acknowledgement changes: the window, what is in flight, the pace, the way out of a loss.
//!
//! In: segments that are in place; out: what is acknowledged, and what has to be sent again. It refuses to know states.

use crate::config::{Congestion, Recovery};
use crate::congestion::Acked;
use crate::conn::{Conn, Recovering, Waiting};
use crate::core::Core;
use crate::event::{ConnId, EventKind};
use crate::recovery::DUPLICATES;
use crate::time::Time;
use crate::wire::tcp::{Segment, flags};
use std::time::Duration;

impl Core {
    /// The timed segment, if there is one, is acknowledged now.
    pub(super) fn measure(&mut self, conn: &mut Conn, now: Time) {
        if let Some((_, since)) = conn.timed.take() {
            conn.rtt.measured(now.since(since));
        }
    }

    pub(super) fn learn_window(&mut self, conn: &mut Conn, segment: &Segment<'_>) -> bool {
        let newer = conn.window_seq.before(segment.seq)
            || (conn.window_seq == segment.seq && !segment.ack.before(conn.window_ack));
        if !newer {
            return false;
        }
        // The window of a SYN is never scaled (RFC 7323 2.2).
        let scale = if segment.has(flags::SYN) {
            0
        } else {
            conn.peer_scale
        };
        let window = u32::from(segment.window) << scale;
        if window > 0 && conn.peer_window == 0 {
            // It was closed, not lost: the next timeout is a first one.
            conn.rtt.forward();
            conn.window_probes = 0;
        }
        let changed = window != conn.peer_window;
        conn.peer_window = window;
        conn.largest_window = conn.largest_window.max(window);
        conn.window_seq = segment.seq;
        conn.window_ack = segment.ack;
        changed
    }

    pub(super) fn acknowledged(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        now: Time,
    ) {
        let mut news = false;
        if conn.sack {
            for block in segment.options.sack.iter().flatten() {
                news |= conn.board.add(*block, segment.ack.max(conn.una), conn.max);
            }
        }
        let changed = self.learn_window(conn, segment);
        let marked = conn.ecn && segment.has(flags::ECE);
        if segment.ack.after(conn.una) {
            self.new_ack(id, conn, segment, marked, now);
        } else if segment.ack == conn.una
            && !conn.all_acknowledged()
            && conn.waiting == Waiting::Ack
        {
            let duplicate = segment.payload.is_empty() && !segment.has(flags::FIN) && !changed;
            if duplicate || news {
                self.duplicate(conn);
            }
        }
    }

    pub(super) fn new_ack(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        segment: &Segment<'_>,
        marked: bool,
        now: Time,
    ) {
        let ack = segment.ack;
        let flight = conn.in_flight();
        let newly = ack.since(conn.una);
        let data = (newly as usize).min(conn.send.len());
        let fin = newly as usize > data;
        conn.send.acknowledge(data);
        self.buffered -= data;
        conn.una = ack;
        conn.next = conn.next.max(ack);
        conn.board.acknowledged(ack);
        conn.duplicates = 0;
        conn.unreachable = false;
        conn.window_probes = 0;
        if conn.timed.is_some_and(|(seq, _)| !ack.before(seq)) {
            self.measure(conn, now);
        } else if conn.timestamps {
            // The echo tells when what is acknowledged was sent, be it for the first time or again; without it the doubled
            // timeout stays until new data is measured (Karn).
            let echo = segment.options.timestamps.map(|(_, echo)| echo);
            match echo.map(|echo| Core::timestamp(now).wrapping_sub(echo)) {
                Some(ms @ 1..0x8000_0000) => conn.rtt.measured(Duration::from_millis(ms.into())),
                _ => conn.rtt.forward(),
            }
        }
        let acked = Acked {
            bytes: newly,
            now,
            rtt: conn.rtt.smoothed(),
            limited: flight.saturating_mul(2) >= conn.window.bytes(),
            marked,
        };
        if marked && !self.heeds_each_mark() && !ack.before(conn.marks_until) {
            // Once a window (RFC 3168 6.1.2).
            conn.window.lost(flight);
            conn.marks_until = conn.max;
            conn.tell_slower = true;
        }
        match conn.recovering {
            Recovering::Fast { until, .. } if ack.before(until) => {
                if !conn.sack {
                    // RFC 6582 3.2: the next hole is known, the window shrinks by what left.
                    conn.resend = true;
                    conn.inflated = (conn.inflated + conn.mss).saturating_sub(newly);
                }
            }
            Recovering::Fast { .. } => {
                conn.recovering = Recovering::No;
                conn.inflated = 0;
                conn.resend = false;
            }
            Recovering::GoBack { until } => {
                if !ack.before(until) {
                    conn.recovering = Recovering::No;
                }
                conn.window.acknowledged(&Acked {
                    limited: true,
                    ..acked
                });
            }
            // A rate is set from what comes back; a window does not grow from what it was cut for.
            Recovering::No => {
                let cut = marked && !self.heeds_each_mark();
                conn.window.acknowledged(&Acked {
                    limited: acked.limited && !cut,
                    ..acked
                });
            }
        }
        conn.rto_due = if conn.all_acknowledged() {
            None
        } else {
            Some(now + self.timeout(conn))
        };
        if fin {
            self.fin_acknowledged(id, conn, now);
        }
        let room = self
            .config
            .policy
            .send_buffer
            .saturating_sub(conn.send.len());
        let enough = conn.wants_room && room >= (self.config.policy.send_buffer / 4).max(1);
        if enough || (self.config.policy.tell_sent && data > 0) {
            conn.wants_room &= !enough;
            self.tell(id, conn, EventKind::Writable);
        }
    }

    /// Marks are counted, not taken for a loss each (RFC 8257).
    pub(super) fn heeds_each_mark(&self) -> bool {
        matches!(self.config.policy.congestion, Congestion::DctcpRate { .. })
    }

    /// What we will tell the peer about marks: the last packet's (RFC 8257 3.2), or that there were some until the peer
    /// says that it has heard (RFC 3168 6.1.3).
    pub(super) fn hear_marks(&self, conn: &mut Conn, segment: &Segment<'_>) {
        if segment.payload.is_empty() {
            return;
        }
        if !self.heeds_each_mark() {
            conn.echo_marks &= !segment.has(flags::CWR);
            conn.echo_marks |= segment.marked;
        } else if conn.echo_marks != segment.marked {
            conn.echo_marks = segment.marked;
            conn.ack_now = true;
        }
    }

    pub(super) fn duplicate(&mut self, conn: &mut Conn) {
        conn.duplicates += 1;
        match conn.recovering {
            Recovering::Fast { .. } => {
                if !conn.sack {
                    conn.inflated += conn.mss;
                }
            }
            Recovering::GoBack { .. } => {}
            Recovering::No => {
                let by_sack = conn.sack && conn.board.sacked() >= conn.loss_distance();
                if conn.duplicates >= DUPLICATES || by_sack {
                    self.recover(conn);
                }
            }
        }
    }

    pub(super) fn recover(&mut self, conn: &mut Conn) {
        self.counters.fast_recoveries += 1;
        conn.window.lost(conn.in_flight());
        conn.timed = None;
        match self.config.policy.recovery {
            Recovery::Standard => {
                conn.recovering = Recovering::Fast {
                    until: conn.max,
                    again: conn.una,
                };
                conn.resend = true;
                conn.inflated = if conn.sack { 0 } else { DUPLICATES * conn.mss };
            }
            Recovery::GoBackN => {
                conn.recovering = Recovering::GoBack { until: conn.max };
                conn.next = conn.una;
            }
        }
    }
}
