//! A made-up run of a server of which all is known: its records, as a file and as one side of a comparison.
//!
//! In: a [`Load`]; out: records whose times add up to what the load says. It refuses to know what is compared.

use bypassprof::analyse::compare::{Side, side, tally};
use bypassprof::analyse::latency::Stretches;
use bypassprof::analyse::{Filter, Join, Packs, spans};
use bypassprof::trace::Writer;
use bypassprof::trace::record::*;
use bypassprof::units::{Avma, ClockPair, FileOffset, Nanos};
use bypassprof_wire::{Flow, Slot, Tsc, points};
use std::path::Path;
use std::sync::LazyLock;

const START: u64 = 0x40_0000;
/// Functions that the packs know: F-Stack's loop, its driver, TCP, application, copies, ACKs below TCP.
const FUNCTIONS: &[&str] = &[
    "main_loop",
    "rte_eth_rx_burst",
    "tcp_input",
    "phttpd_req",
    "memcpy",
    "stack_tcp::output::Output::acknowledge",
    "ff_dpdk_if_send",
    "bypassprof_ring::writer::push",
];
const TICKS: u64 = 2;
const ORIGIN: u64 = 1_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// What one made-up run is like: mean lengths in ns, numbers for each request.
#[derive(Clone, Debug)]
pub struct Load {
    pub seed: u64,
    pub requests: u64,
    pub receive: u64,
    pub tcp: u64,
    pub app: u64,
    pub copy: u64,
    pub drain: u64,
    pub acks: u64,
    pub ack: u64,
    pub idle: u64,
    pub body: u32,
    pub connections: u64,
    pub sample_every: u64,
    /// For how long another program has the CPU in the application's part.
    pub kept: u64,
    /// Time in probes, there as well.
    pub recorder: u64,
}

pub const LOAD: Load = Load {
    seed: 1,
    requests: 6_000,
    receive: 2_000,
    tcp: 4_000,
    app: 5_000,
    copy: 3_000,
    drain: 1_000,
    acks: 0,
    ack: 2_000,
    idle: 20_000,
    body: 151,
    connections: 4,
    sample_every: 7_000,
    kept: 0,
    recorder: 0,
};

/// A run's records, in the order of a file.
pub struct Records {
    pub metas: Vec<Meta>,
    samples: Vec<Sample>,
    switches: Vec<Switch>,
    slots: Vec<Slot>,
}

/// A run in the making.
struct Clock {
    now: u64,
    seed: u64,
    next_sample: u64,
    every: u64,
    samples: Vec<Sample>,
    switches: Vec<Switch>,
}

impl Clock {
    fn pass(&mut self, mean: u64) {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.now += mean / 2 + self.seed % mean.max(1);
    }

    /// Another program has the CPU for about `mean`.
    fn wait(&mut self, mean: u64) {
        if mean == 0 {
            return;
        }
        for kind in [SwitchKind::OutPreempted, SwitchKind::In] {
            self.switches.push(Switch {
                time: Nanos::from_ns(ORIGIN + self.now),
                pid: 10,
                tid: 10,
                cpu: 0,
                kind,
            });
            if kind == SwitchKind::OutPreempted {
                self.pass(mean);
            }
        }
        self.next_sample = self.next_sample.max(self.now);
    }

    /// Spends about `mean` in a stack of functions, innermost first.
    fn spend(&mut self, mean: u64, functions: &[usize]) {
        self.pass(mean);
        while self.next_sample < self.now {
            self.samples.push(Sample {
                time: Nanos::from_ns(ORIGIN + self.next_sample),
                pid: 10,
                tid: 10,
                period: self.every,
                frames: functions.iter().map(|f| START + *f as u64 * 16).collect(),
                ..Sample::default()
            });
            self.next_sample += self.every;
        }
    }

    fn tsc(&self) -> Tsc {
        Tsc::from_raw((ORIGIN + self.now) * TICKS)
    }
}

pub fn records(load: &Load) -> Records {
    let mut clock = Clock {
        now: 0,
        seed: load.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        next_sample: load.seed % 1000,
        every: load.sample_every.max(1),
        samples: Vec::new(),
        switches: Vec::new(),
    };
    let mut slots = vec![Slot::epoch(clock.tsc())];
    slots.push(Slot::head(clock.tsc(), points::IDLE_BEGIN, Flow::NONE, 0));
    let mut sent = 0;
    for n in 0..load.requests {
        clock.spend(load.idle, &[0]);
        let flow = Flow::from_raw(100 + (n % load.connections.max(1)) as u32);
        let head = |clock: &Clock, point, flow, arg| Slot::head(clock.tsc(), point, flow, arg);
        slots.push(head(&clock, points::IDLE_END, Flow::NONE, 10));
        let burst = Flow::from_raw(32 << 12 | 1);
        slots.push(head(&clock, points::RX_BURST, burst, n as u32));
        clock.spend(load.receive, &[1, 0]);
        slots.push(head(&clock, points::TCP_IN, flow, n as u32));
        slots.push(Slot::cont(100, 0, 0));
        clock.spend(load.tcp, &[2, 0]);
        for _ in 0..load.acks {
            clock.spend(load.ack, &[5, 0]);
            slots.push(head(&clock, points::TCP_OUT, flow, sent));
            slots.push(Slot::cont(1 << 24, 0, 0));
            slots.push(Slot::cont(0, 0, 0));
            sent += 1;
        }
        slots.push(head(&clock, points::DELIVER, flow, 100));
        slots.push(Slot::cont(0, 0, 0));
        slots.push(head(&clock, points::APP_START, flow, n as u32));
        clock.spend(load.app, &[3, 0]);
        clock.wait(load.kept);
        if load.recorder > 0 {
            clock.spend(load.recorder, &[7, 3, 0]);
        }
        clock.spend(load.copy, &[4, 3, 0]);
        slots.push(head(&clock, points::TCP_OUT, flow, sent));
        slots.push(Slot::cont(load.body, 0, 0));
        slots.push(Slot::cont(0, 0, 0));
        sent += 1;
        slots.push(head(&clock, points::APP_END, flow, load.body));
        slots.push(head(&clock, points::IDLE_BEGIN, Flow::NONE, 0));
        clock.spend(load.drain, &[0]);
        slots.push(head(&clock, points::IDLE_END, Flow::NONE, 1));
        let frames = 1 + load.acks as u32;
        let burst = Flow::from_raw(frames << 12 | frames);
        slots.push(head(&clock, points::TX_BURST, burst, sent - frames));
        slots.push(Slot::cont(0, 2, 0));
        clock.spend(1_000, &[6, 0]);
        slots.push(head(&clock, points::IDLE_BEGIN, Flow::NONE, 0));
    }
    let end = clock.now.max(SECOND / 100);
    Records {
        metas: metas(end),
        samples: clock.samples,
        switches: clock.switches,
        slots,
    }
}

