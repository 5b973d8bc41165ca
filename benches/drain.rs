//! How many events one recorder core takes from a ring in shared memory to a file, and how many bytes an event takes
//! there. The ring is filled again between the timed parts, so nothing is lost and the writer's own time is left out.
//!
//! `cargo bench --bench drain`. The events are those of a server under load: bursts of up to 32 frames, four events a
//! frame, 64 flows. Targets: docs/architecture.md, section 11. Numbers are ratios to them, so that larger is better.

use bypassprof::trace::Writer;
use bypassprof::trace::record::{Meta, Session};
use bypassprof_ring::reader::{Drained, RingFile};
use bypassprof_wire::layout::{self, RING_HEADER_BYTES, RING_MAGIC, RingHeader, VERSION_WORD};
use bypassprof_wire::{Flow, Slot, Tsc, points};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::Path;

const TARGET_RATE: f64 = 50e6;
const TARGET_BYTES: f64 = 6.0;
const SLOTS: usize = 1 << 16;
const ROUNDS: usize = 400;
/// Different fillings of the ring, so that the compressor does not see one twice in its window.
const STRETCHES: usize = 16;

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
fn traffic(noise: &mut Noise) -> (Vec<Slot>, u64) {
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
    // What is left of the ring's room is one event with little in it.
    slots.resize(SLOTS, Slot::cont(0, 0, 0));
    (slots, events)
}

/// CPU time of this thread: what others on the machine do is not in it.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    peak.and_then(|p| p.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// A ring file as a program would have left it, with all its room written.
struct Ring {
    file: File,
    head: u64,
}

impl Ring {
    fn new(path: &Path) -> Ring {
        let options = File::options().read(true).write(true).create(true).clone();
        let file = options.open(path).expect("space in /dev/shm");
        file.set_len(layout::ring_file_bytes(SLOTS as u64))
            .expect("space in /dev/shm");
        let ring = Ring { file, head: 0 };
        ring.word(0, RING_MAGIC);
        ring.word(8, VERSION_WORD);
        ring.word(offset_of!(RingHeader<u64>, capacity), SLOTS as u64);
        ring
    }

    fn word(&self, offset: usize, word: u64) {
        let word = word.to_ne_bytes();
        let written = self.file.write_all_at(&word, offset as u64);
        written.expect("space in /dev/shm");
    }

    fn fill(&mut self, slots: &[Slot]) {
        let words = slots.iter().flat_map(|s| [s.word0, s.word1]);
        let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        let written = self.file.write_all_at(&bytes, RING_HEADER_BYTES as u64);
        written.expect("space in /dev/shm");
        self.head += SLOTS as u64;
        self.word(offset_of!(RingHeader<u64>, writer), self.head);
    }
}

fn main() {
    let dir = tempfile::Builder::new()
        .prefix("bypassprof-bench-")
        .tempdir_in("/dev/shm")
        .expect("a directory in /dev/shm");
    let path = dir.path().join("drain.mcap");
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let stretches: Vec<_> = (0..STRETCHES).map(|_| traffic(&mut noise)).collect();
    let mut ring = Ring::new(&dir.path().join("1-1-0.ring"));
    let mut reader = RingFile::open(&ring.file, dir.path()).expect("a ring");
    let before = peak_kib();
    let mut drained = Drained::with_capacity(SLOTS);
    let mut writer = Writer::create(&path).expect("a recording");
    writer
        .meta(&Meta::Session(Session::default()))
        .expect("a recording's head");
    let mut spent = 0;
    let (mut taken, mut events) = (0, 0);
    for (slots, count) in stretches.iter().cycle().take(ROUNDS) {
        ring.fill(slots);
        events += count;
        let start = cpu_ns();
        drained.clear();
        let piece = reader.drain(&mut drained).expect("a ring");
        writer
            .slots(0, piece.first, drained.slots())
            .expect("space in /dev/shm");
        spent += cpu_ns() - start;
        taken += piece.slots as u64;
    }
    let start = cpu_ns();
    writer.finish().expect("space in /dev/shm");
    spent += cpu_ns() - start;
    assert_eq!(taken, (ROUNDS * SLOTS) as u64, "slots were lost");
    let events = events as f64;
    let bytes = std::fs::metadata(&path).expect("the recording").len() as f64;
    let (slots, seconds) = (taken as f64, spent as f64 / 1e9);
    println!("ring to recording, one core, to tmpfs");
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
