//! Whether the counters of all CPUs are one clock.
//!
//! In: nothing; out: a [`Skew`]: two threads on two CPUs show each other their counters, and the fastest answers in each
//! direction tell how far apart they are and how well that can be known. It refuses to correct anything.

use super::{clock, proc};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How far apart the counters of CPUs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// What is certain, in nanoseconds.
    pub apart_ns: u64,
    /// How well it is known.
    pub within_ns: u64,
}

/// Time for one pair of CPUs.
const EACH: Duration = Duration::from_millis(8);
/// CPUs that are compared with the first at most.
const MOST: usize = 64;
/// Between two readings of both clocks, to tell the length of a tick.
const TICKS: Duration = Duration::from_millis(5);

/// The worst of all CPUs against the first; `None` if there is one CPU, or this process may run on one only.
pub fn measure() -> Option<Skew> {
    let set = sched_getaffinity(None).ok()?;
    let mut cpus = proc::cpus();
    cpus.retain(|&c| (c as usize) < CpuSet::MAX_CPU && set.is_set(c as usize));
    let (&first, others) = cpus.split_first()?;
    let a = clock::pair();
    std::thread::sleep(TICKS);
    let b = clock::pair();
    let ns_per_tick =
        b.time.since(a.time).ns() as f64 / b.tsc().saturating_sub(a.tsc()).max(1) as f64;
    let mut worst: Option<Skew> = None;
    for &other in others.iter().take(MOST) {
        let Some((there, back)) = exchange(first, other) else {
            continue;
        };
        // Each is the way plus or minus what the counters are apart.
        let apart = (there - back).unsigned_abs() / 2;
        let way = (there + back).unsigned_abs() / 2;
        let ns = |ticks: u64| (ticks as f64 * ns_per_tick) as u64;
        let skew = Skew {
            apart_ns: ns(apart.saturating_sub(way)),
            within_ns: ns(way),
        };
        if worst.is_none_or(|w| (w.apart_ns, w.within_ns) < (skew.apart_ns, skew.within_ns)) {
            worst = Some(skew);
        }
    }
    worst
}

/// The shortest ways from one CPU to another and back, in ticks.
fn exchange(one: u32, other: u32) -> Option<(i64, i64)> {
    let (ball, answer, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let answerer = scope.spawn(|| {
            stay_on(other)?;
            let (mut seen, mut shortest) = (0, i64::MAX);
            while !over.load(Ordering::Relaxed) {
                let sent = ball.load(Ordering::Acquire);
                if sent == seen {
                    std::hint::spin_loop();
                    continue;
                }
                seen = sent;
                let now = clock::counter();
                shortest = shortest.min(now.wrapping_sub(sent).cast_signed());
                answer.store(clock::counter(), Ordering::Release);
            }
            Some(shortest)
        });
        let asked = scope.spawn(|| {
            let placed = stay_on(one);
            let (mut seen, mut shortest) = (0, i64::MAX);
            let began = Instant::now();
            while placed.is_some() && began.elapsed() < EACH {
                ball.store(clock::counter(), Ordering::Release);
                // The other thread may not be there yet, or have no CPU: then it is asked again.
                for _ in 0..20_000 {
                    let told = answer.load(Ordering::Acquire);
                    if told != seen {
                        seen = told;
                        let now = clock::counter();
                        shortest = shortest.min(now.wrapping_sub(told).cast_signed());
                        break;
                    }
                    std::hint::spin_loop();
                }
            }
            over.store(true, Ordering::Relaxed);
            placed.map(|()| shortest)
        });
        let back = asked.join().ok()??;
        let there = answerer.join().ok()??;
        (there < i64::MAX && back < i64::MAX).then_some((there, back))
    })
}

fn stay_on(cpu: u32) -> Option<()> {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    sched_setaffinity(None, &set).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that runs this has counters that agree, or one CPU.
    #[test]
    fn of_this_machine() {
        if let Some(skew) = measure() {
            assert!(skew.apart_ns < 1_000_000, "{skew:?}");
        }
    }
}
