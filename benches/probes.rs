//! What probes cost, next to the least that it could cost on this machine in this very run.
//!
//! `cargo bench --bench probes`. Every case runs in many short batches, all cases by turns, and the best batch of each
//! counts: what disturbs a batch only makes it slower. Ratios are against floors measured beside them, with the targets
//! of docs/architecture.md. Needs /dev/shm; ticks are those of the CPU's counter.
#![allow(unsafe_code)]

use bypassprof_probe::{self as probe, Burst, Flow, PollLoop, points};
use bypassprof_ring::reader::{ControlHandle, Drained, RingFile, SessionDir};
use bypassprof_wire::layout::Mode;
use std::arch::asm;
use std::hint::black_box;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

/// Events in a batch.
const BATCH: u32 = 4096;
/// Batches of each case.
const ROUNDS: usize = 400;
const BURST: u32 = 16;

/// A ring without anything around it: one thread's memory and its position.
#[repr(align(64))]
struct Bare {
    head: AtomicU64,
    slots: Box<[Wide]>,
}

#[derive(Clone, Copy)]
#[repr(align(16))]
struct Wide(#[allow(dead_code)] u128);

impl Bare {
    fn new() -> Bare {
        Bare {
            head: AtomicU64::new(0),
            slots: vec![Wide(1); 1 << 16].into_boxed_slice(),
        }
    }

    #[inline(always)]
    fn store(&mut self, tsc: u64, flow: u32, arg: u32) {
        let head = self.head.load(Ordering::Relaxed);
        let low = u128::from((tsc << 16) | 7);
        let high = (u128::from(flow) << 96) | (u128::from(arg) << 64);
        self.slots[(head & 0xffff) as usize] = Wide(high | low);
        self.head.store(head + 1, Ordering::Release);
    }
}

/// Forgets what is known of memory, as between two places in a program.
#[inline(always)]
fn fence() {
    // SAFETY: no instruction at all.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

#[inline(never)]
fn ticks(batch: &mut dyn FnMut()) -> f64 {
    let start = probe::now().raw();
    batch();
    (probe::now().raw() - start) as f64 / f64::from(BATCH)
}

macro_rules! cases {
    ($($name:ident: |$i:ident| $body:expr;)*) => {
        $(let mut $name = f64::MAX;)*
        for _ in 0..ROUNDS {
            $($name = $name.min(ticks(&mut || {
                for $i in 0..black_box(BATCH) {
                    $body;
                    fence();
                }
            }));)*
        }
    };
}

fn main() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).expect("its mode");
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("BYPASSPROF_SESSION", dir.path()) };
    probe::emit(points::TIMER, Flow::NONE, 0);
    let owner = dir.path().metadata().expect("the directory").uid();
    let session = SessionDir::open(dir.path(), owner).expect("the session");
    let key = session.processes().expect("the session")[0];
    let control = session.control(key).expect("the control file");
    costs(&control);
    drain(&session, &control);
}

