//! What was done, counted from events: how many bursts, frames, segments, wake-ups a request takes.
//!
//! In: every ring's slots in the order of the file; out: [`Counts`] of the whole recording and of slices of its time.
//! An event is counted where its stamp lies; order does not matter, so nothing is kept. Events that were lost are not
//! counted: whoever divides by these counts has to look at the loss. Where only some requests count, what their threads
//! did in their time is counted apart.

use crate::analyse::latency::Stretches;
use crate::analyse::latency::stretches::{Of, holds};
use crate::analyse::packs::{Packs, Rules};
use crate::trace::record::{Meta, OwnPoint, Pid, Switch, SwitchKind, Tid};
use crate::units::{ClockMap, Nanos};
use bypassprof_wire::{Decoder, Event, Point, Slot, Tsc, points};
use std::collections::HashMap;

/// What is counted; the name in outputs is [`COUNTED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Counted {
    /// Requests finished.
    Requests,
    /// Bytes of their replies.
    ReplyBytes,
    /// Receive bursts that held something.
    RxBursts,
    /// Frames in them.
    RxFrames,
    /// Bursts given to the device.
    TxBursts,
    /// Frames that it took.
    TxFrames,
    /// Frames both ways.
    Frames,
    /// Bursts given to the device because a timer said so.
    TimerDrains,
    /// Segments with data.
    DataSegments,
    /// Segments with nothing but an ACK.
    Acks,
    /// Segments sent again.
    Retransmissions,
    /// Calls that asked the stack to send.
    SendCalls,
    /// Of these, took less than they were asked to.
    ShortSends,
    /// A thread woke up.
    Wakes,
    /// Items that crossed from one thread's queue to another thread.
    Handoffs,
    /// How long they had waited, in ns.
    HandoffNs,
    /// Locks that had to be waited for.
    LockWaits,
    /// How long, in ns.
    LockNs,
    /// How long threads could have run and did not, because something that was not recorded ran, in ns.
    PreemptedNs,
}

/// Names of [`Counted`] in outputs, in its order.
pub const COUNTED: &[(Counted, &str)] = &[
    (Counted::Requests, "requests"),
    (Counted::ReplyBytes, "reply_bytes"),
    (Counted::RxBursts, "rx_bursts"),
    (Counted::RxFrames, "rx_frames"),
    (Counted::TxBursts, "tx_bursts"),
    (Counted::TxFrames, "tx_frames"),
    (Counted::Frames, "frames"),
    (Counted::TimerDrains, "timer_drains"),
    (Counted::DataSegments, "data_segments"),
    (Counted::Acks, "ack_segments"),
    (Counted::Retransmissions, "retransmissions"),
    (Counted::SendCalls, "send_calls"),
    (Counted::ShortSends, "short_sends"),
    (Counted::Wakes, "wakes"),
    (Counted::Handoffs, "handoffs"),
    (Counted::HandoffNs, "handoff_ns"),
    (Counted::LockWaits, "lock_waits"),
    (Counted::LockNs, "lock_ns"),
    (Counted::PreemptedNs, "preempted_ns"),
];

impl Counted {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        COUNTED[self as usize].1
    }
}

/// Counts of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts([f64; COUNTED.len()]);

impl Counts {
    /// One of them.
    pub fn of(&self, what: Counted) -> f64 {
        self.0[what as usize]
    }

    /// Counts more of something.
    pub fn more(&mut self, what: Counted, by: f64) {
        self.0[what as usize] += by;
    }

    /// Takes away those of a part of the time.
    pub fn take(&mut self, part: &Counts) {
        let both = self.0.iter_mut().zip(part.0);
        both.for_each(|(sum, count)| *sum -= count);
    }

    /// Adds those of another time.
    pub fn add(&mut self, other: &Counts) {
        let both = self.0.iter_mut().zip(other.0);
        both.for_each(|(sum, count)| *sum += count);
    }
}

/// What was counted over a recording.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// All events.
    pub whole: Counts,
    /// Those between edges.
    pub slices: Vec<Counts>,
}

impl Sums {
    fn of_slices(count: usize) -> Sums {
        Sums {
            whole: Counts::default(),
            slices: vec![Counts::default(); count],
        }
    }

