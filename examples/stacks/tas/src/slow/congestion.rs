//! The control loop: every connection is visited, its rate set by what it did, its silence noticed.
//!
//! In: the fast path's counts; out: rates, orders to send again or to probe, connections that are given up. At most 128
//! connections a round, each no sooner than two round trips after the last time, in TAS's manner.

use super::rate::Seen;
use super::{SlowPath, points, probe};
use crate::config::CC_BATCH;
use crate::entry::FlowId;
use crate::flow::Flow;
use crate::shared::ToFast;
use bypassprof_probe::Flow as Label;

/// Round trips between two looks.
const ROUND_TRIPS: u64 = 2;
/// Looks without an acknowledgement after which data is sent again.
const INTERVALS: u64 = 4;
/// The round trip before the first is measured, and the shortest interval there is, in ns.
const FIRST_RTT: u64 = 50_000;
/// Longest wait between two retransmissions, and between two questions for the peer's window, in ns.
const LONGEST: u64 = 60_000_000_000;
const LONGEST_PROBE: u64 = 2_000_000_000;

/// How long the loop stays awake after it has seen something outstanding, in ns.
const BUSY: u64 = 50_000_000;

/// What a flow did since the last look.
struct Stats {
    seen: Seen,
    heard: bool,
    acks: u32,
    outstanding: bool,
    shut: bool,
    rtt: u64,
    label: Label,
}

impl SlowPath {
    /// Visits the connections whose time has come.
    #[inline(never)]
    pub(super) fn cc_poll(&mut self) {
        let start = if probe::enabled() {
            self.clock.now()
        } else {
            0
        };
        let mut looked = 0;
        for _ in 0..CC_BATCH.min(self.conns.visits()) {
            let Some(index) = self.conns.next_visit() else {
                break;
            };
            looked += usize::from(self.look_at(index));
        }
        if looked > 0 && start > 0 {
            let spent = self
                .clock
                .now()
                .saturating_sub(start)
                .min(u64::from(u32::MAX));
            let more = [spent as u32, self.conns.visits() as u32, 0];
            probe::emit_with(self.cc_round, Label::NONE, looked as u32, more);
        }
        // Looking at connections that do nothing is what an empty round of the slow path does.
    }

    /// Whether its time had come.
    fn look_at(&mut self, index: u32) -> bool {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(index) else {
            return false;
        };
        let elapsed = now.saturating_sub(conn.looked);
        if elapsed < ROUND_TRIPS * FIRST_RTT {
            return false;
        }
        let Some(mut flow) = self.shared.table.lock(index) else {
            return false;
        };
        let interval = ROUND_TRIPS * flow.rtt_est.max(FIRST_RTT);
        if elapsed < interval {
            return false;
        }
        let stats = nicif_connection_stats(&mut flow, elapsed);
        conn.looked = now;
        conn.rate.dctcp_rate_update(stats.seen);
        flow.tx_rate = conn.rate.bytes_per_second();
        drop(flow);
        if stats.outstanding {
            self.busy_until = now + BUSY;
        }
        self.issue_retransmits(index, &stats);
        true
    }

    #[inline(never)]
    fn issue_retransmits(&mut self, index: u32, stats: &Stats) {
        let now = self.now;
        let least = self.config.min_rto.as_nanos() as u64;
        let Some(conn) = self.conns.get_mut(index) else {
            return;
        };
        if stats.heard {
            conn.unheard = 0;
        }
        if !stats.outstanding || stats.acks > 0 {
            conn.progress = now;
            conn.again = 0;
            return;
        }
        let silence = INTERVALS * ROUND_TRIPS * stats.rtt.max(FIRST_RTT);
        let longest = if stats.shut { LONGEST_PROBE } else { LONGEST };
        let wait = silence.max(least).saturating_mul(1 << conn.again.min(20));
        let due = conn.progress + wait.min(longest);
        if now < due {
            return;
        }
        let late = (now - due).min(u64::from(u32::MAX)) as u32;
        let kind = if stats.shut { 3 } else { 1 };
        probe::emit_with(points::TIMER, stats.label, kind, [late, 0, 0]);
        if conn.unheard >= self.config.retries {
            self.reset(index, true);
            return;
        }
        conn.unheard += 1;
        conn.again += 1;
        conn.progress = now;
        let (core, generation) = (usize::from(conn.syn.core), conn.generation);
        let id = FlowId { index, generation };
        let order = if stats.shut {
            ToFast::Probe(id)
        } else {
            ToFast::Retransmit(id)
        };
        self.tell_fast(core, order);
        self.did(1);
    }
}

/// Takes a flow's counts.
#[inline(never)]
fn nicif_connection_stats(flow: &mut Flow, elapsed: u64) -> Stats {
    let unsent = flow.tx_avail > 0 || (flow.tx_done && !flow.tx_fin_sent);
    let shut = flow.rx_remote_avail == 0;
    Stats {
        seen: Seen {
            acked: std::mem::take(&mut flow.cnt_rx_ack_bytes),
            marked: std::mem::take(&mut flow.cnt_rx_ecn_bytes),
            drops: std::mem::take(&mut flow.cnt_tx_drops),
            limited: flow.tx_avail > 0 && flow.rx_remote_avail > flow.tx_sent,
            elapsed,
        },
        heard: std::mem::take(&mut flow.cnt_rx_segments) > 0,
        acks: std::mem::take(&mut flow.cnt_rx_acks),
        outstanding: flow.in_flight() || unsent,
        shut,
        rtt: flow.rtt_est,
        label: flow.label,
    }
}
