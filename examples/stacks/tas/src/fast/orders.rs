//! What applications and the slow path ask for: bumps of all contexts, orders, segments whose turn it is.
//!
//! In: entries of queues; out: flows that send, acknowledge or probe. It refuses to trust what an application wrote.

use super::frames::{Verdict, fast_flows_packet_fss};
use super::{Context, FastPath, age, label_of};
use crate::config::{ATX_BATCH, CONTEXTS, KERNEL_BATCH, QMAN_BATCH};
use crate::entry::{Atx, FlowId};
use crate::flow::Flow;
use crate::shared::{Shared, ToFast, ToSlow, queues};
use crate::shm::Corrupt;
use bypassprof_probe::{self as probe, Burst, points};
use ringbuf::traits::{Consumer, Observer};
use stack_netio::Device;
use std::sync::MutexGuard;

impl<D: Device> FastPath<D> {
    #[inline(never)]
    pub(super) fn poll_qman(&mut self, now: u64) {
        let shared = self.shared.clone();
        let mut fired = 0;
        while fired < QMAN_BATCH
            && let Some(turn) = self.qman.qman_poll(now)
        {
            fired += 1;
            let Some(mut flow) = shared.table.lock(turn.flow) else {
                continue;
            };
            if !flow.open || flow.core != self.index {
                continue;
            }
            let late = turn.late.min(u64::from(u32::MAX)) as u32;
            let rate = (turn.rate / 1000).min(u64::from(u32::MAX)) as u32;
            probe::emit_with(self.fire, flow.label, late, [rate, flow.tx_avail, 0]);
            if !self.fast_flows_qman(&mut flow, turn.flow, now) {
                break;
            }
        }
        self.did(fired);
    }

    /// Sends one segment of a flow; `false` while the device takes none.
    #[inline(never)]
    pub(super) fn fast_flows_qman(&mut self, flow: &mut Flow, index: u32, now: u64) -> bool {
        let (Some(outgoing), limit) = flow.sendable(flow.tx_rate > 0, self.port.most(flow)) else {
            return true;
        };
        let sent = self.port.flow_tx_segment(flow, &outgoing, limit, now);
        if sent {
            self.qman.charge(index, outgoing.len);
        }
        if !sent || flow.sendable(false, flow.mss).0.is_some() {
            self.qman.qman_set_again(index, flow.tx_rate, now);
        }
        sent
    }

    /// All contexts, three times, whether or not there is an application in them.
    #[inline(never)]
    pub(super) fn poll_queues(&mut self, now: u64) {
        self.fast_appctx_poll_pf();
        let waiting = self.fast_appctx_poll_fetch();
        for at in 0..CONTEXTS {
            if waiting & (1 << at) != 0 {
                self.fast_appctx_poll_bump(at, now);
            }
        }
        self.fast_actx_rxq_probe();
    }

    #[inline(never)]
    pub(super) fn fast_appctx_poll_pf(&self) {
        for context in self.contexts.iter().flatten() {
            std::hint::black_box(context.prefetch());
        }
    }

    #[inline(never)]
    pub(super) fn fast_appctx_poll_fetch(&mut self) -> u32 {
        let (mut waiting, mut bad) = (0, 0);
        for (at, context) in self.contexts.iter_mut().enumerate() {
            match context.as_mut().map(Context::fetch) {
                Some(Ok(true)) => waiting |= 1 << at,
                Some(Err(Corrupt)) => bad |= 1 << at,
                _ => {}
            }
        }
        self.give_up_all(bad);
        waiting
    }

    #[inline(never)]
    pub(super) fn fast_actx_rxq_probe(&mut self) {
        let mut bad = 0;
        for (at, context) in self.contexts.iter_mut().enumerate() {
            if let Some(context) = context
                && (context.probe_room().is_err()
                    || (context.is_behind() && context.catch_up().is_err()))
            {
                bad |= 1 << at;
            }
        }
        self.give_up_all(bad);
    }

