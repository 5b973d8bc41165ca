//! Large recordings of servers under load, made up: what measures and tests the analysis without hours of recording.
//!
//! In: how many events, samples and flows; out: a recording written with the project's own writer. Two threads run to
//! completion, two more share their work (one receives and sends, the other is the application). The clock ticks every
//! half nanosecond, rings are drained every 2 ms, and each request takes a few microseconds, so that all four make
//! some ten million events a second. The same numbers give the same recording. It refuses to know who reads it.

use bypassprof::trace::record::*;
use bypassprof::trace::{WriteError, Writer};
use bypassprof::units::{Avma, ClockPair, FileOffset, Nanos};
use bypassprof_wire::{Flow, Point, Slot, Tsc, points};
use std::collections::VecDeque;
use std::path::Path;

/// What a recording holds.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Probe events, all rings together; the last round of each ring is finished.
    pub events: u64,
    /// Samples, spread over the time that the events take.
    pub samples: u64,
    /// Connections open at a time.
    pub flows: u32,
    /// Requests after which a connection is closed and another takes its place; 0: never.
    pub requests_each: u32,
    /// One slice of 2 ms in so many misses the last ring's events; 0: none.
    pub gaps: u32,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            events: 1_000_000,
            samples: 10_000,
            flows: 1024,
            requests_each: 0,
            gaps: 0,
        }
    }
}

/// Names of the threads, in the order of their numbers.
pub const THREADS: [&str; 4] = ["rtc-0", "rtc-1", "stack", "app"];
/// The process.
pub const PID: Pid = 100;
const STARTED: u64 = 1_000_000_000;
const TICKS_PER_NS: u64 = 2;
const SLICE: u64 = 2_000_000 * TICKS_PER_NS;
const FUNCTIONS: u64 = 400;
const PROGRAM: u64 = 0x40_0000;
const FUNCTION_BYTES: u64 = 256;
/// Where in a function samples are.
const PLACES: [u64; 3] = [8, 24, 40];

/// A small generator of numbers that look like a network's.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// One thread's ring in the making.
struct Ring {
    slots: Vec<Slot>,
    first: u64,
    events: u64,
    now: u64,
    frame: u32,
    sent: u32,
    requests: u32,
    noise: Noise,
}

impl Ring {
    fn new(seed: u64) -> Ring {
        let now = STARTED * TICKS_PER_NS;
        Ring {
            slots: vec![Slot::epoch(Tsc::from_raw(now))],
            first: 0,
            events: 0,
            now,
            frame: 0,
            sent: 0,
            requests: 0,
            noise: Noise(0x9e37_79b9_7f4a_7c15 ^ seed << 32),
        }
    }

    fn event(&mut self, tsc: u64, point: Point, flow: u32, args: &[u32]) {
        let (first, more) = args.split_first().expect("every point has an argument");
        let flow = Flow::from_raw(flow);
        self.slots
            .push(Slot::head(Tsc::from_raw(tsc), point, flow, *first));
        let conts = more.chunks(3).map(|c| Slot::cont(c[0], c[1], c[2]));
        self.slots.extend(conts);
        self.events += 1;
    }

    /// Time passes: between half of `ns` and one and a half of it.
    fn spend(&mut self, ns: u64) -> u64 {
        let ticks = ns * TICKS_PER_NS;
        self.now += ticks / 2 + self.noise.below(ticks + 1);
        self.now
    }

    /// Empty rounds, now and then.
    fn idle(&mut self) {
        if self.noise.below(2) == 0 {
            let (from, rounds) = (self.now, 1 + self.noise.below(40));
            self.event(from, points::IDLE_BEGIN, 0, &[0]);
            let to = self.spend(rounds * 100);
            self.event(to, points::IDLE_END, 0, &[rounds as u32]);
        }
        if self.noise.below(1024) == 0 {
            let args = [4000, 900, 0, 100, 0, 2600, 1, 1024, 0, 0];
            self.event(self.now, points::LOOP, 1 << 16 | 1, &args);
        }
    }

    fn receive(&mut self, most: u64) -> (u64, u32) {
        let frames = 1 + self.noise.below(most) as u32;
        let stamp = self.now;
        self.event(stamp, points::RX_BURST, 32 << 12 | frames, &[self.frame]);
        self.spend(300);
        (stamp, frames)
    }

    fn segment_in(&mut self, stamp: u64, flow: u32) {
        let frame = self.frame;
        self.event(
            stamp,
            points::TCP_IN,
            flow,
            &[frame, 0x1800_0040, 64, 65_535],
        );
        self.frame = frame.wrapping_add(1);
        let ready = self.spend(150);
        let since = (ready - stamp) as u32;
        self.event(ready, points::DELIVER, flow, &[64, 1, since, 0]);
    }

    /// The application's part of a request; gives when it ended.
    fn handle(&mut self, flow: u32) -> u64 {
        let start = self.spend(60);
        self.event(start, points::APP_START, flow, &[self.requests]);
        self.requests = self.requests.wrapping_add(1);
        let call = self.spend(900);
        self.event(call, points::SEND_CALL, flow, &[187, 187, 65_536, 0]);
        let end = self.spend(100);
        self.event(end, points::APP_END, flow, &[187]);
        end
    }