    fn more(&mut self, slice: usize, what: Counted, by: f64) {
        self.whole.more(what, by);
        if let Some(slice) = self.slices.get_mut(slice) {
            slice.more(what, by);
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of the whole program.
    pub all: Sums,
    /// Where only some requests count: of their threads in their time.
    pub meanwhile: Option<Sums>,
    /// Requests of each flow.
    pub flows: HashMap<u32, u64>,
}

/// Flows that are told apart; more are not needed to see that two loads differ.
const MOST_FLOWS: usize = 1 << 20;

impl Tally {
    /// Flows that carried the load: those with at least a twentieth of what the busiest one had, so that a request or
    /// two before the load began is none.
    pub fn connections(&self) -> usize {
        let most = self.flows.values().copied().max().unwrap_or(0);
        let busy = self.flows.values().filter(|n| **n * 20 >= most);
        busy.count()
    }
}

struct Ring {
    decoder: Decoder,
    own: HashMap<u16, Point>,
    next_slot: u64,
    /// When its thread was busy with requests that count, if only some do.
    busy: Of,
}

/// The pass over a recording's rings.
pub struct Pass {
    rings: HashMap<u32, Ring>,
    edges: Vec<u64>,
    times: Vec<Nanos>,
    /// Threads that had to leave a CPU: since when, and which.
    preempted: HashMap<(Pid, Tid), (Nanos, u32)>,
    ns_per_tick: f64,
    tally: Tally,
}

impl Pass {
    /// Prepares a pass. Slices end at `edges`, times of the recording's clock.
    pub fn new(metas: &[Meta], packs: &Packs, edges: &[Nanos]) -> Pass {
        let all: Vec<_> = packs.all().iter().collect();
        let rules = Rules::of(&all);
        let meaning = |p: &OwnPoint| Some((p.id, rules.meaning(&p.name)?));
        let mut pairs = Vec::new();
        let mut rings = HashMap::new();
        for meta in metas {
            match meta {
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::Ring(ring) => {
                    let base = (ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc));
                    let state = Ring {
                        decoder: Decoder::new(base),
                        own: ring.points.iter().filter_map(meaning).collect(),
                        next_slot: ring.first_slot,
                        busy: Of::new(),
                    };
                    rings.insert(ring.ring, state);
                }
                _ => {}
            }
        }
        let clock = ClockMap::fit(&pairs);
        let times = clock.map_or(&[][..], |_| edges).to_vec();
        let ticks = |&edge| clock.map_or(0, |c| c.tsc(edge).raw());
        let edges: Vec<u64> = times.iter().map(ticks).collect();
        Pass {
            rings,
            times,
            preempted: HashMap::new(),
            ns_per_tick: clock.map_or(1.0, |c| c.ns_per_tick()),
            tally: Tally {
                all: Sums::of_slices(edges.len()),
                ..Tally::default()
            },
            edges,
        }
    }

    /// The same, and apart from it what threads did in the time of some requests.
    #[must_use]
    pub fn within(mut self, stretches: &Stretches) -> Pass {
        for (&number, ring) in &mut self.rings {
            ring.busy = stretches.of_ring(number);
        }
        self.tally.meanwhile = Some(Sums::of_slices(self.edges.len()));
        self
    }

    /// A block of a ring's slots, the first of which has position `first`, in the order of the file.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) {
        let Some(ring) = self.rings.get_mut(&ring) else {
            return;
        };
        if first > ring.next_slot {
            ring.decoder.gap();
        }
        ring.next_slot = first.saturating_add(slots.len() as u64);
        let (of, tally) = ((&ring.own, ring.busy.as_slice()), &mut self.tally);
        let (edges, ns) = (&self.edges, self.ns_per_tick);
        ring.decoder
            .block(slots, &mut |event| count(event, of, edges, ns, tally));
    }

    /// A switch of the file, in the order of the file. Time counts where it ends. A thread that had to make room for
    /// another one that was recorded was not disturbed by others: that is how the program works.
    pub fn switch(&mut self, switch: &Switch) {
        let thread = (switch.pid, switch.tid);
        let before = self.preempted.remove(&thread);
        match switch.kind {
            SwitchKind::OutPreempted => {
                self.preempted.insert(thread, (switch.time, switch.cpu));
            }
            SwitchKind::OutWaiting => {}
            SwitchKind::In => {
                self.preempted.retain(|_, (_, cpu)| *cpu != switch.cpu);
                if let Some((since, _)) = before {
                    let slice = self.times.partition_point(|&edge| edge <= switch.time);
                    let length = switch.time.since(since).ns() as f64;
                    self.tally.all.more(slice, Counted::PreemptedNs, length);
                }
            }
        }
    }

    /// Ends the pass.
    pub fn finish(mut self) -> Tally {
        for ring in self.rings.values_mut() {
            let (of, tally) = ((&ring.own, ring.busy.as_slice()), &mut self.tally);
            let (edges, ns) = (&self.edges, self.ns_per_tick);
            ring.decoder
                .flush(&mut |event| count(&event, of, edges, ns, tally));
        }
        self.tally
    }
}