fn metas(end: u64) -> Vec<Meta> {
    let at = |ns| Nanos::from_ns(ORIGIN + ns);
    let names = FUNCTIONS.iter().enumerate().map(|(n, name)| AddressNames {
        at: n as u64 * 16,
        frames: vec![NamedFrame {
            name: (*name).into(),
            ..NamedFrame::default()
        }],
        why: None,
    });
    let pair = |ns| {
        Meta::Clock(ClockPair {
            tsc_before: (ORIGIN + ns) * TICKS - 3,
            time: at(ns),
            tsc_after: (ORIGIN + ns) * TICKS + 3,
        })
    };
    vec![
        Meta::Session(Session {
            command: vec!["server".into()],
            started: at(0),
            events: vec![EventSource {
                name: "cpu-clock".into(),
                frequency_hz: 997,
                ..EventSource::default()
            }],
            ..Session::default()
        }),
        Meta::Thread(Thread {
            time: at(0),
            pid: 10,
            tid: 10,
            name: "server".into(),
            ..Thread::default()
        }),
        Meta::Mapping(Mapping {
            pid: 10,
            start: Avma(START),
            len: 0x1000,
            offset: FileOffset(0),
            path: "/no/such/server".into(),
            build_id: "ab".into(),
            ..Mapping::default()
        }),
        Meta::Symbols(Symbols {
            path: "/no/such/server".into(),
            build_id: "ab".into(),
            addresses: names.collect(),
        }),
        Meta::Ring(Ring {
            pid: 10,
            tid: 10,
            base_tsc: ORIGIN * TICKS,
            ..Ring::default()
        }),
        Meta::RingTotals(RingTotals {
            rounds: 10,
            ..RingTotals::default()
        }),
        pair(0),
        pair(end),
        Meta::End(End {
            time: at(end),
            ..End::default()
        }),
    ]
}

static PACKS: LazyLock<Packs> = LazyLock::new(Packs::built_in);

pub fn compared(name: &str, load: &Load) -> Side {
    compared_of(name, load, &Filter::default())
}

/// When threads were busy with requests that pass a filter.
fn stretches(records: &Records, filter: &Filter) -> Stretches {
    let mut stretches = Stretches::new(&records.metas);
    let pass = spans::Pass::new(&records.metas, &PACKS, filter.clone(), 0);
    let mut pass = pass.telling_ways();
    pass.slots(0, 0, &records.slots);
    pass.close_all();
    pass.take_ways().iter().for_each(|way| stretches.add(way));
    stretches.settle();
    stretches
}

/// As a side of which only these requests count.
pub fn compared_of(name: &str, load: &Load, filter: &Filter) -> Side {
    let records = records(load);
    let edges = side::edges(&records.metas, None);
    let mut join = Join::new(&records.metas, PACKS.clone()).sliced(&edges);
    let mut preempted = spans::Preempted::new(&records.metas);
    let mut tally = tally::Pass::new(&records.metas, &PACKS, &edges);
    if filter.is_about_requests() {
        let stretches = stretches(&records, filter);
        tally = tally.within(&stretches);
        join = join.within(stretches);
    }
    for sample in &records.samples {
        join.sample(sample);
    }
    for switch in &records.switches {
        preempted.switch(switch);
        join.switch(switch);
        tally.switch(switch);
    }
    preempted.settle();
    let pass = spans::Pass::new(&records.metas, &PACKS, filter.clone(), 0);
    let mut pass = pass.sliced(&edges).kept_by(preempted);
    join.slots(0, 0, &records.slots);
    pass.slots(0, 0, &records.slots);
    tally.slots(0, 0, &records.slots);
    let (profile, spans) = (join.finish(None), pass.finish(None));
    Side::of(name.into(), profile, &spans, tally.finish(), &edges)
}

pub fn write(path: &Path, load: &Load) {
    write_records(path, &records(load));
}

pub fn write_records(path: &Path, records: &Records) {
    let mut writer = Writer::create(path).unwrap();
    let (ends, first): (Vec<_>, Vec<_>) =
        (records.metas.iter()).partition(|m| matches!(m, Meta::End(_)));
    first.iter().for_each(|m| writer.meta(m).unwrap());
    writer.samples(&records.samples).unwrap();
    writer.switches(&records.switches).unwrap();
    writer.slots(0, 0, &records.slots).unwrap();
    ends.iter().for_each(|m| writer.meta(m).unwrap());
    writer.finish().unwrap();
}