    fn segment_out(&mut self, flow: u32) {
        let out = self.spend(200);
        let frame = self.sent;
        self.event(
            out,
            points::TCP_OUT,
            flow,
            &[frame, 187, 187, 14_600, 65_535, 0, 0],
        );
        self.sent = frame.wrapping_add(1);
    }

    fn transmit(&mut self, frames: u32) {
        let stamp = self.spend(300);
        let first = self.sent.wrapping_sub(frames);
        let burst = frames << 12 | frames;
        self.event(stamp, points::TX_BURST, burst, &[first, 500, 3, 0]);
    }
}

/// Connections, each a label of its own.
struct Flows {
    labels: Vec<(u32, u32)>,
    made: u32,
    requests_each: u32,
}

impl Flows {
    fn new(count: u32, base: u32, requests_each: u32) -> Flows {
        let mut flows = Flows {
            labels: Vec::new(),
            made: base,
            requests_each,
        };
        for _ in 0..count.max(1) {
            let label = flows.label();
            flows.labels.push((label, 0));
        }
        flows
    }

    fn label(&mut self) -> u32 {
        self.made += 1;
        // Any odd factor: every number gives another label.
        self.made.wrapping_mul(0x9e37_79b1).max(1)
    }

    fn next(&mut self, noise: &mut Noise) -> u32 {
        let at = noise.below(self.labels.len() as u64) as usize;
        if self.requests_each > 0 && self.labels[at].1 == self.requests_each {
            self.labels[at] = (self.label(), 0);
        }
        self.labels[at].1 += 1;
        self.labels[at].0
    }
}

/// Rounds of a thread that does everything for its flows, until `end`.
fn run_to_completion(ring: &mut Ring, flows: &mut Flows, end: u64) {
    while ring.now < end {
        let (stamp, frames) = ring.receive(16);
        for _ in 0..frames {
            let flow = flows.next(&mut ring.noise);
            ring.segment_in(stamp, flow);
            ring.handle(flow);
            ring.segment_out(flow);
        }
        ring.transmit(frames);
        ring.idle();
    }
}

/// Rounds of a thread that receives and sends, and what another one does for it in between.
fn hand_over(
    stack: &mut Ring,
    app: &mut Ring,
    replies: &mut VecDeque<(u64, u32)>,
    flows: &mut Flows,
    end: u64,
) {
    while stack.now < end {
        let (stamp, frames) = stack.receive(8);
        for _ in 0..frames {
            let flow = flows.next(&mut stack.noise);
            stack.segment_in(stamp, flow);
            if app.now < stack.now {
                app.now = stack.now;
            }
            replies.push_back((app.handle(flow), flow));
        }
        let mut out = 0;
        while let Some(&(_, flow)) = replies.front().filter(|r| r.0 < stack.now) {
            replies.pop_front();
            stack.segment_out(flow);
            out += 1;
        }
        if out > 0 {
            stack.transmit(out);
        }
        // The application is the slower one: this waits for it.
        stack.now = stack.now.max(app.now.saturating_sub(40_000));
        stack.idle();
    }
}

fn metas() -> Vec<Meta> {
    let at = |ns| Nanos::from_ns(STARTED + ns);
    let mut metas = vec![Meta::Session(Session {
        command: vec!["server".into()],
        started: at(0),
        cpus: THREADS.len() as u32,
        events: vec![EventSource {
            name: "cpu-clock".into(),
            frequency_hz: 997,
            ..EventSource::default()
        }],
        ..Session::default()
    })];
    for (tid, name) in (PID..).zip(THREADS) {
        metas.push(Meta::Thread(Thread {
            time: at(0),
            pid: PID,
            tid,
            name: name.into(),
            ..Thread::default()
        }));
        metas.push(Meta::Ring(bypassprof::trace::record::Ring {
            ring: tid - PID,
            pid: PID,
            tid,
            name: name.into(),
            base_tsc: STARTED * TICKS_PER_NS,
            ..Default::default()
        }));
    }
    metas.push(Meta::Mapping(Mapping {
        time: at(0),
        pid: PID,
        start: Avma(PROGRAM),
        len: FUNCTIONS * FUNCTION_BYTES,
        offset: FileOffset(0),
        path: "/bin/server".into(),
        ..Mapping::default()
    }));
    metas
}

/// Every address that is sampled has its name, and the one before it: that of the call that returns there.
fn symbols() -> Meta {
    let places = (0..FUNCTIONS).flat_map(|f| PLACES.map(|at| f * FUNCTION_BYTES + at));
    let addresses = places.flat_map(|at| [at - 1, at]).map(|at| AddressNames {
        at,
        frames: vec![NamedFrame {
            name: format!("function_{}", at / FUNCTION_BYTES),
            ..NamedFrame::default()
        }],
        why: None,
    });
    Meta::Symbols(Symbols {
        path: "/bin/server".into(),
        addresses: addresses.collect(),
        ..Symbols::default()
    })
}

