//! Rounds of a polling loop: which did something, when, and where a sampled one spent its time.
//!
//! In: the loop's own word on what it did; out: `idle_begin` and `idle_end` at the changes, counts for all the rest, one
//! round in [`SAMPLED`] in full. It refuses to judge by packets alone: a timer, a queue, a callback, or any event made in
//! the round is work; only `sleep`, `wake` and `side_poll` are not.

#[cfg(feature = "enable")]
pub mod foreign;

use crate::hot::{self, Ring, Total};
use crate::{Burst, Flow, Point, points};
use bypassprof_wire::{Slot, Tsc};

/// One round in so many, on average and at random, is stamped in full.
const SAMPLED: u32 = 1024;

/// The parts of a round that a sampled `loop` event tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Receiving from and sending to the device.
    Nic = 0,
    /// Queues from other threads or processes.
    Rings = 1,
    /// Timers.
    Timers = 2,
    /// Things polled besides the network.
    Side = 3,
    /// Application callbacks.
    App = 4,
}

/// What the ring's reader knows of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Nothing: switched on just now, or the last word did not fit into the ring.
    #[default]
    Untold,
    Working,
    Idle,
}

/// The rounds of one polling loop, on the thread that runs it.
///
/// A round that neither received nor reported work is empty: it is counted, and only the first one after work and the
/// first working one after it become events. Events made in a round count as work too, with what they say about
/// packets and requests; `sleep`, `wake` and `side_poll` do not.
#[derive(Debug, Default)]
#[repr(C)]
pub struct PollLoop {
    stamped: bool,
    /// Whether a recorder listened when the round began.
    on: bool,
    worked: bool,
    received: bool,
    sampling: bool,
    state: State,
    /// Rounds until the next sampled one.
    countdown: u32,
    random: u32,
    start: Tsc,
    /// Position of the ring at the end of the last round.
    seen: u64,
    /// The ring's quiet slots then.
    seen_quiet: u64,
    /// The ring's empty rounds before the first one of this idle stretch, plus 1; 0 outside of one.
    idle_from: u64,
    sample: Sample,
}

/// A round in full.
#[derive(Debug, Default)]
#[repr(C)]
struct Sample {
    mark: Tsc,
    stages: [u32; 5],
    rx: u32,
    tx: u32,
    events: u32,
}

impl PollLoop {
    /// A loop that stamps the start of each round, so that a useful receive is booked as work.
    pub fn new() -> PollLoop {
        PollLoop {
            stamped: true,
            ..PollLoop::unstamped()
        }
    }

    /// A loop that does not: an empty round costs a counter increment, and what a round did before it first reported
    /// work is booked as empty polling.
    pub fn unstamped() -> PollLoop {
        PollLoop {
            random: hot::now().raw() as u32 | 1,
            ..PollLoop::default()
        }
    }

    /// Starts a round.
    #[inline(always)]
    pub fn begin(&mut self) {
        if !hot::is_on() {
            if self.on {
                self.switched_off();
            }
            return;
        }
        if !self.on {
            self.switched_on();
        }
        self.worked = false;
        self.received = false;
        // The start is kept where it can become an event: a working round may be followed by an empty one.
        if self.stamped || self.state != State::Idle {
            self.start = hot::now();
        }
        if self.countdown == 0 {
            self.start_sample();
        }
        self.countdown -= 1;
    }

    /// The round did something: packets, a timer, a queue, a callback. `n` is how much.
    #[inline(always)]
    pub fn worked(&mut self, n: u32) {
        if self.on {
            if self.sampling {
                self.sample.events = self.sample.events.saturating_add(n);
            }
            self.first_work();
        }
    }

    /// What a receive call returned; with frames it is work, and an `rx_burst` event stamped at the start of the round
    /// (now for a second receive in one round). `first` is the queue's running number of the first frame.
    #[inline(always)]
    pub fn rx_burst(&mut self, queue: u8, frames: u32, capacity: u32, first: u32) -> Burst {
        if frames == 0 || !self.on {
            return Burst::unstamped();
        }
        self.received_frames(queue, frames, capacity, first)
    }

    /// Frames given to the device and how many it took; nothing for `asked` 0.
    #[inline(always)]
    pub fn tx_burst(&mut self, queue: u8, asked: u32, accepted: u32, first: u32) {
        if asked > 0 && self.on {
            self.sent(accepted);
            crate::emit(points::TX_BURST, burst_field(queue, accepted, asked), first);
        }
    }

    /// The same with the age of the oldest frame in ticks and what triggered the burst (see [`points::TX_BURST`]).
    #[inline(always)]
    pub fn tx_burst_aged(
        &mut self,
        queue: u8,
        asked: u32,
        accepted: u32,
        first: u32,
        age: u32,
        trigger: u32,
    ) {
        if asked > 0 && self.on {
            self.sent(accepted);
            let field = burst_field(queue, accepted, asked);
            crate::emit_with(points::TX_BURST, field, first, [age, trigger, 0]);
        }
    }

    /// The part of the round up to here was `stage`; only a sampled round takes note.
    #[inline(always)]
    pub fn stage(&mut self, stage: Stage) {
        if self.sampling {
            self.note_stage(stage);
        }
    }

    /// Ends the round.
    #[inline(always)]
    pub fn end(&mut self) {
        if !self.on {
            return;
        }
        let Some(ring) = hot::own_ring() else {
            return;
        };
        if self.worked || ring.position() != self.seen {
            self.end_of_work(&ring);
            return;
        }
        ring.add(Total::EmptyRounds, 1);
        if self.state != State::Idle || self.sampling {
            self.end_of_nothing(&ring);
        }
    }

