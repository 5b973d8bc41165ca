//! How many events one recorder core takes from slots to a file, and how many bytes an event takes there.
//!
//! `cargo bench --bench drain`. The events are those of a server under load: bursts of up to 32 frames, four events a
//! frame, 64 flows. Targets: docs/architecture.md, section 11. Numbers are ratios to them, so that larger is better.

use bypassprof::trace::Writer;
use bypassprof::trace::record::{Meta, Session};
use bypassprof_wire::{Flow, Slot, Tsc, points};
use std::time::Instant;

const TARGET_RATE: f64 = 50e6;
const TARGET_BYTES: f64 = 6.0;
const SLOTS: usize = 1 << 20;
const ROUNDS: u64 = 24;

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

/// Slots of a server under load, and how many events they are.
fn traffic() -> (Vec<Slot>, u64) {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut slots = vec![Slot::epoch(Tsc::from_raw(1 << 40))];
    let (mut tsc, mut frame, mut sent, mut request) = (1u64 << 40, 0u32, 0u32, 0u32);
    let flows: Vec<_> = (0..64).map(|_| noise.below(1 << 32) as u32).collect();
    let mut events = 0;
    while slots.len() + 600 < SLOTS {
        tsc += 500 + noise.below(400);
        let frames = 1 + noise.below(32) as u32;
        let stamp = Tsc::from_raw(tsc);
        let burst = Flow::from_raw(32 << 12 | frames);
        slots.push(Slot::head(stamp, points::RX_BURST, burst, frame));
        for _ in 0..frames {
            let flow = Flow::from_raw(flows[noise.below(64) as usize]);
            slots.push(Slot::head(stamp, points::TCP_IN, flow, frame));
            slots.push(Slot::cont(0x1800_0040, 64, 65_535));
            tsc += 40 + noise.below(30);
            slots.push(Slot::head(
                Tsc::from_raw(tsc),
                points::APP_START,
                flow,
                request,
            ));
            tsc += 250 + noise.below(120);
            slots.push(Slot::head(Tsc::from_raw(tsc), points::APP_END, flow, 187));
            slots.push(Slot::head(Tsc::from_raw(tsc), points::TCP_OUT, flow, sent));
            slots.push(Slot::cont(187, 187, 14_600));
            slots.push(Slot::cont(65_535, 0, 0));
            (frame, sent, request) = (frame + 1, sent + 1, request + 1);
            events += 4;
        }
        tsc += 300 + noise.below(100);
        let asked = Flow::from_raw(frames << 12 | frames);
        slots.push(Slot::head(
            Tsc::from_raw(tsc),
            points::TX_BURST,
            asked,
            sent,
        ));
        events += 2;
    }
    (slots, events)
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    peak.and_then(|p| p.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

fn main() {
    let dir = tempfile::Builder::new()
        .prefix("bypassprof-bench-")
        .tempdir_in("/dev/shm")
        .expect("a directory in /dev/shm");
    let path = dir.path().join("drain.mcap");
    let (slots, events) = traffic();
    let before = peak_kib();
    let mut writer = Writer::create(&path).expect("a recording");
    writer
        .meta(&Meta::Session(Session::default()))
        .expect("a recording's head");
    let start = Instant::now();
    for round in 0..ROUNDS {
        let first = round * slots.len() as u64;
        for (at, part) in slots.chunks(1 << 14).enumerate() {
            let first = first + (at << 14) as u64;
            writer.slots(0, first, part).expect("space in /dev/shm");
        }
    }
    writer.finish().expect("space in /dev/shm");
    let seconds = start.elapsed().as_secs_f64();
    let events = (events * ROUNDS) as f64;
    let bytes = std::fs::metadata(&path).expect("the recording").len() as f64;
    let slots = (slots.len() as u64 * ROUNDS) as f64;
    println!("encode and write, one core, to tmpfs");
    println!(
        "  {:8.1} M events/s  {:.2} x target  ({:.1} M slots/s)",
        events / seconds / 1e6,
        events / seconds / TARGET_RATE,
        slots / seconds / 1e6
    );
    println!(
        "  {:8.2} bytes/event {:.2} x target  ({:.2} bytes/slot)",
        bytes / events,
        TARGET_BYTES * events / bytes,
        bytes / slots
    );
    println!("  {:8} KiB more memory at the peak", peak_kib() - before);
}