    pub(super) fn give_up_all(&mut self, bad: u32) {
        for at in 0..CONTEXTS as u8 {
            if bad & (1 << at) != 0 {
                self.give_up(at);
            }
        }
    }

    #[inline(never)]
    pub(super) fn fast_appctx_poll_bump(&mut self, at: usize, now: u64) {
        let mut taken = 0;
        while taken < ATX_BATCH
            && let Some(context) = &mut self.contexts[at]
        {
            match context.next_bump() {
                Ok(Some((Some(atx), stamp))) => self.fast_flows_bump(at, atx, stamp, now),
                // An entry that means nothing is passed over, as an application's mistake that harms itself alone.
                Ok(Some((None, _))) => {}
                Ok(None) => break,
                Err(Corrupt) => self.give_up(at as u8),
            }
            taken += 1;
        }
        self.did(taken);
    }

    #[inline(never)]
    pub(super) fn fast_flows_bump(&mut self, at: usize, atx: Atx, stamp: u64, now: u64) {
        let shared = self.shared.clone();
        let Some(mut flow) = self.named(&shared, atx.flow) else {
            return;
        };
        if usize::from(flow.context) != at {
            return;
        }
        if let Some(context) = &self.contexts[at] {
            context.bump_taken(flow.label, stamp);
        }
        match flow.bump(&atx) {
            Ok(tell) => {
                if tell {
                    self.port.flow_tx_ack(&mut flow, now);
                }
                if flow.sendable(false, flow.mss).0.is_some() {
                    self.qman.qman_set(atx.flow.index, flow.tx_rate, now);
                }
            }
            Err(_) => {
                drop(flow);
                self.tell_slow(ToSlow::BadFlow(atx.flow));
            }
        }
    }

    /// The open flow of this name, if it is this core's.
    pub(super) fn named<'a>(&self, shared: &'a Shared, id: FlowId) -> Option<MutexGuard<'a, Flow>> {
        let flow = shared.table.lock(id.index)?;
        let ours = flow.open && flow.generation == id.generation && flow.core == self.index;
        ours.then_some(flow)
    }

    #[inline(never)]
    pub(super) fn poll_kernel(&mut self, now: u64) {
        let mut taken = 0;
        while taken < KERNEL_BATCH
            && let Some(message) = self.links.from_slow.try_pop()
        {
            taken += 1;
            self.fast_kernel_poll(message, now);
        }
        self.did(taken);
    }

    #[inline(never)]
    pub(super) fn fast_kernel_poll(&mut self, message: ToFast, now: u64) {
        let shared = self.shared.clone();
        match message {
            // A frame that the device does not take is lost, as on a link.
            ToFast::Frame(frame) => {
                self.port.send_frame(&frame);
            }
            ToFast::Process { frame, stamp } => {
                let burst = Burst::now();
                let depth = self.links.from_slow.occupied_len() as u32;
                let queue = queues::TO_FAST | u32::from(self.index);
                let age = age(probe::now().raw(), stamp);
                let label = label_of(&frame, shared.ip);
                burst.emit_with(points::HANDOFF, label, queue, [depth, age, 0]);
                let verdict = fast_flows_packet_fss(&shared, self.index, &frame, true, true, now);
                // The slow path has just seen its flow: without one it is a latecomer.
                if !matches!(verdict, Verdict::Slow(..)) {
                    self.settle(verdict, 0, burst, now);
                }
            }
            ToFast::Retransmit(id) => {
                if let Some(mut flow) = self.named(&shared, id) {
                    flow.rewind();
                    self.qman.qman_set(id.index, flow.tx_rate, now);
                }
            }
            ToFast::Probe(id) => {
                if let Some(mut flow) = self.named(&shared, id) {
                    self.port.flow_tx_probe(&mut flow, now);
                }
            }
            ToFast::Attach(at, part) => {
                let context = Context::new(at, usize::from(self.index), part);
                self.contexts[usize::from(at)] = Some(context);
            }
            ToFast::Detach(at) => {
                self.contexts[usize::from(at)] = None;
                self.tell_slow(ToSlow::Detached(at));
            }
        }
    }
}
