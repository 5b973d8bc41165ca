//! The counter that stamps events and the clock of samples as one time: held against readings of both that a program
//! took itself, while it went from CPU to CPU and sampling stopped and went on. `BYPASSPROF_CLOCK_SECONDS` makes it longer.

use crate::support::{Place, Run};
use bypassprof::trace::Reader;
use bypassprof::units::ClockMap;
use bypassprof_wire::Tsc;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Reads both clocks a hundred times a second, each reading on another CPU than the one before where there are several,
/// and writes down the counter before and after, the clock, and the CPU.
const READINGS: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
typedef unsigned long long u64;
static u64 counter(void) {
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    u64 ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#endif
}
static u64 now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}
int main(int argc, char **argv) {
    u64 end = now() + (u64)(atof(argv[1]) * 1e9);
    int cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 0; now() < end; i++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(i % cpus, &one);
        sched_setaffinity(0, sizeof one, &one);
        u64 before = 0, time = 0, width = -1;
        for (int k = 0; k < 5; k++) {
            u64 a = counter(), t = now(), b = counter();
            if (b - a < width) before = a, time = t, width = b - a;
        }
        printf("%llu %llu %llu %d\n", before, before + width, time, sched_getcpu());
        fflush(stdout);
        usleep(10000);
    }
    return 0;
}
"#;

/// How far the map of a recording is from a program's readings: the largest distance beyond each reading's own width,
/// in ns, the error that the recording states, readings and CPUs.
fn apart(recording: &Path, readings: &str) -> (u64, u64, usize, usize) {
    let reader = Reader::open(recording).unwrap();
    let map = ClockMap::fit(&reader.meta().clocks).unwrap();
    let mut cpus = std::collections::BTreeSet::new();
    let (mut worst, mut count) = (0, 0);
    for line in readings.lines() {
        let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        let [before, after, time, cpu] = numbers[..] else {
            panic!("{line}");
        };
        let half = (after - before) / 2;
        let told = map.time(Tsc::from_raw(before + half)).ns();
        let own = (half as f64 * map.ns_per_tick()) as u64;
        worst = worst.max(told.abs_diff(time).saturating_sub(own));
        cpus.insert(cpu);
        count += 1;
    }
    (worst, map.error().ns(), count, cpus.len())
}

/// Through stops and starts of sampling, on every CPU, the map is right to what the recording says of its error.
#[test]
fn one_time() {
    let place = Place::new();
    place.compile("cc", "readings", READINGS, &["-O1"]);
    let seconds = std::env::var("BYPASSPROF_CLOCK_SECONDS").unwrap_or("3".to_owned());
    let mut command = place.bypassprof(&["record", "--", "./readings", &seconds]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let recorder = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&recorder);
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