fn count(
    event: &Event,
    (own, busy): (&HashMap<u16, Point>, &[(u64, u64)]),
    edges: &[u64],
    ns_per_tick: f64,
    tally: &mut Tally,
) {
    let slice = edges.partition_point(|&edge| edge <= event.tsc.raw());
    let Tally {
        all,
        meanwhile,
        flows,
    } = tally;
    let mut meanwhile = meanwhile.as_mut().filter(|_| holds(busy, event.tsc.raw()));
    let mut more = |what, by| {
        all.more(slice, what, by);
        if let Some(sums) = &mut meanwhile {
            sums.more(slice, what, by);
        }
    };
    let [a, b, c, ..] = event.args;
    let frames = |of: u32| f64::from(of & 0xfff);
    let point = own.get(&event.point.id()).copied();
    match point.unwrap_or(event.point) {
        points::APP_END => {
            more(Counted::Requests, 1.0);
            more(Counted::ReplyBytes, f64::from(a));
            let flow = event.flow.raw();
            if flows.len() < MOST_FLOWS || flows.contains_key(&flow) {
                *flows.entry(flow).or_default() += 1;
            }
        }
        points::RX_BURST => {
            more(Counted::RxBursts, 1.0);
            more(Counted::RxFrames, frames(event.flow.raw()));
            more(Counted::Frames, frames(event.flow.raw()));
        }
        points::TX_BURST => {
            let taken = frames(event.flow.raw() >> 12);
            more(Counted::TxBursts, 1.0);
            more(Counted::TxFrames, taken);
            more(Counted::Frames, taken);
            more(Counted::TimerDrains, f64::from(u8::from(c == 2)));
        }
        points::TCP_OUT => match (b >> 24, b & 0xff_ffff) {
            (0, 1..) => more(Counted::DataSegments, 1.0),
            (1, _) => more(Counted::Acks, 1.0),
            (2, _) => more(Counted::Retransmissions, 1.0),
            _ => {}
        },
        points::SEND_CALL => {
            more(Counted::SendCalls, 1.0);
            more(Counted::ShortSends, f64::from(u8::from(b < a)));
        }
        points::WAKE => more(Counted::Wakes, 1.0),
        points::HANDOFF => {
            more(Counted::Handoffs, 1.0);
            more(Counted::HandoffNs, f64::from(c) * ns_per_tick);
        }
        points::LOCK_WAIT => {
            more(Counted::LockWaits, 1.0);
            more(Counted::LockNs, f64::from(a) * ns_per_tick);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Ring as RingRecord;
    use crate::units::ClockPair;
    use bypassprof_wire::Flow;

    /// Names stand where their numbers look for them.
    #[test]
    fn names_in_order() {
        for (at, (what, _)) in COUNTED.iter().enumerate() {
            assert_eq!(*what as usize, at);
        }
    }

    /// Time in which another program ran is preempted; time in which another thread of the program ran is not.
    #[test]
    fn preempted_by_others() {
        use SwitchKind::{In, OutPreempted, OutWaiting};
        let mut pass = Pass::new(&[], &Packs::built_in(), &[]);
        let mut switch = |time, tid, kind| {
            pass.switch(&Switch {
                time: Nanos::from_ns(time),
                pid: 1,
                tid,
                cpu: 0,
                kind,
            });
        };
        switch(100, 1, OutPreempted);
        switch(140, 1, In);
        switch(200, 1, OutPreempted);
        switch(201, 2, In);
        switch(300, 2, OutWaiting);
        switch(301, 1, In);
        switch(400, 1, OutWaiting);
        switch(500, 1, In);
        let preempted = pass.finish().all.whole.of(Counted::PreemptedNs);
        assert_eq!(preempted, 40.0);
    }

    /// Events fall into the slice of their stamp; what lies behind the last edge is in the whole alone.
    #[test]
    fn slices() {
        let pair = |ms: u64| ClockPair {
            tsc_before: 2_000_000 * ms,
            time: Nanos::from_ns(1_000_000 * ms),
            tsc_after: 2_000_000 * ms,
        };
        let ring = RingRecord {
            base_tsc: 1,
            ..RingRecord::default()
        };
        let metas = [
            Meta::Ring(ring),
            Meta::Clock(pair(0)),
            Meta::Clock(pair(100)),
        ];
        let edges = [10, 20].map(|ms| Nanos::from_ns(ms * 1_000_000));
        let mut pass = Pass::new(&metas, &Packs::built_in(), &edges);
        let head = |ms: u64, point, flow, arg| {
            Slot::head(
                Tsc::from_raw(2_000_000 * ms),
                point,
                Flow::from_raw(flow),
                arg,
            )
        };
        let slots = [
            head(1, points::APP_END, 7, 100),
            head(10, points::APP_END, 7, 100),
            head(15, points::RX_BURST, 3, 0),
            head(16, points::LOCK_WAIT, 7, 2000),
            head(90, points::APP_END, 8, 100),
        ];
        pass.slots(0, 0, &slots);
        let tally = pass.finish();
        let requests = |c: &Counts| c.of(Counted::Requests);
        let slices: Vec<_> = tally.all.slices.iter().map(requests).collect();
        assert_eq!((slices, requests(&tally.all.whole)), (vec![1.0, 1.0], 3.0));
        let second = &tally.all.slices[1];
        assert_eq!(second.of(Counted::RxFrames), 3.0);
        assert_eq!(second.of(Counted::Frames), 3.0);
        assert!((second.of(Counted::LockNs) - 1000.0).abs() < 1.0);
        assert_eq!(tally.connections(), 2);
    }
}
