//! The counter that stamps events and the clock of samples as one time: held against readings of both that a program
//! took itself, while it went from CPU to CPU and sampling stopped and went on. `BYPASSPROF_CLOCK_SECONDS` makes it longer.

use crate::support::{Place, Run};
use bypassprof::trace::Reader;
use bypassprof::units::ClockMap;
use bypassprof_wire::Tsc;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How long [`readings`] takes them, in seconds.
const SECONDS: &str = "BYPASSPROF_CLOCK_SECONDS";

/// The counter of this CPU, read here and not by what is tested.
#[allow(unsafe_code)]
fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction; it touches no memory.
    let ticks = unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    let ticks = {
        let ticks: u64;
        // SAFETY: a register that user code may read; nothing else is touched.
        unsafe {
            std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
        }
        ticks
    };
    ticks
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::MonotonicRaw);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Not a test: reads both clocks a hundred times a second, each reading on another CPU than the one before where there are
/// several, and writes down the counter before and after, the clock, and the CPU.
#[test]
#[ignore = "the program that the test of this module records"]
fn readings() {
    let Ok(seconds) = std::env::var(SECONDS) else {
        return;
    };
    let end = now() + (seconds.parse::<f64>().unwrap() * 1e9) as u64;
    let cpus = std::thread::available_parallelism().unwrap().get();
    for at in 0.. {
        if now() >= end {
            break;
        }
        let mut one = CpuSet::new();
        one.set(at % cpus);
        // Where it may not run there it stays where it is; the line says where that was.
        let _ = sched_setaffinity(None, &one);
        let tries = (0..5).map(|_| (counter(), now(), counter()));
        let (before, time, after) = tries.min_by_key(|t| t.2 - t.0).unwrap();
        println!("{before} {after} {time} {}", sched_getcpu());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How far the map of a recording is from a program's readings: the largest distance beyond each reading's own width,
/// in ns, the error that the recording states, readings and CPUs.
fn apart(recording: &Path, readings: &str) -> (u64, u64, usize, usize) {
    let reader = Reader::open(recording).unwrap();
    let map = ClockMap::fit(&reader.meta().clocks).unwrap();
    let mut cpus = std::collections::BTreeSet::new();
    let (mut worst, mut count) = (0, 0);
    for line in readings.lines() {
        // The test harness says something too.
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let Ok([before, after, time, cpu]) = numbers.as_deref() else {
            continue;
        };
        let half = (after - before) / 2;
        let told = map.time(Tsc::from_raw(before + half)).ns();
        let own = (half as f64 * map.ns_per_tick()) as u64;
        worst = worst.max(told.abs_diff(*time).saturating_sub(own));
        cpus.insert(*cpu);
        count += 1;
    }
    (worst, map.error().ns(), count, cpus.len())
}

/// Through stops and starts of sampling, on every CPU, the map is right to what the recording says of its error.
#[test]
fn one_time() {
    let place = Place::new();
    let seconds = std::env::var(SECONDS).unwrap_or("3".to_owned());
    let mut command = place.bypassprof(&["record", "--"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "clocks::readings", "--ignored", "--nocapture"]);
    command.env(SECONDS, &seconds);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let recorder = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&recorder);
    // It takes signals from before it begins to write; an emulated machine needs seconds until then.
    for _ in 0..600 {
        if place.path("bypassprof.mcap").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for signal in [rustix::process::Signal::USR2, rustix::process::Signal::USR1] {
        std::thread::sleep(Duration::from_millis(1000));
        rustix::process::kill_process(pid, signal).unwrap();
    }
    let run = Run::from(recorder.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let (worst, stated, readings, cpus) = apart(&place.path("bypassprof.mcap"), &run.out);
    eprintln!(
        "{readings} readings on {cpus} CPUs in {seconds} s: {worst} ns beyond their own width, +-{stated} ns stated"
    );
    assert!(readings > 100);
    // A reading that was interrupted between its halves is as wide as that took; a clock that is one drifts by nothing.
    assert!(worst <= stated + 50, "{worst} ns, {stated} ns stated");
}

/// Where the kernel lets user code turn the counter into its time (`cap_user_time`, as on Arm), its rate is the one that was
/// fitted.
#[test]
fn the_kernels_own_rate() {
    use bypassprof::collect::clock;
    use perf_event_open::config::{Cpu, Opts, Priv, Proc};
    use perf_event_open::count::Counter;
    use perf_event_open::event::sw::Software;
    let opts = Opts {
        exclude: Priv {
            kernel: true,
            hv: true,
            ..Priv::default()
        },
        ..Opts::default()
    };
    let Ok(event) = Counter::new(Software::Dummy, (Proc::CURRENT, Cpu::ALL), &opts) else {
        eprintln!("left out: this user has no perf events");
        return;
    };
    let Some((multiplier, shift)) = user_time(event.file()) else {
        eprintln!("left out: this kernel keeps to itself how it turns the counter into time");
        return;
    };
    let first = clock::pair();
    std::thread::sleep(Duration::from_secs(1));
    let map = ClockMap::fit(&[first, clock::pair()]).unwrap();
    let kernels = f64::from(multiplier) / 2f64.powi(i32::from(shift));
    let off = (map.ns_per_tick() / kernels - 1.0).abs();
    eprintln!(
        "{kernels} ns a tick by the kernel, {} fitted: {off:e}",
        map.ns_per_tick()
    );
    // Both readings are wrong by far less than a millionth of the second between them, unless they were interrupted.
    assert!(off < 1e-4, "{kernels} and {}", map.ns_per_tick());
}

/// How the kernel turns ticks into nanoseconds, from the page that every event has; `None` if it does not say.
#[allow(unsafe_code)]
fn user_time(event: &std::fs::File) -> Option<(u32, u16)> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    const CAPABILITIES: usize = 40;
    const SHIFT: usize = 50;
    const MULTIPLIER: usize = 52;
    const USER_TIME: u64 = 1 << 3;
    // The system makes whole pages of it.
    let size = 4096;
    // SAFETY: a new mapping, of a size that every event has.
    let page = unsafe {
        mmap(
            std::ptr::null_mut(),
            size,
            ProtFlags::READ,
            MapFlags::SHARED,
            event,
            0,
        )
    };
    let page = page.ok()?.cast::<u8>();
    // SAFETY: the fields lie within the page, aligned as in `struct perf_event_mmap_page`; no event runs, so that the
    // kernel does not write them now.
    let (capabilities, shift, multiplier) = unsafe {
        (
            page.add(CAPABILITIES).cast::<u64>().read_volatile(),
            page.add(SHIFT).cast::<u16>().read_volatile(),
            page.add(MULTIPLIER).cast::<u32>().read_volatile(),
        )
    };
    // SAFETY: mapped above, with this size, and not used any more.
    unsafe { munmap(page.cast(), size) }.unwrap();
    (capabilities & USER_TIME != 0).then_some((multiplier, shift))
}
