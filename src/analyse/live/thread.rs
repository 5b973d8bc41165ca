//! One thread while it runs: where its time went in an interval, and what its events told besides.
//!
//! In: changes of its state, samples, events; out: its row of a [`View`](super::View). It refuses to know other threads.

use super::super::pollstate::PollState;
use super::super::profile::{Root, Work};
use super::super::timeline::{Cpu, Shares, Timeline};
use super::functions::Placed;
use super::ring::LiveRing;
use super::view::{Depth, Rates, ThreadView, Times};
use crate::trace::record::{Pid, Ring, Sample, Tid};
use crate::units::Nanos;
use bypassprof_wire::{Event, points};

pub struct LiveThread {
    pub name: String,
    /// Where it was last seen to run.
    pub cpu: Option<u32>,
    /// Whether it was sampled in this interval.
    pub ran: bool,
    pub ended: bool,
    pub timeline: Timeline<Sample>,
    pub seen: Seen,
    probes: bool,
    /// Its time until the interval began.
    before: Shares,
}

/// What events of an interval tell that is not time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    drops: u64,
    fulls: u64,
    depths: u64,
    depth_sum: u64,
    deepest: u32,
}

impl Seen {
    #[inline]
    pub fn event(&mut self, event: &Event) {
        match event.point {
            points::DROP => self.drops += 1,
            points::FULL => self.fulls += 1,
            // Both carry it as their second argument.
            points::DELIVER | points::HANDOFF if event.arg_count > 1 => {
                self.depths += 1;
                self.depth_sum += u64::from(event.args[1]);
                self.deepest = self.deepest.max(event.args[1]);
            }
            _ => {}
        }
    }
}

impl LiveThread {
    pub fn new(start: u64) -> LiveThread {
        LiveThread {
            name: String::new(),
            cpu: None,
            ran: false,
            ended: false,
            // Without probes all that it does is taken for work; with them nothing is known until an event tells.
            timeline: Timeline::new(start, u64::MAX, PollState::Working),
            seen: Seen::default(),
            probes: false,
            before: Shares::default(),
        }
    }

    pub fn has_ring(&mut self, ring: &Ring) {
        if !ring.name.is_empty() {
            self.name.clone_from(&ring.name);
        }
        if !self.probes {
            self.probes = true;
            self.timeline.doubt();
        }
    }

    /// Its row, and its samples into `out`.
    pub fn settle(
        &mut self,
        (pid, tid): (Pid, Tid),
        until: u64,
        mut rings: Vec<&mut LiveRing>,
        out: &mut Vec<Placed>,
    ) -> ThreadView {
        rings.iter_mut().for_each(|ring| ring.flush(self));
        let probes = self.probes;
        self.timeline.sweep(until, &mut |state, sample| {
            let root = match (probes, state) {
                (false, _) => Root::NoProbes,
                (true, PollState::Working) => Root::Useful,
                (true, PollState::EmptyPolling) => Root::EmptyPolling,
                (true, PollState::Unknown) => Root::Unknown,
            };
            out.push(Placed { root, sample });
        });
        // At a thousand samples a second, who is on a CPU for an interval is met there.
        self.timeline
            .assume(if self.ran { Cpu::On } else { Cpu::Off });
        let now = self.timeline.settled();
        let spent = now.since(&self.before);
        self.before = now;
        self.ran = false;
        let (mut work, mut length, mut events_lost) = (Work::default(), Nanos::default(), 0);
        for (more, time, dropped) in rings.into_iter().filter_map(LiveRing::interval) {
            work.add(&more);
            length = length.max(time);
            events_lost += dropped;
        }
        let seen = std::mem::take(&mut self.seen);
        let times = Times::of(&spent, &work);
        ThreadView {
            pid,
            tid,
            name: self.name.clone(),
            cpu: self.cpu,
            probes,
            times,
            rates: Rates::of(&work, length, &times),
            work,
            drops: seen.drops,
            fulls: seen.fulls,
            depth: (seen.depths > 0).then(|| Depth {
                mean: seen.depth_sum as f64 / seen.depths as f64,
                max: seen.deepest,
            }),
            events_lost,
            ended: self.ended,
        }
    }
}
