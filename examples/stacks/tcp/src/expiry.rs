//! Timers of one connection: retransmission, window probes, delayed acknowledgements, keep-alive, the end of quiet times.
//!
//! In: a connection whose time has come; out: segments, events, the next deadlines. It refuses to keep time: that is
//! [`crate::timers`].

use crate::conn::{Conn, Recovering, Waiting};
use crate::core::Core;
use crate::event::{Closing, ConnId};
use crate::sink::FrameSink;
use crate::time::Time;
use bypassprof_probe::{self as probe, points};

/// Kinds of `timer` events.
const RETRANSMIT: u32 = 1;
const DELAYED_ACK: u32 = 2;
const PERSIST: u32 = 3;
const KEEPALIVE: u32 = 4;
const TIME_WAIT: u32 = 5;

/// Unanswered segments after which the peer's Ethernet address is asked for again.
const DOUBTFUL: u8 = 2;

impl Core {
    /// Runs what is due on one connection.
    #[inline(never)]
    pub fn run_timers(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let due = |at: Option<Time>| at.filter(|&at| at <= now);
        let ran = |conn: &Conn, kind: u32, at: Time| {
            let late = now.since(at).as_nanos().min(u128::from(u32::MAX)) as u32;
            probe::emit_with(points::TIMER, conn.flow, kind, [late, 0, 0]);
        };
        if let Some(at) = due(conn.end_due) {
            ran(conn, TIME_WAIT, at);
            conn.end_due = None;
            self.over(id, conn, Closing::Done);
            return;
        }
        if let Some(at) = due(conn.ack_due) {
            ran(conn, DELAYED_ACK, at);
            conn.ack_due = None;
            conn.ack_now = true;
            self.send_or_list(id, conn, now, out);
        }
        if due(conn.pace_due).is_some() {
            conn.pace_due = None;
            self.send_or_list(id, conn, now, out);
        }
        if let Some(at) = due(conn.rto_due) {
            let waiting = conn.waiting;
            ran(
                conn,
                if waiting == Waiting::Ack {
                    RETRANSMIT
                } else {
                    PERSIST
                },
                at,
            );
            self.timed_out(id, conn, now, out);
        }
        if let Some(at) = due(conn.keepalive_due) {
            ran(conn, KEEPALIVE, at);
            self.keepalive_due(id, conn, now, out);
        }
    }

    fn timed_out(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let policy = &self.config.policy;
        let handshake = !conn.state.is_synchronized();
        let most = if handshake {
            policy.syn_retries
        } else {
            policy.retries
        };
        // A peer whose window stays closed is asked for ever (RFC 1122 4.2.2.17), but not on behalf of nobody.
        let abandoned = !conn.held && conn.window_probes >= policy.retries;
        if conn.unanswered >= most || abandoned {
            self.reset(id, conn, now, out);
            self.gave_up(id, conn);
            return;
        }
        let first = conn.unanswered == 0;
        conn.unanswered += 1;
        conn.rtt.back_off();
        self.counters.timeouts += u64::from(conn.waiting == Waiting::Ack);
        conn.rto_due = Some(now + self.timeout(conn));
        if handshake {
            if conn.mac.is_none() {
                if self.neighbours.is_absent(self.next_hop(conn.peer.0)) {
                    self.over(id, conn, Closing::Unreachable);
                    return;
                }
                self.resolve(id, conn, now, out);
            } else if conn.unanswered >= DOUBTFUL {
                self.doubt(id, conn, now, out);
            }
            self.handshake(id, conn, now, out);
            return;
        }
        if conn.unanswered >= DOUBTFUL {
            self.doubt(id, conn, now, out);
        }
        if conn.waiting == Waiting::Window {
            self.probe_window(id, conn, now, out);
            return;
        }
        conn.window.timed_out(conn.in_flight(), first);
        conn.board.clear();
        conn.duplicates = 0;
        conn.inflated = 0;
        conn.resend = false;
        conn.timed = None;
        conn.recovering = Recovering::GoBack { until: conn.max };
        conn.next = conn.una;
        if conn.unsent() > 0 && conn.peer_window == 0 {
            // The window closed over what was sent: asking is all that is left.
            conn.waiting = Waiting::Window;
            self.probe_window(id, conn, now, out);
            return;
        }
        self.output(id, conn, now, out);
    }

    fn keepalive_due(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let Some(keepalive) = self.config.policy.keepalive else {
            conn.keepalive_due = None;
            return;
        };
        if !conn.all_acknowledged() {
            // The retransmission timer looks after it.
            conn.keepalive_due = Some(now + keepalive.idle);
            return;
        }
        if conn.unanswered >= keepalive.probes {
            self.reset(id, conn, now, out);
            self.gave_up(id, conn);
            return;
        }
        conn.unanswered += 1;
        conn.keepalive_due = Some(now + keepalive.interval);
        self.probe_alive(id, conn, now, out);
    }
}