fn costs(control: &ControlHandle) {
    let flow = Flow::from_raw(7);
    let switch = AtomicU64::new(1);
    let switch = black_box(&switch);
    let counter = AtomicU64::new(0);
    let counter = black_box(&counter);
    let mut bare = Bare::new();
    let (mut stamped, mut unstamped) = (PollLoop::new(), PollLoop::unstamped());
    let mut packets = PollLoop::new();

    control.switch_off();
    cases! {
        nothing: |i| black_box(i);
        branch: |i| if switch.load(Ordering::Relaxed) != 1 { bare.store(0, 1, i) };
        off: |i| probe::emit(points::TIMER, flow, i);
        off_more: |i| probe::emit_with6(points::TCP_OUT, flow, i, [1, 2, 3, 4, 5, 6]);
    }
    control.switch_on(Mode::Flight);
    cases! {
        counter_read: |_i| black_box(probe::now());
        increment: |_i| counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        stamped_store: |i| bare.store(probe::now().raw(), 1, i);
        event: |i| probe::emit(points::TIMER, flow, i);
        event_more: |i| probe::emit_with6(points::TCP_OUT, flow, i, [1, 2, 3, 4, 5, 6]);
        empty_stamped: |_i| { stamped.begin(); stamped.rx_burst(0, 0, 32, 0); stamped.end() };
        empty_unstamped: |_i| { unstamped.begin(); unstamped.rx_burst(0, 0, 32, 0); unstamped.end() };
        packet: |i| if i % BURST == 0 {
            packets.begin();
            let burst = packets.rx_burst(0, BURST, 32, i);
            for n in 0..BURST {
                burst.emit_with(points::TCP_IN, flow, i + n, [1, 2, 3]);
                burst.emit(points::APP_START, flow, n);
                burst.emit(points::APP_END, flow, n);
                burst.emit_with6(points::TCP_OUT, flow, n, [1, 2, 3, 4, 5, 6]);
                fence();
            }
            packets.tx_burst(0, BURST, BURST, i);
            packets.end();
        };
    }
    let mut burst = Burst::now();
    let mut stamp = 0;
    cases! {
        store: |i| { if i % 64 == 0 { stamp = probe::now().raw() } bare.store(stamp, 1, i) };
        in_burst: |i| { if i % 64 == 0 { burst = Burst::now() } burst.emit(points::TIMER, flow, i) };
    }
    control.switch_off();

    let ghz = ticks_per_ns();
    println!(
        "{:<44}{:>8}{:>8}{:>8}{:>9}",
        "", "ticks", "ns", "ratio", "target"
    );
    let line = |name: &str, ticks: f64, against: Option<(f64, f64)>| {
        let ratio = against.map_or(String::new(), |(floor, _)| format!("{:.2}", ticks / floor));
        let target = against.map_or(String::new(), |(_, target)| format!("<= {target:.2}"));
        println!(
            "{name:<44}{ticks:>8.2}{:>8.2}{ratio:>8}{target:>9}",
            ticks / ghz
        );
    };
    line("empty loop", nothing, None);
    line("floor: load and predicted branch", branch, None);
    line("point switched off", off, Some((branch, 1.2)));
    line(
        "point with seven arguments switched off",
        off_more,
        Some((branch, 1.2)),
    );
    line("floor: counter read", counter_read, None);
    line("floor: counter read and 16-byte store", stamped_store, None);
    line("event, stamped", event, Some((stamped_store, 1.05)));
    line(
        "event with seven arguments, stamped",
        event_more,
        Some((stamped_store, 1.05)),
    );
    line("floor: 16-byte store, one stamp in 64", store, None);
    line(
        "event in a burst, one stamp in 64",
        in_burst,
        Some((store, 1.3)),
    );
    line(
        "packet: rx, tcp in, app, tcp out, tx; burst 16",
        packet,
        Some((counter_read, 1.0)),
    );
    line("floor: counter increment", increment, None);
    line(
        "empty round, stamped",
        empty_stamped,
        Some((counter_read, 1.05)),
    );
    line(
        "empty round, unstamped",
        empty_unstamped,
        Some((increment, 1.0)),
    );
}

/// How fast one core takes full rings out.
fn drain(session: &SessionDir, control: &ControlHandle) {
    control.switch_on(Mode::Drain);
    let mut ring: RingFile = session.ring(control, control.rings()[0]).expect("the ring");
    ring.skip_backlog();
    // The writer notices the new mode when it next looks for room.
    for i in 0..4 * ring.capacity() as u32 {
        probe::emit(points::TIMER, Flow::NONE, i);
    }
    let mut drained = Drained::with_capacity(1 << 16);
    ring.drain(&mut drained).expect("the ring");
    drained.clear();
    let lost = ring.totals().dropped_slots;
    let (mut best, mut slots) = (f64::MAX, 0);
    for _ in 0..100 {
        for i in 0..ring.capacity() as u32 - 8 {
            probe::emit(points::TIMER, Flow::NONE, i);
        }
        let start = probe::now().raw();
        slots = ring.drain(&mut drained).expect("the ring").slots;
        let spent = (probe::now().raw() - start) as f64;
        black_box(drained.slots());
        drained.clear();
        best = best.min(spent / slots as f64);
    }
    control.switch_off();
    assert_eq!(
        ring.totals().dropped_slots,
        lost,
        "nothing is lost while the reader keeps up"
    );
    let rate = ticks_per_ns() / best * 1000.0;
    println!("\ndrain: {rate:.0} M slots/s by one core ({slots} a time), target >= 50");
}

/// The counter's rate.
fn ticks_per_ns() -> f64 {
    let (start, tsc) = (std::time::Instant::now(), probe::now().raw());
    std::thread::sleep(std::time::Duration::from_millis(50));
    (probe::now().raw() - tsc) as f64 / start.elapsed().as_nanos() as f64
}