    #[inline(always)]
    fn first_work(&mut self) {
        if !self.worked {
            self.worked = true;
            if self.state != State::Working
                && let Some(ring) = hot::own_ring()
            {
                self.tell_work(&ring);
            }
        }
    }

    #[cold]
    fn switched_on(&mut self) {
        self.on = true;
        if let Some(ring) = hot::own_ring() {
            self.note_position(&ring);
        }
    }

    #[cold]
    fn switched_off(&mut self) {
        *self = PollLoop {
            stamped: self.stamped,
            random: self.random,
            ..PollLoop::default()
        };
    }

    #[cold]
    fn start_sample(&mut self) {
        // Xorshift (Marsaglia 2003): even spacing would lock onto a loop's own rhythm.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        // The first countdown of all only spreads the loops of a program.
        self.sampling = self.sample.mark != Tsc::default();
        self.countdown = 1 + self.random % (2 * SAMPLED - 1);
        self.start = hot::now();
        self.sample = Sample {
            mark: self.start,
            ..Sample::default()
        };
    }

    #[cold]
    fn note_stage(&mut self, stage: Stage) {
        let now = hot::now();
        let spent = ticks(now.since(self.sample.mark).ticks());
        let stage = &mut self.sample.stages[stage as usize];
        *stage = stage.saturating_add(spent);
        self.sample.mark = now;
    }

    #[inline(always)]
    fn received_frames(&mut self, queue: u8, frames: u32, capacity: u32, first: u32) -> Burst {
        let Some(ring) = hot::own_ring() else {
            return Burst::unstamped();
        };
        self.first_work();
        let known_start = !self.received && (self.stamped || self.state != State::Idle);
        let stamp = if known_start { self.start } else { hot::now() };
        self.received = true;
        if self.sampling {
            self.sample.rx = self.sample.rx.saturating_add(frames);
        }
        ring.add(Total::RxBursts, 1);
        ring.add(Total::RxPackets, u64::from(frames));
        let field = burst_field(queue, capacity, frames);
        ring.push(stamp, [Slot::head(stamp, points::RX_BURST, field, first)]);
        Burst::of(ring, stamp)
    }

    #[inline(always)]
    fn sent(&mut self, accepted: u32) {
        self.first_work();
        if self.sampling {
            self.sample.tx = self.sample.tx.saturating_add(accepted);
        }
        if let Some(ring) = hot::own_ring() {
            ring.add(Total::TxBursts, 1);
            ring.add(Total::TxPackets, u64::from(accepted));
        }
    }

    /// Tells that this round works, stamped at its start if that is known.
    #[cold]
    fn tell_work(&mut self, ring: &Ring) {
        if !self.stamped && !self.sampling && self.state == State::Idle {
            self.start = hot::now();
        }
        let rounds = match self.idle_from {
            0 => 0,
            from => ring.total(Total::EmptyRounds).wrapping_sub(from - 1),
        };
        self.idle_from = 0;
        self.tell(ring, points::IDLE_END, rounds);
        // Any event that follows shows a reader that the loop works, so this one is not told again.
        self.state = State::Working;
    }

    #[cold]
    fn end_of_work(&mut self, ring: &Ring) {
        if !self.worked {
            // The ring moved though no work was reported. Events that say nothing about the round moved it, or work did.
            let moved = ring.position().wrapping_sub(self.seen);
            let quiet = ring.quiet_slots().wrapping_sub(self.seen_quiet);
            if moved == quiet {
                self.note_position(ring);
                ring.add(Total::EmptyRounds, 1);
                self.end_of_nothing(ring);
                return;
            }
            if self.state != State::Working {
                self.tell_work(ring);
            }
        }
        ring.add(Total::WorkedRounds, 1);
        self.end_sample(ring);
        self.note_position(ring);
    }

    #[cold]
    fn end_of_nothing(&mut self, ring: &Ring) {
        if self.state != State::Idle {
            if self.idle_from == 0 {
                // The round itself is counted already.
                self.idle_from = ring.total(Total::EmptyRounds);
            }
            // What did not fit is lost once; after that it waits for room.
            let told = (self.state == State::Working || ring.has_room())
                && self.tell(ring, points::IDLE_BEGIN, 0);
            self.state = if told { State::Idle } else { State::Untold };
        }
        self.end_sample(ring);
        self.note_position(ring);
    }

    #[inline(always)]
    fn end_sample(&mut self, ring: &Ring) {
        if self.sampling && !self.tell_sample(ring) {
            // A reader knows nothing after a loss until it is told again.
            self.state = State::Untold;
        }
    }

    #[cold]
    fn tell_sample(&mut self, ring: &Ring) -> bool {
        self.sampling = false;
        let sample = &self.sample;
        let whole = ticks(hot::now().since(self.start).ticks());
        let [nic, rings, timers, side, app] = sample.stages;
        let field = Flow::from_raw((sample.rx.min(0xffff) << 16) | sample.tx.min(0xffff));
        let slots = [
            Slot::head(self.start, points::LOOP, field, whole),
            Slot::cont(nic, rings, timers),
            Slot::cont(side, app, sample.events),
            Slot::cont(SAMPLED, 0, 0),
        ];
        ring.push_quiet(self.start, slots)
    }

    fn tell(&self, ring: &Ring, point: Point, count: u64) -> bool {
        let high = Flow::from_raw((count >> 32) as u32);
        let slot = Slot::head(self.start, point, high, count as u32);
        ring.push_quiet(self.start, [slot])
    }

    fn note_position(&mut self, ring: &Ring) {
        self.seen = ring.position();
        self.seen_quiet = ring.quiet_slots();
    }
}

#[inline(always)]
fn burst_field(queue: u8, high: u32, low: u32) -> Flow {
    Flow::from_raw((u32::from(queue) << 24) | (high.min(0xfff) << 12) | low.min(0xfff))
}

fn ticks(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}