fn clock(ns: u64) -> Meta {
    Meta::Clock(ClockPair {
        tsc_before: (STARTED + ns) * TICKS_PER_NS,
        time: Nanos::from_ns(STARTED + ns),
        tsc_after: (STARTED + ns) * TICKS_PER_NS,
    })
}

/// One of some thousand stacks: outer frames decide about the next inner one, as calls do.
fn stack(noise: &mut Noise) -> Vec<u64> {
    let depth = 6 + noise.below(10);
    let mut function = 0;
    let mut frames: Vec<u64> = (0..depth)
        .map(|level| {
            let choice = if level < 5 { 1 } else { noise.below(4) };
            function = (function * 7 + level * 13 + choice) % FUNCTIONS;
            PROGRAM + function * FUNCTION_BYTES + PLACES[noise.below(3) as usize]
        })
        .collect();
    frames.reverse();
    frames
}

/// Writes the recording.
pub fn write(path: &Path, traffic: Traffic) -> Result<(), WriteError> {
    let mut writer = Writer::create(path)?;
    for meta in metas() {
        writer.meta(&meta)?;
    }
    writer.meta(&clock(0))?;
    let mut rings: [Ring; 4] = std::array::from_fn(|i| Ring::new(i as u64 + 1));
    let mut flows: Vec<_> = (0..3)
        .map(|i| Flows::new(traffic.flows / 3, i << 30, traffic.requests_each))
        .collect();
    let mut replies = VecDeque::new();
    let mut noise = Noise(42);
    let (mut end, mut slice, mut samples) = (STARTED * TICKS_PER_NS, 0u32, 0u64);
    let events = |rings: &[Ring; 4]| rings.iter().map(|r| r.events).sum::<u64>();
    while events(&rings) < traffic.events {
        end += SLICE;
        slice += 1;
        let [first, second, stack_ring, app] = &mut rings;
        run_to_completion(first, &mut flows[0], end);
        run_to_completion(second, &mut flows[1], end);
        hand_over(stack_ring, app, &mut replies, &mut flows[2], end);
        for (number, ring) in (0u32..).zip(&mut rings) {
            let lost = traffic.gaps > 0 && number == 3 && slice.is_multiple_of(traffic.gaps);
            if !lost {
                writer.slots(number, ring.first, &ring.slots)?;
            }
            ring.first += ring.slots.len() as u64;
            ring.slots.clear();
        }
        let due = (u128::from(traffic.samples) * u128::from(events(&rings))
            / u128::from(traffic.events.max(1))) as u64;
        let due = due.min(traffic.samples);
        let batch: Vec<Sample> = (samples..due)
            .map(|n| {
                let cpu = (n % THREADS.len() as u64) as u32;
                let part = (n - samples) * SLICE / (due - samples);
                Sample {
                    time: Nanos::from_ns((end - SLICE + part) / TICKS_PER_NS),
                    pid: PID,
                    tid: PID + cpu,
                    cpu,
                    period: 1_003_009,
                    frames: stack(&mut noise),
                    ..Sample::default()
                }
            })
            .collect();
        samples = due;
        writer.samples(&batch)?;
        // Every thread is preempted for a moment in each slice.
        let switches = (0..THREADS.len() as u32).flat_map(|cpu| {
            let off = end / TICKS_PER_NS - 1_000_000 + u64::from(cpu) * 1000;
            [
                (off, SwitchKind::OutPreempted),
                (off + 20_000, SwitchKind::In),
            ]
            .map(|(time, kind)| Switch {
                time: Nanos::from_ns(time),
                pid: PID,
                tid: PID + cpu,
                cpu,
                kind,
            })
        });
        writer.switches(&switches.collect::<Vec<_>>())?;
        if slice.is_multiple_of(50) {
            totals(&mut writer, &rings, end)?;
        }
    }
    totals(&mut writer, &rings, end)?;
    let length = end / TICKS_PER_NS - STARTED;
    writer.meta(&clock(length))?;
    writer.meta(&symbols())?;
    writer.meta(&Meta::End(End {
        time: Nanos::from_ns(STARTED + length),
        recorder_cpu_ns: length / 50,
        ..End::default()
    }))?;
    writer.finish()
}

fn totals(writer: &mut Writer, rings: &[Ring; 4], end: u64) -> Result<(), WriteError> {
    for (number, ring) in (0u32..).zip(rings) {
        writer.meta(&Meta::RingTotals(RingTotals {
            ring: number,
            time: Nanos::from_ns(end / TICKS_PER_NS),
            events: ring.events,
            rx_packets: u64::from(ring.frame),
            tx_packets: u64::from(ring.sent),
            tx_bytes: u64::from(ring.sent) * 241,
            requests: u64::from(ring.requests),
            rounds: ring.events / 8,
            ..RingTotals::default()
        }))?;
    }
    Ok(())
}
